"""Exact nearest neighbours, a block of rows at a time.

Candidates come from a GEMM in float32; their distances are then taken by differences in float64. A row whose
candidates cannot be told from the rest within the rounding of the GEMM is done again by a GEMM in float64,
and where that does not do, by differences altogether. So the answer is exact, whatever found the candidates,
and ties go to the lower index.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError
from spherometer.pairs._candidates import Candidates, first_candidates

_BLOCK = 1 << 20  # distances in one block
_PART = 1 << 17  # coordinates of candidates at a time: they stay in the cache
_SPARE = 8  # candidates beyond k
_TRIALS = 256  # rows after which a source of candidates that serves less than half of them is given up


def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest other rows of every row.

    Distances are taken by differences in float64, so that equal distances are equal bit for bit; among them
    the lower index comes first.

    Args:
        x: [N, D] rows.
        k: number of neighbours, 1 <= k < N.

    Returns:
        Indices [N, k], nearest first, and squared distances [N, k] in the dtype of ``x``.

    Cost: one GEMM of N^2 D in float32, a block of 2^20 distances or of at most 128 rows at a time; rows whose
    neighbours are nearly equally near cost several times that.
    """
    indices, distances = [], []
    for start, columns in nearest_blocks(x, k):
        some = x[start : start + len(columns)].detach().double()
        indices.append(columns)
        distances.append(_squared(some, x.detach(), columns).to(x.dtype))
    return torch.cat(indices), torch.cat(distances)


@torch.no_grad()
def nearest_blocks(x: Tensor, k: int) -> Iterator[tuple[int, Tensor]]:
    """The same indices, a block of rows at a time: the first row of each block, and its [B, k].

    Cost: as ``nearest``; memory O(N D) and a block.
    """
    n = len(x)
    if not 1 <= k < n:
        _checks.refuse(
            UndefinedError,
            "nearest",
            "k",
            "be at least 1 and less than the number of rows",
            "a row is not its own neighbour",
            f"k={k} for {n} rows",
            f"Pass k <= {n - 1}",
        )
    search = _Search(_scaled(x.detach()), k)
    for start in range(0, n, search.block):
        yield start, search.nearest(torch.arange(start, min(start + search.block, n), device=x.device))


def _scaled(rows: Tensor) -> Tensor:
    """Rows in float64 times a power of two, below 1 in size, so that no square overflows or vanishes."""
    wide = rows.double()
    exponent = math.frexp(float(wide.abs().max()))[1]
    half = exponent // 2  # in two steps: 2^-exponent alone may overflow
    return wide * 2.0**-half * 2.0 ** (half - exponent)


class _Stage:
    """A source of candidates, made when it is first asked, and how well it serves."""

    def __init__(self, make: Callable[[Tensor], Candidates], points: Tensor) -> None:
        self._make, self._points = make, points
        self._source: Candidates | None = None
        self._tried = self._served = 0

    @property
    def source(self) -> Candidates:
        if self._source is None:
            self._source = self._make(self._points)
        return self._source

    def nearest(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The nearest [B, k] of its candidates, and whether nothing else can be as near [B]."""
        if self._tried >= _TRIALS and 2 * self._served < self._tried:
            self._source = None
            return rows.new_zeros(len(rows), k), rows.new_zeros(len(rows), dtype=torch.bool)
        parts = [self._among(part, k) for part in torch.split(rows, self.source.block)]
        columns, safe = (torch.cat(each) for each in zip(*parts, strict=True))
        self._tried += len(rows)
        self._served += int(safe.sum())
        return columns, safe

    def _among(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        columns, rest = self.source.find(rows, k + _SPARE)
        columns = columns.sort(dim=1).values  # ascending, so that the stable sort breaks ties
        order = _distances(self._points, rows, columns).sort(dim=1, stable=True)
        return columns.gather(1, order.indices[:, :k]), rest > order.values[:, k - 1].square()


class _Search:
    """Exact neighbours by the cheapest source of candidates that tells them from the rest."""

    def __init__(self, points: Tensor, k: int) -> None:
        self._points, self._k = points, k
        self._stages: list[_Stage] = []
        self.block = max(1, _BLOCK // len(points))
        if 2 * (k + _SPARE) < len(points):
            self._stages = [_Stage(first_candidates, points), _Stage(_by_float64, points)]
            self.block = self._stages[0].source.block

    def nearest(self, rows: Tensor) -> Tensor:
        """The k nearest others [B, k] of ``rows`` [B]."""
        found = rows.new_empty(len(rows), self._k)
        todo = torch.arange(len(rows), device=rows.device)
        for stage in self._stages:
            if len(todo):
                columns, safe = stage.nearest(rows[todo], self._k)
                found[todo[safe]] = columns[safe]
                todo = todo[~safe]
        if len(todo):
            found[todo] = _by_differences(self._points, rows[todo], self._k)
        return found


def _by_float64(points: Tensor) -> Candidates:
    return Candidates(points, torch.float64)


def _distances(points: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Distances [B, M] of rows [B] to their columns, the same bits as those of all pairs."""
    num, dim = columns.shape[1], points.shape[1]
    size = max(1, _PART // (num * dim))
    found = []
    for some, theirs in zip(torch.split(rows, size), torch.split(columns, size), strict=True):
        chosen = points.index_select(0, theirs.flatten()).view(len(some), num, dim)
        found.append(_by_pairs(points[some][:, None], chosen)[:, 0])
    return torch.cat(found)


def _by_pairs(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _by_differences(points: Tensor, rows: Tensor, k: int) -> Tensor:
    """The ``k`` nearest [R, k] of the rows ``rows`` [R], with every distance taken by differences."""
    found = []
    for part in torch.split(rows, max(1, _BLOCK // len(points))):
        d = _by_pairs(points[part], points)
        d.scatter_(1, part[:, None], math.inf)
        worst = d.kthvalue(k, dim=1, keepdim=True).values
        nearer, level = d < worst, d == worst
        room = k - nearer.sum(dim=1, keepdim=True)
        chosen = nearer | (level & (level.cumsum(dim=1) <= room))
        columns = chosen.nonzero()[:, 1].view(len(part), k)  # ascending, so that the stable sort breaks ties
        order = d.gather(1, columns).sort(dim=1, stable=True).indices
        found.append(columns.gather(1, order))
    return torch.cat(found)


def _squared(some: Tensor, points: Tensor, columns: Tensor) -> Tensor:
    """Squared distances of rows to their chosen neighbours, one rank at a time."""
    return torch.stack([(some - points[column].double()).square().sum(dim=1) for column in columns.T], dim=1)
