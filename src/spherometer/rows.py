"""Rows of features, wherever they are: in memory, in one file, in many. How everything that is large is read.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError

UNIT = 4096  # rows of a unit: sums are taken unit by unit, so the size of a block changes no bit of a result
BUDGET = 1 << 30  # bytes that blocks of rows and what is kept of them may take

Dtype = Literal["float16", "bfloat16", "float32", "float64", "int8"]
BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int8": 1}


@runtime_checkable
class RowSource(Protocol):
    """N rows of D numbers that are read a span at a time.

    Attributes:
        name: what messages call it, for instance the name of the file.
        shape: (N, D).
        dtype: how the numbers are stored: "float16", "bfloat16", "float32", "float64" or "int8".
    """

    name: str
    shape: tuple[int, int]
    dtype: Dtype

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start:stop, [stop - start, D] float32 (float64 where the source is), in memory of their own.

        Raises:
            InputError: the span cannot be read, or the file has changed since it was opened.
        """
        ...


class ArrayRows:
    """Rows that are in memory (or in a memory map) already.

    Args:
        values: [N, D] tensor or NumPy array of float16, bfloat16, float32, float64 or int8.
        name: what messages call it.

    Raises:
        InputError: anything else.
    """

    def __init__(self, values: Tensor | NDArray[Any], name: str = "x") -> None:
        self.name = name
        if not isinstance(values, Tensor) and getattr(values, "dtype", None) == "int8":
            values = torch.from_numpy(values)
        if not (isinstance(values, Tensor) and values.dtype == torch.int8 and values.ndim == 2):
            values, _ = _checks.as_matrix("open", name, values)
        self._values = values.detach()
        self.shape: tuple[int, int] = (values.shape[0], values.shape[1])
        self.dtype: Dtype = str(values.dtype).removeprefix("torch.")  # type: ignore[assignment]

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start:stop, as ``RowSource.read``."""
        wide = torch.float64 if self._values.dtype == torch.float64 else torch.float32
        return self._values[start:stop].to(wide, copy=True)


@dataclass(frozen=True)
class File:
    """A file that rows came from: its name without directories, its bytes, and their SHA-256 where taken."""

    name: str
    num_bytes: int
    sha256: str | None = None


def _nothing() -> None:
    """What has no file cannot change."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Rows of features with all that belongs to them; what ``sm.open`` returns and ``sm.measure`` takes.

    Attributes:
        rows: the features.
        other: the other side of positive pairs; row i belongs to row i of ``rows``.
        ids: a text for each row, all different; None where rows are known by their position.
        labels: [N] classes, numbers or texts.
        metadata: column -> N values.
        files: where the rows came from.
        notes: what a reader must know, for instance how many rows had no partner.
        check: raises InputError when a file has changed since it was opened; call it after the last read.
        digest: the files again, with checksums: reads them whole.
    """

    rows: RowSource
    other: RowSource | None = None
    ids: Sequence[str] | None = None
    labels: Sequence[Any] | NDArray[Any] | None = None
    metadata: Mapping[str, Any] | None = None
    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()
    check: Callable[[], None] = field(default_factory=lambda: _nothing)
    digest: Callable[[], tuple[File, ...]] = field(default_factory=lambda: tuple)

    @property
    def name(self) -> str:
        """What messages call the rows."""
        return self.rows.name

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self.rows.shape

    @property
    def dtype(self) -> Dtype:
        """How the numbers are stored."""
        return self.rows.dtype

    def __len__(self) -> int:
        return self.rows.shape[0]

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start:stop, as ``RowSource.read``."""
        return self.rows.read(start, stop)


def units(num: int) -> Iterator[tuple[int, int]]:
    """Spans of ``UNIT`` rows from row 0 on; the last one may be shorter."""
    for start in range(0, num, UNIT):
        yield start, min(start + UNIT, num)


def unit_blocks(source: RowSource, budget: int = BUDGET) -> Iterator[tuple[int, Tensor]]:
    """(first row, rows) of every unit in order; several units are read at once where ``budget`` allows it.

    What is computed unit by unit from here is the same to the last bit whatever the budget.

    Args:
        source: the rows.
        budget: bytes that one read may take, at least one unit's.
    """
    num, dim = source.shape
    size = 8 if source.dtype == "float64" else 4
    many = max(1, budget // (UNIT * dim * size * 2)) * UNIT  # twice: as stored, and as read
    for first in range(0, num, many):
        block = source.read(first, min(first + many, num))
        for start, stop in units(len(block)):
            yield first + start, block[start:stop]


_openers: list[Callable[..., Embeddings]] = []


def register_opener(opener: Callable[..., Embeddings]) -> None:
    """Say how paths become rows; ``spherometer.stores`` does."""
    _openers[:] = [opener]


def is_stored(value: Any) -> bool:
    """Whether ``value`` is a path or a source of rows, not an array in memory."""
    return isinstance(value, (str, PathLike, Embeddings)) or (
        not isinstance(value, Tensor) and hasattr(value, "read") and hasattr(value, "shape")
    )


def opened(function: str, name: str, value: Any, **options: Any) -> Embeddings:
    """``value`` as ``Embeddings``: a path is opened (with options of ``open``), anything else is wrapped.

    Raises:
        InputError: it is none of these, or the file cannot be opened.
    """
    if isinstance(value, Embeddings):
        return value
    if isinstance(value, (str, PathLike)):
        if not _openers:
            _checks.refuse(
                InputError, function, name, "be an array or an open file",
                "the readers of files are not loaded", f"the path {str(value)!r}",
                "Import spherometer.stores, or pass spherometer.open(path)",
            )  # fmt: skip
        return _openers[0](value, **options)
    if is_stored(value):
        return Embeddings(value)
    return Embeddings(ArrayRows(value, name))
