"""Features, labels, targets and groups of a probe, as the arrays scikit-learn reads.

Shapes: N rows, D dimensions, T targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError

Array = np.ndarray[Any, Any]
Rows = np.ndarray[Any, np.dtype[np.int64]]


def checked(function: str, features: Any, labels: Any = None) -> tuple[Array, Array]:
    """Features as float64 [N, D] (finite), labels as an array [N]; no labels: an empty array."""
    rows = _checks.features(function, "features", features).rows
    x = rows.detach().cpu().double().numpy()
    if labels is None:
        return x, np.empty(0)
    y = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if y.shape != (len(x),):
        _checks.refuse(
            ShapeError,
            function,
            "labels",
            "have one entry per row of features",
            "row i of one belongs to row i of the other",
            f"features {x.shape}, labels {y.shape}",
            "Pass matching arrays",
        )
    return x, y


def numbers(function: str, name: str, values: Any, num: int | None = None) -> Array:
    """Targets [N] or [N, T] as finite float64 [N, T]; ``num``: the rows there must be."""
    array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else _array(values)
    if array is None or array.dtype.kind not in "biuf":
        got = type(values).__name__ if array is None else f"dtype {array.dtype}"
        _checks.refuse(
            InputError, function, name, "hold numbers", "a regression predicts numbers", got,
            "Pass a list, an array or a tensor of numbers; for classes use LinearProbe",
        )  # fmt: skip
    found = array.astype(np.float64)
    if found.ndim not in (1, 2) or 0 in found.shape or (num is not None and len(found) != num):
        rows = "" if num is None else f" for {num} rows"
        _checks.refuse(
            ShapeError, function, name, "have shape [N] or [N, T], an entry (or T) for each row",
            "row i of one belongs to row i of the other", f"shape {found.shape}{rows}",
            "Pass matching arrays",
        )  # fmt: skip
    found = found[:, None] if found.ndim == 1 else found
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        _checks.refuse(
            InputError, function, name, "be finite", "there is nothing to predict where a value is missing",
            f"{len(bad)} of {len(found)} rows with NaN or infinity, the first is row {bad[0]}",
            "Leave those rows out",
        )  # fmt: skip
    return found


def _array(values: Any) -> Array | None:
    """An array, None entries of a list as NaN; None for what is no list of numbers."""
    if isinstance(values, (list, tuple)):
        values = [np.nan if each is None else each for each in values]
    try:
        return np.asarray(values)
    except (TypeError, ValueError):
        return None


def refuse_constant(function: str, name: str, targets: Array) -> None:
    """Refuse targets [N, T] of which one is the same in every row."""
    flat = np.flatnonzero((targets == targets[:1]).all(axis=0))
    if len(flat):
        which = "" if targets.shape[1] == 1 else f" in column {flat[0]}"
        _checks.refuse(
            InputError, function, name, "vary", "there is nothing to explain in a constant",
            f"{len(targets)} rows, all {targets[0, flat[0]]:g}{which}", "Pass a target that varies",
        )  # fmt: skip


def group_codes(function: str, groups: Any, num: int | None = None) -> Rows:
    """Numbers 0 ... G - 1 of the groups [N] in order of appearance; ``num``: the rows there must be."""
    if isinstance(groups, (Tensor, np.ndarray)):
        groups = groups.tolist()
    listed = list(groups) if isinstance(groups, (list, tuple)) else None
    if listed is None or not listed or (num is not None and len(listed) != num):
        got = type(groups).__name__ if listed is None else f"{len(listed)} entries"
        _checks.refuse(
            ShapeError, function, "groups", "have one entry for each row",
            "rows of one group (a subject, a site) stay together",
            got if num is None else f"{got} for {num} rows", "Pass the group of every row",
        )  # fmt: skip
    number: dict[Any, int] = {}
    for row, group in enumerate(listed):
        if group is None or group != group or not getattr(group, "__hash__", None):
            _checks.refuse(
                InputError, function, "groups", "hold names or numbers", "equal entries mark one group",
                f"{group!r} in row {row}"[:80], "Name the group of every row",
            )  # fmt: skip
        number.setdefault(group, len(number))
    return np.array([number[group] for group in listed], dtype=np.int64)
