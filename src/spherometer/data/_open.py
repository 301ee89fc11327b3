"""Data sets by name or path: pairs of views to train on, and clean images to probe.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import torch

from spherometer import _checks
from spherometer.data._augment import preset
from spherometer.data._digits import load_digits
from spherometer.data._named import NAMED, open_named
from spherometer.data._paired import ImageViews
from spherometer.data._source import ArrayImages, LabelledImages, Parts
from spherometer.data._views import DigitChanges, DigitViews
from spherometer.errors import InputError


def _sides(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    for side in sides:
        _checks.whole("open_data", "size", side)
    return sides[0], sides[1]


def _changes(views: str, size: tuple[int, int] | None) -> Any:
    return DigitChanges(size=size) if views == "digits" else preset(views, size)


def _digits(part: str) -> LabelledImages:
    _checks.one_of("open_data", "part", part, ("train", "validation", "test"))
    digits = load_digits()
    rows = getattr(digits.split, part)
    return LabelledImages(ArrayImages("digits", digits.source, digits.images, digits.labels), rows)


def _opened(name: str, part: str, data_dir: str | Path | None, download: bool) -> tuple[LabelledImages, str]:
    """Clean images of one part, and the preset that "auto" means for them."""
    if name == "digits":
        return _digits("train" if part == "auto" else part), "digits"
    if name in NAMED:
        return LabelledImages(open_named(name, part, data_dir, download)), NAMED[name].views
    _refuse_name(name)


def _refuse_name(name: str) -> NoReturn:
    _checks.refuse(
        InputError,
        "open_data",
        "name",
        f"be a known data set ({', '.join(sorted(['digits', *NAMED]))}) or the path of one that exists",
        "there is nothing else to read",
        repr(name)[:80],
        "Pass one of these names, or a path",
    )


def open_data(
    name: str | Path,
    *,
    views: str = "auto",
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    data_dir: str | Path | None = None,
    part: str = "auto",
    download: bool = False,
) -> ImageViews | DigitViews:
    """Pairs of views of a data set.

    Args:
        name: a known data set.
        views: the preset by which views are made; "auto" takes the one that fits the set.
        size: side (or height and width) of the views; by default the preset's, else the images' own.
        seed: of the views.
        data_dir: where data sets lie; by default SPHEROMETER_DATA, else the user's cache.
        part: "train", "test", ...; "auto" is the one that trains encoders.
        download: fetch missing files of a public set.

    Raises:
        InputError: there is no such set, its files are missing or damaged.

    Example:
        >>> data = open_data("digits")
        >>> len(data), data(0, torch.arange(4))[0].shape
        (899, torch.Size([4, 1, 8, 8]))
    """
    images, fitting = _opened(str(name), part, data_dir, download)
    views = fitting if views == "auto" else views
    changes = _changes(views, _sides(size))
    if str(name) == "digits" and changes == DigitChanges():
        return DigitViews(images.images(torch.arange(len(images))), seed, labels=images.labels)
    return ImageViews(images, changes, seed)


def open_parts(
    name: str | Path,
    data_dir: str | Path | None = None,
    *,
    views: str = "none",
    size: int | tuple[int, int] | None = None,
    download: bool = False,
) -> Parts:
    """Training and test part of a data set, clean: what probes are fitted on and tested with.

    Args:
        name, data_dir, download: as in :func:`open_data`.
        views, size: the preset that an encoder was trained with: its size and normalisation (nothing random)
            are applied. By default the images as they are, in [0, 1].

    Example:
        >>> parts = open_parts("digits")
        >>> len(parts.train), len(parts.test), parts.test.images(torch.arange(2)).shape
        (899, 539, torch.Size([2, 1, 8, 8]))
    """
    found = []
    for part in ("train", "test"):
        images, fitting = _opened(str(name), part, data_dir, download)
        changes = _changes(fitting if views == "auto" else views, _sides(size))
        found.append(LabelledImages(images.of, images.rows, changes.still))
    return Parts(*found)
