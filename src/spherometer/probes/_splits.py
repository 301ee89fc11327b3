"""Rows for training and rows set apart for testing: stratified, and no group on both sides.

Shapes: N rows, G groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError
from spherometer.probes._arrays import Array, Rows, group_codes


def stratified_split(
    labels: Any, share: float, seed: int, *, numbers: bool | None = None
) -> tuple[Rows, Rows]:
    """Split rows so that both sides hold every class, or every part of a range of numbers, in its proportion.

    Of each class floor or ceil of ``share`` of its rows are set apart; of numbers one in each of as many
    neighbouring ranges (quantiles) as rows are set apart.

    Args:
        labels: [N] classes, or numbers such as ages.
        share: of the rows that are set apart, in (0, 1); at least one row stays on each side.
        seed: of the choice; no global generator is touched.
        numbers: whether labels are numbers; None: floating-point ones are.

    Returns:
        Row numbers of the larger part (training) and of the part set apart (testing), each sorted.

    Raises:
        InputError: fewer than 2 rows, a share outside (0, 1), missing labels.

    Example:
        >>> train, test = stratified_split(["a"] * 8 + ["b"] * 4, 0.25, seed=0)
        >>> len(train), int((test < 8).sum()), int((test >= 8).sum())
        (9, 2, 1)
    """
    values = known_labels("stratified_split", labels)
    num_test = _num_apart("stratified_split", "labels", len(values), share)
    return _both(len(values), spread(values, num_test, _generator("stratified_split", seed), numbers=numbers))


def group_split(groups: Any, share: float, seed: int, labels: Any = None) -> tuple[Rows, Rows]:
    """Split rows so that no group (a subject, a site) has rows on both sides.

    Args:
        groups: [N] names or numbers; equal entries are one group.
        share: of the *groups* that are set apart, in (0, 1); at least one group stays on each side. Where
            groups differ in size, the share of the rows differs from it.
        seed: of the choice; no global generator is touched.
        labels: [N] classes or numbers by which the groups are stratified: a group counts as its most frequent
            class, or (floating-point labels) as its mean. None: groups are drawn at random.

    Returns:
        Row numbers of the larger part (training) and of the part set apart (testing), each sorted.

    Raises:
        InputError: fewer than 2 groups, a share outside (0, 1), missing groups or labels.

    Example:
        >>> train, test = group_split(["s1", "s1", "s2", "s3", "s3", "s4"], 0.25, seed=1)
        >>> sorted(train.tolist() + test.tolist())
        [0, 1, 2, 3, 4, 5]
    """
    codes = group_codes("group_split", groups)
    num_groups = int(codes.max()) + 1
    num_apart = _num_apart("group_split", "groups", num_groups, share, what="groups")
    generator = _generator("group_split", seed)
    if labels is None:
        apart = generator.permutation(num_groups)[:num_apart]
    else:
        values = known_labels("group_split", labels, len(codes))
        apart = spread(_of_groups(codes, values), num_apart, generator)
    return _both(len(codes), np.flatnonzero(np.isin(codes, apart)))


def _of_groups(codes: Rows, values: Array) -> Array:
    """One label for each group: the mean of numbers, the most frequent class (the first among equals)."""
    num_groups = int(codes.max()) + 1
    if values.dtype.kind == "f":
        return np.bincount(codes, values, num_groups) / np.bincount(codes, minlength=num_groups)
    classes, label = np.unique(values, return_inverse=True)
    counts = np.zeros((num_groups, len(classes)), dtype=np.int64)
    np.add.at(counts, (codes, label), 1)
    return np.asarray(classes[counts.argmax(axis=1)])


def spread(values: Array, num: int, generator: np.random.Generator, *, numbers: bool | None = None) -> Rows:
    """``num`` rows, in proportion to the classes, or one in each of ``num`` quantiles of numbers; sorted."""
    rows = len(values)
    if numbers if numbers is not None else values.dtype.kind == "f":
        order = np.lexsort((generator.random(rows), values))  # ties in random order
        edges = np.arange(num + 1) * rows // num
        places = edges[:-1] + (generator.random(num) * np.diff(edges)).astype(np.int64)
    else:
        classes, label = np.unique(values, return_inverse=True)
        turn = generator.permutation(len(classes))[label]
        order = np.lexsort((generator.random(rows), turn))
        places = np.minimum((np.arange(num) + generator.random()) * rows / num, rows - 1).astype(np.int64)
    return np.sort(order[places]).astype(np.int64)


def known_labels(function: str, labels: Any, num: int | None = None) -> Array:
    """Labels [N] as an array of numbers or texts, none missing."""
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu()
        labels = (labels.double() if labels.is_floating_point() else labels).numpy()
    array = np.asarray(labels)
    if array.ndim != 1 or (num is not None and len(array) != num):
        _checks.refuse(
            ShapeError, function, "labels", "have one entry for each row", "row i has label i",
            f"shape {array.shape}" + ("" if num is None else f" for {num} rows"), "Pass matching arrays",
        )  # fmt: skip
    if array.dtype.kind in "biuUS":
        return array
    if array.dtype.kind == "O":
        missing = np.array([each is None or each != each for each in array.tolist()], dtype=bool)
    else:
        missing = ~np.isfinite(array) if array.dtype.kind == "f" else np.ones(len(array), dtype=bool)
    if missing.any():
        _checks.refuse(
            InputError, function, "labels", "be there for every row", "a row without one has no stratum",
            f"{int(missing.sum())} of {len(array)} missing, the first is label {int(missing.argmax())}",
            "Leave those rows out",
        )  # fmt: skip
    return array.astype(str) if array.dtype.kind == "O" else array


def _num_apart(function: str, name: str, num: int, share: float, *, what: str = "rows") -> int:
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        _checks.refuse(
            InputError, function, "share", "lie between 0 and 1", "both sides need rows", repr(share)[:60],
            "Pass for instance share=0.2",
        )  # fmt: skip
    if num < 2:
        _checks.refuse(
            InputError, function, name, f"hold at least 2 {what}", "both sides need one", f"{num}",
            f"Pass more {what}",
        )  # fmt: skip
    return min(max(round(share * num), 1), num - 1)


def _generator(function: str, seed: int) -> np.random.Generator:
    _checks.whole(function, "seed", seed, at_least=0)
    return np.random.Generator(np.random.PCG64(int(seed)))


def _both(num: int, apart: Rows) -> tuple[Rows, Rows]:
    there = np.ones(num, dtype=bool)
    there[apart] = False
    return np.flatnonzero(there).astype(np.int64), np.sort(apart).astype(np.int64)
