"""Exact nearest neighbours, a block of rows at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError

_BLOCK = 1 << 20  # entries of one block of distances


@torch.no_grad()
def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest other rows of every row.

    Distances are taken by differences in float64, so that equal distances are equal bit for bit; among them
    the lower index comes first.

    Args:
        x: [N, D] rows.
        k: number of neighbours, 1 <= k < N.

    Returns:
        Indices [N, k], nearest first, and squared distances [N, k] in the dtype of ``x``.

    Cost: N^2 D operations; one block of at most 2^20 distances (or one row) at a time.
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
    block = max(1, _BLOCK // n)
    indices, distances = [], []
    for start in range(0, n, block):
        some = points[start : start + block]
        d = torch.cdist(some, points, compute_mode="donot_use_mm_for_euclid_dist")
        d.diagonal(start).fill_(math.inf)
        worst = d.kthvalue(k, dim=1, keepdim=True).values
        nearer, level = d < worst, d == worst
        room = k - nearer.sum(dim=1, keepdim=True)
        chosen = nearer | (level & (level.cumsum(dim=1) <= room))
        columns = chosen.nonzero()[:, 1].view(len(some), k)  # ascending, so that the stable sort breaks ties
        order = d.gather(1, columns).sort(dim=1, stable=True).indices
        columns = columns.gather(1, order)
        indices.append(columns)
        distances.append(_squared(some, points, columns).to(x.dtype))
    return torch.cat(indices), torch.cat(distances)


def _squared(some: Tensor, points: Tensor, columns: Tensor) -> Tensor:
    """Squared distances of rows to their chosen neighbours, one rank at a time."""
    return torch.stack([(some - points[column]).square().sum(dim=1) for column in columns.T], dim=1)
