"""Euclidean distances, a tile at a time, as accurate for near rows as for far ones.

A tile of squared distances is one GEMM of widened, centred rows, [-2 x, |x|^2, 1] . [y, 1, |y|^2]. Its error
is a few roundings of |x|^2 + |y|^2 however small the distance is. So pairs that are nearer than that allows
are taken by differences, one by one; a tile with more than a few of them is made again as a whole: of float32
rows by a GEMM in float64, of float64 rows by differences.

Shapes: N, M rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from spherometer.pairs._tiles import Block, spans, tile_for

# Share of |x|^2 + |y|^2 below which a squared distance of a GEMM in this precision is too coarse.
_NEAR = {torch.float32: 2.0**-7, torch.float64: 2.0**-26}
_FEW = 1 / 512  # of a tile: so many pairs are cheaper one by one
_KEPT = 9 << 20  # distances at most that are kept between passes
_TILE_FULL = 1 << 20  # so many always: one tile of 1024 x 1024; else three times the numbers of the rows
_ORDINARY = 20  # powers of two within which squares of entries neither overflow nor vanish
_TILE, _LARGE_TILE, _LARGE = (384, 768), (512, 1024), 8192  # on a CPU; the larger ones from so many rows


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
    largest = max(map(abs, map(float, rows.aminmax()))) if rows.numel() else 0.0
    return math.frexp(largest)[1] if largest else 0


def _scaled(rows: Tensor, exponent: int) -> Tensor:
    """Rows times a power of two, exactly; by a product where the power is a float32 (faster)."""
    if not exponent:
        return rows
    if abs(exponent) < 120:
        return rows * math.ldexp(1.0, exponent)
    return torch.ldexp(rows, torch.tensor(exponent))


class Distances:
    """Distances between ``rows`` [N, D] and ``columns`` [M, D], or within ``rows``; finite, no gradient.

    They are given in units of ``unit``, a power of two. Some of ``upper``, those of the diagonal first, stay
    until ``forget``: 2^20, or three times as many as the rows have numbers, and never more than 9 * 2^20.
    """

    def __init__(self, rows: Tensor, columns: Tensor | None = None) -> None:
        self.num, self.own = len(rows), columns is None
        rows = rows.detach()
        others = rows if columns is None else columns.detach()
        exponent = _exponent(rows) if columns is None else max(_exponent(rows), _exponent(others))
        exponent = 0 if abs(exponent) < _ORDINARY else exponent
        self.unit = math.ldexp(1.0, exponent)
        rows = _scaled(rows, -exponent)
        others = rows if columns is None else _scaled(others, -exponent)
        self.rows, self.columns = rows, others
        self.centre = others.mean(dim=0, dtype=torch.float64).to(rows.dtype).double()
        self._right = widened(others, self.centre)
        self._left = self._right if columns is None else widened(rows, self.centre)
        self._buffer = rows.new_empty(0)
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self._chosen: set[tuple[int, ...]] = set()
        self._room = min(_KEPT, max(_TILE_FULL, 3 * rows.numel()))
        self._crowded: set[tuple[int, ...]] = set()  # tiles with many near pairs
        self._clear: set[tuple[int, ...]] = set()  # tiles without any
        self._factor: tuple[int, int, Tensor] | None = None  # the left factor of some rows

    def tile(self, a: int, b: int, c: int, d: int, *, fill: float = 0.0, out: Tensor | None = None) -> Tensor:
        """Distances [b - a, d - c], valid until the next call; those of rows to themselves are ``fill``."""
        if out is None:
            size = (b - a) * (d - c)
            if self._buffer.numel() < size:
                self._buffer = self.rows.new_empty(size)
            out = self._buffer[:size].view(b - a, d - c)
        place = (a, b, c, d)
        if place in self._crowded:
            self._again(out, *place)
        else:
            right = self._right[c:d]
            torch.mm(self._left_factor(a, b), right.T, out=out)
            self._fill_own(out, a, c, math.inf)
            if place in self._clear or self._enough(out, place):
                out.sqrt_()
            else:
                self._crowded.add(place)
                self._again(out, *place)
        if self.own and (a, b) == (c, d):
            out.add_(out.T.clone()).mul_(0.5)  # products do not promise the same last bit on both sides
        return self._fill_own(out, a, c, fill)

    def _left_factor(self, a: int, b: int) -> Tensor:
        if self._factor is None or self._factor[:2] != (a, b):
            self._factor = (a, b, left_of(self._left[a:b]))
        return self._factor[2]

    def _enough(self, squared: Tensor, place: tuple[int, int, int, int]) -> bool:
        """Whether products are precise enough in a tile, once its few near pairs are mended."""
        a, b, c, d = place
        bound = _NEAR[squared.dtype] * float(self._left[a:b, -1].max() + self._right[c:d, -1].max())
        if float(squared.min()) < bound:
            return self._mend(squared, bound, a, c)
        self._clear.add(place)
        return True

    def _mend(self, squared: Tensor, bound: float, a: int, c: int) -> bool:
        """Take near pairs by differences; False: there are too many."""
        near = squared < bound
        if int(torch.count_nonzero(near)) > max(1, _FEW * squared.numel()):
            return False
        down, across = near.nonzero().T
        differences = self.rows[a + down].double() - self.columns[c + across].double()
        squared[down, across] = differences.square().sum(dim=1).to(squared.dtype)
        return True

    def _again(self, out: Tensor, a: int, b: int, c: int, d: int) -> None:
        rows, columns = self.rows[a:b], self.columns[c:d]
        if out.dtype == torch.float32:
            left = left_of(widened(rows.double(), self.centre))
            out.copy_(left @ widened(columns.double(), self.centre).T).clamp_(min=0).sqrt_()
        else:
            out.copy_(torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist"))

    def _fill_own(self, values: Tensor, a: int, c: int, fill: float) -> Tensor:
        if self.own and -values.shape[0] < a - c < values.shape[1]:
            values.diagonal(a - c).fill_(fill)
        return values

    def upper(self, *, tile: tuple[int, int] | None = None) -> Iterator[Block]:
        """Tiles of the distances within ``rows``, on and above the diagonal, which is infinite.

        The values are the same in every pass, to the last bit, and stay as they are found.
        """
        if tile is None and self.rows.device.type == "cpu":
            tile = _TILE if self.num < _LARGE else _LARGE_TILE
        places = list(spans(self.num, self.num, tile or tile_for(self.rows.device), symmetric=True))
        self._choose(places)
        for a, b, c, d in places:
            values = self._kept.get((a, b, c, d))
            if values is None:
                chosen = (a, b, c, d) in self._chosen
                out = self.rows.new_empty(b - a, d - c) if chosen else None
                values = self.tile(a, b, c, d, fill=math.inf, out=out)
                if chosen:
                    self._kept[a, b, c, d] = values
            yield Block(a, b, c, d, values, c != a)

    def _choose(self, places: list[tuple[int, ...]]) -> None:
        """Which tiles are kept: those on the diagonal cost most."""
        for a, b, c, d in sorted(places, key=lambda place: place[0] != place[2]):
            size = (b - a) * (d - c)
            if size <= self._room and (a, b, c, d) not in self._chosen:
                self._room -= size
                self._chosen.add((a, b, c, d))

    def forget(self) -> None:
        """Keep nothing."""
        self._kept, self._room, self._buffer, self._factor = {}, 0, self.rows.new_empty(0), None
        self._chosen.clear()
