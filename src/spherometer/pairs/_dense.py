"""The pairwise quantities written out in full: N x N matrices, plain differentiable torch.

This is the definition the tiled engine must agree with; the engine itself uses it for second derivatives
of small sets, nothing else does.

Shapes: N, M rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """All squared distances [N, M], by differences."""
    return (x[:, None, :] - y[None, :, :]).square().sum(dim=-1)


def log_mean_gaussian(x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    """Log mean of exp(-t d^2) over i != j (``y`` None) or over all pairs of ``x`` and ``y``."""
    exponents = -t * squared_distances(x, x if y is None else y)
    if y is None:
        n = len(x)
        own = torch.eye(n, dtype=torch.bool, device=x.device)
        exponents = exponents.masked_fill(own, -math.inf)
        return torch.logsumexp(exponents.flatten(), 0) - math.log(n * (n - 1))
    return torch.logsumexp(exponents.flatten(), 0) - math.log(exponents.numel())


def masked_logsumexp(
    x: Tensor, y: Tensor | None, scale: Tensor, skip: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Row and column log-sum-exps of ``scale * x @ y.T`` without the diagonals j - i in ``skip``."""
    logits = scale * (x @ (x if y is None else y).T)
    index = torch.arange(logits.shape[1], device=x.device) - torch.arange(len(x), device=x.device)[:, None]
    left_out = torch.zeros_like(index, dtype=torch.bool)
    for offset in skip:
        left_out |= index == offset
    logits = logits.masked_fill(left_out, -math.inf)
    return torch.logsumexp(logits, 1), torch.logsumexp(logits, 0)
