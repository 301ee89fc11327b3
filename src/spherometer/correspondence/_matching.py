"""The rules by which cells of two maps become positive pairs.

Shapes: N images, K axes, S cells of x, R cells of y, C channels of the features that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from spherometer import _checks, sphere
from spherometer.correspondence._flow import FlowField
from spherometer.correspondence._geometry import ViewGeometry, cell_centres, cells_at
from spherometer.correspondence._matches import Matches, all_matched
from spherometer.errors import InputError, ShapeError

Rule = Literal["index", "similarity", "geometric", "random"]
Geometry = tuple[ViewGeometry, ViewGeometry] | FlowField
RULES: tuple[str, ...] = get_args(Rule)
_ENTRIES = 1 << 22  # similarities, or distances, of cells held at once


@torch.no_grad()
def match_cells(
    num: int,
    grids: tuple[Sequence[int], Sequence[int]],
    matching: Rule | Tensor | Matches = "index",
    *,
    geometry: Geometry | None = None,
    features: tuple[Tensor, Tensor] | None = None,
    max_distance: float | None = None,
    generator: torch.Generator | None = None,
    function: str = "match_cells",
) -> Matches:
    r"""Positive pairs between the cells of maps x and y of the same images.

    * "index": cell s with cell s, whatever the views did.
    * "similarity": each cell of x with the cell of y of the same image whose features have the largest cosine
      (DenseCL); ties go to the first.
    * "geometric": each cell of x with the cell of y that its centre falls into, through the image
      (``ViewGeometry`` of both views) or along a ``FlowField``; cells that y does not show have no partner.
      With ``max_distance``: all pairs of cells whose centres are at most so far apart, in diagonals of the
      larger of both cells (0.7 is PixPro's; several partners are possible).
    * "random": each cell of x with any cell of y of the same image: a control.
    * explicit: a tensor [S] or [N, S] of flat cells of y, -1 for none; or ``Matches``.

    Args:
        num: N.
        grids: sides of the maps x and y, such as (7, 7).
        matching: the rule.
        geometry: of both views, or a flow from x to y; for "geometric".
        features: maps [N, C, *grid] of x and y for "similarity"; rows need not have length 1.
        max_distance: for "geometric", see above.
        generator: for "random"; None: one with seed 0.
        function: named in messages.

    Returns:
        The pairs, image by image; possibly none at all.

    Raises:
        InputError, ShapeError: an unknown rule, or one without what it needs.

    Cost: "similarity" N S R C; the others N S, with ``max_distance`` N S R. At most 2^22 numbers at a time.

    Source: "similarity": Wang et al. 2021 (DenseCL); distances in cell diagonals: Xie et al. 2021 (PixPro).
    """
    sizes = math.prod(grids[0]), math.prod(grids[1])
    if isinstance(matching, Matches):
        return _checked_matches(function, matching, num, sizes)
    if isinstance(matching, Tensor):
        return Matches.of_cells(_explicit(function, matching, num, sizes))
    _checks.one_of(function, "matching", matching, RULES)
    if max_distance is not None:
        _checks.positive(function, "max_distance", max_distance)
        if matching != "geometric":
            _refuse_idle(function, "max_distance", matching)
    if matching == "geometric":
        return _geometric(function, num, grids, geometry, max_distance)
    if matching == "similarity":
        return all_matched(_most_similar(function, num, grids, features))
    if matching == "random":
        drawn = generator or torch.Generator().manual_seed(0)
        return all_matched(torch.randint(sizes[1], (num, sizes[0]), generator=drawn, device=drawn.device))
    if tuple(grids[0]) != tuple(grids[1]):
        _checks.refuse(
            ShapeError, function, "y", f"have maps of {_by(grids[0])} cells, as x",
            'matching="index" pairs cells at the same place', _by(grids[1]),
            'Resize the maps, or pass matching="geometric" with their geometry',
        )  # fmt: skip
    return all_matched(torch.arange(sizes[0]).expand(num, -1))


def _by(grid: Sequence[int]) -> str:
    return " x ".join(map(str, grid))


def _refuse_idle(function: str, name: str, matching: str) -> None:
    _checks.refuse(
        InputError, function, name, 'be left out without matching="geometric"', "it compares places",
        f"matching={matching!r}", "Leave it out",
    )  # fmt: skip


def _checked_matches(function: str, matches: Matches, num: int, sizes: tuple[int, int]) -> Matches:
    ends = ((matches.image, num), (matches.first, sizes[0]), (matches.second, sizes[1]))
    inside = all(len(part) == 0 or (int(part.min()) >= 0 and int(part.max()) < end) for part, end in ends)
    if matches.num_images != num or not inside:
        _checks.refuse(
            ShapeError, function, "matching", f"name cells of these maps ({num} images, {sizes[0]} and "
            f"{sizes[1]} cells)", "pairs are counted in them", f"pairs of {matches.num_images} images",
            "Make the matches for these maps",
        )  # fmt: skip
    return matches


def _explicit(function: str, second: Tensor, num: int, sizes: tuple[int, int]) -> Tensor:
    shapes = ((sizes[0],), (num, sizes[0]))
    if second.dtype != torch.int64 or tuple(second.shape) not in shapes:
        dtype = str(second.dtype).replace("torch.", "")
        _checks.refuse(
            ShapeError, function, "matching", f"be int64 of shape [{sizes[0]}] or [{num}, {sizes[0]}]",
            "it names the partner in y of every cell of x", f"{dtype} of shape {tuple(second.shape)}",
            "Flatten the map; -1 says that a cell has no partner",
        )  # fmt: skip
    if second.numel() and (int(second.min()) < -1 or int(second.max()) >= sizes[1]):
        _checks.refuse(
            InputError, function, "matching", f"lie between -1 and {sizes[1] - 1}",
            f"y has {sizes[1]} cells, and -1 says that a cell has no partner",
            f"{int(second.min())} ... {int(second.max())}", "Count cells of y, the last axis fastest",
        )  # fmt: skip
    return second.expand(num, -1)


def _geometric(
    function: str,
    num: int,
    grids: tuple[Sequence[int], Sequence[int]],
    geometry: Any,
    max_distance: float | None,
) -> Matches:
    pair = isinstance(geometry, (tuple, list)) and len(geometry) == 2
    if not (isinstance(geometry, FlowField) or (pair and all(isinstance(g, ViewGeometry) for g in geometry))):
        _checks.refuse(
            InputError, function, "geometry", "be the ViewGeometry of x and of y, or a FlowField",
            'matching="geometric" compares places', type(geometry).__name__,
            "Pass geometry=views.geometry(epoch, index), or ViewGeometry.from_boxes(...) of both views",
        )  # fmt: skip
    for each in geometry if pair else (geometry,):
        if len(each) != num or each.num_axes != len(grids[0]):
            _checks.refuse(
                ShapeError, function, "geometry", f"be of {num} images with {len(grids[0])} axes",
                "it says where the cells of these maps lie", f"{len(each)} images with {each.num_axes} axes",
                "Pass the geometry of these views",
            )  # fmt: skip
    if isinstance(geometry, FlowField):
        if max_distance is not None:
            _checks.refuse(
                InputError, function, "max_distance", "be left out with a flow",
                "a flow leads to one place", repr(max_distance), "Leave it out",
            )  # fmt: skip
        inside = geometry.in_view(cell_centres(grids[0], geometry.displacement.device))
        return Matches.of_cells(cells_at(inside, grids[1]))
    first, second = geometry
    if max_distance is None:
        return Matches.of_cells(cells_at(second.in_view(first.centres(grids[0])), grids[1]))
    parts = []
    step = max(1, _ENTRIES // (math.prod(grids[0]) * math.prod(grids[1])))
    for start in range(0, num, step):
        one, two = first[start : start + step], second[start : start + step]
        reach = max_distance * torch.maximum(one.diagonals(grids[0]), two.diagonals(grids[1]))
        near = torch.cdist(one.centres(grids[0]), two.centres(grids[1])) <= reach[:, None, None]
        image, cell, other = near.nonzero().unbind(dim=1)
        parts.append((image + start, cell, other))
    joined = [torch.cat(part) for part in zip(*parts, strict=True)] if parts else [torch.empty(0).long()] * 3
    return Matches(joined[0], joined[1], joined[2], num)


def _most_similar(
    function: str,
    num: int,
    grids: tuple[Sequence[int], Sequence[int]],
    features: tuple[Tensor, Tensor] | None,
) -> Tensor:
    shapes = None if features is None else [tuple(each.shape) for each in features]
    if features is None or shapes is None or any(
        len(shape) != 2 + len(grid) or shape[0] != num or shape[2:] != tuple(grid)
        for shape, grid in zip(shapes, grids, strict=True)
    ) or shapes[0][1] != shapes[1][1]:  # fmt: skip
        _checks.refuse(
            ShapeError, function, "match_features", "be maps [N, C, ...] on the cells of x and of y",
            'matching="similarity" compares them', "None" if shapes is None else f"shapes {shapes}",
            "Pass the maps of the backbone for both views",
        )  # fmt: skip
    return most_similar_cells(*(each.detach().flatten(2).mT for each in features))


@torch.no_grad()
def most_similar_cells(x: Tensor, y: Tensor, *, normalize: bool = True) -> Tensor:
    """For every cell of x [N, S, C] the cell of y [N, R, C] with the largest cosine, [N, S], in float32."""
    found = []
    step = max(1, _ENTRIES // max(1, x.shape[1] * y.shape[1]))
    for start in range(0, len(x), step):
        one, two = (each[start : start + step].float() for each in (x, y))
        if normalize:
            one, two = sphere.normalize(one), sphere.normalize(two)
        found.append((one @ two.mT).argmax(dim=2))
    return torch.cat(found) if found else torch.empty(0, x.shape[1], dtype=torch.int64)
