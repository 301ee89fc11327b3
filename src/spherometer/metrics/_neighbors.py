"""How features and class labels agree: pure neighbourhoods, similar classmates.

Shapes: N rows, D dimensions, C classes, B rows of a block, K neighbours searched for, the k nearest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, pairs
from spherometer._checks import NanPolicy
from spherometer.errors import InputError, UndefinedError
from spherometer.metrics._labels import labelled_rows, refuse_no_pairs


@dataclass(frozen=True)
class Neighborhood:
    """What the k nearest other rows of every row say.

    Attributes:
        k: number of neighbours.
        purity: mean share of the neighbours that have the row's own class (float64, 0-dim).
        error: its standard error by the jackknife: without row r, the rows that had it as a neighbour get
            their next one. None where there is no next one.
        occurrences: [N] int64: how many rows have this one among their neighbours.
    """

    k: int
    purity: Tensor
    error: float | None
    occurrences: Tensor


def neighborhoods(function: str, rows_ND: Tensor, codes_N: Tensor, ks: Sequence[int]) -> list[Neighborhood]:
    """The neighbourhoods of each size, from one search for the largest; O(N) memory for each size."""
    num = len(rows_ND)
    if max(ks) >= num:
        _checks.refuse(
            UndefinedError,
            function,
            "k",
            "be smaller than the number of rows",
            "a row has only N - 1 neighbours",
            f"k = {max(ks)} for {num} rows",
            f"Pass k={num - 1} or less",
        )
    shares = {k: rows_ND.new_empty(num, dtype=torch.float64) for k in ks}
    changes = {k: rows_ND.new_zeros(num, dtype=torch.float64) for k in ks}
    occurrences = {k: codes_N.new_zeros(num) for k in ks}
    for start, indices_BK in pairs.nearest_blocks(rows_ND, min(max(ks) + 1, num - 1)):
        stop = start + len(indices_BK)
        same_BK = (codes_N[indices_BK] == codes_N[start:stop, None]).to(torch.float64)
        for k in shares:
            found = indices_BK[:, :k].flatten()
            shares[k][start:stop] = same_BK[:, :k].mean(dim=1)
            occurrences[k] += torch.bincount(found, minlength=num)
            if k + 1 < num:
                change_Bk = (same_BK[:, k : k + 1] - same_BK[:, :k]) / k
                changes[k].index_add_(0, found, change_Bk.flatten())
    return [
        Neighborhood(k, shares[k].mean(), _jackknife_error(shares[k], changes[k], k), occurrences[k])
        for k in ks
    ]


def _jackknife_error(shares_N: Tensor, changes_N: Tensor, k: int) -> float | None:
    num = len(shares_N)
    if k + 1 >= num:
        return None
    without_N = (shares_N.sum() - shares_N + changes_N) / (num - 1)
    variance = (without_N - without_N.mean()).square().sum() * (num - 1) / num
    return float(variance.sqrt())


def purities(
    function: str, rows_ND: Tensor, codes_N: Tensor, ks: Sequence[int]
) -> list[tuple[Tensor, float | None]]:
    """Purity of the neighbourhoods of each size, with its standard error."""
    return [(each.purity, each.error) for each in neighborhoods(function, rows_ND, codes_N, ks)]


def purity(function: str, rows_ND: Tensor, codes_N: Tensor, k: int) -> tuple[Tensor, float | None]:
    """Purity of the neighbourhoods of one size, with its standard error."""
    return purities(function, rows_ND, codes_N, [k])[0]


def class_tolerance(rows_ND: Tensor, codes_N: Tensor) -> Tensor:
    """Mean inner product over pairs of one class, from class sums: O(N D)."""
    wide = rows_ND.to(torch.float64)
    counts_C = torch.bincount(codes_N).to(torch.float64)
    sums_CD = wide.new_zeros(len(counts_C), wide.shape[1]).index_add_(0, codes_N, wide)
    num_pairs = (counts_C * (counts_C - 1)).sum()
    return (sums_CD.square().sum() - wide.square().sum()) / num_pairs


def numbers_of_neighbors(function: str, k: Any) -> tuple[list[int], bool]:
    """The numbers of neighbours, and whether they were given as a sequence."""
    many = isinstance(k, (list, tuple))
    if isinstance(k, (Tensor, np.ndarray)) and k.ndim == 1:
        many, k = True, k.tolist()
    if not many:
        _checks.whole(function, "k", k)
        return [int(k)], False
    if not len(k):
        _checks.refuse(
            InputError,
            function,
            "k",
            "hold at least one number",
            "there is one value for each number of neighbours",
            "an empty sequence",
            "Pass for instance k=[1, 10, 100]",
        )
    for each in k:
        _checks.whole(function, "k", each)
    return [int(each) for each in k], True


def neighbor_purity(
    z: Tensor | NDArray[Any],
    labels: Any,
    *,
    k: Any = 10,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Share of a row's nearest neighbours that belong to its own class.

    (1/N) \sum_i (1/k) \#{j among the k nearest of i, j != i : label_j = label_i}, Euclidean distance, exact;
    equal distances go to the lower index.

    Args:
        z: [N, D] features, N >= 2.
        labels: [N] classes: numbers or strings; a list, an array or a tensor.
        k: number of neighbours, 1 <= k < N; several (a list, a tuple, a 1-D array or tensor) share a search.
        normalize: scale rows to length 1 first; False uses them as they are.
        nan: "refuse" rows with NaN or infinity and missing labels (None, NaN), or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays; a list of these for several ``k``. No gradient.

    Range: [0, 1], higher is better. Labels unrelated to the features give about
    \sum_c n_c (n_c - 1) / (N (N - 1)), n_c the class sizes.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, a label is missing, a ``k`` is not a
            whole number >= 1.
        ShapeError: not one label for each row.
        UndefinedError: fewer than two rows, or not more than the largest ``k``.

    Cost: O(N^2 D) time; O(N D) memory and one block of neighbours, whatever ``k``.

    Source: the leave-one-out agreement of a k-nearest-neighbour classifier; the averaged form is ours.

    Example:
        >>> import numpy as np
        >>> z = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> neighbor_purity(z, [0, 0, 1, 1], k=1)
        1.0
        >>> neighbor_purity(z, [0, 0, 1, 1], k=[1, 2])
        [1.0, 0.5]
    """
    function = "neighbor_purity"
    ks, many = numbers_of_neighbors(function, k)
    checked, rows_ND, (codes_N,) = labelled_rows(
        function, z, {"labels": labels}, normalize=normalize, nan=nan
    )
    found = [checked.scalar(value) for value, _ in purities(function, rows_ND, codes_N, ks)]
    return found if many else found[0]


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
    checked, rows_ND, (codes_N,) = labelled_rows(
        "tolerance", z, {"labels": labels}, normalize=normalize, nan=nan
    )
    refuse_no_pairs("tolerance", codes_N)
    return checked.scalar(class_tolerance(rows_ND, codes_N))
