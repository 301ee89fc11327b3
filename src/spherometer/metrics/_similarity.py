"""How alike two sets of features of the same rows are: centred kernel alignment, shared neighbours.

Shapes: N rows, D and E dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer import pairs

_PART = 4096


def linear_cka(x_ND: Tensor, y_NE: Tensor) -> float | None:
    r"""Linear centred kernel alignment: \|X'Y\|_F^2 / (\|X'X\|_F \|Y'Y\|_F), X and Y centred.

    Range: [0, 1]; 1: the same up to rotation and one scale. Biased upwards for few rows: independent rows
    come near 1 when D and E exceed N; ``debiased_cka`` does not. None: a set of identical rows.

    Cost: O(N D E) time, O(D E) memory.

    Source: Kornblith et al. 2019, equation of linear CKA.
    """
    x, y = (_centred(each) for each in (x_ND, y_NE))
    cross, own, other = (float((one.T @ two).square().sum()) for one, two in ((x, y), (x, x), (y, y)))
    return cross / math.sqrt(own * other) if own > 0 and other > 0 else None


def debiased_cka(x_ND: Tensor, y_NE: Tensor) -> float | None:
    r"""Linear centred kernel alignment from unbiased estimates of the Hilbert-Schmidt criterion.

    H(X, Y) / sqrt(H(X, X) H(Y, Y)); with K = XX', L = YY', their diagonals set to 0,
    H = (tr KL + 1'K1 1'L1 / ((N-1)(N-2)) - 2 1'KL1 / (N-2)) / (N(N-3)); no N x N matrix is made.

    Range: at most about 1, near 0 (below, too) for independent rows whatever D, E and N. None for N < 4 or
    where an estimate of H(X, X) is not positive.

    Cost: O(N D E) time, O(D E) memory.

    Source: Song et al. 2012, equation 5 (the estimate); Nguyen et al. 2021 (its use in CKA). Centring first
    changes nothing but rounding.
    """
    num = len(x_ND)
    if num < 4:
        return None
    x, y = (_centred(each) for each in (x_ND, y_NE))
    own, other = _criterion(x, x), _criterion(y, y)
    if not (own > 0 and other > 0):
        return None
    return _criterion(x, y) / math.sqrt(own * other)


def _centred(rows: Tensor) -> Tensor:
    """Centred rows in float64, times a power of two that keeps fourth powers inside the floats."""
    wide = rows.detach().double()
    wide = wide - wide[:1]
    size = float(wide.abs().max())
    if size > 0:
        half = math.frexp(size)[1] // 2
        wide = wide * 2.0**-half * 2.0 ** (half - math.frexp(size)[1])
    return wide - wide.mean(dim=0)


def _criterion(x: Tensor, y: Tensor) -> float:
    num = len(x)
    own, other = x.square().sum(dim=1), y.square().sum(dim=1)
    trace = (x.T @ y).square().sum() - (own * other).sum()
    degree, degrees = x @ x.sum(dim=0) - own, y @ y.sum(dim=0) - other
    total = trace + degree.sum() * degrees.sum() / ((num - 1) * (num - 2))
    return float(total - 2 * (degree * degrees).sum() / (num - 2)) / (num * (num - 3))


@dataclass(frozen=True)
class Overlap:
    """Mean share of the k nearest neighbours that two sets have in common."""

    value: float
    interval: tuple[float, float] | None
    baseline: float
    k: int


def neighbor_overlap(x_ND: Tensor, y_NE: Tensor, *, k: int = 10) -> Overlap:
    """Mean share of the ``k`` nearest other rows (Euclidean, ties to the lower row) that both sets agree on.

    Range: [0, 1]; 1: the same neighbours; unrelated sets: k / (N - 1).
    The interval is the standard error of the mean over rows, whose neighbours overlap: a rough one.

    Cost: that of two exact searches, O(N^2 (D + E)).
    """
    k = min(k, len(x_ND) - 1)
    shares = []
    first, second = (pairs.nearest(rows.detach(), k)[0] for rows in (x_ND, y_NE))
    for start in range(0, len(first), _PART):
        one, two = first[start : start + _PART], second[start : start + _PART]
        shares.append((one[:, :, None] == two[:, None, :]).any(dim=2).double().mean(dim=1))
    share = torch.cat(shares)
    value, interval = float(share.mean()), None
    if len(share) > 1:
        half = 1.959963984540054 * float(share.std()) / math.sqrt(len(share))
        interval = (max(0.0, value - half), min(1.0, value + half))
    return Overlap(value, interval, k / (len(share) - 1), k)
