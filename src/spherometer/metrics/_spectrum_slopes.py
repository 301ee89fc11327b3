"""How fast the spectrum of features falls, and how even it is: alpha-ReQ and IsoScore.

Shapes: N rows, D dimensions, K = min(N, D).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, sphere
from spherometer._checks import NanPolicy
from spherometer.errors import InputError, UndefinedError
from spherometer.metrics._spectrum import (
    exponent_of,
    participation_ratio_of,
    refuse_constant,
    row_ranges,
    scaled_rows,
    singular_values,
)

RANKS = (1, 100)
_ROUNDING = 8.0


def num_directions(singular_K: Tensor, rows_ND: Tensor, exponent: int) -> int:
    """Directions of the centred rows that are more than the rounding of the numbers they come from.

    A singular value counts when it is above 8 eps |Z|, more than rounding adds to any direction (eps: that of
    float32, or of float64 for float64). |Z|: Frobenius norm of the rows before centring, times 2^-exponent as
    the singular values are.
    """
    squares = math.fsum(
        float(scaled_rows(rows_ND[start:stop], exponent).square().sum())
        for start, stop in row_ranges(rows_ND)
    )
    return directions_above(singular_K, math.sqrt(squares), len(rows_ND), rows_ND.dtype)


def directions_above(singular_K: Tensor, norm: float, num: int, dtype: torch.dtype) -> int:
    """``num_directions`` from the Frobenius norm of the rows before centring."""
    return min(int((singular_K > _ROUNDING * torch.finfo(dtype).eps * norm).sum()), num - 1)


def alpha_req_of(singular_K: Tensor, directions: int, ranks: tuple[int, int] = RANKS) -> Tensor:
    """alpha-ReQ from the singular values of the centred rows, largest first or last.

    ``directions``: how many are more than rounding; at least ``ranks[0] + 1``.
    """
    first, last = ranks
    values = singular_K.sort(descending=True).values[first - 1 : min(last, directions)]
    rank = torch.arange(first, first + len(values), dtype=torch.float64, device=values.device)
    weight = 1 / rank / (1 / rank).sum()
    x, y = -rank.log(), 2 * (values / values[0]).log()
    x = x - (weight * x).sum()
    slope: Tensor = (weight * x * y).sum() / (weight * x.square()).sum()
    return slope


def isoscore_of(singular_K: Tensor, dim: int) -> Tensor:
    """IsoScore from the singular values of the centred rows."""
    return (participation_ratio_of(singular_K) - 1) / (dim - 1)


def _spectrum(
    function: str, z: Any, *, normalize: bool, nan: NanPolicy
) -> tuple[_checks.Features, Tensor, Tensor, int]:
    checked = _checks.features(function, "z", z, min_rows=2, nan=nan)
    rows_ND = (sphere.unit_rows(function, "z", checked, scale=True) if normalize else checked.rows).detach()
    exponent = exponent_of(rows_ND)
    singular_K = singular_values(rows_ND, centred=True, exponent=exponent)
    refuse_constant(function, singular_K)
    return checked, rows_ND, singular_K, exponent


def alpha_req(
    z: Tensor | NDArray[Any],
    *,
    ranks: tuple[int, int] = RANKS,
    normalize: bool = False,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""alpha-ReQ: the exponent of the power law that the variances along the principal components follow.

    The slope alpha of log v_k against -log k, v the eigenvalues of the covariance, largest first, by least
    squares with weights 1 / k over the ranks k of ``ranks``: v_k ~ k^-alpha.

    Variant: centred; eigenvalues of the covariance (squared singular values); rows not normalised; ranks 1 to
    100, of those whose singular value is above 8 eps \|Z\|_F, the rounding of the numbers (eps that of
    float32, of float64 for float64 input). The weights are those of the neuroscience code that
    the paper's authors use (Stringer et al. 2019); the ranks differ from use to use: 11 to 500 there,
    6 to 100 in reptrix, which is ``ranks=(6, 100)``.

    Args:
        z: [N, D] features, N >= 3.
        ranks: first and last rank that the line is fitted to; ranks that are not there are left out, but two
            are needed.
        normalize: scale rows to length 1 first.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [0, inf). 0: the same variance along every component; large: a few components hold everything. The
    paper finds the best probes near 1; neither end is better as such. Depends on N where N is not much
    larger than D: N isotropic Gaussian rows have a slope above 0.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, or ``ranks`` are not two whole numbers
            1 <= first < last.
        UndefinedError: fewer than two rows, all rows identical, or variance along fewer than two of the
            ranks.

    Cost: O(N D min(N, D)) in float64, O(D^2) memory for N > D.

    Source: Agrawal et al. 2022 (alpha-ReQ), from memory and their public code; the limit by rounding is ours.

    Example:
        >>> import numpy as np
        >>> spread = np.diag(np.arange(1.0, 9.0) ** -0.75)  # standard deviations k^-0.75: variances k^-1.5
        >>> round(alpha_req(np.concatenate([spread, -spread])), 6)
        1.5
    """
    first, last = _checked_ranks(ranks)
    checked, rows_ND, singular_K, exponent = _spectrum("alpha_req", z, normalize=normalize, nan=nan)
    directions = num_directions(singular_K, rows_ND, exponent)
    if directions <= first:
        _checks.refuse(
            UndefinedError, "alpha_req", "z", f"vary in at least {first + 1} directions",
            "a slope needs two ranks", f"{directions} of {rows_ND.shape[1]}",
            "Pass more rows, or look for a collapsed encoder",
        )  # fmt: skip
    return checked.scalar(alpha_req_of(singular_K, directions, (first, last)))


def _checked_ranks(ranks: Any) -> tuple[int, int]:
    whole = isinstance(ranks, (tuple, list)) and len(ranks) == 2
    if not whole or not all(type(rank) is int for rank in ranks) or not 1 <= ranks[0] < ranks[1]:
        _checks.refuse(
            InputError, "alpha_req", "ranks", "be two whole numbers, 1 <= first < last",
            "the line is fitted from one to the other", repr(ranks)[:80], "Pass ranks=(1, 100)",
        )  # fmt: skip
    return ranks[0], ranks[1]


def isoscore(z: Tensor | NDArray[Any], *, normalize: bool = False, nan: NanPolicy = "refuse") -> Any:
    r"""IsoScore: how evenly the variance is spread over all D dimensions.

    With v the D eigenvalues of the covariance and w = sqrt(D) v / \|v\|: the isotropy defect is
    d = \|w - 1\| / sqrt(2 (D - sqrt D)), the dimensions used are k = (D - d^2 (D - sqrt D))^2 / D, and the
    score is (k - 1) / (D - 1). Inserted into each other, k is the participation ratio, so

    IsoScore = (participation ratio - 1) / (D - 1),

    which is how it is computed.

    Variant: centred; eigenvalues of the covariance; rows not normalised. Agrees with the authors' public code
    for N > D; for N <= D that code cannot be run with as many components as dimensions, here the missing
    eigenvalues are 0, which they are.

    Args:
        z: [N, D] features, N >= 2, D >= 2.
        normalize: scale rows to length 1 first.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [0, 1], higher means more even; 1: the same variance in every direction; 0: one direction. N
    isotropic Gaussian rows reach about N / (N + D).

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array.
        UndefinedError: fewer than two rows, all rows identical, or one dimension.

    Cost: O(N D min(N, D)) in float64, O(D^2) memory for N > D.

    Source: Rudman et al. 2022 (IsoScore), the steps of their algorithm; the short form is ours.

    Example:
        >>> import numpy as np
        >>> isoscore(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        1.0
    """
    checked, rows_ND, singular_K, _ = _spectrum("isoscore", z, normalize=normalize, nan=nan)
    dim = rows_ND.shape[1]
    if dim < 2:
        _checks.refuse(
            UndefinedError, "isoscore", "z", "have at least 2 dimensions",
            "one direction cannot be uneven", "1 dimension", "Pass features of more dimensions",
        )  # fmt: skip
    return checked.scalar(isoscore_of(singular_K, dim).clamp(0, 1))
