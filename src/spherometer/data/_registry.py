"""Image sets by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from spherometer import _checks
from spherometer.data._digits import load_digits
from spherometer.data._images import ImageSet
from spherometer.errors import InputError

IMAGE_SETS: Mapping[str, Callable[[], ImageSet]] = MappingProxyType({"digits": load_digits})


def load_images(name: str) -> ImageSet:
    """Load a registered image set.

    Args:
        name: one of ``IMAGE_SETS``.

    Raises:
        InputError: no such set; the message proposes the nearest name.

    Example:
        >>> load_images("digits").images.shape
        torch.Size([1797, 1, 8, 8])
    """
    if name not in IMAGE_SETS:
        near = difflib.get_close_matches(str(name), IMAGE_SETS, n=1, cutoff=0.0)[0]
        known = ", ".join(sorted(IMAGE_SETS))
        _checks.refuse(
            InputError,
            "load_images",
            "name",
            f"be a known image set ({known})",
            "its loader and its split are looked up by that name",
            repr(name)[:80],
            f"Did you mean {near!r}",
        )
    return IMAGE_SETS[name]()
