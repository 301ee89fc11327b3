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
    """All squared distances [N, M] as float64, from centred products: no [N, M, D] is made."""
    x, y = x.double(), y.double()
    centre = (x.detach().mean(dim=0) + y.detach().mean(dim=0)) / 2
    x, y = x - centre, y - centre
    return x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * x @ y.T


def log_sum_gaussian(x: Tensor, t: Tensor | float, y: Tensor | None = None) -> Tensor:
    """Log sum of exp(-t d^2) over i != j (``y`` None) or over all pairs of ``x`` and ``y``."""
    exponents = -t * squared_distances(x, x if y is None else y)
    if y is None:
        own = torch.eye(len(x), dtype=torch.bool, device=x.device)
        exponents = exponents.masked_fill(own, -math.inf)
    return torch.logsumexp(exponents.flatten(), 0)


def log_mean_gaussian(x: Tensor, t: Tensor | float, y: Tensor | None = None) -> Tensor:
    """Log mean of exp(-t d^2) over i != j (``y`` None) or over all pairs of ``x`` and ``y``."""
    count = len(x) * (len(x) - 1) if y is None else len(x) * len(y)
    return log_sum_gaussian(x, t, y) - math.log(count)


def riesz_sum(x: Tensor, y: Tensor, power: float, floor: float, skip: int | None) -> Tensor:
    """Sum of d^-power (0: log(1 / d)) over the pairs with j - i not ``skip``; squared distances >= floor."""
    squared = squared_distances(x, y)
    if skip is not None:
        columns = torch.arange(len(y), device=x.device)
        own = columns - torch.arange(len(x), device=x.device)[:, None] == skip
        squared = squared[~own]
    squared = squared.clamp(min=floor)
    total: Tensor = (squared.log() * -0.5 if power == 0 else squared.pow(-power / 2)).sum()
    return total


def masked_logsumexp(
    x: Tensor, y: Tensor | None, scale: Tensor | float, skip: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Row and column log-sum-exps of ``scale * x @ y.T`` without the diagonals j - i in ``skip``."""
    x = x.double()
    logits = scale * (x @ (x if y is None else y.double()).T)
    index = torch.arange(logits.shape[1], device=x.device) - torch.arange(len(x), device=x.device)[:, None]
    left_out = torch.zeros_like(index, dtype=torch.bool)
    for offset in skip:
        left_out |= index == offset
    return _logsumexp(logits, left_out, 1), _logsumexp(logits, left_out, 0)


def _logsumexp(logits: Tensor, left_out: Tensor, dim: int) -> Tensor:
    empty = left_out.all(dim=dim, keepdim=True)  # their value is -inf, their gradient 0
    sums = torch.logsumexp(logits.masked_fill(left_out & ~empty, -math.inf), dim)
    return sums.masked_fill(empty.squeeze(dim), -math.inf)
