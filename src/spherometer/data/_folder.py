"""Folders of images; sub-folders are classes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from spherometer import _checks
from spherometer.data._decode import DecodedImages, decode_all
from spherometer.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
PARTS = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation")}
_ALL_PARTS = {name for names in PARTS.values() for name in names}


def _refuse(folder: Path, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", f"folder {str(folder)!r}", must, because, got, fix)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds by name, without what begins with a dot."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        _refuse(folder, "be readable", "its images are the training data", words, "Check its permissions")


def part_folders(folder: Path) -> dict[str, Path]:
    """The sub-folders of the training and the test part, when there are both and no other sub-folders."""
    folders = {entry.name for entry in _listed(folder) if os.path.isdir(entry.path)}
    found = {part: [name for name in names if name in folders] for part, names in PARTS.items()}
    if not all(found.values()) or folders - _ALL_PARTS:
        return {}
    return {part: folder / names[0] for part, names in found.items()}


def class_names(folder: Path) -> list[str]:
    """The sub-folders of the first level."""
    return [entry.name for entry in _listed(folder) if os.path.isdir(entry.path)]


def _files(folder: Path, within: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Images below a folder, by name; links are followed unless they lead back to where they are."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in within:
        _refuse(
            folder, "not lead back to itself", "its images would have no end", "a link in a loop", "Remove it"
        )
    for entry in _listed(folder):
        if os.path.isdir(entry.path):
            yield from _files(Path(entry.path), (*within, here))
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield Path(entry.path)


@dataclass(frozen=True)
class _Reader:
    """Where the image of a place is; devices and pipes are not read."""

    files: tuple[Path, ...]

    def __call__(self, place: int) -> Path:
        if not stat.S_ISREG(os.stat(self.files[place]).st_mode):
            raise ValueError("no regular file")
        return self.files[place]


def read_folder(
    folder: Path, *, size: tuple[int, int] | None, skip_bad: int, classes: list[str] | None = None
) -> DecodedImages:
    """The images below a folder in the order of their names.

    Sub-folders of the first level are classes, numbered in the order of their names, when every image lies in
    one. Images are turned as EXIF says, cut to the largest central box and resized to one size; they are grey
    when all of them are.

    Args:
        folder: files and folders that begin with a dot, and files that are no images by name, are left out.
        size: height and width; None: the images' own, when all have one.
        skip_bad: how many images may be unreadable.
        classes: all classes there are; None: those of this folder with images.

    Raises:
        InputError: no image, more unreadable ones, or several sizes.

    Cost: every header is read once; when all fit into 1 GiB decoded, every image is decoded once and kept.
    """
    files = tuple(_files(folder))
    if not files:
        _refuse(
            folder,
            "hold images",
            "they are the training data",
            f"none of {' '.join(SUFFIXES)} in it or below",
            "Pass the folder that holds them",
        )
    parts = [path.relative_to(folder).parts for path in files]
    found = sorted({each[0] for each in parts if len(each) > 1})
    labels = None
    if found and all(len(each) > 1 for each in parts):
        numbers = {name: number for number, name in enumerate(found if classes is None else classes)}
        labels = torch.tensor([numbers[each[0]] for each in parts], dtype=torch.int64)
    return decode_all(
        folder.name or "folder",
        f"folder {str(folder)!r}",
        ["/".join(each) for each in parts],
        _Reader(files),
        size=size,
        labels=labels,
        identity=[["/".join(each), _size(path)] for each, path in zip(parts, files, strict=True)],
        skip_bad=skip_bad,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
