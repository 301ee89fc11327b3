"""Dense uniformity: how evenly the cells of feature maps cover the sphere.

Shapes: N images, D channels, S cells of a map, C cells that are used.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer._checks import NanPolicy
from spherometer.errors import UndefinedError
from spherometer.metrics._dense_alignment import Per
from spherometer.metrics._dense_maps import Maps, checked_maps
from spherometer.pairs import Population, num_meetings, partners, population_log_rows, population_log_sum

Pairs = Literal["cross_image", "within_image", "all"]
POPULATIONS: dict[str, Population] = {"cross_image": "between", "within_image": "within", "all": "all"}


def population_rows(
    function: str,
    z: Maps,
    pairs: Pairs,
    num_cells: int | None,
    *,
    normalize: bool,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The cells that are used: unit rows [C, D], their image [C], ascending, their number in the set [C]."""
    size, every = z.keep.shape[1], z.complete
    cell = (
        torch.arange(z.keep.numel(), device=z.keep.device) if every else z.keep.flatten().nonzero().flatten()
    )
    if num_cells is not None and num_cells < len(cell):
        cell, every = cell[drawn_cells(len(cell), num_cells, generator).to(cell.device)], False
    image = cell.div(size, rounding_mode="floor")
    counts = [size] * z.num if every else torch.bincount(image, minlength=z.num).tolist()
    images = sum(count > 0 for count in counts)
    if pairs == "cross_image" and images < 2:
        _checks.refuse(
            UndefinedError, function, z.name, "hold cells of at least 2 images",
            'pairs="cross_image" compares cells of different images',
            f"{images} of {z.num} images with cells", 'Pass more images, or pairs="within_image"',
        )  # fmt: skip
    least = max(counts) if pairs == "within_image" else len(cell)
    if least < 2:
        where = " of one image" if pairs == "within_image" else ""
        _checks.refuse(
            UndefinedError, function, z.name, f"hold at least 2 cells{where}",
            "uniformity is a mean over pairs of cells", f"{least}", "Pass more cells, or a wider mask",
        )  # fmt: skip
    return z.unit(None if every else cell, normalize=normalize), image, cell


def drawn_cells(num: int, num_cells: int, generator: torch.Generator | None) -> Tensor:
    """``num_cells`` of ``num`` cells without replacement, ascending."""
    drawn = generator or torch.Generator().manual_seed(0)
    return torch.randperm(num, generator=drawn, device=drawn.device)[:num_cells].sort().values


def _checked_population(
    function: str, z: Any, t: Any, pairs: Any, mask: Any, num_cells: Any, *, normalize: bool, nan: NanPolicy
) -> Maps:
    _checks.positive(function, "t", t)
    _checks.one_of(function, "pairs", pairs, tuple(POPULATIONS))
    if num_cells is not None:
        _checks.whole(function, "num_cells", num_cells, at_least=2)
    return checked_maps(function, ("z",), (z,), mask, normalize=normalize, nan=nan)[0]


def dense_uniformity(
    z: Tensor | NDArray[Any],
    *,
    t: float | Tensor = 2.0,
    pairs: Pairs = "cross_image",
    mask: Any = None,
    num_cells: int | None = None,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
    generator: torch.Generator | None = None,
) -> Any:
    r"""Logarithm of the mean Gaussian potential over pairs of cells of feature maps.

    log mean over pairs (a, b) of exp(-t \|z_a - z_b\|^2), cells on the unit sphere, over all pairs of

    * "cross_image": cells of different images. The default: cells of one image look at the same pixels in
      part, and are near for that reason alone;
    * "within_image": different cells of the same image, so that an image weighs as it has pairs. 0: every
      map is constant;
    * "all": both.

    Args:
        z: maps [N, D, H, W] or [N, D, H, W, Z] of one view of each image. Pass the whole set.
        t: sharpness of the potential, > 0; a number or a 0-dim tensor (which gets its gradient).
        pairs: the population of pairs.
        mask: boolean [N, H, W]: the cells that count.
        num_cells: use so many cells of the whole set, drawn without replacement; None, or more than there
            are: all of them.
        normalize: scale cells to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" cells with NaN or infinity, or "drop" them as if masked.
        generator: for ``num_cells``; None: one with seed 0.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays.

    Range: [-4t, 0], lower is better for "cross_image". The uniform law gives ``expected_uniformity(D, t)``.

    Raises:
        InputError, ShapeError, NotOnSphereError: as :func:`dense_alignment`.
        UndefinedError: a single image with "cross_image", or too few cells for a pair.

    Cost: O(C^2 D) time for C cells, O(C D) memory (tiles); "within_image" only C S D. Differentiable in
    ``z`` and ``t``; twice for C <= 1024.

    Source: ours, the extension of Wang & Isola 2020 to cells. Moon et al. 2022 have the idea of uniformity of
    dense features; which pairs they take is not known to us, and the three populations are ours.

    Example:
        >>> import numpy as np
        >>> z = np.repeat(np.eye(2)[:, :, None, None], 3, axis=3)  # two images of 1 x 3 equal cells
        >>> [round(dense_uniformity(z, pairs=each), 4) + 0 for each in ("cross_image", "within_image", "all")]
        [-4.0, 0.0, -0.8892]
    """
    function = "dense_uniformity"
    maps = _checked_population(function, z, t, pairs, mask, num_cells, normalize=normalize, nan=nan)
    rows, image, _ = population_rows(
        function, maps, pairs, num_cells, normalize=normalize, generator=generator
    )
    population = POPULATIONS[pairs]
    total = num_meetings(image, population)
    value = population_log_sum(rows, t, image, population) - math.log(total)
    return maps.checked.scalar(value)


def dense_uniformity_samples(
    z: Tensor | NDArray[Any],
    *,
    per: Per = "image",
    t: float | Tensor = 2.0,
    pairs: Pairs = "cross_image",
    mask: Any = None,
    num_cells: int | None = None,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
    generator: torch.Generator | None = None,
) -> Any:
    r"""How crowded the surroundings of every image are, or of every cell: a heat map.

    Log of the mean potential of the pairs that one cell takes part in, or the cells of one image.

    Args:
        z: as :func:`dense_uniformity`.
        per: "image" or "location".
        t: as there, like all that follow.
        pairs: as there.
        mask: as there.
        num_cells: as there.
        normalize: as there.
        nan: as there.
        generator: as there.

    Returns:
        [N], or [N, H, W] (as the map), tensor or NumPy array; NaN where no cell is used or none has a
        partner. No gradient.

    Range: [-4t, 0]; high in crowded places. :func:`dense_uniformity` is the log of the mean of their
    exponentials, weighted by the number of pairs (not their mean).

    Raises:
        InputError, ShapeError, NotOnSphereError, UndefinedError: as :func:`dense_uniformity`.

    Cost: as :func:`dense_uniformity`.

    Source: ours, as :func:`dense_uniformity`.

    Example:
        >>> import numpy as np
        >>> dense_uniformity_samples(np.eye(2)[:, :, None, None]).round(6)
        array([-4., -4.])
    """
    function = "dense_uniformity_samples"
    _checks.one_of(function, "per", per, ("image", "location"))
    maps = _checked_population(function, z, t, pairs, mask, num_cells, normalize=normalize, nan=nan)
    rows, image, cell = population_rows(
        function, maps, pairs, num_cells, normalize=normalize, generator=generator
    )
    population = POPULATIONS[pairs]
    logs = population_log_rows(rows.detach(), float(t), image, population)
    counts = partners(image, population)
    if per == "location":
        found = logs.new_full((maps.keep.numel(),), torch.nan)
        found[cell] = (logs - counts.double().log()).masked_fill(counts == 0, torch.nan)
        return maps.checked.vector(found.view(maps.num, *maps.grid))
    totals = torch.zeros(maps.num, dtype=torch.int64, device=image.device).index_add_(0, image, counts)
    means = group_logs(logs, image, maps.num) - totals.double().log()
    return maps.checked.vector(means.masked_fill(totals == 0, torch.nan))


def group_logs(logs: Tensor, image: Tensor, num: int) -> Tensor:
    """Log of the sum of exp(logs) over the cells of each image [N]."""
    top = logs.new_full((num,), -torch.inf).scatter_reduce(0, image, logs, "amax")
    safe = top.masked_fill(top == -torch.inf, 0.0)
    sums = torch.zeros_like(top).index_add_(0, image, (logs - safe[image]).exp())
    return sums.log() + safe
