"""Hubness: are a few rows the neighbour of everybody?

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, sphere
from spherometer._checks import NanPolicy
from spherometer.metrics._neighbors import neighborhoods


def skewness_of(occurrences_N: Tensor) -> float:
    """Third standardised moment of whole numbers [N]; 0 where all are equal."""
    if bool((occurrences_N == occurrences_N[0]).all()):
        return 0.0
    wide_N = occurrences_N.to(torch.float64)
    centred_N = wide_N - wide_N.mean()
    variance = float(centred_N.square().mean())
    return float(centred_N.pow(3).mean()) / (variance * math.sqrt(variance))


def hubness(
    z: Tensor | NDArray[Any], *, k: int = 10, normalize: bool = True, nan: NanPolicy = "refuse"
) -> Any:
    r"""Skewness of how often rows are among the k nearest of another: large where a few rows are hubs.

    With N_i = \#{j != i : i is among the k nearest other rows of j}, whose mean is k:
    mean (N_i - k)^3 / (mean (N_i - k)^2)^(3/2). Euclidean distance, exact; equal distances go to the lower
    index.

    Args:
        z: [N, D] features, N >= 2.
        k: number of neighbours, 1 <= k < N.
        normalize: scale rows to length 1 first; False uses them as they are.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: about [-sqrt(N), sqrt(N)]. 0: rows are chosen evenly around k, or equally often (all N_i = k,
    for instance k = N - 1, where the skewness itself is 0 / 0). The larger, the more a few rows are
    everybody's neighbour. Negative values: a few rows are nobody's neighbour. It rises with the dimension
    also for points without any structure, so read it next to that of random points of the same N and D.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, ``k`` is not a whole number >= 1.
        UndefinedError: fewer than two rows, or not more than ``k``.

    Cost: O(N^2 D) time; O(N D) memory and one block of neighbours, whatever ``k``.

    Source: Radovanovic, Nanopoulos & Ivanovic 2010, section 2 (S of N_k). Deviation: 0 where all rows are
    chosen equally often.

    Example:
        >>> import numpy as np
        >>> z = np.array([[0.0, 0.0], [1.0, 0.1], [-1.2, 0.0], [0.0, 1.3], [0.1, -1.4]])
        >>> round(hubness(z, k=1, normalize=False), 4)  # the first is the nearest of the other four
        1.291
    """
    _checks.whole("hubness", "k", k)
    checked = _checks.features("hubness", "z", z, min_rows=2, nan=nan)
    rows_ND = checked.rows.detach()
    if normalize:
        _checks.refuse_zero_rows("hubness", "z", rows_ND)
        rows_ND = sphere.normalize(rows_ND)
    codes_N = torch.zeros(len(rows_ND), dtype=torch.int64, device=rows_ND.device)
    (found,) = neighborhoods("hubness", rows_ND, codes_N, [int(k)])
    return checked.scalar(torch.tensor(skewness_of(found.occurrences), dtype=torch.float64))
