"""What enters a dense loss: the checks of maps, their cells on the sphere, and which of them are pairs.

As in ``_views.py`` the values are not looked at.

Shapes: N images of all ranks, n own images, D channels, S cells of a map, P own pairs of cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks, sphere
from spherometer.correspondence import Matches, match_cells
from spherometer.correspondence._matching import RULES
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.losses import _ranks


@dataclass(frozen=True)
class Entered:
    """The checked maps of a call on this rank, and their pairs."""

    maps: tuple[Tensor, Tensor]  # [n, D, *grid], float32 or float64
    matches: Matches

    @property
    def num(self) -> int:
        """Own images n."""
        return len(self.maps[0])

    def cells(self, side: int) -> Tensor:
        """Unit cells [n S, D] of one side, image by image."""
        return sphere.normalize(self.maps[side].flatten(2).mT.flatten(0, 1))

    def ends(self) -> tuple[Tensor, Tensor]:
        """Where the ends of the pairs stand among the cells of each side, [P] and [P]."""
        first, second = (math.prod(each.shape[2:]) for each in self.maps)
        return (
            self.matches.image * first + self.matches.first,
            self.matches.image * second + self.matches.second,
        )


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
    rule = matching if matches is None else matches
    features = None
    if isinstance(rule, str) and rule == "similarity":
        features = (z1, z2) if match_features is None else match_features
    found = match_cells(
        len(z1), (z1.shape[2:], z2.shape[2:]), rule, geometry=geometry, features=features,
        generator=generator, function=function,
    ).to(z1.device)  # fmt: skip
    wide = [value if value.dtype == torch.float64 else value.float() for value in (z1, z2)]
    return Entered((wide[0], wide[1]), found)


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
