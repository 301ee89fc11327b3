"""Numbers that come in groups: their checks, resampling of whole groups, ranks and correlations.

Encoders that differ only by their seed are one group: they are not independent, so they are drawn, and
permuted, together.

Shapes: K numbers (one per encoder), G groups, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError, UndefinedError

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def columns(function: str, names: Sequence[str], values: Sequence[Any]) -> list[Array]:
    """Check several lists of K finite numbers and return them as float64."""
    arrays = [_column(function, name, value) for name, value in zip(names, values, strict=True)]
    for name, array in zip(names, arrays, strict=True):
        if len(array) != len(arrays[0]):
            _checks.refuse(
                ShapeError,
                function,
                name,
                f"have as many entries as {names[0]}",
                "entry k of each belongs to encoder k",
                f"{names[0]} {len(arrays[0])}, {name} {len(array)}",
                "Pass matching lists",
            )
    return arrays


def _column(function: str, name: str, value: Any) -> Array:
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    try:
        array = np.asarray(value)
        usable = array.dtype.kind in "fiu" or (array.size == 0 and array.dtype.kind == "f")
        numbers = array.astype(np.float64) if usable else None
    except (TypeError, ValueError):
        numbers = None
    if numbers is None or numbers.ndim != 1:
        got = type(value).__name__ if numbers is None else f"shape {numbers.shape}"
        _checks.refuse(
            InputError if numbers is None else ShapeError,
            function,
            name,
            "be a list of numbers, one per encoder",
            "entry k is the value of encoder k",
            got,
            "Pass a flat list, array or tensor of real numbers",
        )
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        _checks.refuse(
            InputError,
            function,
            name,
            "be finite",
            "one NaN or infinity spoils the whole relation",
            f"{len(bad)} of {len(numbers)} entries with NaN or infinity, the first is entry {bad[0]}",
            "Leave those encoders out, and say so",
        )
    return numbers


def refuse_constant(function: str, name: str, values: Array) -> None:
    """Refuse numbers that are all equal (to rounding)."""
    spread = float(np.ptp(values)) if len(values) else 0.0
    if spread <= 1e-12 * float(np.abs(values).max(initial=0.0)):
        _checks.refuse(
            UndefinedError,
            function,
            name,
            "vary between encoders",
            "a correlation with a constant is 0 / 0",
            f"{len(values)} entries, all {values[0]:.6g}" if len(values) else "no entries",
            "Compare encoders that differ in it",
        )


def codes(function: str, groups: Any, num: int) -> Codes:
    """Group numbers 0 ... G - 1 of K encoders, in order of appearance; ``None``: each on its own."""
    if groups is None:
        return np.arange(num)
    if isinstance(groups, (Tensor, np.ndarray)):
        groups = groups.tolist()
    listed = list(groups) if isinstance(groups, (list, tuple)) else None
    if listed is None or len(listed) != num:
        _checks.refuse(
            ShapeError,
            function,
            "groups",
            "have one entry per encoder",
            "encoders of one configuration are resampled together",
            type(groups).__name__ if listed is None else f"{len(listed)} entries for {num} encoders",
            "Pass the configuration of every encoder, or None",
        )
    number: dict[Any, int] = {}
    for index, entry in enumerate(listed):
        if entry is None or entry != entry or not getattr(entry, "__hash__", None):
            _checks.refuse(
                InputError,
                function,
                "groups",
                "hold names or numbers",
                "equal entries mark one configuration",
                f"{entry!r} in entry {index}"[:80],
                "Name the configuration of every encoder",
            )
        number.setdefault(entry, len(number))
    return np.array([number[entry] for entry in listed], dtype=np.int64)


def bootstrap_weights(group: Codes, num_resamples: int, rng: np.random.Generator) -> Array:
    """How often each encoder [B, K] is drawn when whole groups are drawn with replacement."""
    num_groups = int(group.max()) + 1
    drawn = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_resamples)
    return drawn[:, group].astype(np.float64)


def interval(values: Array) -> list[float]:
    """The middle 95 % of resampled values, those that are undefined left out."""
    low, high = np.percentile(values[np.isfinite(values)], [2.5, 97.5])
    return [float(low), float(high)]


def correlation(a: Array, b: Array, weights: Array | None = None) -> Array:
    """Weighted Pearson correlation along the last axis; NaN where one side is constant."""
    w = np.ones_like(a) if weights is None else weights
    w = w / w.sum(axis=-1, keepdims=True)
    floor_a, floor_b = (1e-14 * np.abs(values).max(axis=-1) for values in (a, b))
    a = a - (w * a).sum(axis=-1, keepdims=True)
    b = b - (w * b).sum(axis=-1, keepdims=True)
    spread_a, spread_b = np.sqrt((w * a * a).sum(-1)), np.sqrt((w * b * b).sum(-1))
    flat = (spread_a <= floor_a) | (spread_b <= floor_b)
    quotient = (w * a * b).sum(-1) / np.where(flat, 1.0, spread_a * spread_b)
    return np.where(flat, np.nan, np.clip(quotient, -1.0, 1.0))


def ranks(values: Array, weights: Array | None = None) -> Array:
    """Ranks along the last axis, ties sharing their mean; an entry of weight w counts as w equal ones."""
    w = np.atleast_2d(np.ones_like(values) if weights is None else weights)
    values, w = np.broadcast_arrays(np.atleast_2d(values), w)
    order = np.argsort(values, axis=-1, kind="stable")
    ordered, w = np.take_along_axis(values, order, -1), np.take_along_axis(w, order, -1)
    above = np.cumsum(w, axis=-1)
    edge = np.ones((len(w), 1), dtype=bool)
    change = ordered[:, 1:] != ordered[:, :-1]
    low = np.maximum.accumulate(np.where(np.hstack([edge, change]), above - w, 0.0), axis=-1)
    high = np.where(np.hstack([change, edge]), above, np.inf)
    high = np.minimum.accumulate(high[:, ::-1], axis=-1)[:, ::-1]
    ranked = np.empty_like(above)
    np.put_along_axis(ranked, order, (low + high + 1) / 2, axis=-1)
    return ranked
