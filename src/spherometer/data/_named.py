"""The public data sets by name: their files, their parts, and how they are read.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from spherometer import _checks
from spherometer.data import _locations
from spherometer.data._idx import read_idx_pair
from spherometer.data._source import ArrayImages, Images


@dataclass(frozen=True)
class NamedSet:
    """One public data set.

    Attributes:
        source: a sentence for reports.
        views: the preset that "auto" means.
        part: the part that "auto" means: the one that trains encoders.
        files: of each part.
        usual: sub-directories of the data directory in which others put it.
        read: from the found files of a part to the images.
    """

    source: str
    views: str
    part: str
    files: Mapping[str, tuple[str, ...]]
    usual: tuple[str, ...]
    read: Callable[[str, str, list[Path]], Images]


def _read_idx(name: str, source: str, paths: list[Path]) -> Images:
    return ArrayImages(name, source, *read_idx_pair(*paths))


_IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

NAMED: Mapping[str, NamedSet] = MappingProxyType(
    {
        "mnist": NamedSet(
            "MNIST (LeCun, Cortes & Burges 1998), IDX files",
            "digits",
            "train",
            _IDX_FILES,
            ("MNIST/raw", "MNIST"),
            _read_idx,
        ),
        "fashion_mnist": NamedSet(
            "Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), IDX files",
            "fashion",
            "train",
            _IDX_FILES,
            ("FashionMNIST/raw", "fashion-mnist"),
            _read_idx,
        ),
    }
)


def open_named(name: str, part: str, data_dir: str | Path | None, download: bool) -> Images:
    """The images of one part of a public data set; they are downloaded only when that is asked for."""
    known = NAMED[name]
    part = known.part if part == "auto" else part
    _checks.one_of("open_data", "part", part, tuple(known.files))
    files = known.files[part]
    paths = _locations.find(files, _locations.directories(name, known.usual, data_dir))
    if paths is None:
        _locations.refuse_missing(name, files, data_dir)
    return known.read(name, f"{known.source}, {part} part", paths)
