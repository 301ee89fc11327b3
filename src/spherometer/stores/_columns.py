"""What belongs to the rows: ids, classes and meta-data, from columns of the file or of a table beside it."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from spherometer import _checks
from spherometer.errors import InputError, ShapeError

IDS = ("id", "ids", "participant_id", "subject_id", "sample_id", "doc_id", "doc")
LABELS = ("label", "labels", "target", "targets", "class")
_SHOWN = 5
Columns = Mapping[str, Callable[[], Any]]


def values_of(columns: Columns, name: str, num: int, option: str, where: str) -> list[Any]:
    """The values of a column, one for each row.

    Raises:
        InputError: there is no such column, or it has another length.
    """
    if name not in columns:
        held = ", ".join(repr(each[:40]) for each in list(columns)[:20]) or "nothing"
        close = difflib.get_close_matches(name, list(columns), 1)
        _checks.refuse(
            InputError,
            "open",
            option,
            f"name a column of {where!r}",
            "its values belong to the rows",
            f"{name[:60]!r}, while there are {held}",
            f"Did you mean {close[0]!r}" if close else "Name one of them",
        )
    values = columns[name]()
    found = values.tolist() if hasattr(values, "tolist") else list(values)
    if len(found) != num:
        _checks.refuse(
            ShapeError,
            "open",
            option,
            "have one value for each row",
            "row i of one belongs to row i of the other",
            f"{len(found)} values of {name[:60]!r} for {num} rows",
            "Look at how the file was made",
        )
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in found]


def ids_of(values: Sequence[Any], name: str) -> tuple[str, ...]:
    """Ids as texts.

    Raises:
        InputError: one is missing or no text or whole number, or two are the same.
    """
    bad = [row for row, value in enumerate(values) if not _is_id(value)]
    if bad:
        _bad_ids(
            name,
            "be a text or a whole number in every row",
            "rows are known by them",
            f"{len(bad)} others, the first is {values[bad[0]]!r} in row {bad[0]}"[:160],
            "Write one for every row",
        )
    texts = [str(value).strip() for value in values]
    if len(set(texts)) < len(texts):
        twice = [text for text, count in Counter(texts).items() if count > 1]
        shown = ", ".join(repr(text[:40]) for text in twice[:_SHOWN])
        _bad_ids(
            name,
            "be different for all rows",
            "rows are joined by them",
            f"{len(twice)} that stand more than once, for instance {shown}",
            "Keep one row of each, or pass another id",
        )
    return tuple(texts)


def usual_ids(columns: Columns, num: int) -> tuple[str, ...] | None:
    """Ids from a column with a usual name, where they can be ids; else None."""
    for name in IDS:
        if name in columns:
            try:
                return ids_of(values_of(columns, name, num, "id", "the file"), name)
            except InputError:
                continue
    return None


def metadata_of(columns: Columns, names: Sequence[str], num: int, where: str) -> dict[str, Any]:
    """Column -> values: numbers as an array with NaN where one is missing, texts as a list with None."""
    found: dict[str, Any] = {}
    for name in names:
        values = values_of(columns, name, num, "metadata", where)
        cells = [None if _is_missing(value) else value for value in values]
        if all(isinstance(cell, str) for cell in cells if cell is not None):
            from spherometer.stores._table import column_values

            texts = ["" if cell is None else cell for cell in cells]
            cells = list(column_values(texts, f"column {name!r} of {where!r}"))
        if all(isinstance(cell, (int, float)) for cell in cells if cell is not None):
            found[name] = np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
        else:
            found[name] = [None if cell is None else str(cell) for cell in cells]
    return found


def pairs_of(values: Sequence[Any], name: str) -> tuple[list[int], list[int], int]:
    """Rows that share a value: first and second rows of the pairs in the order of the first, and single rows.

    Raises:
        InputError: a value with more than two rows, or no pair at all.
    """
    rows: dict[Any, list[int]] = {}
    for row, value in enumerate(values):
        if not _is_missing(value):
            rows.setdefault(value, []).append(row)
    many = [value for value, members in rows.items() if len(members) > 2]
    if many:
        _checks.refuse(
            InputError,
            "open",
            "pair_id",
            "be shared by two rows",
            "two sides make a pair",
            f"{len(many)} values of {name[:60]!r} with more than two rows, for instance "
            f"{str(many[0])[:60]!r} with {len(rows[many[0]])}",
            "Keep two rows of each",
        )
    pairs = [members for members in rows.values() if len(members) == 2]
    if not pairs:
        _checks.refuse(
            InputError,
            "open",
            "pair_id",
            "be shared by two rows",
            "two sides make a pair",
            f"no value of {name[:60]!r} that stands twice",
            "Name the column that says which rows belong together",
        )
    return [one for one, _ in pairs], [two for _, two in pairs], len(values) - 2 * len(pairs)


def table_columns(path: str | Path) -> Columns:
    """The columns of a table beside the features: .csv, .tsv or .parquet."""
    if Path(path).suffix.lower() == ".parquet":
        from spherometer.stores._rows_arrow import parquet_columns

        return parquet_columns(Path(path))
    from spherometer.stores._table import read_table

    table = read_table(path)
    return {name: (lambda cells=cells: cells) for name, cells in table.items()}  # type: ignore[misc]


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _bad_ids(name: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open", f"id column {name[:60]!r}", must, because, got, fix)
