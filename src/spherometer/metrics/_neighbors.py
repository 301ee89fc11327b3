"""How features and class labels agree: pure neighbourhoods, similar classmates.

Shapes: N rows, D dimensions, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._checks import Features, NanPolicy
from spherometer.errors import UndefinedError
from spherometer.metrics._labels import class_codes, refuse_no_pairs


def _labelled(
    function: str, z: Any, labels: Any, *, normalize: bool, nan: NanPolicy
) -> tuple[Features, Tensor, Tensor]:
    """Checked features, their rows with a label [N, D], and the class codes of those rows [N]."""
    checked = _checks.features(function, "z", z, min_rows=2, nan=nan)
    num = len(checked.rows) if checked.kept is None else len(checked.kept)
    codes, there = class_codes(function, labels, num, nan)
    if checked.kept is not None:
        kept = checked.kept.cpu()
        codes, there = codes[kept], there[kept]
    rows, codes = checked.rows.detach(), codes[there]
    if not bool(there.all()):
        rows = rows[there.to(rows.device)]
    if len(rows) < 2:
        _checks.refuse(
            UndefinedError,
            function,
            "z",
            "have at least 2 rows with a label",
            "the quantity is a mean over pairs of rows",
            f"{len(rows)} of {num} rows",
            "Pass the whole set at once",
        )
    if normalize:
        _checks.refuse_zero_rows(function, "z", rows)
        rows = sphere.normalize(rows)
    return checked, rows, codes.to(rows.device)


def purity(function: str, rows_ND: Tensor, codes_N: Tensor, k: int) -> tuple[Tensor, float | None]:
    """Mean share of the k nearest other rows that have the row's own class, and its standard error.

    The error is the jackknife's: without row r, the rows that had it as a neighbour get their next one.
    It is None where there is no next one.
    """
    num = len(rows_ND)
    if k >= num:
        _checks.refuse(
            UndefinedError,
            function,
            "k",
            "be smaller than the number of rows",
            "a row has only N - 1 neighbours",
            f"k = {k} for {num} rows",
            f"Pass k={num - 1} or less",
        )
    indices, _ = pairs.nearest(rows_ND, min(k + 1, num - 1))
    same = (codes_N[indices] == codes_N[:, None]).to(torch.float64)
    shares_N = same[:, :k].mean(dim=1)
    if k + 1 >= num:
        return shares_N.mean(), None
    change = (same[:, k:] - same[:, :k]) / k
    changes_N = shares_N.new_zeros(num).index_add_(0, indices[:, :k].flatten(), change.flatten())
    without_N = (shares_N.sum() - shares_N + changes_N) / (num - 1)
    variance = (without_N - without_N.mean()).square().sum() * (num - 1) / num
    return shares_N.mean(), float(variance.sqrt())


def class_tolerance(rows_ND: Tensor, codes_N: Tensor) -> Tensor:
    """Mean inner product over pairs of one class, from class sums: O(N D)."""
    wide = rows_ND.to(torch.float64)
    counts_C = torch.bincount(codes_N).to(torch.float64)
    sums_CD = wide.new_zeros(len(counts_C), wide.shape[1]).index_add_(0, codes_N, wide)
    num_pairs = (counts_C * (counts_C - 1)).sum()
    return (sums_CD.square().sum() - wide.square().sum()) / num_pairs


def neighbor_purity(
    z: Tensor | NDArray[Any],
    labels: Any,
    *,
    k: int = 10,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Share of a row's nearest neighbours that belong to its own class.

    (1/N) \sum_i (1/k) \#{j among the k nearest of i, j != i : label_j = label_i}, Euclidean distance, exact;
    equal distances go to the lower index.

    Args:
        z: [N, D] features, N >= 2.
        labels: [N] classes: numbers or strings; a list, an array or a tensor.
        k: number of neighbours, < N.
        normalize: scale rows to length 1 first; False uses them as they are.
        nan: "refuse" rows with NaN or infinity and missing labels (None, NaN), or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [0, 1], higher is better. Labels unrelated to the features give about
    \sum_c n_c (n_c - 1) / (N (N - 1)), n_c the class sizes.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, a label is missing.
        ShapeError: not one label for each row.
        UndefinedError: fewer than two rows, or not more than ``k``.

    Cost: O(N^2 D) time, O(N k) memory.

    Source: the leave-one-out agreement of a k-nearest-neighbour classifier; the averaged form is ours.

    Example:
        >>> import numpy as np
        >>> neighbor_purity(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), [0, 0, 1, 1], k=1)
        1.0
    """
    _checks.whole("neighbor_purity", "k", k)
    checked, rows_ND, codes_N = _labelled("neighbor_purity", z, labels, normalize=normalize, nan=nan)
    return checked.scalar(purity("neighbor_purity", rows_ND, codes_N, int(k))[0])


def tolerance(
    z: Tensor | NDArray[Any], labels: Any, *, normalize: bool = True, nan: NanPolicy = "refuse"
) -> Any:
    r"""Mean similarity of rows that share a class: how much the features tolerate differences within one.

    Mean of z_i . z_j over all i != j with label_i = label_j.

    Args:
        z: [N, D] features, N >= 2.
        labels: [N] classes: numbers or strings; a list, an array or a tensor.
        normalize: scale rows to length 1 first; False uses them as they are.
        nan: "refuse" rows with NaN or infinity and missing labels (None, NaN), or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [-1, 1] on the sphere; higher means more similar classmates (also when everything collapses: read
    it next to uniformity). 0: classmates as unrelated as independent uniform points.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, a label is missing.
        ShapeError: not one label for each row.
        UndefinedError: fewer than two rows, or no class with two rows.

    Cost: O(N D).

    Source: Wang & Liu 2021 (the uniformity-tolerance dilemma). Deviation: the mean is taken over pairs of
    one class, not over all pairs with zeros for the others, so it does not depend on the number of classes.

    Example:
        >>> import numpy as np
        >>> tolerance(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), ["a", "b", "b"])
        1.0
    """
    checked, rows_ND, codes_N = _labelled("tolerance", z, labels, normalize=normalize, nan=nan)
    refuse_no_pairs("tolerance", codes_N)
    return checked.scalar(class_tolerance(rows_ND, codes_N))
