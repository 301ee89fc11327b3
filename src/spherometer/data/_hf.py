"""Data sets of Hugging Face: saved ones and Parquet files; others only when a download is asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.data._decode import DecodedImages, decode_all
from spherometer.errors import InputError


def _refuse(must: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", "hf: data set", must, "its images are read from it", got, fix)


def _loaded(place: str, part: str, download: bool) -> tuple[Any, bool]:
    """The data set, and whether it is the wanted part already."""
    datasets = _checks.extra("datasets", "hf", "reading data sets of Hugging Face")
    path = Path(place).expanduser()
    try:
        if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
            found = datasets.load_from_disk(str(path))
        elif files := sorted(str(file) for file in path.glob("*.parquet")) if path.is_dir() else []:
            found = datasets.Dataset.from_parquet(files)
        elif path.exists() or not download:
            _refuse(
                "be a directory that Dataset.save_to_disk wrote, or one of Parquet files",
                f"{place[:120]!r}",
                "Pass such a directory, or a name of the hub with download=True",
            )
        else:
            found = datasets.load_dataset(place)
    except InputError:
        raise
    except Exception as error:  # whatever the library raises for damaged files and failed downloads
        words = " ".join(str(error).split())[:160] or type(error).__name__
        _refuse("be readable", words, "Save it again")
    if hasattr(found, "num_rows") and isinstance(found.num_rows, int):
        return found, False
    wanted = part if part in found else "validation" if part == "test" and "validation" in found else None
    if wanted is None:
        _refuse(f"have the part {part!r}", ", ".join(sorted(found)) or "none", "Pass the name of one as part")
    return found[wanted], True


def _column(dataset: Any, wanted: str | None, kind: str) -> str | None:
    if wanted is not None:
        if wanted not in dataset.column_names:
            _refuse(f"have the column {wanted!r}", ", ".join(dataset.column_names), "Pass another name")
        return wanted
    kinds = {name: type(feature).__name__ for name, feature in dataset.features.items()}
    return next((name for name, found in kinds.items() if found == kind), None)


def _labels(dataset: Any, column: str) -> Tensor:
    values = dataset[column][:]
    if all(isinstance(value, str) for value in values):
        numbers = {value: number for number, value in enumerate(sorted(set(values)))}
        values = [numbers[value] for value in values]
    if not all(isinstance(value, int) and value >= 0 for value in values):
        _refuse("hold a class in every row", f"column {column!r} with others", "Pass another column as label")
    return torch.tensor(values, dtype=torch.int64)


def _open(dataset: Any, column: str, place: int) -> Any:
    image = dataset[place][column]
    if not hasattr(image, "convert"):
        raise ValueError(f"{type(image).__name__} instead of an image")
    return image


def read_hf(
    place: str,
    *,
    part: str,
    size: tuple[int, int] | None,
    image: str | None,
    label: str | None,
    skip_bad: int,
    download: bool,
) -> tuple[DecodedImages, bool]:
    """Images and labels of a data set; no script of a data set is ever run.

    Args:
        place: a directory, or with ``download`` a name of the hub.
        part: of a data set that has several.
        size: height and width, as for folders.
        image, label: columns; by default the first of images and the first of classes.
        skip_bad: how many images may be unreadable.
        download: whether a name may be looked up on the hub.

    Returns:
        The images, and whether ``part`` was one of the data set's own parts.
    """
    dataset, is_part = _loaded(place, part, download)
    column = _column(dataset, image, "Image")
    if column is None or not len(dataset):
        got = f"{len(dataset)} rows of {', '.join(dataset.column_names)}"
        _refuse("have a column of images", got, "Pass its name as image")
    classes = _column(dataset, label, "ClassLabel")
    found = decode_all(
        Path(place).name or "hf",
        f"the data set {place!r}",
        [f"row {row}" for row in range(len(dataset))],
        partial(_open, dataset.select_columns([column]), column),
        size=size,
        labels=None if classes is None else _labels(dataset, classes),
        identity=[len(dataset), column, str(dataset.features), str(getattr(dataset, "_fingerprint", ""))],
        skip_bad=skip_bad,
    )
    return found, is_part
