"""Data sets by name or path: pairs of views to train on, and clean images to probe.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from spherometer import _checks
from spherometer.data import _arrays, _folder, _hf, _segmented_open, _text_files, _volume_parts
from spherometer.data._augment import preset
from spherometer.data._digits import load_digits
from spherometer.data._named import NAMED, open_named
from spherometer.data._paired import ImageViews
from spherometer.data._source import ArrayImages, Images, LabelledImages, Parts
from spherometer.data._text import TextPairs
from spherometer.data._views import DigitChanges, DigitViews
from spherometer.data._volume_open import VolumeOptions
from spherometer.data._volumes import VolumePart, VolumeViews
from spherometer.errors import InputError

_SMALL = 64
_HAVE_PARTS = (
    "named sets, folders with train/ and test/, .npz files with x_train, y_train, x_test and y_test, and "
    "hf: data sets with train and test have parts"
)


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

    def part_of(self, parts: tuple[str, ...]) -> str | None:
        """Which of the ``parts`` of a path is meant; None when it comes in one piece."""
        usual = "train" if self.part == "auto" else self.part
        if not parts and self.part in ("auto", "all"):
            return None
        if usual == "test" and "test" not in parts:
            usual = next((other for other in ("validation", "val") if other in parts), usual)
        if usual not in parts:
            got = f"the parts {', '.join(parts)}" if parts else "one without parts"
            _checks.refuse(
                InputError,
                "open_data",
                f"data {self.name!r}",
                f"have a part {usual!r}",
                "nothing is split off by chance",
                got,
                f"Leave part (or --probe) out, or pass other data: {_HAVE_PARTS}",
            )
        return usual


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


def _volume_options(
    metadata: Any, suffix: Any, derivatives: Any, space: Any, voxel_size: Any, shape: Any, cache_dir: Any,
    data_dir: Any, skip_bad: Any,
) -> VolumeOptions:  # fmt: skip
    sides = None if shape is None else tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    return VolumeOptions(
        metadata, suffix, derivatives, space, voxel_size, sides, cache_dir, data_dir, skip_bad
    )


def _volume_changes(views: str) -> Any:
    from spherometer.data._volume_views import VolumeChanges

    return VolumeChanges("all" if views == "auto" else views)


def _opened(wanted: _Wanted) -> tuple[LabelledImages, str]:
    """Clean images of one part, and the preset that "auto" means for them."""
    if wanted.name == "digits" or wanted.name in NAMED:
        _refuse_given("a named set", {"image": wanted.image, "label": wanted.label})
    if wanted.name == "digits":
        return _digits("train" if wanted.part == "auto" else wanted.part), "digits"
    if wanted.name in NAMED:
        images = open_named(wanted.name, wanted.part, wanted.data_dir, wanted.download)
        return LabelledImages(images), NAMED[wanted.name].views
    if _segmented_open.is_segmented(wanted.name):
        _refuse_given("images with masks", {"image": wanted.image, "label": wanted.label})
        part = wanted.part_of(_segmented_open.parts_of(wanted.name))
        found = _segmented_open.open_segmented(
            wanted.name, part, size=wanted.size, data_dir=wanted.data_dir, skip_bad=wanted.skip_bad
        )
        return found, _fitting(found.of)
    images = _from_path(wanted)
    return LabelledImages(images), _fitting(images)


def _fitting(images: Images) -> str:
    """The preset that "auto" means for images that are no known set."""
    channels, height, width = images.shape
    if max(height, width) > _SMALL:
        return "simclr"
    return "fashion" if channels == 1 else "simclr_cifar"


def _from_path(wanted: _Wanted) -> Images:
    """Images of a folder, a file of arrays, or a data set of Hugging Face."""
    columns = {"image": wanted.image, "label": wanted.label}
    if wanted.name.startswith(_hf.PREFIX):
        place = wanted.name.removeprefix(_hf.PREFIX)
        dataset = _hf.load(place, download=wanted.download)
        part = wanted.part_of(_hf.parts_of(dataset))
        return _hf.read_hf(
            place,
            dataset,
            part,
            size=wanted.size,
            image=wanted.image,
            label=wanted.label,
            skip_bad=wanted.skip_bad,
        )
    path = Path(wanted.name).expanduser()
    if path.is_dir() and not _hf.is_saved(path):
        _refuse_given("a folder of images", columns)
        folders = _folder.part_folders(path)
        part = wanted.part_of(tuple(folders))
        if part is None:
            return _folder.read_folder(path, size=wanted.size, skip_bad=wanted.skip_bad)
        classes = {name for folder in folders.values() for name in _folder.class_names(folder)}
        return _folder.read_folder(
            folders[part], size=wanted.size, skip_bad=wanted.skip_bad, classes=sorted(classes)
        )
    if _arrays.is_array(path):
        part = wanted.part_of(_arrays.parts_of(path, wanted.image))
        return _arrays.read_images(path, part, wanted.image, wanted.label)
    _refuse_name(wanted.name)


def _refuse_given(kind: str, options: dict[str, Any]) -> None:
    """Refuse what other kinds of data take."""
    for name, value in options.items():
        if value is not None:
            _checks.refuse(
                InputError,
                "open_data",
                name,
                f"be left out for {kind}",
                "it says something about other kinds of data",
                repr(value)[:80],
                "Leave it out",
            )


def _is_text(name: str) -> bool:
    return not name.startswith(_hf.PREFIX) and Path(name).suffix.lower() in _text_files.SUFFIXES


def _refuse_name(name: str) -> NoReturn:
    path = Path(name).expanduser()
    got, fix = repr(name)[:120], "Pass one of these names, or check the path"
    if path.is_dir():
        got, fix = f"{got}, which save_to_disk wrote", f"Pass {_hf.PREFIX + name!r}"
    elif path.exists():
        got = f"{got}, which is another kind of file"
    _checks.refuse(
        InputError,
        "open_data",
        "data",
        f"be a known set ({', '.join(sorted(['digits', *NAMED]))}) or the path of a folder of images, of a "
        ".npy or .npz file, of a .tsv, .csv or .jsonl file of pairs of texts, or hf:PATH, bids:PATH, "
        "volumes:PATH, scenes:LAYOUT or voc:PATH",
        "there is nothing else to read",
        got,
        fix,
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
    split_seed: int = 0,
    metadata: Sequence[str] | None = None,
    suffix: str | None = None,
    derivatives: str | None = None,
    space: str | None = None,
    voxel_size: float | None = None,
    shape: Sequence[int] | None = None,
    cache_dir: str | Path | None = None,
) -> ImageViews | DigitViews | TextPairs:
    """Pairs of views of a data set.

    Args:
        name: a known set (digits, mnist, fashion_mnist, cifar10, cifar100, stl10), or a path: a folder of
            images (sub-folders are classes), a .npy or .npz file of images, ``hf:DIRECTORY`` of a data set of
            Hugging Face, a .tsv, .csv or .jsonl file of pairs of texts, ``bids:DIRECTORY`` of a BIDS tree of
            NIfTI volumes, or ``volumes:PATH`` of a .npy file of volumes (or its folder) with a table
            beside it. Images with masks: ``scenes:single`` and ``scenes:multi`` (made, see ``make_scenes``;
            options follow, such as ``scenes:multi,source=mnist,num=4000``), ``voc:DIRECTORY`` (Pascal VOC).
        views: the preset by which views are made; "auto" takes the one that fits the set.
        size: side (or height and width) of the views; by default the preset's, else the images' own.
            Compressed images are decoded in this size.
        seed: of the views.
        data_dir: where known sets lie; by default SPHEROMETER_DATA, else the user's cache.
        part: "train", "test", ...; "auto" is the one that trains encoders: of a set that comes without
            parts, everything. Nothing is split off by chance.
        download: fetch missing files of a known set, or a data set of the hub (``hf:NAME``).
        skip_bad: how many unreadable images or lines may be left out; the first is named.
        image, label: columns of a data set of Hugging Face (by default the only ones of their kind), or
            arrays of a .npz file; for images in a .npy file, ``label`` is a .npy file of whole numbers; for
            texts, the column of classes.
        left, right: columns of the two texts; by default the first two.
        split_seed: of volumes that come without parts: decides, with the names of all subjects, who is in the
            fifth of the subjects that "train" leaves to "test" ("all" is everybody).
        metadata: columns of participants.tsv and sessions.tsv, or of the table beside an array: the views
            then have ``metadata`` (column -> numbers, texts, None where missing).
        suffix, derivatives, space: which volumes of a BIDS tree: how their names end ("T1w", or more
            of it: "desc-preproc_T1w"), their sub-folder of "derivatives", and the space in their names.
        voxel_size, shape: edge of the voxels in mm, or voxels along each axis: volumes are resampled to one
            grid that covers all of them. By default they keep their own, which must be the same for all.
        cache_dir: where preprocessed volumes are kept; by default ``volumes`` in ``data_dir``.

    Raises:
        InputError: there is no such set, its files are missing or damaged, or it is too small.

    Example:
        >>> data = open_data("digits")
        >>> len(data), data(0, torch.arange(4))[0].shape
        (899, torch.Size([4, 1, 8, 8]))
    """
    volumes = _volume_options(
        metadata, suffix, derivatives, space, voxel_size, shape, cache_dir, data_dir, skip_bad
    )
    if _volume_parts.is_volumes(str(name)):
        _refuse_given("volumes", {"size": size, "image": image, "label": label, "left": left, "right": right})
        (found,) = _volume_parts.open_volumes(str(name), (part,), volumes, split_seed=split_seed)
        return VolumeViews(found, _volume_changes(views), seed)
    _refuse_given("data that are no volumes", volumes.given)
    if _is_text(str(name)):
        others = {"image": image, "size": size, "views": None if views == "auto" else views}
        _refuse_given("pairs of texts", others)
        _Wanted(str(name), part, None, None, False, skip_bad, None, None).part_of(())
        return _text_files.open_text_pairs(
            name, left=left, right=right, label=label, skip_bad=skip_bad, seed=seed
        )
    _refuse_given("images", {"left": left, "right": right})
    sides = _sides(size)
    wanted = _Wanted(str(name), part, sides, data_dir, download, skip_bad, image, label)
    images, fitting = _opened(wanted)
    changes = _changes(fitting if views == "auto" else views, sides)
    if str(name) == "digits" and changes == DigitChanges():
        return DigitViews(images.images(torch.arange(len(images))), seed, labels=images.labels)
    return ImageViews(images, changes, seed)


def open_arrays(
    images: Any,
    labels: Any = None,
    *,
    views: str = "auto",
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    name: str = "arrays",
) -> ImageViews:
    """Pairs of views of images in memory.

    Args:
        images: tensor or NumPy array [N, H, W], [N, C, H, W] or [N, H, W, C], where C is 1 or 3 and exactly
            one of the two places can be it; uint8, or floating-point numbers in [0, 1].
        labels: [N] whole numbers from 0, or None.
        views, size, seed: as in :func:`open_data`.
        name: of the set, for results.

    Raises:
        InputError: another shape, dtype or range.

    Example:
        >>> x, y = open_arrays(torch.zeros(6, 28, 28, dtype=torch.uint8), views="fashion")(0, torch.arange(3))
        >>> x.shape, y.shape
        (torch.Size([3, 1, 28, 28]), torch.Size([3, 1, 28, 28]))
    """
    found = LabelledImages(_arrays.images_of(images, labels, name))
    sides = _sides(size)
    return ImageViews(found, _changes(_fitting(found.of) if views == "auto" else views, sides), seed)


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
    split_seed: int = 0,
    metadata: Sequence[str] | None = None,
    suffix: str | None = None,
    derivatives: str | None = None,
    space: str | None = None,
    voxel_size: float | None = None,
    shape: Sequence[int] | None = None,
    cache_dir: str | Path | None = None,
) -> Parts:
    """Training and test part of a data set of images, clean: what probes are fitted on and tested with.

    Args:
        name, data_dir, download, skip_bad, image, label, split_seed, metadata, suffix,
            derivatives, space, voxel_size, shape, cache_dir: as in :func:`open_data`.
        views, size: the preset that an encoder was trained with: its size and normalisation (nothing random)
            are applied. By default the images as they are, in [0, 1].

    Raises:
        InputError: as :func:`open_data`; or the set has no test part.

    Example:
        >>> parts = open_parts("digits")
        >>> len(parts.train), len(parts.test), parts.test.images(torch.arange(2)).shape
        (899, 539, torch.Size([2, 1, 8, 8]))
    """
    volumes = _volume_options(
        metadata, suffix, derivatives, space, voxel_size, shape, cache_dir, data_dir, skip_bad
    )
    if _volume_parts.is_volumes(str(name)):
        _refuse_given("volumes", {"size": size, "image": image, "label": label})
        both = _volume_parts.open_volumes(str(name), ("train", "test"), volumes, split_seed=split_seed)
        still = None if views == "none" else _volume_changes(views).still
        train, test = (VolumePart(each.of, each.rows, still) for each in both)
        return Parts(train=train, test=test)
    _refuse_given("data that are no volumes", volumes.given)
    if _is_text(str(name)):
        _Wanted(str(name), "test", None, None, False, 0, None, None).part_of(())
    found = []
    sides = _sides(size)
    for part in ("test", "train"):
        wanted = _Wanted(str(name), part, sides, data_dir, download, skip_bad, image, label)
        images, fitting = _opened(wanted)
        changes = _changes(fitting if views == "auto" else views, sides)
        found.append(replace(images, still=changes.still))
    return Parts(train=found[1], test=found[0])
