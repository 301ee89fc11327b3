"""What is asked of a file of embeddings, and what a reader of one format hands back."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spherometer.rows import BUDGET, RowSource
from spherometer.stores._regular import RegularFile

USUAL = ("x", "z1", "z", "features", "embeddings", "embedding", "emb", "emb_", "vector", "vectors", "")


@dataclass(frozen=True)
class Wanted:
    """What is looked for in a file; None is found by its usual name.

    Attributes:
        column: the array, tensor or column of features, or the prefix of numbered columns.
        budget: bytes that may be held at once.
        trust_size: read archives that unpack to far more than their size.
    """

    column: str | None = None
    budget: int = BUDGET
    trust_size: bool = False


@dataclass(frozen=True)
class Stored:
    """The content of one file.

    Attributes:
        rows: the features.
        columns: name -> what reads one value for each row.
        files: to be checked after the last read, and digested.
        notes: what a reader must know.
    """

    rows: RowSource
    columns: Mapping[str, Callable[[], Any]]
    files: tuple[RegularFile, ...]
    notes: tuple[str, ...] = field(default=())


def chosen(file: RegularFile, names: list[str], column: str | None) -> str:
    """The name among ``names`` (what can be features) that is meant.

    Raises:
        InputError: it is not there, or several are and none has a usual name.
    """
    held = ", ".join(repr(name[:40]) for name in names[:20]) or "nothing that can be features"
    if column is not None:
        if column not in names:
            close = difflib.get_close_matches(column, names, 1)
            file.refuse(
                f"hold {column[:60]!r} as a matrix of floats or int8", "column= (--column) names it",
                held, f"Did you mean {close[0]!r}" if close else "Name one of them",
            )  # fmt: skip
        return column
    for name in USUAL:
        if name in names:
            return name
    if len(names) != 1:
        file.refuse(
            "hold one set of features, or one with a usual name (features, embeddings, x, ...)",
            "one is measured", held, "Pass column= (--column)",
        )  # fmt: skip
    return names[0]
