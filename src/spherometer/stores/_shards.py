"""Several files as one: rows of one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError
from spherometer.rows import RowSource
from spherometer.stores._stored import Stored


class ShardedRows:
    """Rows of several sources of one width and one dtype, as ``RowSource``."""

    def __init__(self, name: str, shards: Sequence[RowSource]) -> None:
        self.name, self._shards = name, list(shards)
        self.dtype = shards[0].dtype
        for shard in shards:
            if (shard.shape[1], shard.dtype) != (shards[0].shape[1], self.dtype):
                _checks.refuse(
                    ShapeError, "open", f"shards {name!r}", "have the same number of columns and dtype",
                    "their rows are points of one set",
                    f"{shards[0].shape[1]} {self.dtype} in {shards[0].name!r}, "
                    f"{shard.shape[1]} {shard.dtype} in {shard.name!r}",
                    "Open them one by one",
                )  # fmt: skip
        self._starts = [0, *accumulate(shard.shape[0] for shard in shards)]
        self.shape = (self._starts[-1], shards[0].shape[1])

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start:stop, as ``RowSource.read``."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        parts = [
            shard.read(max(0, start - first), min(shard.shape[0], stop - first))
            for first, shard in zip(self._starts, self._shards, strict=False)
            if start < first + shard.shape[0] and first < stop
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else self._shards[0].read(0, 0)


def joined_shards(name: str, shards: Sequence[Stored]) -> Stored:
    """One ``Stored`` of several; columns are those that all have."""
    if len(shards) == 1:
        return shards[0]
    shared = [column for column in shards[0].columns if all(column in each.columns for each in shards)]
    notes = [f"The rows are those of {len(shards)} files, one after the other."]
    notes += dict.fromkeys(note for each in shards for note in each.notes)
    return Stored(
        ShardedRows(name, [each.rows for each in shards]),
        {column: _reader(column, shards) for column in shared},
        tuple(file for each in shards for file in each.files),
        tuple(notes),
    )


def _reader(column: str, shards: Sequence[Stored]) -> Callable[[], Any]:
    def read() -> list[Any]:
        parts = [each.columns[column]() for each in shards]
        if len({_is_number(part) for part in parts if len(part)}) > 1:
            _checks.refuse(
                InputError, "open", f"column {column[:60]!r}", "hold numbers in all files, or texts in all",
                "the files are parts of one set", "numbers in some and texts in others", "Write them alike",
            )  # fmt: skip
        return [value for part in parts for value in (part.tolist() if hasattr(part, "tolist") else part)]

    return read


def _is_number(values: Sequence[Any]) -> bool:
    first = next((value for value in values if value is not None), None)
    return not isinstance(first, (str, bytes))
