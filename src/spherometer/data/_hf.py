"""Data sets of Hugging Face's ``datasets``: saved to a directory, or by their name on the hub.

Shapes: N images.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.data._decode import Content, DecodedImages, decode_all
from spherometer.errors import InputError

PREFIX = "hf:"
_SAVED = ("state.json", "dataset_dict.json")  # what save_to_disk writes


def _refuse(place: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", f"data {PREFIX + place!r}", must, because, got, fix)


def is_saved(path: Path) -> bool:
    """Whether save_to_disk wrote this directory."""
    return any((path / name).is_file() for name in _SAVED)


def load(place: str, *, download: bool = False) -> Any:
    """A ``Dataset`` or ``DatasetDict``: a directory, else (``download``, and no such path) a name of the hub.

    No script of a data set is run: the library has no way to do that any more.
    """
    datasets = _checks.extra("datasets", "hf", "reading data sets of Hugging Face")
    path = Path(place).expanduser()
    here = os.path.lexists(path)
    if here and not is_saved(path):
        _refuse(
            place,
            "be a directory that save_to_disk wrote, or a name of the hub",
            "nothing else is read as a data set of Hugging Face",
            "another directory" if path.is_dir() else "a file",
            "Save it with save_to_disk, or pass a folder of images without hf:",
        )
    if not here and not download:
        _refuse(
            place,
            "be a directory that exists",
            "the hub is asked only when you want a download",
            "no such path",
            "Pass download=True (--download) if it is a name of the hub",
        )
    try:
        return datasets.load_from_disk(str(path)) if here else datasets.load_dataset(place)
    except Exception as error:  # whatever the library raises for damaged files and failed downloads
        words = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        because = "it is read with datasets"
        if here:
            _refuse(place, "be whole", because, words, "Save it again")
        must = "be a directory that exists, or a name of the hub that can be reached"
        _refuse(
            place, must, because, f"no such path, and from the hub: {words}", "Check the path or the name"
        )


def parts_of(dataset: Any) -> tuple[str, ...]:
    """The parts of a DatasetDict; none of a Dataset."""
    return () if isinstance(dataset.num_rows, int) else tuple(dataset)


def _columns(place: str, dataset: Any, image: str | None, label: str | None) -> tuple[str, str | None]:
    """The columns of images and of classes: those that are named, or the only ones of their kind."""
    kinds = {name: type(feature).__name__ for name, feature in dataset.features.items()}
    have = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())[:160] or "none"
    for wanted, argument in ((image, "image"), (label, "label")):
        if wanted is not None and wanted not in kinds:
            _refuse(place, f"have the column {wanted!r}", f"it was named as {argument}", have, "Pass another")
    images = [name for name, kind in kinds.items() if kind == "Image"] if image is None else [image]
    if len(images) != 1 or kinds[images[0]] != "Image":
        _refuse(
            place,
            "have one column of images, or its name given as image",
            "views are made of images",
            have,
            'Pass image="..." (image = "..." in [data] of a recipe)',
        )
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"] if label is None else [label]
    return images[0], classes[0] if len(classes) == 1 else None


def _labels(place: str, parts: Sequence[Any], column: str) -> Tensor | None:
    """Classes of the first of ``parts``; texts are numbered in the sorted order of all of them."""
    values = parts[0][column][:]
    if all(isinstance(value, str) for value in values):
        every = sorted({value for part in parts for value in part[column][:]}, key=str)
        numbers = {value: number for number, value in enumerate(every)}
        values = [numbers[value] for value in values]
    if all(value == -1 for value in values):  # how parts without labels are published
        return None
    bad = [row for row, value in enumerate(values) if not (isinstance(value, int) and value >= 0)]
    if bad:
        got = f"{values[bad[0]]!r} in row {bad[0]} of column {column!r}"
        _refuse(place, "have a class in every row", "classes are numbers or texts", got, "Pass another label")
    return torch.tensor(values, dtype=torch.int64)


@dataclass(frozen=True)
class _Reader:
    """The compressed image of a row: its bytes, or the regular file that it names."""

    dataset: Any
    column: str

    def __call__(self, place: int) -> Content:
        found = self.dataset[place][self.column]
        if found is None or (found.get("bytes") is None and not found.get("path")):
            raise ValueError("no image")
        content = found.get("bytes")
        if content is not None:
            return bytes(content)
        if not stat.S_ISREG(os.stat(found["path"]).st_mode):
            raise ValueError("no regular file")
        return str(found["path"])


def read_hf(
    place: str,
    dataset: Any,
    part: str | None,
    *,
    size: tuple[int, int] | None,
    image: str | None,
    label: str | None,
    skip_bad: int,
) -> DecodedImages:
    """Images and labels of a data set.

    Args:
        place: what was opened.
        dataset: from :func:`load`.
        part: of a DatasetDict; None of a Dataset.
        size, skip_bad: as for folders.
        image, label: columns; by default the only ones of the kinds Image and ClassLabel.

    Raises:
        InputError: no such column, or unusable images.
    """
    datasets = _checks.extra("datasets", "hf", "reading data sets of Hugging Face")
    chosen = dataset if part is None else dataset[part]
    column, classes = _columns(place, chosen, image, label)
    if not len(chosen):
        _refuse(place, "hold images", "they are the training data", "no rows", "Pass another data set")
    others = [] if part is None else [each for each in dataset.values() if classes in each.column_names]
    raw = chosen.with_format(None).cast_column(column, datasets.Image(decode=False))
    return decode_all(
        Path(place).name or "hf",
        f"data {PREFIX + place!r}",
        [f"row {row}" for row in range(len(chosen))],
        _Reader(raw, column),
        size=size,
        labels=None if classes is None else _labels(place, [chosen, *others], classes),
        identity=[part, len(chosen), column, str(chosen.features), str(getattr(chosen, "_fingerprint", ""))],
        skip_bad=skip_bad,
    )
