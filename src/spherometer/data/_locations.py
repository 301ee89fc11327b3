"""Where data sets lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from spherometer import _checks
from spherometer.errors import InputError

# directories in which packages of the system put data sets
SYSTEM = {"fashion_mnist": ("/usr/share/datasets/fashion-mnist",)}
PACKAGES = {"fashion_mnist": "on Debian, apt install dataset-fashion-mnist"}


def data_dir_of(data_dir: str | Path | None) -> Path:
    """The directory of data sets: the argument, else SPHEROMETER_DATA, else the user's cache."""
    if data_dir is not None:
        return Path(data_dir).expanduser()
    if os.environ.get("SPHEROMETER_DATA"):
        return Path(os.environ["SPHEROMETER_DATA"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "spherometer"


def directories(name: str, usual: Iterable[str], data_dir: str | Path | None) -> list[Path]:
    """Where files of the set ``name`` may lie, in the order in which they are looked for.

    In the data directory's sub-directories ``name`` and ``usual``, in itself when it was given for this set
    (files of different sets have the same names), and where a package of the system puts them.
    """
    root = data_dir_of(data_dir)
    itself = () if data_dir is None else (root,)
    system = (Path(part) for part in SYSTEM.get(name, ()))
    return [root / name, *(root / part for part in usual), *itself, *system]


def find(files: Iterable[str], places: Iterable[Path]) -> list[Path] | None:
    """The paths in the first place that has all ``files`` (IDX files also with .gz), or None."""
    for place in places:
        found = []
        for file in files:
            ways = (file, f"{file}.gz") if file.endswith("-ubyte") else (file,)
            path = next((place / way for way in ways if (place / way).is_file()), None)
            if path is None:
                break
            found.append(path)
        else:
            return found
    return None


def refuse_missing(name: str, files: Iterable[str], data_dir: str | Path | None) -> NoReturn:
    """Say which files are missing and the ways to get them."""
    by_package = f", or {PACKAGES[name]}" if name in PACKAGES else ""
    _checks.refuse(
        InputError,
        "open_data",
        f"data set {name!r}",
        f"have its files ({', '.join(files)}) in the data directory",
        "nothing is downloaded unless you ask for it",
        f"none in {str(data_dir_of(data_dir))!r}",
        f"Pass download=True (--download), or their directory as data_dir (--data-dir){by_package}",
    )
