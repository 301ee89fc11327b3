"""What enters a dense loss: the checks of maps, their cells on the sphere, and which of them are pairs.

As in ``_views.py`` the values are not looked at.

Shapes: N images of all ranks, n own images, D channels, S cells of a map, P own pairs of cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks, sphere
from spherometer.correspondence import Matches, match_cells
from spherometer.correspondence._matches import all_matched
from spherometer.correspondence._matching import RULES, most_similar_cells
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.losses import _ranks, _views


@dataclass(frozen=True)
class Entered:
    """The checked maps of a call on this rank, and their pairs."""

    maps: tuple[Tensor, Tensor]  # [n, D, *grid], float32 or float64
    units: tuple[Tensor, Tensor]  # the cells of each side on the sphere [n S, D], image by image
    matches: Matches
    rule: str | None  # None: the pairs were given

    @property
    def num(self) -> int:
        """Own images n."""
        return len(self.maps[0])

    @property
    def every(self) -> bool:
        """Whether all cells of the first side are matched once, in their order."""
        return self.rule in ("index", "similarity", "random")

    def ends(self) -> tuple[Tensor, Tensor]:
        """Cells at both ends of the pairs, [P, D] each."""
        one, two = self.units
        if self.rule == "index":
            return one, two
        partners = _taken(two, self.matches.image * self._size(1) + self.matches.second)
        return self.at_first(one), partners

    def at_first(self, values: Tensor) -> Tensor:
        """Of values of the cells of the first side, those that the pairs begin with."""
        if self.every:
            return values
        return _taken(values, self.matches.image * self._size(0) + self.matches.first)

    def _size(self, side: int) -> int:
        return math.prod(self.maps[side].shape[2:])


def _taken(rows: Tensor, places: Tensor) -> Tensor:
    """Rows at places, any of them several times; on a CPU in the way with the faster backward."""
    return rows.index_select(0, places) if rows.device.type == "cpu" else rows[places]


def check_rule(function: str, matching: Any) -> None:
    """Check the rule a module is made with."""
    _checks.one_of(function, "matching", matching, RULES)


def entered(
    function: str,
    z1: Any,
    z2: Any,
    matching: Any,
    *,
    geometry: Any,
    match_features: Any,
    matches: Any,
    generator: torch.Generator | None,
) -> Entered:
    """Check the maps of a call, and match their cells."""
    for name, value in (("z1", z1), ("z2", z2)):
        if not isinstance(value, Tensor):
            _checks.refuse(
                InputError, function, name, "be a torch tensor", "a loss is differentiated",
                type(value).__name__, "Convert it with torch.as_tensor(...)",
            )  # fmt: skip
        if value.ndim not in (4, 5) or 0 in value.shape[1:] or not value.is_floating_point():
            dtype = str(value.dtype).replace("torch.", "")
            _checks.refuse(
                ShapeError, function, name, "be floating-point of shape [N, D, H, W] or [N, D, H, W, Z]",
                "each cell of a map is one point in D dimensions", f"{dtype} of shape {tuple(value.shape)}",
                "Pass maps with their channels second",
            )  # fmt: skip
    if z1.shape[:2] != z2.shape[:2] or z1.ndim != z2.ndim or z1.dtype != z2.dtype or z1.device != z2.device:
        shown = (
            f"z1 {tuple(z1.shape)} {z1.dtype} on {z1.device}, z2 {tuple(z2.shape)} {z2.dtype} on {z2.device}"
        )
        _checks.refuse(
            ShapeError, function, "z2", "have the images, channels, axes, dtype and device of z1",
            "map i of one belongs to map i of the other", shown.replace("torch.", ""),
            "Pass the maps of two views of the same images",
        )  # fmt: skip
    wide = [value if value.dtype == torch.float64 else value.float() for value in (z1, z2)]
    with _views.full_precision(z1):
        one, two = (sphere.normalize(value.flatten(2).mT.flatten(0, 1)) for value in wide)
    if matches is None and matching == "similarity" and match_features is None:
        sizes = (math.prod(value.shape[2:]) for value in (z1, z2))
        cells = (
            unit.detach().view(len(z1), size, z1.shape[1])
            for unit, size in zip((one, two), sizes, strict=True)
        )
        with _views.full_precision(z1):
            found = all_matched(most_similar_cells(*cells, normalize=False))
    else:
        found = match_cells(
            len(z1), (z1.shape[2:], z2.shape[2:]), matching if matches is None else matches,
            geometry=geometry, features=match_features, generator=generator, function=function,
        ).to(z1.device)  # fmt: skip
    return Entered((wide[0], wide[1]), (one, two), found, matching if matches is None else None)


def weighted(parts: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Sum of weight * part over the parts that have a weight."""
    first, *others = (weight * part for weight, part in parts if weight)
    return sum(others, first)


def pairs_of_all(function: str, numbers: list[int], gather: _ranks.Gather, like: Tensor) -> list[int]:
    """Numbers of pairs (and the like) summed over ranks; the first must not be 0."""
    totals = _ranks.add_up(numbers, gather, like.device)
    if not totals[0]:
        _checks.refuse(
            UndefinedError, function, "matching", "pair at least one cell", "the loss is a mean over pairs",
            "none in the whole batch", "Pass views that overlap, or another rule",
        )  # fmt: skip
    return totals


class Draws(nn.Module):
    """A module that draws at random: another draw on every call, the same after a restart.

    ``draws``, the seed of the next call, is in the ``state_dict``.
    """

    draws: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def next_generator(self, given: torch.Generator | None, needed: bool) -> torch.Generator | None:
        """The given generator, or one seeded by the number of calls that needed one."""
        if given is not None or not needed:
            return given
        seed = int(self.draws)
        self.draws.add_(1)
        return torch.Generator().manual_seed(seed)
