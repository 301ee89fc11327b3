"""The Calinski-Harabasz index: variance between the classes against variance within them.

Shapes: N rows, D dimensions, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer._checks import NanPolicy
from spherometer.errors import UndefinedError
from spherometer.metrics._labels import labelled_rows

_ROUNDING = 4  # spreads of fewer last places than this are rounding errors of the rows


def _scaled(rows_ND: Tensor) -> Tensor:
    """Rows in float64 times a power of two, below 1 in size, so that no square overflows or vanishes."""
    wide = rows_ND.detach().to(torch.float64)
    exponent = math.frexp(float(wide.abs().max()))[1]
    half = exponent // 2  # in two steps: 2^-exponent alone may overflow
    return wide * 2.0**-half * 2.0 ** (half - exponent)


def _spread(deviations_ND: Tensor) -> float:
    """Root of the mean squared length."""
    return math.sqrt(float(deviations_ND.square().sum()) / len(deviations_ND))


def _deviations(function: str, rows_ND: Tensor, codes_N: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Scaled rows, rows minus the mean of their class, class means minus the mean [N, D]; the rounding."""
    scaled = _scaled(rows_ND)
    rounding = _ROUNDING * torch.finfo(rows_ND.dtype).eps * _spread(scaled)
    scaled = scaled - scaled[:1]  # first, so that identical rows come out as exact zeros
    scaled -= scaled.mean(dim=0)
    if _spread(scaled) <= rounding:
        _checks.refuse(
            UndefinedError,
            function,
            "z",
            "hold at least two different rows",
            "variance between classes is measured against the rest, and there is none at all",
            f"{len(scaled)} rows that are equal, or differ in their last digits at most",
            "Look for a collapsed encoder",
        )
    sizes_C = torch.bincount(codes_N).clamp(min=1).to(torch.float64)
    means_CD = scaled.new_zeros(len(sizes_C), scaled.shape[1]).index_add_(0, codes_N, scaled)
    between_ND = (means_CD / sizes_C[:, None])[codes_N]
    return scaled, scaled - between_ND, between_ND, rounding


def between_share(rows_ND: Tensor, codes_N: Tensor, *, function: str = "between_share") -> float:
    """Share of the total variance that lies between classes, B / (B + W): 0 for one class, at most 1.

    B sums squared distances of class means from the mean, once for each row, W those of rows from their
    class mean. Calinski-Harabasz is (B / W) (N - C) / (C - 1). Labels unrelated to the rows give
    (C - 1) / (N - 1) on average.
    """
    _, within_ND, between_ND, rounding = _deviations(function, rows_ND, codes_N)
    between, within = _spread(between_ND) ** 2, _spread(within_ND) ** 2
    if within <= rounding**2:
        return 1.0
    return between / (between + within)


def calinski_harabasz_of(function: str, rows_ND: Tensor, codes_N: Tensor) -> float:
    """The index of rows as they are, by scikit-learn; ``function`` is named in messages."""
    from sklearn.metrics import calinski_harabasz_score

    num, count = len(codes_N), len(torch.unique(codes_N))
    if not 1 < count < num:
        _checks.refuse(
            UndefinedError,
            function,
            "labels",
            "name at least 2 classes, and fewer than there are rows",
            "variance between classes is divided by variance within them",
            f"{count} {'class' if count == 1 else 'classes'} for {num} rows",
            "Pass class labels, not one name for all or row identifiers",
        )
    scaled, within_ND, _, rounding = _deviations(function, rows_ND, codes_N)
    if _spread(within_ND) <= rounding:
        _checks.refuse(
            UndefinedError,
            function,
            "z",
            "have a class whose rows differ",
            "the index divides by the variance within classes, which is 0 here",
            f"{num} rows in {count} places, one for each class",
            "Say that the classes have collapsed; relative_local_density and neighbor_purity are defined",
        )
    return float(calinski_harabasz_score(scaled.cpu().numpy(), codes_N.cpu().numpy()))


def calinski_harabasz(
    z: Tensor | NDArray[Any], labels: Any, *, normalize: bool = True, nan: NanPolicy = "refuse"
) -> Any:
    r"""Calinski-Harabasz index: how far apart class means are, in units of the spread within classes.

    (B / (C - 1)) / (W / (N - C)), B = \sum_c n_c |m_c - m|^2 and W = \sum_i |z_i - m_{c(i)}|^2, n_c the class
    sizes, m_c their means, m the mean of all rows. High where classes are dense as wholes ("globally dense");
    relative local density is its counterpart among neighbours.

    Args:
        z: [N, D] features, N >= 3.
        labels: [N] classes: numbers or strings; a list, an array or a tensor.
        normalize: scale rows to length 1 first; False uses them as they are.
        nan: "refuse" rows with NaN or infinity and missing labels (None, NaN), or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [0, inf), higher is denser. Labels unrelated to the features give about 1. It grows with the number
    of rows, so values compare only on equally many rows and classes. Unchanged by rotation, shift and scale
    (``normalize=False``).

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, a label is missing.
        ShapeError: not one label for each row.
        UndefinedError: one class only, as many classes as rows, all rows equal, or all rows of each class
            equal (where scikit-learn gives 1.0, as if the classes meant nothing; the limit is infinite).

    Cost: O(N (D + C)) time, O(N D) memory.

    Source: Calinski & Harabasz 1974, computed by scikit-learn in float64. Zhang, Lu & Xuan 2024 set it beside
    relative local density.

    Example:
        >>> import numpy as np
        >>> z = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> round(calinski_harabasz(z, ["a", "a", "b", "b"]), 2)
        362.0
    """
    function = "calinski_harabasz"
    checked, rows_ND, (codes_N,) = labelled_rows(
        function, z, {"labels": labels}, normalize=normalize, nan=nan
    )
    value = calinski_harabasz_of(function, rows_ND, codes_N)
    return checked.scalar(torch.tensor(value, dtype=torch.float64))
