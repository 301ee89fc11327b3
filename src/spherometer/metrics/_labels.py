"""Class labels as whole numbers, with the missing ones refused or dropped, and the rows they belong to."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks, sphere
from spherometer._checks import Features, NanPolicy
from spherometer.errors import InputError, ShapeError, UndefinedError

_LONGEST_NAME = 60


def _missing(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """True where a label is None, NaN (the only value that differs from itself) or an empty text."""
    if labels.dtype.kind in "US":
        return np.asarray(np.char.str_len(labels) == 0)
    if labels.dtype.kind in "biumM":
        return np.zeros(len(labels), dtype=bool)
    if labels.dtype.kind == "f":
        return np.asarray(np.isnan(labels))
    return np.array(
        [label is None or label != label or label in ("", b"") for label in labels.tolist()], bool
    )


def class_codes(
    function: str, labels: Any, num: int, nan: NanPolicy, name: str = "labels"
) -> tuple[Tensor, Tensor]:
    """Codes 0 ... C-1 of the classes [num] (int64, on the CPU) and a mask of the labels that are there."""
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy() if labels.dtype != torch.bfloat16 else labels.float().numpy()
    array = np.asarray(labels) if not isinstance(labels, (list, tuple)) else _from_list(labels)
    if array.ndim != 1 or len(array) != num:
        _checks.refuse(
            ShapeError,
            function,
            name,
            "have one entry for each row",
            "entry i is the class of row i",
            f"shape {array.shape} for {num} rows",
            "Pass a list, an array or a tensor of N labels",
        )
    missing = _missing(array)
    if missing.any() and nan == "refuse":
        _checks.refuse(
            InputError,
            function,
            name,
            "be there for every row",
            "a missing label is not a class of its own",
            f"{int(missing.sum())} of {num} labels None, NaN or empty, the first is label "
            f"{int(missing.argmax())}",
            'Remove those rows, or pass nan="drop" to leave them out',
        )
    codes = np.zeros(num, dtype=np.int64)
    kept = array[~missing]
    try:
        codes[~missing] = np.unique(kept, return_inverse=True)[1]
    except TypeError:  # labels of several types have no order
        numbers: dict[Any, int] = {}
        codes[~missing] = [numbers.setdefault(label, len(numbers)) for label in kept.tolist()]
    return torch.from_numpy(codes), torch.from_numpy(~missing)


def _from_list(labels: Any) -> np.ndarray[Any, Any]:
    """A list as objects: [1, "a", None] must not become three strings."""
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


def refuse_no_pairs(function: str, codes: Tensor) -> None:
    """Refuse labels without two rows of one class."""
    if len(codes) and int(torch.bincount(codes).max()) < 2:
        _checks.refuse(
            UndefinedError,
            function,
            "labels",
            "hold at least one class with two rows",
            "the quantity is a mean over pairs of one class",
            f"{len(codes)} classes for {len(codes)} rows",
            "Pass class labels, not row identifiers",
        )


def labelled_rows(
    function: str, z: Any, labels: Mapping[str, Any], *, normalize: bool, nan: NanPolicy
) -> tuple[Features, Tensor, list[Tensor]]:
    """Checked features, their rows that have every label [N, D], and the codes of those rows, [N] each.

    ``labels``: what messages call the argument, and the labels.
    """
    checked = _checks.features(function, "z", z, min_rows=2, nan=nan)
    kept = None if checked.kept is None else checked.kept.cpu()
    num = len(checked.rows) if kept is None else len(kept)
    found = [class_codes(function, each, num, nan, name) for name, each in labels.items()]
    if kept is not None:
        found = [(codes[kept], there[kept]) for codes, there in found]
    everywhere = found[0][1] if len(found) == 1 else torch.stack([there for _, there in found]).all(dim=0)
    rows = checked.rows.detach()
    complete = bool(everywhere.all())
    if not complete:
        rows = rows[everywhere.to(rows.device)]
    if len(rows) < 2:
        _checks.refuse(
            UndefinedError,
            function,
            "z",
            "have at least 2 rows with a label",
            "the quantity is a mean over pairs of rows",
            f"{len(rows)} of {num} rows",
            "Pass the whole set at once",
        )
    if normalize:
        rows = sphere.unit_rows(function, "z", replace(checked, rows=rows), scale=True)
    return checked, rows, [(codes if complete else codes[everywhere]).to(rows.device) for codes, _ in found]


@dataclass(frozen=True)
class Labelled:
    """Rows that have a label."""

    rows: Tensor  # [N, D]
    codes: Tensor  # [N] int64, 0 ... C - 1; every class has a row
    names: tuple[str, ...]  # C different ones

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, rows: Tensor, codes: Tensor, labels: Any, places: Tensor) -> Labelled:
        """Rows with their codes [N] and the ``places`` of their labels [N]; classes without a row go."""
        _, at, compact = np.unique(codes.cpu().numpy(), return_index=True, return_inverse=True)
        values = np.array(labels.tolist()) if isinstance(labels, Tensor) else labels
        values = values if isinstance(values, (list, tuple)) else np.asarray(values)
        names: dict[str, None] = {}
        for first in at:
            names[_different(str(values[int(places[int(first)])]), names)] = None
        return cls(rows, torch.from_numpy(compact).to(rows.device), tuple(names))

    def sizes(self) -> list[int]:
        """Rows of each class."""
        return [int(size) for size in torch.bincount(self.codes, minlength=len(self.names))]


def _different(name: str, taken: Container[str]) -> str:
    """A short name that no other class has: 1 and "1" are two classes."""
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    found, number = short, 2
    while found in taken:
        found, number = f"{short} ({number})", number + 1
    return found
