"""How many directions a set of features uses: numbers made from its singular values.

The singular values come from a QR factorisation of the long side, a chunk of rows at a time in float64, so
that small ones keep their digits (a Gram matrix would lose everything below 1e-8 of the largest).

Shapes: N rows, D dimensions, K = min(N, D).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, sphere
from spherometer._checks import Features, NanPolicy
from spherometer.errors import UndefinedError

_CHUNK = 1 << 21  # numbers of one float64 chunk: 16 MiB
RANKME_EPS = 1e-7


def exponent_of(rows_ND: Tensor) -> int:
    """Power of two that brings the largest number near 1: no later square over- or underflows."""
    low, high = torch.aminmax(rows_ND)
    return math.frexp(max(-float(low), float(high)))[1]


def row_ranges(rows_ND: Tensor) -> list[tuple[int, int]]:
    """Row ranges whose float64 copies stay small; a single one when N < D."""
    size = max(4 * rows_ND.shape[1], _CHUNK // rows_ND.shape[1])
    return [(start, min(start + size, len(rows_ND))) for start in range(0, len(rows_ND), size)]


def scaled_rows(rows: Tensor, exponent: int) -> Tensor:
    half = exponent // 2  # in two steps: 2^-exponent alone may overflow
    return rows.to(torch.float64) * 2.0**-half * 2.0 ** (half - exponent)


def singular_values(rows_ND: Tensor, *, centred: bool, exponent: int) -> Tensor:
    """Singular values [K] of rows times 2^-exponent, in float64; ``centred``: minus the mean row."""
    rows_ND = rows_ND.detach()
    first = scaled_rows(rows_ND[:1], exponent)  # subtracted first: identical rows come out as exact zeros
    mean = torch.zeros_like(first)
    ranges = row_ranges(rows_ND)
    if centred:
        for start, stop in ranges:
            mean += (scaled_rows(rows_ND[start:stop], exponent) - first).sum(dim=0, keepdim=True) / len(
                rows_ND
            )
    factor: Tensor | None = None
    for start, stop in ranges:
        block = scaled_rows(rows_ND[start:stop], exponent)
        if centred:
            block = block - first - mean
        if len(ranges) == 1 and len(block) < block.shape[1]:
            block = block.T
        stacked = block if factor is None else torch.cat([factor, block])
        factor = torch.linalg.qr(stacked, mode="r").R
    assert factor is not None
    values: Tensor = torch.linalg.svdvals(factor)
    return values


def rankme_of(singular_K: Tensor) -> Tensor:
    """RankMe from singular values."""
    share_K = singular_K / singular_K.sum() + RANKME_EPS
    return torch.exp(-(share_K * share_K.log()).sum())


def effective_rank_of(singular_K: Tensor) -> Tensor:
    """Effective rank from singular values."""
    share_K = singular_K / singular_K.sum()
    return torch.exp(-torch.xlogy(share_K, share_K).sum())


def participation_ratio_of(singular_K: Tensor) -> Tensor:
    """Participation ratio from the singular values of the centred rows."""
    variance_K = (singular_K / singular_K.max()).square()
    ratio: Tensor = variance_K.sum().square() / variance_K.square().sum()
    return ratio


def wasserstein_of(singular_K: Tensor, num: float, dim: int) -> Tensor:
    """Wasserstein uniformity from the singular values of centred unit rows."""
    root_trace = singular_K.sum() / num**0.5
    distance: Tensor = (2 - 2 * root_trace / dim**0.5).clamp(min=0).sqrt()
    return distance


def _checked(
    function: str, z: Any, min_rows: int, *, normalize: bool, nan: NanPolicy
) -> tuple[Features, Tensor]:
    checked = _checks.features(function, "z", z, min_rows=min_rows, nan=nan)
    rows = sphere.unit_rows(function, "z", checked, scale=True) if normalize else checked.rows
    return checked, rows.detach()


def _refuse_zeros(function: str, singular_K: Tensor) -> None:
    if float(singular_K[0]) == 0:
        _checks.refuse(
            UndefinedError,
            function,
            "z",
            "hold a number that is not 0",
            "a zero matrix has no singular directions",
            "zeros only",
            "Look for a collapsed encoder",
        )


def refuse_constant(function: str, singular_K: Tensor) -> None:
    """Refuse centred rows that are all zero."""
    if float(singular_K[0]) == 0:
        _checks.refuse(
            UndefinedError,
            function,
            "z",
            "have rows that differ",
            "without variance there are no components to count",
            "identical rows",
            "Look for a collapsed encoder",
        )


def rankme(z: Tensor | NDArray[Any], *, normalize: bool = False, nan: NanPolicy = "refuse") -> Any:
    r"""RankMe: a smooth count of the directions the features use.

    exp(-\sum_k p_k log p_k), p_k = s_k / \sum_l s_l + 1e-7, s the K = min(N, D) singular values of Z.

    Variant: rows as they are (not centred, not normalised), singular values (not eigenvalues), the
    paper's 1e-7 added after the division.

    Args:
        z: [N, D] features, N >= 1.
        normalize: scale rows to length 1 first.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [1, min(N, D)] (up to 1e-5 of rounding from the 1e-7); higher means more directions, which the
    paper relates to better probes. Compare only at the same N and D.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array.
        UndefinedError: no rows, or nothing but zeros.

    Cost: O(N D min(N, D)) in float64, O(D^2) memory for N > D.

    Source: Garrido et al. 2023 (RankMe), equations 1 and 2.

    Example:
        >>> import numpy as np
        >>> round(rankme(np.eye(4)), 3)
        4.0
    """
    checked, rows_ND = _checked("rankme", z, 1, normalize=normalize, nan=nan)
    singular_K = singular_values(rows_ND, centred=False, exponent=exponent_of(rows_ND))
    _refuse_zeros("rankme", singular_K)
    return checked.scalar(rankme_of(singular_K))


def effective_rank(z: Tensor | NDArray[Any], *, normalize: bool = False, nan: NanPolicy = "refuse") -> Any:
    r"""Effective rank: the exponential of the entropy of the singular values.

    exp(-\sum_k p_k log p_k), p_k = s_k / \sum_l s_l, s the K = min(N, D) singular values of Z.

    Variant: the matrix as it is, as the paper defines it (not centred, not normalised, nothing added; so
    it differs from :func:`rankme` only by that one's 1e-7).

    Args:
        z: [N, D] features, N >= 1.
        normalize: scale rows to length 1 first.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [1, rank(Z)]; higher means more directions. 1: all rows on one line through the origin.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array.
        UndefinedError: no rows, or nothing but zeros.

    Cost: O(N D min(N, D)) in float64, O(D^2) memory for N > D.

    Source: Roy & Vetterli 2007, definition 1.

    Example:
        >>> import numpy as np
        >>> round(effective_rank(np.diag([1.0, 1.0, 0.0])), 6)
        2.0
    """
    checked, rows_ND = _checked("effective_rank", z, 1, normalize=normalize, nan=nan)
    singular_K = singular_values(rows_ND, centred=False, exponent=exponent_of(rows_ND))
    _refuse_zeros("effective_rank", singular_K)
    return checked.scalar(effective_rank_of(singular_K))


def participation_ratio(
    z: Tensor | NDArray[Any], *, normalize: bool = False, nan: NanPolicy = "refuse"
) -> Any:
    r"""Participation ratio: how many principal components share the variance.

    (\sum_k v_k)^2 / \sum_k v_k^2, v the eigenvalues of the covariance of the centred rows.

    Variant: centred; eigenvalues of the covariance (squared singular values); rows not normalised.

    Args:
        z: [N, D] features, N >= 2.
        normalize: scale rows to length 1 first.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [1, min(N - 1, D)]; higher means more directions; D: the same variance in every direction.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array.
        UndefinedError: fewer than two rows, or all rows identical.

    Cost: O(N D min(N, D)) in float64, O(D^2) memory for N > D.

    Source: the inverse participation ratio of physics, as used for neural dimensionality by Gao et al. 2017.

    Example:
        >>> import numpy as np
        >>> round(participation_ratio(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
        2.0
    """
    checked, rows_ND = _checked("participation_ratio", z, 2, normalize=normalize, nan=nan)
    singular_K = singular_values(rows_ND, centred=True, exponent=exponent_of(rows_ND))
    refuse_constant("participation_ratio", singular_K)
    return checked.scalar(participation_ratio_of(singular_K))


def wasserstein_uniformity(
    z: Tensor | NDArray[Any], *, normalize: bool = True, nan: NanPolicy = "refuse"
) -> Any:
    r"""Distance from the features, seen as a Gaussian, to the one that is uniform on the sphere.

    W = sqrt(\|mu\|^2 + 1 + tr S - (2 / sqrt D) tr S^(1/2)), mu and S the mean and the covariance (divided
    by N) of rows on the sphere; there \|mu\|^2 + tr S = 1, so W = sqrt(2 - (2 / sqrt D) tr S^(1/2)).

    Variant: the 2-Wasserstein distance from N(mu, S) to N(0, I / D); rows normalised; covariance of the
    centred rows; exact eigenvalues without a ridge.

    Args:
        z: [N, D] features, N >= 2.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [0, sqrt 2], lower is better. 0: covariance of the uniform law; sqrt 2: one point; using a share r
    of the dimensions evenly: sqrt(2 - 2 sqrt r). N uniform points stay above 0 (.37 for N = 256, .06 for
    N = 8192, D = 128). Unlike uniformity it sees dimensional collapse ([z, z] and [z, 0] score worse than z).

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array.
        NotOnSphereError: a row of zeros, or rows off the sphere with ``normalize=False``.
        UndefinedError: fewer than two rows.

    Cost: O(N D min(N, D)) in float64, O(D^2) memory for N > D.

    Source: Fang et al. 2024 (rethinking the uniformity metric), equation of W2; the short form is ours.

    Example:
        >>> import numpy as np
        >>> round(wasserstein_uniformity(np.ones((3, 4))) ** 2, 6)
        2.0
    """
    checked = _checks.features("wasserstein_uniformity", "z", z, min_rows=2, nan=nan)
    unit_ND = sphere.unit_rows("wasserstein_uniformity", "z", checked, scale=normalize).detach()
    singular_K = singular_values(unit_ND, centred=True, exponent=0)
    return checked.scalar(wasserstein_of(singular_K, *unit_ND.shape))
