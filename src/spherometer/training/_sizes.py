"""Sizes of images, as encoders that are made for one size check them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spherometer import _checks
from spherometer.errors import InputError


def checked_size(function: str, size: Any) -> tuple[int, int]:
    """Height and width of ``size``: two whole numbers, or one for both."""
    pair = (size, size) if isinstance(size, int) else size
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        _checks.refuse(
            InputError, function, "size", "be (height, width)", "a layer is made for that many positions",
            repr(size)[:80], "Pass for instance size=(64, 64)",
        )  # fmt: skip
    for side in pair:
        _checks.whole(function, "size", side)
    return int(pair[0]), int(pair[1])
