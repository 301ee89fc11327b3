"""Meta-data of any kind as columns of float64, with NaN where an entry is missing.

Shapes: N rows, K columns of numbers.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError

_EXACT = 2**48  # codes of strings lie below: exact in float64


def is_table(metadata: Any) -> bool:
    """Whether it is a mapping column -> values (a data frame is one, too)."""
    return isinstance(metadata, Mapping) or (
        hasattr(metadata, "columns") and hasattr(metadata, "__getitem__")
    )


def names_of(table: Any) -> list[str]:
    """Columns of a table."""
    return [str(name) for name in (table.columns if hasattr(table, "columns") else table)]


def column(function: str, table: Any, name: str) -> Any:
    """One column of a table, by its name."""
    names = names_of(table)
    if name in names:
        return table[name]
    near = difflib.get_close_matches(name, names, n=1)
    _checks.refuse(
        InputError, function, "metadata", f"have the column {name!r}", "the kernel compares its values",
        f"columns {', '.join(map(repr, names[:8]))}{' ...' if len(names) > 8 else ''}" if names else "none",
        f"Did you mean {near[0]!r}" if near else "Name the columns as the kernel does",
    )  # fmt: skip


def numbers(function: str, name: str, values: Any, *, codes: bool) -> Tensor:
    """Values [N] or [N, K] as float64 [N, K]; strings become ``codes`` where the kernel is categorical.

    The code of a string depends on the string alone, so it is the same in every batch and process.
    """
    if isinstance(values, Tensor):
        if values.is_complex():
            _refuse_kind(function, name, f"dtype {values.dtype}".replace("torch.", ""), codes)
        found = values.detach().to(torch.float64)
    else:
        found = torch.from_numpy(_array(function, name, values, codes))
    if found.ndim == 1:
        found = found[:, None]
    if found.ndim != 2 or found.shape[1] == 0:
        _checks.refuse(
            ShapeError, function, name, "have shape [N] or [N, K]", "row i belongs to sample i",
            f"shape {tuple(found.shape)}", "Pass one entry, or K numbers, for each sample",
        )  # fmt: skip
    if not math.isfinite(float(found.sum())) and bool((infinite := torch.isinf(found)).any()):
        first = int(infinite.any(dim=1).nonzero()[0])
        _checks.refuse(
            InputError, function, name, "be finite", "an infinite value is no nearer to one than to another",
            f"{int(infinite.sum())} infinite values, the first in row {first}",
            "Remove those rows, or correct them",
        )  # fmt: skip
    return found


def _array(function: str, name: str, values: Any, codes: bool) -> np.ndarray[Any, Any]:
    if isinstance(values, (str, bytes)) or not (hasattr(values, "__array__") or isinstance(values, Sequence)):
        _refuse_kind(function, name, type(values).__name__, codes)
    if isinstance(values, Sequence) and values and isinstance(values[0], Tensor):
        values = [each.tolist() for each in values]
    array = np.asarray(values) if hasattr(values, "__array__") else _from_list(values)
    if array.dtype.kind in "biuf":
        return np.array(array, dtype=np.float64)
    if array.dtype.kind not in "OUST":
        _refuse_kind(function, name, f"dtype {array.dtype}", codes)
    flat = [_entry(function, name, each, codes) for each in array.ravel().tolist()]
    return np.array(flat, dtype=np.float64).reshape(array.shape)


def _from_list(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """A list without numbers turned into strings; rows of equal length become a matrix."""
    if values and all(isinstance(each, (list, tuple)) for each in values):
        widths = {len(each) for each in values}
        array = np.empty((len(values), max(widths)), dtype=object)
        array[:] = None
        for row, each in zip(array, values, strict=True):
            row[: len(each)] = each
        return array
    flat = np.empty(len(values), dtype=object)
    flat[:] = values
    return flat


def _entry(function: str, name: str, value: Any, codes: bool) -> float:
    if value is None or value != value:  # None or NaN
        return float("nan")
    if isinstance(value, (str, bytes)):
        if not codes:
            _refuse_kind(function, name, repr(value)[:60], codes)
        text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return float(int.from_bytes(hashlib.sha256(text).digest()[:6], "big") % _EXACT)
    try:
        return float(value)
    except (TypeError, ValueError):
        _refuse_kind(function, name, repr(value)[:60], codes)


def _refuse_kind(function: str, name: str, got: str, codes: bool) -> NoReturn:
    _checks.refuse(
        InputError, function, name, "hold numbers or strings" if codes else "hold numbers",
        "values are compared for equality" if codes else "the kernel compares their differences",
        got, "Pass a tensor, an array or a list" if codes else "Pass numbers, or use Categorical() for it",
    )  # fmt: skip
