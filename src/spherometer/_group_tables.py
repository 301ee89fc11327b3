"""Groups of rows by labels and by columns of meta-data: how close, how spread, how far from the rest.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import pairs
from spherometer.kernels._table import column, is_table, names_of

GROUP_ROWS = 2000  # of one group, for its uniformity
_COLUMNS = 8  # of meta-data
_SHOWN = 20  # groups of a table
_VALUES = 12  # distinct numbers up to which a column is taken as categories
_LONGEST = 200


@dataclass(frozen=True)
class Column:
    """A column that makes groups: its name, whether it is the labels, and its values."""

    name: str
    is_label: bool
    values: list[Any]


def plain_text(value: Any) -> str:
    """A value as a text that can be written: no halves of characters, at most 200 long."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return text.encode("utf-8", "replace").decode("utf-8")


def some_rows(num: int, most: int, generator: torch.Generator) -> Tensor | None:
    """Random rows in order, at most so many; None for all."""
    return None if num <= most else torch.randperm(num, generator=generator)[:most].sort().values


def columns_of(labels: Any, metadata: Any, notes: list[str]) -> list[Column]:
    """Name, whether it is the labels, and the values of each column that makes groups."""
    found: list[Column] = []
    if labels is not None:
        found.append(Column("class", True, _listed(labels)))
    if metadata is None:
        return found
    if isinstance(metadata, Mapping) or is_table(metadata):
        columns = [(str(name), column("measure", metadata, name)) for name in names_of(metadata)]
    else:
        numbers = metadata if isinstance(metadata, (Tensor, np.ndarray)) else np.asarray(metadata)
        several = numbers.ndim == 2
        columns = [
            (f"meta-data {index + 1}", numbers[:, index])
            for index in range(numbers.shape[1] if several else 0)
        ] or [("meta-data", numbers)]
    if len(columns) > _COLUMNS:
        notes.append(f"Tables of the first {_COLUMNS} of {len(columns)} columns of meta-data.")
    return found + [Column(plain_text(name), False, _listed(values)) for name, values in columns[:_COLUMNS]]


def _listed(values: Any) -> list[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _missing(value: Any) -> bool:
    kind = type(value).__name__  # missing values of data frames answer no question about themselves
    return value is None or kind in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))


def by_value(values: list[Any]) -> list[tuple[str, list[int]]]:
    """Name and rows of each value, in the order of their appearance."""
    found: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if not _missing(value):
            found.setdefault(str(value), []).append(row)
    return [(plain_text(values[rows[0]]), rows) for rows in found.values()]


def _by_quarter(values: list[Any]) -> list[tuple[str, list[int]]]:
    """Rows by quarters of a column of numbers."""
    there = [row for row, value in enumerate(values) if not _missing(value)]
    numbers = np.array([float(values[row]) for row in there])
    cuts = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75]))
    quarter = np.searchsorted(cuts, numbers, side="right")
    groups = [np.flatnonzero(quarter == number) for number in range(len(cuts) + 1)]
    return [
        (f"{numbers[places].min():.4g} to {numbers[places].max():.4g}", [there[at] for at in places])
        for places in groups
        if len(places)
    ]


def group_table(
    column: Column,
    rows: Tensor,
    mean: Tensor,
    to_other: Tensor | None,
    generator: torch.Generator,
    t: float,
    alpha: float,
) -> dict[str, Any]:
    """Rows, alignment, uniformity within and distance of the mean of each group of a column."""
    values = column.values
    there = [value for value in values if not _missing(value)]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in there)
    quarters = (
        numeric and not column.is_label and len(set(there)) > _VALUES and all(map(math.isfinite, there))
    )
    groups = _by_quarter(values) if quarters else by_value(values)
    shown = groups
    if not quarters:
        largest = sorted(groups, key=lambda item: (-len(item[1]), item[0]))[:_SHOWN]
        shown = sorted(largest, key=lambda item: _order(item[0]))
    found = []
    for words, index in shown:
        mine = rows[index]
        some = some_rows(len(mine), GROUP_ROWS, generator)
        near = mine if some is None else mine[some]
        within = pairs.gaussian_moments(near.float(), t).log_mean if len(near) > 1 else None
        found.append(
            {
                "name": words,
                "num": len(mine),
                "alignment": None if to_other is None else float(to_other[index].pow(alpha).mean()),
                "uniformity": within,
                "shift": float(torch.linalg.vector_norm(mine.mean(dim=0) - mean)),
            }
        )
    return {
        "name": column.name,
        "labels": column.is_label,
        "num_groups": len(groups),
        "num_missing": len(values) - len(there),
        "rows": found,
    }


def _order(name: str) -> tuple[int, float, str]:
    """Numbers by size, then texts by their letters."""
    try:
        number = float(name)
    except ValueError:
        return 1, 0.0, name
    return (0, number, name) if math.isfinite(number) else (1, 0.0, name)
