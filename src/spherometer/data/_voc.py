"""Folders of images and of PNG files with the class of every pixel, as Pascal VOC lays them out.

Shapes: N images, H x W pixels.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer.data import _decode
from spherometer.data._crops import central_box
from spherometer.data._decode import decode_all
from spherometer.data._folder import SUFFIXES
from spherometer.data._segmented import IGNORE, MAX_CLASSES, SegmentedImages
from spherometer.errors import InputError

IMAGES, MASKS = ("JPEGImages", "images"), ("SegmentationClass", "masks")
_LISTS = Path("ImageSets") / "Segmentation"
_NAMES = "classes.txt"
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train",
    "tv/monitor",
)  # fmt: skip


def _refuse(what: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", what, must, because, got, fix)


def parts_of(root: Path) -> tuple[str, ...]:
    """The parts that lists name, such as "train" and "val"; none without lists."""
    folder = root / _LISTS
    known = ("train", "val", "test", "trainval")
    return tuple(part for part in known if (folder / f"{part}.txt").is_file())


def _sub_folder(root: Path, names: Sequence[str], of: str) -> Path:
    found = next((root / name for name in names if (root / name).is_dir()), None)
    if found is None:
        got = (
            "another kind of file"
            if root.is_file()
            else "a folder without"
            if root.is_dir()
            else "nothing there"
        )
        _refuse(
            f"folder {str(root)!r}", f"hold a folder {' or '.join(names)}", f"{of} are read from there", got,
            "Pass the folder that holds JPEGImages and SegmentationClass (or images and masks)",
        )  # fmt: skip
    return found


def _stems(root: Path, masks: Path, part: str | None) -> list[str]:
    """The names of the images, without their ending."""
    if part is None:
        found = sorted(path.stem for path in masks.iterdir() if path.suffix.lower() == ".png")
    else:
        path = root / _LISTS / f"{part}.txt"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            _refuse(f"file {str(path)!r}", "be a readable text", "it lists the images of a part",
                    " ".join(str(error).split())[:100], "Mend it")  # fmt: skip
        found = [line.split()[0] for line in lines if line.strip()]
    bad = next((name for name in found if "/" in name or "\\" in name or name.startswith(".")), None)
    if bad is not None:
        _refuse(
            f"list {part!r} of {str(root)!r}",
            "hold names of images",
            "they are looked for in its folders",
            repr(bad)[:80],
            "Write one name without folder and ending on each line",
        )
    if not found:
        _refuse(
            f"folder {str(root)!r}",
            "hold masks" if part is None else f"list images of the part {part!r}",
            "they are the data",
            "none",
            "Add them, or check the path",
        )
    return found


@dataclass(frozen=True)
class _Pairs:
    """Where the image of a place is; its mask is checked before, once."""

    images: tuple[Path | None, ...]
    masks: tuple[Path, ...]
    checked: set[int] = field(default_factory=set)

    def __call__(self, place: int) -> Path:
        path = self.images[place]
        if path is None:
            raise ValueError("no image of this name")
        _check_regular(path)
        if place not in self.checked:
            (height, width), _ = _decode._look(path)
            _classes(self.masks[place], (height, width))
            self.checked.add(place)
        return path

    def sizes(self) -> list[list[Any]]:
        """Names and sizes, as an image set is told from another by."""
        return [[m.stem, _size(i), _size(m)] for i, m in zip(self.images, self.masks, strict=True)]


def _size(path: Path | None) -> int:
    try:
        return -1 if path is None else path.stat().st_size
    except OSError:
        return -1


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("no regular file")


def _classes(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The numbers [H, W] of a palette or grey PNG; ``size``: what they must have.

    Raises:
        ValueError: in a few words what is wrong with it.
    """
    from PIL import Image

    try:
        _check_regular(path)
        with Image.open(path, formats=("PNG",)) as image:
            if image.mode not in ("P", "L", "1"):
                raise ValueError(f"of mode {image.mode}, not palette or grey of 8 bits")
            if size is not None and image.size != size[::-1]:
                raise ValueError(f"{image.width} x {image.height}, the image {size[1]} x {size[0]}")
            found: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
    except Exception as error:  # decoders of damaged files raise what they like
        raise ValueError(f"mask {path.name}: {_decode._reason(error)}") from error
    return found


@dataclass(frozen=True)
class _Maps:
    """Reads masks [B, H, W] in the size of the decoded images, the nearest pixel's class."""

    files: tuple[Path, ...]
    size: tuple[int, int]

    def __call__(self, index: Tensor) -> Tensor:
        from PIL import Image

        height, width = self.size
        found = torch.empty((len(index), height, width), dtype=torch.uint8)
        with _decode._quiet():
            for place, row in enumerate(index.tolist()):
                try:
                    classes = _classes(self.files[row])
                except ValueError as error:
                    _refuse("all masks", "stay readable while they are used", "each belongs to an image",
                            str(error), "Mend it, and start again")  # fmt: skip
                if classes.shape != self.size:
                    left, top, wide, tall = central_box(len(classes), classes.shape[1], self.size)
                    box = (left, top, left + wide, top + tall)
                    image = Image.fromarray(classes)
                    resized = image.resize((width, height), Image.Resampling.NEAREST, box=box)
                    classes = np.asarray(resized, dtype=np.uint8)
                found[place] = torch.from_numpy(classes.copy())
        return found


def read_voc(root: Path, part: str | None, *, size: tuple[int, int] | None, skip_bad: int) -> SegmentedImages:
    """Images with masks of a folder.

    ``JPEGImages`` (or ``images``) hold NAME.jpg (or another ending), ``SegmentationClass`` (or ``masks``)
    NAME.png: a palette or grey PNG of 8 bits whose numbers are the classes, 255 not counted. The lists
    ``train.txt``, ``val.txt``, ... in ``ImageSets/Segmentation`` name the images of the parts; without them
    all masks are read. Names of classes: the lines of ``classes.txt``, the background first; else those of
    Pascal VOC when the folder is called SegmentationClass and no number is above 20; else numbers.

    Args:
        root: the folder.
        part: one of ``parts_of(root)``, or None.
        size: height and width: the largest central box is resized, images bilinearly, masks to the nearest
            pixel; None: their own, when all have one.
        skip_bad: how many images or masks may be unreadable or missing.

    Raises:
        InputError: folders or lists are missing, or more is unreadable.
    """
    images, masks = _sub_folder(root, IMAGES, "images"), _sub_folder(root, MASKS, "masks")
    stems = _stems(root, masks, part)
    by_stem = {path.stem: path for path in sorted(images.iterdir()) if path.suffix.lower() in SUFFIXES}
    _checks.extra("PIL.Image", "train", "reading images")
    pairs = _Pairs(tuple(by_stem.get(s) for s in stems), tuple(masks / f"{s}.png" for s in stems))
    found = decode_all(
        root.resolve().name or "voc", f"folder {str(root)!r}", stems, pairs, size=size, labels=None,
        identity=pairs.sizes(), skip_bad=skip_bad,
    )  # fmt: skip
    maps = _Maps(tuple(pairs.masks[place] for place in found.places), (found.shape[1], found.shape[2]))
    names = _class_names(root, masks)
    kept = len(found) * found.shape[1] * found.shape[2] <= _decode.KEPT_BYTES
    return SegmentedImages.of(found, maps(torch.arange(len(found))) if kept else maps, names)


def _class_names(root: Path, masks: Path) -> tuple[str, ...]:
    path = root / _NAMES
    if path.is_file():
        names = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        if not 1 <= len(names) <= MAX_CLASSES:
            _refuse(
                f"file {str(path)!r}",
                f"name 1 to {MAX_CLASSES} classes",
                "masks are bytes",
                str(len(names)),
                "Write one name on each line, that of the background first",
            )
        return tuple(names)
    largest = 0
    for each in sorted(masks.iterdir()):  # of all parts, so that they count the same classes
        if each.suffix.lower() == ".png":
            try:
                classes = _classes(each)
            except ValueError:  # counted, where it is used
                continue
            largest = max(largest, int(classes[classes != IGNORE].max(initial=0)))
    if masks.name == MASKS[0] and largest < len(_VOC):
        return _VOC
    return ("background", *map(str, range(1, largest + 1)))
