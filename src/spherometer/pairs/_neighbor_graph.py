r"""The graph of mutual soft neighbours: how strongly two rows choose each other among all others.

With s_ij = -\|x_i - x_j\| / (temperature * mean distance), P the softmax of s over each row without itself,
the weight of an edge is W_ij = N^2 P_ij P_ji = N^2 exp(2 s_ij - l_i - l_j), l the rows' log-sum-exps. Three
passes over the pairs: distances, log-sum-exps, sums of weights; tiles are made again in each, never kept.

Shapes: N, M rows, D dimensions, T temperatures, C classes.
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

_BLOCK = 1 << 22  # entries of one block of weights
# Largest exponent (natural) of a row's nearest neighbour up to which nothing has to be shifted, by precision:
# squares of such terms, and their reciprocals, are still numbers.
_PLAIN = {torch.float32: 35.0, torch.float64: 300.0}


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
    _distances: Distances = field(repr=False)

    def scales(self) -> list[float]:
        """1 / (temperature * mean distance), in the unit of the tiles."""
        unit = self._distances.unit
        return [unit / (each * self.mean_distance) for each in self.temperatures]


@outside_graphs
@torch.no_grad()
def neighbor_graph(
    rows: Tensor,
    temperatures: Sequence[float],
    *,
    function: str = "neighbor_graph",
    tile: tuple[int, int] | None = None,
) -> NeighborGraph:
    """Mean distance and log-sum-exps of rows.

    Args:
        rows: [N, D] float32 or float64, anywhere in space; N >= 2.
        temperatures: each > 0.
        function: named in messages.
        tile: rows and columns of a tile; None: by the device.

    Raises:
        UndefinedError: all rows are equal, so that no distance can be measured against the mean.

    Cost: two passes over N^2 / 2 pairs; O(N (D + T)) memory. Tiles with near pairs cost up to twice as much
    (float32), or several times as much (float64, where they are taken by differences).
    """
    num = len(rows)
    _checks.enough_rows(function, "z", num, 2)
    with full_precision(rows.device):
        distances = Distances(rows)
        total = rows.new_zeros((), dtype=torch.float64)
        nearest = rows.new_full((num,), math.inf, dtype=torch.float64)
        for block in distances.upper(tile=tile):
            total += block.values.sum().double() * (2 if block.mirrored else 1)
            if not block.mirrored:
                block.values.fill_diagonal_(math.inf)
            _lower(nearest[block.a : block.b], block.values.amin(dim=1))
            if block.mirrored:
                _lower(nearest[block.c : block.d], block.values.amin(dim=0))
        mean = float(total) / (num * (num - 1)) * distances.unit
        if mean == 0:
            _checks.refuse(
                UndefinedError, function, "z", "hold at least two different rows",
                "distances are measured against their mean, which is 0 here", f"{num} equal rows",
                "Look for a collapsed encoder",
            )  # fmt: skip
        nearest *= distances.unit
        graph = NeighborGraph(
            rows, mean, tuple(map(float, temperatures)), rows.new_empty(0), nearest, distances
        )
        sums = _log_sums(graph, tile)
    return NeighborGraph(rows, mean, graph.temperatures, sums, nearest, distances)


def _lower(least: Tensor, found: Tensor) -> None:
    torch.minimum(least, found.double(), out=least)


def _log_sums(graph: NeighborGraph, tile: tuple[int, int] | None) -> Tensor:
    """[T, N] float64: log sum_{l != i} exp(s_il), shifted by the nearest neighbour where it has to be."""
    near = graph.nearest / graph._distances.unit
    scales = graph.scales()
    plain = [_is_plain(graph, scale) for scale in scales]
    sums = near.new_zeros(len(scales), len(near))
    for block in graph._distances.upper(fill=math.inf, tile=tile):
        rows, columns = slice(block.a, block.b), slice(block.c, block.d)
        for sum_, scale, simple in zip(sums, scales, plain, strict=True):
            if simple:
                terms = torch.mul(block.values, -scale * LOG2_E).exp2_()
                sum_[rows] += terms.sum(dim=1)
                if block.mirrored:
                    sum_[columns] += terms.sum(dim=0)
                continue
            wide = block.values.double()
            sum_[rows] += ((near[rows, None] - wide) * scale).exp_().sum(dim=1)
            if block.mirrored:
                sum_[columns] += ((near[columns] - wide) * scale).exp_().sum(dim=0)
    shifts = torch.stack(
        [near * (0.0 if simple else -scale) for scale, simple in zip(scales, plain, strict=True)]
    )
    return sums.log_() + shifts


def _is_plain(graph: NeighborGraph, scale: float) -> bool:
    return float(graph.nearest.max()) / graph._distances.unit * scale < _PLAIN[graph.rows.dtype]


@outside_graphs
@torch.no_grad()
def class_edges(
    graph: NeighborGraph, codes: Tensor, num_classes: int, *, tile: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Shares of the total weight of the edges: between classes, and of each row.

    Args:
        graph: the rows and their log-sum-exps.
        codes: [N] int64 class of each row, 0 ... num_classes - 1.
        num_classes: C.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        [T, C, C] float64, over ordered pairs, symmetric, sums to 1; and [T, N] float64, sums to 1.

    Cost: one pass over N^2 / 2 pairs; O(N (D + T) + T C^2) memory.
    """
    # rows in the order of their classes: a tile has few of them, next to each other
    order = codes.argsort(stable=True)
    rows, codes = graph.rows[order], codes[order]
    distances = Distances(rows)
    with full_precision(rows.device):
        levels = [
            _Level.of(scale, log_sums[order], num_classes, plain=_is_plain(graph, scale), dtype=rows.dtype)
            for scale, log_sums in zip(graph.scales(), graph.log_sums, strict=True)
        ]
        for block in distances.upper(fill=math.inf, tile=tile):
            for level in levels:
                level.add(block, codes)
    totals = torch.stack([level.totals for level in levels])
    strengths = torch.stack([level.strengths for level in levels])
    back = torch.empty_like(strengths)
    back[:, order] = strengths / strengths.sum(dim=1, keepdim=True)
    return totals / totals.sum(dim=(1, 2), keepdim=True), back


@dataclass
class _Level:
    """Sums of weights at one temperature: between classes [C, C] and of rows [N]."""

    scale: float
    log_sums: Tensor  # [N]
    shares: Tensor | None  # [N] exp(-log_sums) in the dtype of the rows, where these are numbers
    totals: Tensor
    strengths: Tensor

    @classmethod
    def of(
        cls, scale: float, log_sums: Tensor, num_classes: int, *, plain: bool, dtype: torch.dtype
    ) -> _Level:
        """Nothing summed yet."""
        shares = (-log_sums).exp().to(dtype) if plain else None
        totals = log_sums.new_zeros(num_classes, num_classes)
        return cls(scale, log_sums, shares, totals, torch.zeros_like(log_sums))

    def add(self, block: Block, codes: Tensor) -> None:
        """Add the weights of a tile; ``codes`` [N] ascend."""
        rows, columns = slice(block.a, block.b), slice(block.c, block.d)
        if self.shares is None:
            wide = block.values.double().mul_(-2 * self.scale)
            weights = wide.sub_(self.log_sums[rows, None]).sub_(self.log_sums[columns]).exp_()
            left, right = weights.new_ones(block.b - block.a), weights.new_ones(block.d - block.c)
        else:
            weights = torch.mul(block.values, -2 * self.scale * LOG2_E).exp2_()
            left, right = self.shares[rows], self.shares[columns]
        first, others = _members(codes[columns], right)
        by_class = weights @ others  # [rows of the tile, classes of its columns]
        self.strengths[rows] += left * by_class.sum(dim=1)
        start, members = _members(codes[rows], left)
        found = (members.T @ by_class).double()
        down, across = found.shape
        self.totals[start : start + down, first : first + across] += found
        if block.mirrored:
            self.strengths[columns] += right * (left @ weights)
            self.totals[first : first + across, start : start + down] += found.T


def _members(codes: Tensor, values: Tensor) -> tuple[int, Tensor]:
    """The first class of ascending ``codes`` [n], and who belongs to it and the next ones, as ``values``."""
    first = int(codes[0])
    out = values.new_zeros(len(codes), int(codes[-1]) - first + 1)
    out.scatter_(1, (codes - first)[:, None], values[:, None])
    return first, out


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

    Cost: one pass over the pairs; blocks of at most 2^22 weights (or one row).
    """
    num = len(graph.rows)
    distances = graph._distances if rows is None else Distances(rows.to(graph.rows.dtype), graph.rows)
    scale = distances.unit / (graph.temperatures[level] * graph.mean_distance)
    own = graph.log_sums[level]
    step = max(1, _BLOCK // num)
    for a in range(0, distances.num, step):
        b = min(a + step, distances.num)
        with full_precision(graph.rows.device):
            logits = distances.tile(a, b, 0, num, fill=math.inf).double().mul_(-scale)
            sums = own[a:b] if rows is None else logits.logsumexp(dim=1)
            weights = logits.mul_(2).sub_(sums[:, None]).sub_(own).exp_().mul_(num * num)
        yield a, b, weights.to(graph.rows.dtype)
