"""Which rows keep their label when only a few labels are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.probes._splits import known_labels, spread


def few_labels(
    labels: Any, num: int, *, seed: int, numbers: bool | None = None
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Choose ``num`` rows, as evenly over the classes as their sizes allow, or evenly over numbers.

    Args:
        labels: [N] classes (tensor or array); or numbers such as ages, of which one row is chosen in each of
            ``num`` neighbouring ranges that hold equally many rows (quantiles).
        num: rows to choose, at most N; for classes at least their number.
        seed: of the choice; no global generator is touched.
        numbers: whether labels are numbers; None: floating-point ones are.

    Returns:
        Row numbers [num], sorted.

    Raises:
        InputError: fewer rows than classes, or more than there are.

    Example:
        >>> few_labels(np.array([0, 0, 1, 1, 1]), 2, seed=0).shape
        (2,)
        >>> [int(row) // 50 for row in few_labels(np.arange(100.0), 2, seed=0)]
        [0, 1]
    """
    values = known_labels("few_labels", labels)
    continuous = numbers if numbers is not None else values.dtype.kind == "f"
    classes = np.unique(values)
    _checks.whole("few_labels", "num", num)
    if continuous and num > len(values):
        _checks.refuse(
            InputError, "few_labels", "num", f"be at most the number of rows ({len(values)})",
            "a row can be chosen once", str(num), f"Pass for instance num={len(values)}",
        )  # fmt: skip
    generator = np.random.Generator(np.random.PCG64(seed))
    if continuous:
        return spread(values, num, generator, numbers=True)
    if not len(classes) <= num <= len(values):
        _checks.refuse(
            InputError,
            "few_labels",
            "num",
            f"lie between the number of classes ({len(classes)}) and of rows ({len(values)})",
            "every class needs a labelled row, and a row can be chosen once",
            str(num),
            f"Pass for instance num={len(classes)}",
        )
    queues = [generator.permutation(np.flatnonzero(values == label)) for label in classes]
    turns = [
        (turn, place, int(row))
        for place, rows in enumerate(generator.permutation(len(classes)))
        for turn, row in enumerate(queues[rows])
    ]
    return np.sort(np.array([row for _, _, row in sorted(turns)[:num]], dtype=np.int64))
