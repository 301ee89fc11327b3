r"""Relative local density: modularity of the classes on the graph of mutual soft neighbours.

Shapes: N rows, D dimensions, C classes, T temperatures, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, pairs
from spherometer._checks import Features, NanPolicy
from spherometer.errors import InputError, UndefinedError
from spherometer.metrics._jackknife import NUM_GROUPS, group_of_rows, interval
from spherometer.metrics._labels import labelled_rows

_SMALL = 384  # rows that are one tile
_ROUNDING = 4  # mean distances of fewer last places than this are rounding errors of the rows


@dataclass(frozen=True)
class Density:
    """Relative local density at one temperature, and what it is read against.

    Attributes:
        temperature: scale of the neighbourhoods, in mean distances.
        value: sum over classes of (weight within the class) - (share of the class)^2.
        ceiling: the value with the same shares if no weight lay between classes: 1 - sum of shares^2.
        random: mean value over all permutations of the labels, exactly.
        contributions: term of each class; they add up to ``value``.
        shares: part of the weight that meets each class.
    """

    temperature: float
    value: float
    ceiling: float
    random: float
    contributions: tuple[float, ...]
    shares: tuple[float, ...]


def density_of(
    function: str, rows_ND: Tensor, codes_N: Tensor, num_classes: int, temperatures: Sequence[float]
) -> list[Density]:
    """Relative local density of rows at each temperature; ``function`` is named in messages."""
    order_N = _by_class(codes_N)
    graph = _graph(function, rows_ND[order_N], temperatures)
    return _densities(graph, codes_N[order_N], num_classes)


def _by_class(codes_N: Tensor) -> Tensor | slice:
    """An order in which most tiles lie within a class or between classes; a small set is one tile."""
    return slice(None) if len(codes_N) <= _SMALL else codes_N.argsort(stable=True)


def _graph(function: str, rows_ND: Tensor, temperatures: Sequence[float]) -> pairs.NeighborGraph:
    graph = pairs.neighbor_graph(rows_ND, temperatures, function=function, keep=True)
    if graph.mean_distance <= _ROUNDING * torch.finfo(rows_ND.dtype).eps * float(rows_ND.abs().max()):
        _checks.refuse(
            UndefinedError, function, "z", "hold at least two different rows",
            "distances are measured against their mean, which is a rounding error here",
            f"{len(rows_ND)} rows that differ in their last digits at most", "Look for a collapsed encoder",
        )  # fmt: skip
    return graph


def _densities(graph: pairs.NeighborGraph, codes_N: Tensor, num_classes: int) -> list[Density]:
    num, sizes_C = len(codes_N), torch.bincount(codes_N, minlength=num_classes)
    together = (int(torch.dot(sizes_C, sizes_C)) - num) / (num * (num - 1))  # pairs of one class
    found = []
    for temperature, own_N, all_N in zip(
        graph.temperatures, *pairs.class_strengths(graph, codes_N), strict=True
    ):
        both_2N = torch.stack([own_N, all_N])
        both_2C = both_2N.new_zeros(2, num_classes).index_add_(1, codes_N, both_2N)
        within_C, shares_C = both_2C / both_2C[1].sum()
        squares_C = shares_C.square()
        terms_C = within_C - squares_C
        # no row is its own neighbour, but the null model of modularity pairs it with itself
        random = -float(torch.dot(all_N, all_N) / all_N.sum().square()) * (1 - together)
        found.append(
            Density(
                temperature,
                float(terms_C.sum()),
                1 - float(squares_C.sum()),
                random,
                tuple(terms_C.tolist()),
                tuple(shares_C.tolist()),
            )
        )
    return found


def density_intervals(
    function: str,
    rows_ND: Tensor,
    codes_N: Tensor,
    num_classes: int,
    temperatures: Sequence[float],
    values: Sequence[float],
) -> list[tuple[float, float] | None]:
    """95 % intervals from leaving out one of 20 interleaved groups of rows at a time.

    Everything is computed again without the group: mean distance, softmax and modularity. None for fewer
    than 40 rows, or where what is left is undefined.

    Cost: 18 times that of the values.
    """
    num = len(rows_ND)
    if num < 2 * NUM_GROUPS:
        return [None] * len(values)
    member_N = group_of_rows(num).to(rows_ND.device)
    left_out: list[list[float]] = []
    for group in range(NUM_GROUPS):
        stays_N = member_N != group
        try:
            densities = density_of(function, rows_ND[stays_N], codes_N[stays_N], num_classes, temperatures)
        except UndefinedError:
            return [None] * len(values)
        left_out.append([each.value for each in densities])
    return [
        interval(value, [each[level] for each in left_out], num, low=-0.5, high=1.0)
        for level, value in enumerate(values)
    ]


def temperatures_of(function: str, temperature: Any) -> tuple[tuple[float, ...], bool]:
    """The temperatures as numbers, and whether they were given as a sequence."""
    many = isinstance(temperature, (list, tuple))
    if isinstance(temperature, Tensor):
        temperature = temperature.detach()
    if isinstance(temperature, (Tensor, np.ndarray)) and temperature.ndim == 1:
        many, temperature = True, temperature.tolist()
    if not many:
        _checks.positive(function, "temperature", temperature)
        return (float(temperature),), False
    if not len(temperature):
        _checks.refuse(
            InputError, function, "temperature", "hold at least one number",
            "there is one value for each temperature", "an empty sequence",
            "Pass for instance temperature=[1.0, 0.1]",
        )  # fmt: skip
    for each in temperature:
        _checks.positive(function, "temperature", each)
    return tuple(float(each) for each in temperature), True


def _result(checked: Features, values: Sequence[float], many: bool) -> Any:
    numbers = [checked.scalar(torch.tensor(value, dtype=torch.float64)) for value in values]
    return numbers if many else numbers[0]


def relative_local_density(
    z: Tensor | NDArray[Any],
    labels: Any,
    *,
    temperature: Any = 1.0,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Relative local density (RLD): do the mutual near neighbours of a row belong to its class?

    With P_ij = exp(-d_ij / (temperature mean d)) / \sum_{l != i} exp(-d_il / (temperature mean d)) and
    W_ij = P_ij P_ji (i != j), W_ii = 0, d Euclidean distances and their mean over all pairs:
    \sum_c [ W_cc / W - (W_c / W)^2 ], W_cc the weight within class c, W_c the weight that meets it, W all of
    it. This is Newman's modularity of the labels on that graph.

    Args:
        z: [N, D] features, N >= 2, not all equal.
        labels: [N] classes: numbers or strings; a list, an array or a tensor.
        temperature: size of the neighbourhoods in mean distances, > 0: about 1 looks at the arrangement as a
            whole, 0.1 and less at the nearest rows. Several (a list, a tuple, a 1-D array or tensor) share
            the work on the distances.
        normalize: scale rows to length 1 first; False uses them as they are.
        nan: "refuse" rows with NaN or infinity and missing labels (None, NaN), or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays; a list of these for several temperatures. No
        gradient.

    Range: [-1/2, 1), higher is denser; random labels give about -1/N, one class only 0. The ceiling is
    1 - \sum_c (W_c / W)^2: 1 - 1/C for C balanced classes. Values at different temperatures, or with
    different numbers of classes, do not compare: even classes that collapsed to equidistant points reach
    only about 0.4 at temperature 1 (10 classes), and the ceiling from 0.2 down. Unchanged by rotation, shift
    (``normalize=False``) and scale.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, a label is missing, a temperature is
            not a number > 0.
        ShapeError: not one label for each row.
        UndefinedError: fewer than two rows, or all rows equal.

    Cost: three passes over N^2 / 2 pairs, O(N^2 D) time; O(N (D + T)) memory and the classes.

    Source: Zhang, Lu & Xuan 2024; the definition after their code. Log-sum-exps stand for its quotients,
    so that small temperatures do not underflow; the values are the same.

    Example:
        >>> import numpy as np
        >>> z = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> [round(value, 4) for value in relative_local_density(z, [0, 0, 1, 1], temperature=[1.0, 0.1])]
        [0.3787, 0.5]
    """
    function = "relative_local_density"
    temperatures, many = temperatures_of(function, temperature)
    checked, rows_ND, (codes_N,) = labelled_rows(
        function, z, {"labels": labels}, normalize=normalize, nan=nan
    )
    found = density_of(function, rows_ND, codes_N, int(codes_N.max()) + 1, temperatures)
    return _result(checked, [each.value for each in found], many)


def graph_modularity(
    z: Tensor | NDArray[Any],
    partitions: Any,
    *,
    temperature: Any = 1.0,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Modularity of any partition of the rows on the graph of mutual soft neighbours.

    \sum_c [ W_cc / W - (W_c / W)^2 ] with the weights W of ``relative_local_density``, which is this number
    for the true classes. Clusters, predictions or domains take their place here, and are compared on one
    graph.

    Args:
        z: [N, D] features, N >= 2, not all equal.
        partitions: [N] the part of each row, numbers or strings; or a mapping name -> [N] parts.
        temperature: size of the neighbourhoods in mean distances, > 0; one or several.
        normalize: scale rows to length 1 first; False uses them as they are.
        nan: "refuse" rows with NaN or infinity and missing parts (None, NaN), or "drop" them: a row without
            a part in any of the partitions leaves the graph.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays; a list of these for several temperatures; a
        dict name -> such a result for a mapping. No gradient.

    Range: [-1/2, 1), higher: more weight within the parts than their sizes explain. All rows in one part: 0.

    Raises:
        InputError: as ``relative_local_density``; a mapping without partitions.
        ShapeError: not one part for each row.
        UndefinedError: fewer than two rows, or all rows equal.

    Cost: two passes over N^2 / 2 pairs, and one for each partition; O(N (D + T)) memory and the parts.

    Source: Newman & Girvan 2004 (modularity, here of weighted edges), on the graph of Zhang, Lu & Xuan 2024.

    Example:
        >>> import numpy as np
        >>> z = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> found = graph_modularity(z, {"sides": [0, 0, 1, 1], "mixed": [0, 1, 0, 1]}, temperature=0.1)
        >>> {name: round(value, 4) for name, value in found.items()}
        {'sides': 0.5, 'mixed': -0.5}
    """
    function = "graph_modularity"
    temperatures, many = temperatures_of(function, temperature)
    named = isinstance(partitions, Mapping)
    if named and not partitions:
        _checks.refuse(
            InputError, function, "partitions", "hold at least one partition",
            "there is one value for each of them", "an empty mapping",
            'Pass for instance {"clusters": [...]}',
        )  # fmt: skip
    parts = {f"partitions[{name!r}]": each for name, each in partitions.items()} if named else None
    checked, rows_ND, codes = labelled_rows(
        function, z, parts or {"partitions": partitions}, normalize=normalize, nan=nan
    )
    order_N = _by_class(codes[0])
    graph = _graph(function, rows_ND[order_N], temperatures)
    results = []
    for codes_N in codes:
        found = _densities(graph, codes_N[order_N], int(codes_N.max()) + 1)
        results.append(_result(checked, [each.value for each in found], many))
    return dict(zip(partitions, results, strict=True)) if named else results[0]
