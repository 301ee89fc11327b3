"""Votes of the nearest training rows, for many rows: a GEMM and a selection per block.

Shapes: N training rows, M asked rows, P features, K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError

_ENTRIES = 1 << 22  # similarities in one block


@torch.no_grad()
def vote(
    train: Tensor,
    labels: Tensor,
    asked: Tensor,
    *,
    k: int,
    num_classes: int,
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> Tensor:
    """Majority vote of the ``k`` nearest training rows; ties go to the lower class, as in ``KNNProbe``.

    Args:
        train: [N, P] features, with labels [N] int64 in 0 ... K - 1.
        asked: [M, P].
        k: number of votes, at most N.
        num_classes: K.
        metric: "cosine" (a row of zeros is as far from everything) or "euclidean".

    Returns:
        Classes [M]. Distances that differ by less than the rounding of the GEMM may change places.
    """
    if not 1 <= k <= len(train):
        _checks.refuse(
            InputError, "probe_encoder", "neighbors", f"lie between 1 and the {len(train)} training rows",
            "every prediction asks that many rows", str(k), f"Pass at most {len(train)}",
        )  # fmt: skip
    if metric == "cosine":
        train, asked = (torch.nn.functional.normalize(rows, dim=1) for rows in (train, asked))
        half = None
    else:
        centre = train.mean(dim=0)  # distances do not change, and rounding shrinks
        train, asked = train - centre, asked - centre
        half = -0.5 * train.square().sum(dim=1)
    found, step = [], max(1, _ENTRIES // len(train))
    block = train.new_empty(
        min(step, len(asked)), len(train)
    )  # used again: new ones would scatter the memory
    for part in torch.split(asked, step):
        near = torch.mm(part, train.T, out=block[: len(part)])
        if half is not None:
            near.add_(half)
        rows = near.topk(k, dim=1).indices
        ballots = torch.zeros(len(part), num_classes, device=train.device)
        ballots.scatter_add_(1, labels[rows], torch.ones_like(rows, dtype=ballots.dtype))
        found.append(_first_largest(ballots))
    return torch.cat(found)


def _first_largest(ballots: Tensor) -> Tensor:
    """Column of the largest entry of every row, the first one among equals (argmax promises no order)."""
    largest = ballots == ballots.amax(dim=1, keepdim=True)
    order = torch.arange(ballots.shape[1], 0, -1, device=ballots.device)
    return (largest * order).argmax(dim=1)
