r"""The graph of mutual soft neighbours: how strongly two rows choose each other among all others.

With s_ij = -\|x_i - x_j\| / (temperature * mean distance), P the softmax of s over each row without itself,
the weight of an edge is W_ij = N^2 P_ij P_ji = N^2 exp(2 s_ij - l_i - l_j), l the rows' log-sum-exps. Three
passes over the pairs: distances, log-sum-exps, sums of weights; the tiles of a large set are made again in
each. Where exp(s) would leave the numbers, s is taken relative to the row's nearest neighbour.

Shapes: N, M rows, D dimensions, T temperatures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError
from spherometer.pairs._distances import Distances
from spherometer.pairs._tiles import LOG2_E, Block, full_precision, outside_graphs

_BLOCK = 1 << 20  # entries of one block of weights
# Largest -s of a row's nearest neighbour up to which nothing has to be shifted, by precision: squares of
# such terms, and their reciprocals, are still numbers.
_PLAIN = {torch.float32: 35.0, torch.float64: 300.0}
_SCALES = (1e-30, 1e30)  # beyond, all pairs weigh the same, or none but nearest neighbours


@dataclass(frozen=True)
class _Level:
    """One temperature: s = -scale * distance, log-sum-exps of s or (``shifted``) of s - s of the nearest."""

    scale: float
    shifted: bool
    excess: Tensor  # [N] float64


@dataclass(frozen=True)
class NeighborGraph:
    """Mutual soft neighbours of rows, at one or more temperatures.

    Attributes:
        rows: [N, D] the nodes.
        mean_distance: mean of the distances over all pairs.
        temperatures: T of them.
        log_sums: [T, N] float64, l of each row.
        nearest: [N] float64, distance of each row to its nearest other.
    """

    rows: Tensor
    mean_distance: float
    temperatures: tuple[float, ...]
    log_sums: Tensor
    nearest: Tensor
    _levels: tuple[_Level, ...] = field(repr=False)
    _distances: Distances = field(repr=False)
    _tile: tuple[int, int] | None = field(repr=False)


@outside_graphs
@torch.no_grad()
def neighbor_graph(
    rows: Tensor,
    temperatures: Sequence[float],
    *,
    function: str = "neighbor_graph",
    keep: bool = False,
    tile: tuple[int, int] | None = None,
) -> NeighborGraph:
    """Mean distance and log-sum-exps of rows.

    Args:
        rows: [N, D] float32 or float64, anywhere in space; N >= 2.
        temperatures: each > 0.
        function: named in messages.
        keep: hold O(N D) distances as long as the graph lives, for ``class_strengths``.
        tile: rows and columns of a tile; None: by the device.

    Raises:
        UndefinedError: all rows are equal, so that no distance can be measured against the mean.

    Cost: two passes over N^2 / 2 pairs; O(N (D + T)) memory (distances that are kept count). Tiles with many
    near pairs cost up to three times as much (float32), or more (float64, where they are taken by
    differences).
    """
    num = len(rows)
    _checks.enough_rows(function, "z", num, 2)
    with full_precision(rows.device):
        distances = Distances(rows)
        mean, near = _mean_and_nearest(distances, tile)
        if mean == 0:
            _checks.refuse(
                UndefinedError, function, "z", "hold at least two different rows",
                "distances are measured against their mean, which is 0 here", f"{num} equal rows",
                "Look for a collapsed encoder",
            )  # fmt: skip
        levels = tuple(_levels(distances, near, mean, temperatures, tile))
    if not keep:
        distances.forget()
    log_sums = [each.excess - near * each.scale if each.shifted else each.excess for each in levels]
    return NeighborGraph(
        rows,
        mean * distances.unit,
        tuple(map(float, temperatures)),
        torch.stack(log_sums),
        near * distances.unit,
        levels,
        distances,
        tile,
    )


def _mean_and_nearest(distances: Distances, tile: tuple[int, int] | None) -> tuple[float, Tensor]:
    """Mean over the pairs and least of each row [N] float64, in units of the tiles."""
    num = distances.num
    total = distances.rows.new_zeros((), dtype=torch.float64)
    near = distances.rows.new_full((num,), math.inf, dtype=torch.float64)
    for block in distances.upper(tile=tile):
        _lower(near[block.a : block.b], block.values.amin(dim=1))
        if block.mirrored:
            _lower(near[block.c : block.d], block.values.amin(dim=0))
            total += 2 * block.values.sum().double()
            continue
        block.values.fill_diagonal_(0)
        total += block.values.sum()
        block.values.fill_diagonal_(math.inf)
    return float(total) / (num * (num - 1)), near


def _lower(least: Tensor, found: Tensor) -> None:
    torch.minimum(least, found.double(), out=least)


class _Terms:
    """exp(-factor * scale * distances) of a tile, or relative to nearest neighbours, in a reused buffer."""

    def __init__(self, distances: Distances, near: Tensor) -> None:
        self.near = near.to(distances.rows.dtype)  # where it came from: exact
        self.buffer = distances.rows.new_empty(0)

    def room(self, like: Tensor) -> Tensor:
        """An unused tile."""
        if self.buffer.numel() < like.numel():
            self.buffer = like.new_empty(like.numel())
        return self.buffer[: like.numel()].view(like.shape)

    def plain(self, block: Block, factor: float) -> Tensor:
        """exp(-factor * d)."""
        return torch.mul(block.values, -factor * LOG2_E, out=self.room(block.values)).exp2_()

    def of_rows(self, block: Block, scale: float) -> Tensor:
        """exp(scale * (near_i - d))."""
        return self._relative(self.near[block.a : block.b, None], block, scale)

    def of_columns(self, block: Block, scale: float) -> Tensor:
        """exp(scale * (near_j - d))."""
        return self._relative(self.near[block.c : block.d], block, scale)

    def of_both(self, block: Block, scale: float) -> Tensor:
        """exp(scale * (near_i + near_j - 2 d))."""
        out = torch.sub(self.near[block.a : block.b, None], block.values, out=self.room(block.values))
        out.add_(self.near[block.c : block.d]).sub_(block.values)
        return out.mul_(scale * LOG2_E).exp2_()

    def _relative(self, near: Tensor, block: Block, scale: float) -> Tensor:
        out = torch.sub(near, block.values, out=self.room(block.values))
        return out.mul_(scale * LOG2_E).exp2_()


def _levels(
    distances: Distances,
    near: Tensor,
    mean: float,
    temperatures: Sequence[float],
    tile: tuple[int, int] | None,
) -> Iterator[_Level]:
    """The log-sum-exps of each temperature, in one pass."""
    dtype, terms, farthest = distances.rows.dtype, _Terms(distances, near), float(near.max())
    scales = [min(max(1 / max(each * mean, 1e-200), _SCALES[0]), _SCALES[1]) for each in temperatures]
    shifted = [farthest * scale >= _PLAIN[dtype] for scale in scales]
    sums = near.new_zeros(len(scales), len(near))
    for block in distances.upper(tile=tile):
        for sum_, scale, relative in zip(sums, scales, shifted, strict=True):
            if not relative:
                block.add_sums(sum_, sum_, terms.plain(block, scale))
                continue
            sum_[block.a : block.b] += terms.of_rows(block, scale).sum(dim=1)
            if block.mirrored:
                sum_[block.c : block.d] += terms.of_columns(block, scale).sum(dim=0)
    for scale, relative, excess in zip(scales, shifted, sums.log_(), strict=True):
        yield _Level(scale, relative, excess)


@outside_graphs
@torch.no_grad()
def class_strengths(graph: NeighborGraph, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Weight of the edges of each row: with rows of its class, and with all, as shares of all the weight.

    Args:
        graph: the rows and their log-sum-exps.
        codes: [N] int64 class of each row, less than 2^24. In ascending order most tiles lie within one
            class or between classes, which is faster.

    Returns:
        [T, N] and [T, N] float64; the second sums to 1 over the rows. With one class they are equal.

    Cost: one pass over N^2 / 2 pairs; O(N (D + T)) memory, however many classes there are.
    """
    distances, dtype = graph._distances, graph.rows.dtype
    with full_precision(graph.rows.device):
        sums = _Strengths(codes, [(-level.excess).exp().to(dtype) for level in graph._levels])
        terms = _Terms(distances, graph.nearest / distances.unit)
        for block in distances.upper(tile=graph._tile):
            same = sums.same(block)
            for index, level in enumerate(graph._levels):
                if level.shifted:
                    weights = terms.of_both(block, level.scale)
                else:
                    weights = terms.plain(block, 2 * level.scale)
                sums.add(index, block, weights, same)
    totals = sums.all.sum(dim=1, keepdim=True)
    return sums.own / totals, sums.all / totals


class _Strengths:
    """Sums over the edges of each row at each temperature, [T, N]: of its own class, and of all."""

    def __init__(self, codes: Tensor, shares: list[Tensor]) -> None:
        self.shares = shares  # [N] each, exp(-excess)
        self.codes = codes.to(shares[0].dtype)
        self.all = codes.new_zeros(len(shares), len(codes), dtype=torch.float64)
        self.own = torch.zeros_like(self.all)
        self.mask = self.codes.new_empty(0)
        self.ranges: dict[tuple[int, int], tuple[float, float]] = {}

    def _range(self, start: int, stop: int) -> tuple[float, float]:
        if (start, stop) not in self.ranges:
            low, high = self.codes[start:stop].aminmax()
            self.ranges[start, stop] = float(low), float(high)
        return self.ranges[start, stop]

    def same(self, block: Block) -> Tensor | bool:
        """Which pairs of a tile are of one class: all, none or a mask of ones and zeros."""
        (low, high), (least, most) = self._range(block.a, block.b), self._range(block.c, block.d)
        if high < least or most < low:
            return False
        if low == high == least == most:
            return True
        size = block.values.numel()
        if self.mask.numel() < size:
            self.mask = self.codes.new_empty(size)
        mask = self.mask[:size].view(block.values.shape)
        return torch.eq(self.codes[block.a : block.b, None], self.codes[block.c : block.d], out=mask)

    def add(self, level: int, block: Block, weights: Tensor, same: Tensor | bool) -> None:
        """Add the weights of a tile, which are overwritten."""
        found = self._sums(level, block, weights)
        for place, values in found:
            self.all[level, place] += values
        if same is False:
            return
        if isinstance(same, Tensor):
            found = self._sums(level, block, weights.mul_(same))
        for place, values in found:
            self.own[level, place] += values

    def _sums(self, level: int, block: Block, weights: Tensor) -> list[tuple[slice, Tensor]]:
        rows, columns = slice(block.a, block.b), slice(block.c, block.d)
        left, right = self.shares[level][rows], self.shares[level][columns]
        found = [(rows, left * torch.mv(weights, right))]
        if block.mirrored:
            found.append((columns, right * torch.mv(weights.T, left)))
        return found


@torch.no_grad()
def edge_blocks(
    graph: NeighborGraph, level: int = 0, rows: Tensor | None = None
) -> Iterator[tuple[int, int, Tensor]]:
    """Rows of the matrix of weights, a block at a time.

    Args:
        graph: the nodes.
        level: which of its temperatures.
        rows: [M, D] new rows, attached one way: they choose among the nodes, and a node chooses them as if
            they were one of its others, but no sum of the graph changes. None: the graph's own rows.

    Yields:
        ``a``, ``b`` and the weights [b - a, N] of the rows a:b in the dtype of the graph's rows; W_ii = 0.

    Cost: one pass over the pairs; blocks of at most 2^20 weights (or one row).
    """
    num, dtype = len(graph.rows), graph.rows.dtype
    step = max(1, _BLOCK // num)
    if rows is not None:
        yield from _attached(graph, level, rows.to(dtype), step)
        return
    distances, found = graph._distances, graph._levels[level]
    shares = (-found.excess).exp().to(dtype)
    terms = _Terms(distances, graph.nearest / distances.unit)
    for a in range(0, num, step):
        b = min(a + step, num)
        with full_precision(graph.rows.device):
            block = Block(a, b, 0, num, distances.tile(a, b, 0, num, fill=math.inf), False)
            if found.shifted:
                weights = terms.of_both(block, found.scale)
            else:
                weights = terms.plain(block, 2 * found.scale)
            weights = (weights * (num * num * shares[a:b, None])).mul_(shares)
        yield a, b, weights


def _attached(graph: NeighborGraph, level: int, rows: Tensor, step: int) -> Iterator[tuple[int, int, Tensor]]:
    """Weights of new rows, whose nearest node may be nearer than any two nodes: in float64."""
    num, own = len(graph.rows), graph.log_sums[level]
    distances = Distances(rows, graph.rows)
    scale = distances.unit / (graph.temperatures[level] * graph.mean_distance)
    for a in range(0, len(rows), step):
        b = min(a + step, len(rows))
        with full_precision(rows.device):
            logits = distances.tile(a, b, 0, num).double() * -scale
            sums = logits.logsumexp(dim=1, keepdim=True)
            weights = logits.mul_(2).sub_(sums).sub_(own).exp_().mul_(num * num)
        yield a, b, weights.to(rows.dtype)
