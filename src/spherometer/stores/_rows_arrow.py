"""Arrow's files as rows: parquet, arrow / feather, and the arrow streams of Hugging Face data sets.

Batches are decoded one after another and the last one is kept, so units that are read in order are decoded
once; going back begins again at the row group (the file, for streams) that holds the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer.rows import BUDGET, BYTES, UNIT, Dtype
from spherometer.stores._regular import RegularFile
from spherometer.stores._rows_text import numbered
from spherometer.stores._stored import Stored, Wanted, chosen

_TYPES: dict[str, Dtype] = {"halffloat": "float16", "float": "float32", "double": "float64", "int8": "int8"}
_WIDE = {name: torch.float64 if name == "float64" else torch.float32 for name in BYTES}
_BATCH = 32 << 20  # bytes of features decoded at once
_STREAM_END = bytes(4)  # a message of no bytes
_BUFFER = 1 << 20  # bytes of a column chunk read at once


def open_parquet(path: Path, wanted: Wanted) -> Stored:
    """A ``.parquet`` file: a column of lists, or columns of numbers under a prefix."""
    file = RegularFile(path)
    with file.guarded():
        return _stored(file, _Parquet(file), wanted)


def open_arrow(path: Path, wanted: Wanted) -> Stored:
    """An ``.arrow`` or ``.feather`` file, file or stream format."""
    file = RegularFile(path)
    with file.guarded():
        return _stored(file, _Ipc(file), wanted)


class _Parquet:
    """Batches of a parquet file."""

    def __init__(self, file: RegularFile) -> None:
        import pyarrow.parquet

        self._file = file
        self._handle = pyarrow.parquet.ParquetFile(
            file.stream(), page_checksum_verification=True, buffer_size=_BUFFER, pre_buffer=False
        )
        meta = self._handle.metadata
        self.schema = self._handle.schema_arrow
        counts = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        if min(counts, default=0) < 0 or sum(counts) != meta.num_rows:
            raise ValueError(f"its {len(counts)} row groups do not have the {meta.num_rows} rows it declares")
        self.starts = [0, *np.cumsum(counts).tolist()]

    def batches(self, names: Sequence[str], group: int, size: int) -> Iterator[Any]:
        """Record batches of at most ``size`` rows from a row group on."""
        groups = list(range(group, len(self.starts) - 1))
        if not groups:
            return
        yield from self._handle.iter_batches(
            batch_size=size, row_groups=groups, columns=list(names), use_threads=False
        )


class _Ipc:
    """Batches of an arrow file or stream; a stream is counted by one pass."""

    def __init__(self, file: RegularFile) -> None:
        self._file = file
        self._is_file = file.read(0, min(6, file.size)) == b"ARROW1"
        if not self._is_file and file.read(max(0, file.size - 4), min(4, file.size)) != _STREAM_END:
            raise ValueError("the stream has no end, as one that was cut short")
        self.schema = self._reader(None).schema
        counts = [batch.num_rows for batch in self._each(0, None)]
        self.starts = [0, *np.cumsum(counts).tolist()]

    def _reader(self, names: Sequence[str] | None) -> Any:
        import pyarrow.ipc

        options = pyarrow.ipc.IpcReadOptions(
            included_fields=None if names is None else [self.schema.get_field_index(name) for name in names],
            use_threads=False,
        )
        stream = pyarrow.PythonFile(self._file.stream(), mode="r")
        opener = pyarrow.ipc.open_file if self._is_file else pyarrow.ipc.open_stream
        return opener(stream, options=options)

    def _each(self, group: int, names: Sequence[str] | None) -> Iterator[Any]:
        reader = self._reader(names)
        if self._is_file:
            for index in range(group, reader.num_record_batches):
                yield self._whole(reader.get_batch(index))
            return
        for index, batch in enumerate(reader):
            if index >= group:
                yield self._whole(batch)

    def _whole(self, batch: Any) -> Any:
        batch.validate(full=True)
        return batch

    def batches(self, names: Sequence[str], group: int, size: int) -> Iterator[Any]:
        """Record batches of at most ``size`` rows from a batch of the file on."""
        for batch in self._each(group, names):
            for start in range(0, max(1, batch.num_rows), size):
                yield batch.slice(start, size)


class ArrowRows:
    """Features in columns of batches, as ``RowSource``.

    Args:
        file: the file.
        table: its batches.
        name: what messages call the rows.
        members: one column of lists, or a column for each coordinate.
        budget: bytes that may be held at once; decoding a batch takes about six times its size.
    """

    def __init__(
        self,
        file: RegularFile,
        table: _Parquet | _Ipc,
        name: str,
        members: list[str],
        budget: int = BUDGET,
    ) -> None:
        self.name = name
        self._file, self._table, self._members = file, table, members
        kinds = {_kind(table.schema.field(member).type) for member in members}
        if len(kinds) != 1 or None in kinds:
            given = ", ".join(sorted({str(table.schema.field(member).type)[:60] for member in members}))
            self._refuse("hold float16, float32, float64 or int8", given)
        self.dtype: Dtype = kinds.pop() or "float32"
        self._num = table.starts[-1]
        self.shape = (self._num, len(members))
        if _is_list(table.schema.field(members[0]).type):
            self.shape = (self._num, self._width())
        batch = min(_BATCH, budget // 12)
        self._batch_rows = max(1, batch // (self.shape[1] * BYTES[self.dtype]) // UNIT) * UNIT
        self._start, self._kept = 0, torch.empty(0, self.shape[1], dtype=getattr(torch, self.dtype))
        self._coming: Iterator[Any] | None = None

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start:stop, as ``RowSource.read``."""
        start, stop, _ = slice(start, stop).indices(self._num)
        found = torch.empty(max(0, stop - start), self.shape[1], dtype=_WIDE[self.dtype])
        done = start
        with self._file.guarded():
            if self._coming is None or start < self._start:
                self._rewind(start)
            while done < stop:
                while done >= self._start + len(self._kept):
                    self._next()
                low = done - self._start
                high = min(stop - self._start, len(self._kept))
                found[done - start : done - start + high - low] = self._kept[low:high]
                done += high - low
        return found

    def _rewind(self, row: int) -> None:
        group = int(np.searchsorted(self._table.starts, row, side="right")) - 1
        group = min(group, len(self._table.starts) - 2)
        self._coming = self._table.batches(self._members, group, self._batch_rows)
        self._start, self._kept = self._table.starts[group], self._kept[:0]

    def _next(self) -> None:
        assert self._coming is not None
        batch = next(self._coming, None)
        if batch is None:
            raise ValueError(f"its rows end at {self._start + len(self._kept)} of {self._num}")
        self._start += len(self._kept)
        self._kept = torch.from_numpy(self._values(batch))

    def _width(self) -> int:
        kind = self._table.schema.field(self._members[0]).type
        if hasattr(kind, "list_size"):
            return int(kind.list_size)
        if not self._num:
            return 1
        first = next(batch for batch in self._table.batches(self._members, 0, 1) if batch.num_rows)
        values = first.column(0)
        if values.null_count:
            self._refuse_row(0, "a missing list")
        return len(values[0].values) or 1

    def _values(self, batch: Any) -> NDArray[Any]:
        """Numbers of a batch [rows, D]."""
        num, dim = batch.num_rows, self.shape[1]
        if not _is_list(batch.schema.field(0).type):
            whole = np.empty((num, dim), dtype=np.dtype(self.dtype))
            for place, member in enumerate(self._members):
                column = batch.column(batch.schema.get_field_index(member))
                if column.null_count:
                    self._refuse_row(self._bad(column.is_null()), f"a missing number in {member[:40]!r}")
                whole[:, place] = column.to_numpy(zero_copy_only=False)
            return whole
        column = batch.column(0)
        if column.null_count:
            self._refuse_row(self._bad(column.is_null()), "a missing list")
        if not hasattr(column.type, "list_size"):
            lengths = np.diff(column.offsets.to_numpy())
            if (lengths != dim).any():
                row = int((lengths != dim).argmax())
                self._refuse_row(row, f"{lengths[row]} numbers, and row 0 of the file has {dim}")
        flat = column.flatten()
        if flat.null_count:
            self._refuse_row(self._bad(flat.is_null()) // dim, "a missing number in a list")
        return np.array(flat.to_numpy(zero_copy_only=False)).reshape(num, dim)

    def _bad(self, mask: Any) -> int:
        return int(mask.to_numpy(zero_copy_only=False).argmax())

    def _refuse_row(self, row: int, got: str) -> NoReturn:
        at = self._start + len(self._kept) + row
        group = int(np.searchsorted(self._table.starts, at, side="right")) - 1
        self._refuse(
            "hold a list of equally many numbers in every row", f"{got}, in row {at} (row group {group})"
        )

    def _refuse(self, must: str, got: str) -> NoReturn:
        self._file.refuse(
            must + f" in {self.name[:60]!r}",
            "each row is one point",
            got,
            "Write the column again without it",
        )


def _kind(kind: Any) -> Dtype | None:
    """How the numbers of a column, or of its lists, are stored; None where they are no features."""
    return _TYPES.get(str(kind.value_type if _is_list(kind) else kind))


def _is_list(kind: Any) -> bool:
    import pyarrow

    return bool(
        pyarrow.types.is_list(kind)
        or pyarrow.types.is_large_list(kind)
        or pyarrow.types.is_fixed_size_list(kind)
    )


def _stored(file: RegularFile, table: _Parquet | _Ipc, wanted: Wanted) -> Stored:
    names = [name for name in table.schema.names if not name.startswith("__index_level_")]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        file.refuse(
            "name every column once", "one would hide the other", f"two columns named {twice[0][:60]!r}",
            "Rename one of them",
        )  # fmt: skip
    lists = {
        name: [name]
        for name in names
        if _is_list(table.schema.field(name).type) and _kind(table.schema.field(name).type) is not None
    }
    floats = [name for name in names if str(table.schema.field(name).type) in _TYPES]
    groups = numbered(floats)
    name = chosen(file, [*lists, *groups], wanted.column)
    rows = ArrowRows(file, table, name, (lists | groups)[name], wanted.budget)
    taken = set((lists | groups)[name])
    columns = {
        other: _reader(file, table, other)
        for other in names
        if other not in taken and not _is_list(table.schema.field(other).type)
    }
    return Stored(rows, columns, (file,))


def _reader(file: RegularFile, table: _Parquet | _Ipc, name: str) -> Callable[[], Any]:
    def read() -> list[Any]:
        with file.guarded():
            return [
                value for batch in table.batches([name], 0, 1 << 16) for value in batch.column(0).to_pylist()
            ]

    return read


def parquet_columns(path: Path) -> dict[str, Callable[[], Any]]:
    """The columns of a parquet file that are no lists, for a table beside the features."""
    file = RegularFile(path)
    with file.guarded():
        table = _Parquet(file)
        names = [name for name in table.schema.names if not _is_list(table.schema.field(name).type)]
        return {name: _reader(file, table, name) for name in names}
