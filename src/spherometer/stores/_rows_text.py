"""Features written as text: tables (.csv, .tsv) and lines of JSON (.jsonl), read in blocks of lines.

The first pass reads every line and keeps one place for each unit of rows; later reads start from there.
Numbers are taken as float32 where the first rows say no more than that (each is a float32 exactly, or has at
most 9 digits), else as float64.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from spherometer.rows import UNIT, Dtype
from spherometer.stores._regular import RegularFile

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".ndjson": ""}
_MAX_LINE = 16 << 20
_JUDGED = 256  # rows that decide between float32 and float64
_NUMBERED = re.compile(r"(.*?)(\d{1,7})", re.ASCII | re.DOTALL)
_APART = str.maketrans(",;[]()", "      ")
Cells = Mapping[str, Any]


class TextTable:
    """Rows of named values in a text file.

    Attributes:
        names: of the columns, from the first line (.csv, .tsv) or the first record (.jsonl).
        matrices: name or prefix -> what reads it as features: columns of lists of numbers, and groups of
            numbered columns ("emb_0", "emb_1", ...) under what comes before the number.
        columns: name -> what reads its values, a text or a value of JSON for each row.
        is_ended: whether the last line ends in a line break; without one the file may have been cut short.

    Raises:
        InputError: no text, no rows, two columns of one name, or lines of different lengths.
    """

    def __init__(self, file: RegularFile) -> None:
        self._file = file
        self._delimiter = _DELIMITERS[file.path.suffix.lower()]
        with file.guarded():
            self.is_ended = file.size == 0 or file.read(file.size - 1, 1) == b"\n"
            self.names, self._data = self._begin()
            first = next((cells for cells, _ in self.records()), None)
        if first is None:
            file.refuse("hold at least one row", "rows are measured", "none", "Check the path")
        groups = numbered(self.names) if self._delimiter else {}
        lists = [name for name in self.names if _is_list(first.get(name))]
        self.matrices: dict[str, Callable[[], TextRows]] = {
            name: self._rows(name, [name]) for name in lists
        } | {prefix: self._rows(prefix, members) for prefix, members in groups.items()}
        self.columns: dict[str, Callable[[], list[Any]]] = {
            name: self._values(name) for name in self.names if name not in lists
        }

    def records(self, at: int | None = None, row: int = 0) -> Iterator[tuple[Cells, int]]:
        """(cells by name, offset of the next record) from offset ``at`` on, where ``row`` begins."""
        lines = _Lines(self._file, self._data if at is None else at)
        if not self._delimiter:
            for line in lines:
                if line.strip():
                    yield self._object(line, row), lines.at
                    row += 1
            return
        for cells in csv.reader(lines, delimiter=self._delimiter, strict=True):
            if cells in ([], [""]):
                continue
            if len(cells) != len(self.names):
                raise ValueError(f"row {row} has {len(cells)} cells and the first line {len(self.names)}")
            yield dict(zip(self.names, cells, strict=True)), lines.at
            row += 1

    def _begin(self) -> tuple[list[str], int]:
        lines = _Lines(self._file, 3 if self._file.read(0, min(3, self._file.size)) == b"\xef\xbb\xbf" else 0)
        start = lines.at
        if not self._delimiter:
            line = next((line for line in lines if line.strip()), None)
            return ([] if line is None else list(self._object(line, 0))), start
        names = next(csv.reader(lines, delimiter=self._delimiter, strict=True), [])
        names = [name.strip() for name in names]
        twice = [name for name, num in Counter(names).items() if num > 1]
        if twice:
            raise ValueError(f"two columns are named {twice[0][:40]!r}")
        return names, lines.at

    def _object(self, line: str, row: int) -> dict[str, Any]:
        value = json.loads(line, object_pairs_hook=_once)
        if not isinstance(value, dict):
            raise ValueError(f"row {row} is no object but a {type(value).__name__}")
        return value

    def _rows(self, name: str, members: list[str]) -> Callable[[], TextRows]:
        return lambda: TextRows(self._file, self, name, members)

    def _values(self, name: str) -> Callable[[], list[Any]]:
        def read() -> list[Any]:
            with self._file.guarded():
                return [cells.get(name) for cells, _ in self.records()]

        return read


class TextRows:
    """Columns of a ``TextTable`` as ``RowSource``; reads the file once through when made."""

    def __init__(self, file: RegularFile, table: TextTable, name: str, members: list[str]) -> None:
        self.name = name or file.name
        self._file, self._table, self._members = file, table, members
        self._marks: list[int | None] = [None]
        judged: list[list[float]] = []
        num, dim = 0, len(members)
        with file.guarded():
            for cells, after in table.records():
                values = self._numbers(cells, num)
                if num == 0:
                    dim = len(values)
                if len(values) != dim or not dim:
                    self._refuse_row(num, f"{len(values)} numbers where row 0 has {dim}")
                if num < _JUDGED:
                    judged.append(values)
                num += 1
                if num % UNIT == 0:
                    self._marks.append(after)
        self.shape = (num, dim)
        self.dtype: Dtype = "float32" if _is_single(torch.tensor(judged, dtype=torch.float64)) else "float64"

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start:stop, as ``RowSource.read``."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        block = torch.empty(max(0, stop - start), self.shape[1], dtype=getattr(torch, self.dtype))
        row = start // UNIT * UNIT
        if start < stop:
            with self._file.guarded():
                for cells, _ in self._table.records(self._marks[start // UNIT], row):
                    if row >= start:
                        block[row - start] = torch.tensor(self._numbers(cells, row), dtype=torch.float64)
                    row += 1
                    if row == stop:
                        break
        return block

    def _numbers(self, cells: Cells, row: int) -> list[float]:
        one = cells.get(self._members[0])
        values: Any = one if len(self._members) == 1 else [cells[name] for name in self._members]
        if isinstance(one, str):
            values = values.translate(_APART).split() if len(self._members) == 1 else values
            if any("_" in value for value in values):
                self._refuse_row(row, "an underscore among its digits")
        elif not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
            self._refuse_row(row, "something else than a list of numbers")
        try:
            return list(map(float, values))
        except (ValueError, OverflowError) as error:
            self._refuse_row(row, str(error)[:100])

    def _refuse_row(self, row: int, got: str) -> NoReturn:
        self._file.refuse(
            f"hold numbers, equally many in every row of {self.name[:60]!r}", "each row is one point",
            f"{got} in row {row}", "Correct that row, or leave it out",
        )  # fmt: skip


class _Lines:
    """Lines of a file as text from an offset on; ``at`` is where the next one begins."""

    def __init__(self, file: RegularFile, at: int) -> None:
        self.at = at
        self._stream: io.BufferedReader = file.stream()
        self._stream.seek(at)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(_MAX_LINE)
        if not line:
            raise StopIteration
        if len(line) == _MAX_LINE:
            raise ValueError(f"a line of more than {_MAX_LINE >> 20} MiB")
        self.at += len(line)
        return line.decode("utf-8")


def numbered(names: list[str]) -> dict[str, list[str]]:
    """Prefix -> columns in the order of their numbers, which run from 0 or 1 on without a gap."""
    groups: dict[str, dict[int, str]] = {}
    for name in names:
        found = _NUMBERED.fullmatch(name)
        if found:
            groups.setdefault(found[1], {})[int(found[2])] = name
    return {
        prefix: [members[number] for number in sorted(members)]
        for prefix, members in groups.items()
        if len(members) > 1 and min(members) <= 1 and max(members) - min(members) + 1 == len(members)
    }


def _is_list(value: Any) -> bool:
    """Whether a value of the first record is a list of numbers, as JSON has it or as a cell of text."""
    if isinstance(value, str):
        return value.strip()[:1] == "[" and value.strip()[-1:] == "]"
    return isinstance(value, list) and bool(value) and set(map(type, value)) <= {int, float}


def _is_single(values: Tensor) -> bool:
    finite = values[torch.isfinite(values) & (values != 0)]
    odd = finite[finite.to(torch.float32).to(torch.float64) != finite]
    scaled = odd.abs() * 10.0 ** (8 - odd.abs().log10().floor())
    return bool(((scaled - scaled.round()).abs() <= 1e-4).all())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("two values of one name in a record")
    return mapping
