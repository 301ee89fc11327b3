"""Projection heads and normalisation layers.

Shapes: B samples, P penultimate features, D output coordinates.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from spherometer import _checks
from spherometer.errors import InputError

Head = Literal["linear", "mlp", "none"]
Norm = Literal["batch", "group", "none"]
_GROUPS = 32  # of group normalisation (Wu & He 2018), or fewer: they divide the channels
_LEAST = {True: 2, False: 16}  # channels in a group of maps, and of features: one value alone would become 0


def make_norm(norm: str, channels: int, *, maps: bool | int = 2) -> nn.Module:
    """Normalise ``channels`` of maps with 2 or 3 sides, or of features [B, C]; "none": leave them."""
    if norm == "batch":
        if maps == 3:
            return nn.BatchNorm3d(channels)
        return nn.BatchNorm2d(channels) if maps else nn.BatchNorm1d(channels)
    if norm == "group":
        most = max(1, min(_GROUPS, channels // _LEAST[bool(maps)]))
        groups = max(num for num in range(1, most + 1) if channels % num == 0)
        return nn.GroupNorm(groups, channels)
    return nn.Identity()


def make_head(function: str, head: str, num_features: int, dim: int | None, norm: str) -> nn.Module:
    """What maps penultimate features [B, P] to coordinates [B, D], before these are scaled to length 1.

    Args:
        function: whose name errors carry.
        head: "linear"; "mlp": linear - norm - ReLU - linear with P hidden units (SimCLR's; MoCo v2's is the
            same without the norm: ``norm="none"``); "none": the features themselves, so D = P.
        num_features: P.
        dim: D.
        norm: of the hidden layer.
    """
    _checks.one_of(function, "head", head, ("linear", "mlp", "none"))
    if head == "none":
        if dim not in (None, num_features):
            _checks.refuse(
                InputError, function, "dim", f"be {num_features} or left out with head='none'",
                "the output then is the penultimate layer", repr(dim)[:80],
                "Leave it out, or pass head='linear'",
            )  # fmt: skip
        return nn.Identity()
    _checks.whole(function, "dim", dim)
    assert dim is not None
    if head == "linear":
        return nn.Linear(num_features, dim)
    return nn.Sequential(
        nn.Linear(num_features, num_features, bias=norm == "none"),
        make_norm(norm, num_features, maps=False),
        nn.ReLU(),
        nn.Linear(num_features, dim),
    )
