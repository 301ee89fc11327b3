"""Data sets by name or path: pairs of views to train on, and clean images to probe.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from spherometer import _checks
from spherometer.data import _arrays, _folder, _hf, _text_files
from spherometer.data._augment import preset
from spherometer.data._digits import load_digits
from spherometer.data._images import stratified_split
from spherometer.data._named import NAMED, open_named
from spherometer.data._paired import ImageViews
from spherometer.data._source import ArrayImages, Images, LabelledImages, Parts
from spherometer.data._text import TextPairs
from spherometer.data._views import DigitChanges, DigitViews
from spherometer.errors import InputError

_TEST_SHARE = 0.2  # of sets that come without parts
_SMALL = 64


@dataclass(frozen=True)
class _Wanted:
    """What open_data and open_parts were asked for."""

    name: str
    part: str
    size: tuple[int, int] | None
    data_dir: str | Path | None
    download: bool
    skip_bad: int
    image: str | None
    label: str | None


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


def _opened(wanted: _Wanted) -> tuple[LabelledImages, str]:
    """Clean images of one part, and the preset that "auto" means for them."""
    if wanted.name == "digits":
        return _digits("train" if wanted.part == "auto" else wanted.part), "digits"
    if wanted.name in NAMED:
        images = open_named(wanted.name, wanted.part, wanted.data_dir, wanted.download)
        return LabelledImages(images), NAMED[wanted.name].views
    found = _from_path(wanted)
    channels, height, width = found.of.shape
    if max(height, width) > _SMALL:
        return found, "simclr"
    return found, "fashion" if channels == 1 else "simclr_cifar"


def _from_path(wanted: _Wanted) -> LabelledImages:
    part = "train" if wanted.part == "auto" else wanted.part
    if wanted.name.startswith("hf:"):
        images, is_part = _hf.read_hf(
            wanted.name.removeprefix("hf:"),
            part=part,
            size=wanted.size,
            image=wanted.image,
            label=wanted.label,
            skip_bad=wanted.skip_bad,
            download=wanted.download,
        )
        return LabelledImages(images) if is_part else _own_part(images, part)
    path = Path(wanted.name).expanduser()
    if path.is_dir():
        folder = _folder.part_folder(path, part)
        read = _folder.read_folder(folder or path, size=wanted.size, skip_bad=wanted.skip_bad)
        return LabelledImages(read) if folder else _own_part(read, part)
    if _arrays.is_array(path):
        label = None if wanted.label is None else Path(wanted.label)
        return _own_part(_arrays.read_images(path, label), part)
    _refuse_name(wanted.name)


def _own_part(images: Images, part: str) -> LabelledImages:
    """A part of a set that comes in one piece: a fifth tests, chosen by a hash of the row number."""
    _checks.one_of("open_data", "part", part, ("train", "test", "all"))
    if part == "all":
        return LabelledImages(images)
    labels = images.labels
    split = stratified_split(
        torch.zeros(len(images), dtype=torch.int64) if labels is None else labels,
        validation=0.0,
        test=_TEST_SHARE,
    )
    return LabelledImages(images, split.train if part == "train" else split.test)


def _refuse_name(name: str) -> NoReturn:
    _checks.refuse(
        InputError,
        "open_data",
        "name",
        f"be a known data set ({', '.join(sorted(['digits', *NAMED]))}), or the path of a folder of images, "
        "of a .npy or .npz file or of a .tsv, .csv or .jsonl file of pairs of texts, or hf:DIRECTORY",
        "there is nothing else to read",
        repr(name)[:80],
        "Pass one of these names, or check the path",
    )


def _check_enough(images: LabelledImages, part: str) -> None:
    if len(images) < 2:
        _checks.refuse(
            InputError,
            "open_data",
            f"part {part!r} of {images.source}",
            "hold at least 2 images",
            "losses compare images",
            f"{len(images)} of {len(images.of)}",
            'Pass more images, or part="all"',
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
    skip_bad: int = 0,
    image: str | None = None,
    label: str | None = None,
    left: str | None = None,
    right: str | None = None,
) -> ImageViews | DigitViews | TextPairs:
    """Pairs of views of a data set.

    Args:
        name: a known set (digits, mnist, fashion_mnist, cifar10, cifar100, stl10), or a path: a folder of
            images (sub-folders are classes), a .npy or .npz file of images, ``hf:DIRECTORY`` of a data set of
            Hugging Face, or a .tsv, .csv or .jsonl file of pairs of texts.
        views: the preset by which views are made; "auto" takes the one that fits the set.
        size: side (or height and width) of the views; by default the preset's, else the images' own.
            Compressed images are decoded in this size.
        seed: of the views.
        data_dir: where known sets lie; by default SPHEROMETER_DATA, else the user's cache.
        part: "train", "test", ...; "auto" is the one that trains encoders. A path without parts of its own is
            split by a hash of the row numbers, class by class: a fifth tests, and "all" takes everything.
        download: fetch missing files of a known set, or a name of the hub after ``hf:``.
        skip_bad: how many unreadable images or lines may be left out; they are counted and named.
        image, label: columns of a data set of Hugging Face. For images in a .npy file, ``label`` is a .npy
            file of whole numbers; for texts, the column of classes.
        left, right: columns of the two texts.

    Raises:
        InputError: there is no such set, its files are missing or damaged, or it is too small.

    Example:
        >>> data = open_data("digits")
        >>> len(data), data(0, torch.arange(4))[0].shape
        (899, torch.Size([4, 1, 8, 8]))
    """
    if Path(name).suffix in _text_files.SUFFIXES:
        return _text_files.open_text_pairs(
            name, left=left, right=right, label=label, skip_bad=skip_bad, seed=seed
        )
    sides = _sides(size)
    wanted = _Wanted(str(name), part, sides, data_dir, download, skip_bad, image, label)
    images, fitting = _opened(wanted)
    _check_enough(images, "train" if part == "auto" else part)
    changes = _changes(fitting if views == "auto" else views, sides)
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
    skip_bad: int = 0,
    image: str | None = None,
    label: str | None = None,
) -> Parts:
    """Training and test part of a data set of images, clean: what probes are fitted on and tested with.

    Args:
        name, data_dir, download, skip_bad, image, label: as in :func:`open_data`.
        views, size: the preset that an encoder was trained with: its size and normalisation (nothing random)
            are applied. By default the images as they are, in [0, 1].

    Raises:
        InputError: as :func:`open_data`; or the set has no test part.

    Example:
        >>> parts = open_parts("digits")
        >>> len(parts.train), len(parts.test), parts.test.images(torch.arange(2)).shape
        (899, 539, torch.Size([2, 1, 8, 8]))
    """
    found = []
    sides = _sides(size)
    for part in ("train", "test"):
        wanted = _Wanted(str(name), part, sides, data_dir, download, skip_bad, image, label)
        images, fitting = _opened(wanted)
        _check_enough(images, part)
        changes = _changes(fitting if views == "auto" else views, sides)
        found.append(LabelledImages(images.of, images.rows, changes.still))
    return Parts(*found)
