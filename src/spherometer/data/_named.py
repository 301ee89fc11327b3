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
from spherometer.data._cifar import read_cifar
from spherometer.data._download import DOWNLOADS, fetch
from spherometer.data._idx import read_idx_pair
from spherometer.data._rows import Joined
from spherometer.data._source import ArrayImages, Images
from spherometer.data._stl10 import read_stl10


@dataclass(frozen=True)
class NamedSet:
    """One public data set.

    Attributes:
        source: for reports.
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


def _read_cifar(name: str, source: str, paths: list[Path]) -> Images:
    return ArrayImages(name, source, *read_cifar(paths, num_classes=10 if name == "cifar10" else 100))


def _read_stl10(name: str, source: str, paths: list[Path]) -> Images:
    found: list[Images] = []
    for images in (path for path in paths if path.stem.endswith("_X")):
        labels = images.with_name(images.name.replace("_X", "_y"))
        found.append(read_stl10(name, source, images, labels if labels in paths else None))
    return found[0] if len(found) == 1 else Joined(name, source, found)


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
        "cifar10": NamedSet(
            "CIFAR-10 (Krizhevsky 2009), binary version",
            "simclr_cifar",
            "train",
            {
                "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
                "test": ("test_batch.bin",),
            },
            ("cifar-10-batches-bin",),
            _read_cifar,
        ),
        "cifar100": NamedSet(
            "CIFAR-100 (Krizhevsky 2009), binary version",
            "simclr_cifar",
            "train",
            {"train": ("train.bin",), "test": ("test.bin",)},
            ("cifar-100-binary",),
            _read_cifar,
        ),
        "stl10": NamedSet(
            "STL-10 (Coates, Ng & Lee 2011), binary version",
            "stl10",
            "train+unlabeled",
            {
                "train": ("train_X.bin", "train_y.bin"),
                "test": ("test_X.bin", "test_y.bin"),
                "unlabeled": ("unlabeled_X.bin",),
                "train+unlabeled": ("train_X.bin", "unlabeled_X.bin"),
            },
            ("stl10_binary",),
            _read_stl10,
        ),
    }
)


def open_named(name: str, part: str, data_dir: str | Path | None, download: bool) -> Images:
    """The images of one part of a public data set; they are downloaded only when that is asked for."""
    known = NAMED[name]
    part = known.part if part == "auto" else part
    _checks.one_of("open_data", "part", part, tuple(known.files))
    files = known.files[part]
    places = _locations.directories(name, known.usual, data_dir)
    paths = _locations.find(files, places)
    if paths is None and download:
        fetch(DOWNLOADS[name], places[0])
        paths = _locations.find(files, places)
    if paths is None:
        _locations.refuse_missing(name, files, data_dir)
    return known.read(name, f"{known.source}, {part} part", paths)
