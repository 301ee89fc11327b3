"""Which rows keep their label when only a few labels are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherometer import _checks
from spherometer.errors import InputError


def few_labels(labels: Any, num: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Choose ``num`` rows, as evenly over the classes as their sizes allow.

    Args:
        labels: [N] classes (tensor or array).
        num: rows to choose, between the number of classes and N.
        seed: of the choice; no global generator is touched.

    Returns:
        Row numbers [num], sorted.

    Raises:
        InputError: fewer rows than classes, or more than there are.

    Example:
        >>> few_labels(np.array([0, 0, 1, 1, 1]), 2, seed=0).shape
        (2,)
    """
    values = np.asarray(labels)
    classes = np.unique(values)
    _checks.whole("few_labels", "num", num)
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
    generator = np.random.Generator(np.random.PCG64(seed))
    queues = [generator.permutation(np.flatnonzero(values == label)) for label in classes]
    turns = [
        (turn, place, int(row))
        for place, rows in enumerate(generator.permutation(len(classes)))
        for turn, row in enumerate(queues[rows])
    ]
    return np.sort(np.array([row for _, _, row in sorted(turns)[:num]], dtype=np.int64))
