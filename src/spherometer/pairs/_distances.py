"""Euclidean distances, a tile at a time, as accurate for near rows as for far ones.

A tile of squared distances is one GEMM of widened, centred rows, [-2 x, |x|^2, 1] . [y, 1, |y|^2]. Its error
is a few roundings of |x|^2 + |y|^2 however small the distance is. So a tile with a pair nearer than that
allows is made again: of float32 rows by a GEMM in float64, of float64 rows by differences.

Shapes: N, M rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from spherometer.pairs._tiles import Block, spans, tile_for

# Share of |x|^2 + |y|^2 below which a squared distance of a GEMM in this precision is too coarse.
_NEAR = {torch.float32: 2.0**-5, torch.float64: 2.0**-20}


def widened(x: Tensor, centre: Tensor) -> Tensor:
    """The right factor [N, D + 2] of squared distances, [x, 1, |x|^2], of rows minus ``centre``."""
    n, d = x.shape
    z = x.new_empty(n, d + 2)
    rows = torch.sub(x, centre.to(x.dtype), out=z[:, :d])
    z[:, d] = 1
    z[:, d + 1] = rows.square().sum(dim=1)
    return z


def left_of(z: Tensor) -> Tensor:
    """The left factor of the same rows, [-2 x, |x|^2, 1]."""
    out = z * -2
    out[:, -2] = z[:, -1]
    out[:, -1] = 1
    return out


def _exponent(rows: Tensor) -> int:
    """The power of two above all entries: rows are divided by it, exactly, so that no square overflows."""
    largest = float(rows.abs().max()) if rows.numel() else 0.0
    return math.frexp(largest)[1] if largest else 0


class Distances:
    """Distances between ``rows`` [N, D] and ``columns`` [M, D], or within ``rows``; finite, no gradient.

    They are given in units of ``unit``, a power of two.
    """

    def __init__(self, rows: Tensor, columns: Tensor | None = None) -> None:
        self.num, self.own = len(rows), columns is None
        rows = rows.detach()
        others = rows if columns is None else columns.detach()
        exponent = max(_exponent(rows), _exponent(others))
        self.unit = math.ldexp(1.0, exponent)
        rows = torch.ldexp(rows, torch.tensor(-exponent))
        others = rows if columns is None else torch.ldexp(others, torch.tensor(-exponent))
        self.rows, self.columns = rows, others
        self.centre = others.mean(dim=0, dtype=torch.float64).to(rows.dtype).double()
        self._right = widened(others, self.centre)
        self._left = self._right if columns is None else widened(rows, self.centre)
        self._buffer = rows.new_empty(0)

    def tile(self, a: int, b: int, c: int, d: int, *, fill: float = 0.0) -> Tensor:
        """Distances [b - a, d - c], valid until the next call; those of rows to themselves are ``fill``."""
        size = (b - a) * (d - c)
        if self._buffer.numel() < size:
            self._buffer = self.rows.new_empty(size)
        squared = self._buffer[:size].view(b - a, d - c)
        left, right = self._left[a:b], self._right[c:d]
        torch.mm(left_of(left), right.T, out=squared)
        self._fill_own(squared, a, c, math.inf)
        bound = _NEAR[squared.dtype] * float(left[:, -1].max() + right[:, -1].max())
        if float(squared.min()) >= bound:
            squared.sqrt_()
        else:
            self._again(squared, a, b, c, d)
        return self._fill_own(squared, a, c, fill)

    def _again(self, out: Tensor, a: int, b: int, c: int, d: int) -> None:
        rows, columns = self.rows[a:b], self.columns[c:d]
        if out.dtype == torch.float32:
            left = left_of(widened(rows.double(), self.centre))
            out.copy_((left @ widened(columns.double(), self.centre).T).clamp_(min=0).sqrt_())
        else:
            out.copy_(torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist"))

    def _fill_own(self, values: Tensor, a: int, c: int, fill: float) -> Tensor:
        if self.own and -values.shape[0] < a - c < values.shape[1]:
            values.diagonal(a - c).fill_(fill)
        return values

    def upper(self, *, fill: float = 0.0, tile: tuple[int, int] | None = None) -> Iterator[Block]:
        """Tiles of the distances within ``rows``, on and above the diagonal."""
        for a, b, c, d in spans(self.num, self.num, tile or tile_for(self.rows.device), symmetric=True):
            yield Block(a, b, c, d, self.tile(a, b, c, d, fill=fill), c != a)
