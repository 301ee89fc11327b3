"""Dense alignment: how close the cells of two feature maps lie that show the same place.

Shapes: N images, D channels, S cells of a map, P pairs of cells.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer._checks import NanPolicy
from spherometer.correspondence import FlowField, Matches, ViewGeometry, match_cells
from spherometer.errors import InputError, UndefinedError
from spherometer.metrics._alignment import pair_distances
from spherometer.metrics._dense_maps import Maps, checked_maps

Per = Literal["image", "location"]
Rule = Literal["index", "similarity", "geometric", "random"]
Geometry = tuple[ViewGeometry, ViewGeometry] | FlowField


def matched_powers(
    function: str,
    sides: list[Maps],
    alpha: float | Tensor,
    matching: Any,
    *,
    geometry: Any,
    match_features: Any,
    max_distance: float | None,
    normalize: bool,
    nan: NanPolicy,
    generator: torch.Generator | None,
) -> tuple[Matches, Tensor]:
    """The pairs whose ends both count, and their distances to the power ``alpha`` [P] in float64."""
    x, y = sides
    features = None
    if isinstance(matching, str) and matching == "similarity":
        given = checked_features(function, match_features, nan)
        features = (x.maps(), y.maps()) if given is None else given
    elif match_features is not None:
        _checks.refuse(
            InputError, function, "match_features", 'be left out without matching="similarity"',
            "no other rule compares features", f"matching={_shown(matching)}", "Leave them out",
        )  # fmt: skip
    rule = torch.from_numpy(matching) if isinstance(matching, np.ndarray) else matching
    matches = match_cells(
        x.num, (x.grid, y.grid), rule, geometry=geometry, features=features, max_distance=max_distance,
        generator=generator, function=function,
    ).to(x.keep.device)  # fmt: skip
    if not len(matches):
        _checks.refuse(
            UndefinedError, function, "matching", "pair at least one cell", "alignment is a mean over pairs",
            f"none in {x.num} images (matching={_shown(matching)})",
            "Pass views that overlap, or another rule",
        )  # fmt: skip
    kept = matches.kept(x.keep[matches.image, matches.first] & y.keep[matches.image, matches.second])
    if not len(kept):
        _checks.refuse(
            UndefinedError, function, "mask", "leave at least one pair of cells",
            "alignment is a mean over pairs", f"{len(matches)} pairs, none with both ends left",
            "Keep more cells",
        )  # fmt: skip
    first = kept.image * x.keep.shape[1] + kept.first
    second = kept.image * y.keep.shape[1] + kept.second
    return kept, pair_distances(x.cells[first], y.cells[second], alpha, normalize=normalize)


def checked_features(function: str, given: Any, nan: NanPolicy) -> tuple[Tensor, Tensor] | None:
    """What cells are matched by: a pair of maps, or None for the maps themselves."""
    if given is None:
        return None
    pair = given if isinstance(given, (tuple, list)) and len(given) == 2 else (given, given)
    found = checked_maps(function, ("match_features",) * 2, pair, normalize=None, nan=nan)
    return found[0].maps(), found[1].maps()


def _shown(matching: Any) -> str:
    return repr(matching) if isinstance(matching, str) else type(matching).__name__


def image_means(matches: Matches, powers: Tensor) -> Tensor:
    """Mean over the pairs of every image [N], NaN where there is none."""
    sums = powers.new_zeros(matches.num_images).index_add(0, matches.image, powers)
    counts = matches.counts()
    return (sums / counts.clamp(min=1)).masked_fill(counts == 0, torch.nan)


def dense_alignment(
    x: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any],
    *,
    matching: Rule | Tensor | NDArray[Any] | Matches = "index",
    geometry: Geometry | None = None,
    match_features: tuple[Any, Any] | None = None,
    max_distance: float | None = None,
    alpha: float | Tensor = 2.0,
    mask: Any = None,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
    generator: torch.Generator | None = None,
) -> Any:
    r"""Mean distance between cells of two feature maps that show the same place.

    mean over images n of mean over pairs (s, s') of n of \|x_ns - y_ns'\|^alpha, cells on the unit sphere.
    Every image weighs the same, however many pairs it has; images without a pair are left out.

    Args:
        x: maps [N, D, H, W] or [N, D, H, W, Z] of one view of each image.
        y: maps of the other view; map i belongs to map i of ``x``. Sides may differ, but for "index".
        matching: which cells are pairs: "index" (the same place of the map), "similarity" (the most similar
            cell of y in the same image), "geometric" (the same place of the image), "random" (a control), a
            tensor [S] or [N, S] of flat cells of y (-1: none), or ``Matches``. See ``match_cells``.
        geometry: for "geometric": the ``ViewGeometry`` of both views, or a ``FlowField``.
        match_features: for "similarity": maps of both views to be compared, such as those of the backbone.
            None: ``x`` and ``y`` themselves, which makes the value small by construction.
        max_distance: for "geometric": all pairs of cells at most so far apart, in diagonals of a cell.
        alpha: power of the distance, > 0; a number or a 0-dim tensor.
        mask: boolean [N, H, W]: the cells of x that count; or a pair of masks, of x and of y. Pairs with an
            end in another cell are left out after matching.
        normalize: scale cells to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" cells with NaN or infinity, or "drop" them as if masked.
        generator: for "random"; None: one with seed 0.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays.

    Range: [0, 2^alpha], lower is better; 2 (for alpha = 2): unrelated cells. Compare it with
    ``matching="random"``: cells share receptive fields, so that neighbours agree in part without any merit.

    Raises:
        InputError, ShapeError: kinds, shapes, masks or the rule do not fit; cells that are not finite.
        NotOnSphereError: a cell of zeros, or cells off the sphere with ``normalize=False``.
        UndefinedError: no pair, for views that do not overlap or masks that leave none.

    Cost: O(P D) in float64, and that of the rule. Differentiable in x, y and alpha, not through the rule.

    Source: ours, the extension of Wang & Isola 2020 to cells. Moon et al. 2022 have the idea of alignment of
    dense features; their formulas are not known to us, and the rules here and the weight of images are ours.

    Example:
        >>> import numpy as np
        >>> x = np.eye(4).reshape(1, 4, 2, 2)
        >>> dense_alignment(x, x), dense_alignment(x, x[:, :, ::-1])
        (0.0, 2.0)
    """
    function = "dense_alignment"
    _checks.positive(function, "alpha", alpha)
    sides = checked_maps(function, ("x", "y"), (x, y), mask, normalize=normalize, nan=nan)
    matches, powers = matched_powers(
        function, sides, alpha, matching, geometry=geometry, match_features=match_features,
        max_distance=max_distance, normalize=normalize, nan=nan, generator=generator,
    )  # fmt: skip
    means = image_means(matches, powers)
    return sides[0].checked.scalar(means[matches.counts() > 0].mean())


def dense_alignment_samples(
    x: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any],
    *,
    per: Per = "image",
    matching: Rule | Tensor | NDArray[Any] | Matches = "index",
    geometry: Geometry | None = None,
    match_features: tuple[Any, Any] | None = None,
    max_distance: float | None = None,
    alpha: float | Tensor = 2.0,
    mask: Any = None,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
    generator: torch.Generator | None = None,
) -> Any:
    r"""Dense alignment of every image, or of every cell: a heat map.

    Args:
        x: as :func:`dense_alignment`.
        y: as there.
        per: "image": the mean over the pairs of each image, whose mean is :func:`dense_alignment`;
            "location": the mean over the pairs of each cell of ``x``.
        matching: as there, like all that follow.
        geometry: as there.
        match_features: as there.
        max_distance: as there.
        alpha: as there.
        mask: as there.
        normalize: as there.
        nan: as there.
        generator: as there.

    Returns:
        [N], or [N, H, W] (as the map of x), tensor or NumPy array; NaN where there is no pair.

    Range: [0, 2^alpha], lower is better.

    Raises:
        InputError, ShapeError, NotOnSphereError, UndefinedError: as :func:`dense_alignment`.

    Cost: as :func:`dense_alignment`.

    Source: ours, as :func:`dense_alignment`.

    Example:
        >>> import numpy as np
        >>> x = np.eye(4).reshape(1, 4, 2, 2)
        >>> dense_alignment_samples(x, x, per="location", matching=np.array([0, 0, 2, -1]))
        array([[[ 0.,  2.],
                [ 0., nan]]])
    """
    function = "dense_alignment_samples"
    _checks.positive(function, "alpha", alpha)
    _checks.one_of(function, "per", per, ("image", "location"))
    sides = checked_maps(function, ("x", "y"), (x, y), mask, normalize=normalize, nan=nan)
    matches, powers = matched_powers(
        function, sides, alpha, matching, geometry=geometry, match_features=match_features,
        max_distance=max_distance, normalize=normalize, nan=nan, generator=generator,
    )  # fmt: skip
    if per == "image":
        return sides[0].checked.vector(image_means(matches, powers))
    num, size = sides[0].keep.shape
    cell = matches.image * size + matches.first
    by_cell = Matches(cell, matches.first, matches.second, num * size)
    return sides[0].checked.vector(image_means(by_cell, powers).view(num, *sides[0].grid))
