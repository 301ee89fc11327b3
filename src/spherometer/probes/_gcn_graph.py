"""The graph of mutual soft neighbours as a matrix that spreads values over nodes, dense or sparse.

The matrix is D^-1/2 A D^-1/2, A the weights of ``pairs.neighbor_graph`` and D their row sums, at least 1. The
sparse A keeps the k largest weights B of every row (exact weights: their denominators run over all rows) and
is (B + B^T) / 2; it is made in blocks of rows, and no N x N matrix appears.

Shapes: N nodes, M new rows, D dimensions, F values of a node, k weights kept in each row.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from spherometer.pairs import NeighborGraph, edge_blocks

Kind = Literal["dense", "sparse"]
LARGEST_DENSE = 4096  # nodes
_CHOICES = (16, 32, 64, 128)  # of k
_ENOUGH = 0.9  # of all weight


@dataclass(frozen=True)
class NodeScales:
    """What new rows need of a graph: 1 / sqrt(degree) of its nodes, and how rows were thinned.

    Attributes:
        scales: [N] float64.
        neighbors: k, None for a dense graph.
        thresholds: [N] least weight that each node keeps, None for a dense graph.
        lost_share: share of all weight that was not kept.
    """

    scales: Tensor
    neighbors: int | None
    thresholds: Tensor | None
    lost_share: float


def spreading_matrix(
    graph: NeighborGraph, level: int, kind: Kind, neighbors: int | None
) -> tuple[Tensor, NodeScales]:
    """The matrix [N, N] in float32, strided or CSR, symmetric, and what new rows need.

    Args:
        graph: the nodes.
        level: which of its temperatures.
        kind: "dense" or "sparse".
        neighbors: k; None: the least of 16, 32, 64, 128 that keeps 90 % of the weight, else 128.
    """
    if kind == "sparse":
        return _sparse(graph, level, neighbors)
    num = len(graph.rows)
    matrix = torch.empty(num, num, dtype=torch.float32)
    for a, b, weights in edge_blocks(graph, level):
        matrix[a:b] = weights
    scales = matrix.sum(dim=1, dtype=torch.float64).clamp_(min=1).rsqrt_()
    matrix.mul_(scales[:, None]).mul_(scales)
    return matrix, NodeScales(scales, None, None, 0.0)


def _sparse(graph: NeighborGraph, level: int, neighbors: int | None) -> tuple[Tensor, NodeScales]:
    from scipy.sparse import csr_matrix

    num = len(graph.rows)
    choices = [min(each, num - 1) for each in (_CHOICES if neighbors is None else (neighbors,))]
    most = choices[-1]
    values = torch.empty(num, most, dtype=torch.float32)
    columns = torch.empty(num, most, dtype=torch.int32)
    kept, total = torch.zeros(most, dtype=torch.float64), 0.0
    for a, b, weights in edge_blocks(graph, level):
        top = weights.topk(most, dim=1)  # largest first
        values[a:b], columns[a:b] = top.values, top.indices
        kept += top.values.sum(dim=0, dtype=torch.float64)
        total += float(weights.sum(dtype=torch.float64))
    kept = kept.cumsum(dim=0) / total
    k = next((each for each in choices if float(kept[each - 1]) >= _ENOUGH), most)
    data = values[:, :k].contiguous().view(-1).numpy()
    places = columns[:, :k].contiguous().view(-1).numpy()
    starts = torch.arange(0, num * k + 1, k, dtype=torch.int32).numpy()
    half = csr_matrix((data, places, starts), shape=(num, num))
    half = ((half + half.T) * 0.5).tocsr()
    degrees = torch.from_numpy(half.sum(axis=1, dtype="float64").A1)
    scales = degrees.clamp_(min=1).rsqrt_()
    matrix = _torch_csr(half, scales.float())
    lost = max(0.0, 1 - float(kept[k - 1]))
    return matrix, NodeScales(scales, k, values[:, k - 1].clone(), lost)


def _torch_csr(matrix: Any, scales: Tensor) -> Tensor:
    """A scipy CSR matrix times ``scales`` from both sides."""
    starts, places = torch.from_numpy(matrix.indptr), torch.from_numpy(matrix.indices)
    data = torch.from_numpy(matrix.data)
    data.mul_(scales.repeat_interleave(starts.diff().long())).mul_(scales[places.long()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "beta state": its products are tested here against dense ones
        return torch.sparse_csr_tensor(starts, places, data, matrix.shape)


def attached(
    graph: NeighborGraph, level: int, nodes: NodeScales, rows: Tensor
) -> Iterator[tuple[int, int, Tensor]]:
    """``a``, ``b`` and the weights [b - a, N] float64 by which new rows a:b read the nodes.

    Thinned as the graph: half of a weight for the new row that keeps it, half for the node that would.
    """
    for a, b, found in edge_blocks(graph, level, rows):
        weights = found.double()
        if nodes.neighbors is not None and nodes.thresholds is not None:
            least = found.topk(nodes.neighbors, dim=1).values[:, -1:]
            weights *= 0.5 * (found >= least).double() + 0.5 * (found >= nodes.thresholds).double()
        weights *= weights.sum(dim=1, keepdim=True).clamp_(min=1).rsqrt_()
        yield a, b, weights.mul_(nodes.scales)


def _product(matrix: Tensor, values: Tensor) -> Tensor:
    if matrix.layout == torch.strided:
        return (values.T.contiguous() @ matrix).T  # symmetric; twice as fast for few columns
    return matrix @ values.contiguous()


class Spread(torch.autograd.Function):
    """Matrix times values [N, F]; the matrix is symmetric, so that it also carries the gradient back."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, values: Tensor) -> Tensor:
        """matrix @ values."""
        ctx.matrix = matrix
        return _product(matrix, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """matrix @ gradient."""
        return None, _product(ctx.matrix, gradients[0])
