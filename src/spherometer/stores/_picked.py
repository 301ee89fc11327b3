"""Some rows of a source in another order."""

from __future__ import annotations

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.rows import BYTES, UNIT, ArrayRows, RowSource, unit_blocks, units

_WIDEST = 16  # times as many rows may be read as are picked


class PickedRows:
    """Rows of a source that lie near each other, read with what lies between them."""

    def __init__(self, source: RowSource, index: Tensor) -> None:
        self.name, self.dtype = source.name, source.dtype
        self._source, self._index = source, index
        self.shape = (len(index), source.shape[1])

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start:stop, as ``RowSource.read``."""
        wanted = self._index[start:stop]
        if not len(wanted):
            return self._source.read(0, 0)
        first, last = int(wanted.min()), int(wanted.max())
        return self._source.read(first, last + 1)[wanted - first]


def picked(source: RowSource, index: Tensor, budget: int, fix: str) -> RowSource:
    """Rows ``index`` of a source: in memory where they fit, else read where they lie close together.

    Args:
        source: the rows.
        index: [K] numbers of rows, in the order wanted.
        budget: bytes that rows in memory may take.
        fix: what a message says to do where neither is possible.
    """
    num, dim = source.shape
    if torch.equal(index, torch.arange(num)):
        return source
    if len(index) * dim * (8 if source.dtype == "float64" else 4) <= budget // 2:
        place = torch.full((num,), -1, dtype=torch.int64)
        place[index] = torch.arange(len(index))
        twice = len(torch.unique(index)) < len(index)
        wide = torch.float64 if source.dtype == "float64" else torch.float32
        found = torch.empty(len(index), dim, dtype=wide)
        for start, block in unit_blocks(source, budget // 4):
            if twice:
                inside = ((index >= start) & (index < start + len(block))).nonzero()[:, 0]
                found[inside] = block[index[inside] - start]
                continue
            to = place[start : start + len(block)]
            found[to[to >= 0]] = block[to >= 0]
        kept = ArrayRows(found, source.name)
        kept.dtype = source.dtype if BYTES[source.dtype] > 1 else "float32"
        return kept
    spread = max(int(index[a:b].max() - index[a:b].min()) + 1 for a, b in units(len(index)))
    if spread > _WIDEST * UNIT:
        _checks.refuse(
            InputError, "open", f"rows {source.name!r}", "lie in an order in which they can be read",
            f"{len(index)} rows are more than the budget of {budget} bytes holds",
            f"rows that belong together and lie {spread} rows apart", fix,
        )  # fmt: skip
    return PickedRows(source, index)
