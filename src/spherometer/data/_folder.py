"""Folders of images; sub-folders are classes."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import torch

from spherometer import _checks
from spherometer.data._decode import DecodedImages, decode_all
from spherometer.errors import InputError

SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"])
PARTS = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation")}


def part_folder(folder: Path, part: str) -> Path | None:
    """The sub-folder of a part, when the folder has both a training and a test part; else None."""
    found = {}
    for kind, names in PARTS.items():
        here = next((folder / name for name in names if (folder / name).is_dir()), None)
        if here is None:
            return None
        found[kind] = here
    _checks.one_of("open_data", "part", part, tuple(found))
    return found[part]


def _files(folder: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(root, name)
            for name in files
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _open(files: list[Path], place: int) -> Any:
    image = _checks.extra("PIL.Image", "train", "reading images")
    if not stat.S_ISREG(os.stat(files[place]).st_mode):
        raise ValueError("no regular file")
    return image.open(files[place])


def read_folder(folder: Path, *, size: tuple[int, int] | None, skip_bad: int) -> DecodedImages:
    """The images below a folder in the order of their names.

    Sub-folders are classes, numbered in the order of their names, when every image lies in one. Images are
    turned as EXIF says, cut to the largest central box and resized to one size; grey when all of them are.

    Args:
        folder: files and folders that begin with a dot are left out.
        size: height and width; None: the images' own when they are alike and at most 256, else 224.
        skip_bad: how many images may be unreadable.

    Raises:
        InputError: no image, or more unreadable ones.

    Cost: every image is opened once; when all fit into 1 GiB, every image is decoded once.
    """
    files = _files(folder)
    if not files:
        _checks.refuse(
            InputError,
            "open_data",
            f"folder {str(folder)!r}",
            "hold images",
            "they are the training data",
            "none of " + " ".join(sorted(SUFFIXES)),
            "Pass the folder that holds them, or sub-folders with them",
        )
    names = [path.relative_to(folder).as_posix() for path in files]
    classes = sorted({name.split("/")[0] for name in names if "/" in name})
    labels = None
    if classes and all("/" in name for name in names):
        numbers = {name: number for number, name in enumerate(classes)}
        labels = torch.tensor([numbers[name.split("/")[0]] for name in names], dtype=torch.int64)
    return decode_all(
        folder.name or "folder",
        f"the folder {str(folder)!r}",
        names,
        partial(_open, files),
        size=size,
        labels=labels,
        identity=[[name, _size(path)] for name, path in zip(names, files, strict=True)],
        skip_bad=skip_bad,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
