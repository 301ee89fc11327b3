"""Exact nearest neighbours, a block of rows at a time.

Candidates come from one GEMM per block; their distances are then taken by differences, and a row whose
candidates cannot be told from the rest within the GEMM's rounding is done by differences altogether. So the
answer is exact, and ties go to the lower index.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError

_BLOCK = 1 << 20  # entries of one block of distances
_SPARE = 8  # candidates beyond k


def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest other rows of every row.

    Distances are taken by differences in float64, so that equal distances are equal bit for bit; among them
    the lower index comes first.

    Args:
        x: [N, D] rows.
        k: number of neighbours, 1 <= k < N.

    Returns:
        Indices [N, k], nearest first, and squared distances [N, k] in the dtype of ``x``.

    Cost: one GEMM of N^2 D in float64, a block of at most 2^20 distances (or one row) at a time; rows with
    more than a few equally near neighbours cost several times that.
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
    points = x.detach().double()
    lengths = points.square().sum(dim=1)
    # bound of the rounding of all sums of D products behind two squared distances
    slack = 8 * (x.shape[1] + 4) * torch.finfo(torch.float64).eps * float(lengths.max())
    block = max(1, _BLOCK // n)
    for start in range(0, n, block):
        some = points[start : start + block]
        rough = torch.addmm(lengths, some, points.T, alpha=-2).add_(lengths[start : start + block, None])
        rough.diagonal(start).fill_(math.inf)
        columns, safe = _candidates(some, points, rough, k, slack)
        if not bool(safe.all()):
            rows = (~safe).nonzero().flatten()
            columns[rows] = _by_differences(points, rows + start, k)
        yield start, columns


def _candidates(some: Tensor, points: Tensor, rough: Tensor, k: int, slack: float) -> tuple[Tensor, Tensor]:
    """The nearest [B, k] among the roughly nearest, and whether nothing else can be as near [B]."""
    num = min(k + _SPARE, rough.shape[1] - 1)
    # one more, to see how far away the rest is at least; the row itself (infinitely far) may be that one
    found = rough.topk(num + 1, dim=1, largest=False)
    columns = found.indices[:, :num].sort(dim=1).values  # ascending, so that the stable sort breaks ties
    exact = _squared(some, points, columns)
    order = exact.sort(dim=1, stable=True)
    rest = found.values[:, num]
    return columns.gather(1, order.indices[:, :k]), rest - slack > order.values[:, k - 1]


def _by_differences(points: Tensor, rows: Tensor, k: int) -> Tensor:
    """The ``k`` nearest [R, k] of the rows ``rows`` [R], with every distance taken by differences."""
    found = []
    for part in torch.split(rows, max(1, _BLOCK // len(points))):
        d = torch.cdist(points[part], points, compute_mode="donot_use_mm_for_euclid_dist")
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
