"""What labels say about rows: dense among neighbours, dense as wholes, and the other measures of classes.

Shapes: N rows with a label, D dimensions, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer._checks import NanPolicy
from spherometer._density import (
    HALF,
    READING_TEMPERATURE,
    DensityPoint,
    Interval,
    LocalDensity,
    PurityPoint,
    Reading,
)
from spherometer._results import Measurement
from spherometer.errors import InputError, UndefinedError
from spherometer.metrics import _jackknife
from spherometer.metrics._calinski_harabasz import between_share, calinski_harabasz_of
from spherometer.metrics._hubness import skewness_of
from spherometer.metrics._labels import Labelled, class_codes, labelled_rows
from spherometer.metrics._local_density import Density, density_intervals, density_of
from spherometer.metrics._neighbors import Neighborhood, neighborhoods, numbers_of_neighbors

TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05)
NEIGHBORS = (1, 10, 100)
MOST_ROWS = 2048  # up to which measure() gives relative local density an interval
_Z = 1.959963984540054  # 97.5 % of the normal law
_ROWS = "jackknife over rows"
_JACKKNIFE = f"jackknife over {_jackknife.NUM_GROUPS} groups of rows"


def local_density(
    z: Tensor | NDArray[Any],
    labels: Any,
    *,
    temperatures: float | Iterable[float] = TEMPERATURES,
    k: int | Iterable[int] = NEIGHBORS,
    interval: bool = False,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> LocalDensity:
    r"""Say how classes lie: dense among neighbours, dense as wholes, both or neither.

    Relative local density at each temperature with its ceiling and what random labels give, neighbor purity
    at each k, the Calinski-Harabasz index, and a reading of them.

    Args:
        z: [N, D] features, N >= 2.
        labels: [N] classes: numbers or strings; a list, an array or a tensor.
        temperatures: > 0, one or several, in units of the mean distance. Small: the nearest neighbours alone
            count; large: the whole set.
        k: numbers of neighbours, one or several; those above N - 1 are left out, with a note.
        interval: also 95 % intervals of relative local density, by leaving out 20 interleaved groups of rows
            one after the other (N >= 40): 18 times the work.
        normalize: scale rows to length 1 first; False uses them as they are.
        nan: "refuse" rows with NaN or infinity and missing labels (None, NaN), or "drop" them; a note counts
            them.

    Returns:
        A LocalDensity: ``print`` for a table; ``.reading``, ``.points``, ``.purity``, ``.to_json()``.

    Range: the reading is "locally dense", "globally dense", "both" or "neither". Our rule: locally dense,
    when relative local density at temperature 0.1 is at least half way from random labels to its ceiling;
    globally dense, when at least half of the total variance lies between classes.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, a label is missing, a temperature is
            not above 0, a k not a whole number of at least 1.
        ShapeError: not one label for each row.
        UndefinedError: fewer than two rows with a label, or all rows equal.

    Cost: three passes over N^2 / 2 pairs for all temperatures together, 54 more with intervals, one for the
    neighbours; O(N (D + T)) memory for T temperatures.

    Source: relative local density, and locally against globally dense: Zhang, Lu & Xuan 2023. The thresholds
    of the reading are ours.

    Example:
        >>> import numpy as np
        >>> angle = np.arange(60) * 2 * np.pi / 60  # six arcs of a circle, in two classes by turns
        >>> z = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        >>> local_density(z, np.arange(60) // 10 % 2).reading
        'locally dense'
    """
    function = "local_density"
    steps, ks = _several(temperatures), sorted(set(numbers_of_neighbors(function, k)[0]))
    for each in steps:
        _checks.positive(function, "temperatures", each)
    steps = [float(each) for each in steps]
    checked, rows, (codes,) = labelled_rows(function, z, {"labels": labels}, normalize=normalize, nan=nan)
    num = len(checked.rows) + checked.num_dropped
    stays = class_codes(function, labels, num, nan)[1]
    if checked.kept is not None:
        stays &= checked.kept.cpu()
    given = Labelled.of(rows, codes, labels, stays.nonzero()[:, 0])
    notes = []
    if checked.num_dropped:
        notes.append(f"{checked.num_dropped} rows with NaN or infinity dropped, {len(checked.rows)} kept.")
    if len(given) < len(checked.rows):
        notes.append(f"{len(checked.rows) - len(given)} rows without a label left out.")
    with torch.no_grad():
        neighbors = nearest_neighbors(function, given, ks)
        found = described(function, given, neighbors, steps, interval=interval, normalize=normalize)
    notes += _too_many_neighbors(ks, len(given))
    return replace(found, notes=(*notes, *found.notes))


def nearest_neighbors(function: str, given: Labelled, ks: Sequence[int]) -> list[Neighborhood]:
    """The neighbourhoods of each size below N, from one search."""
    possible = [k for k in ks if k < len(given)]
    return neighborhoods(function, given.rows, given.codes, possible) if possible else []


def _purity_point(given: Labelled, near: Neighborhood) -> PurityPoint:
    num, value, ends = len(given), float(near.purity), None
    if near.error:  # no row differs: nothing to judge the spread by
        ends = (max(value - _Z * near.error, 0.0), min(value + _Z * near.error, 1.0))
    chance = sum(size * (size - 1) for size in given.sizes()) / (num * (num - 1))
    return PurityPoint(near.k, value, ends, chance)


def described(
    function: str,
    given: Labelled,
    neighbors: Sequence[Neighborhood],
    temperatures: Sequence[float],
    *,
    interval: bool,
    normalize: bool,
) -> LocalDensity:
    """Relative local density, Calinski-Harabasz and the reading of checked rows."""
    rows, codes, num, count = given.rows, given.codes, len(given), len(given.names)
    steps = [*temperatures, *([] if READING_TEMPERATURE in temperatures else [READING_TEMPERATURE])]
    found = density_of(function, rows, codes, count, steps)
    intervals: list[Interval] = [None] * len(temperatures)
    if interval:
        values = [each.value for each in found[: len(temperatures)]]
        intervals = list(density_intervals(function, rows, codes, count, temperatures, values))
    points = [_point(each, ends, given.names) for each, ends in zip(found, [*intervals, None], strict=False)]
    local = points[steps.index(READING_TEMPERATURE)].local_share
    between, by_chance = between_share(rows, codes) if count > 1 else 0.0, (count - 1) / (num - 1)
    reading, sentence = _read(local, between)
    purity = tuple(_purity_point(given, near) for near in neighbors)
    notes = []
    if count > 1 and by_chance >= HALF / 2:
        notes.append(
            f"Classes have few rows ({num} rows, {count} classes): labels unrelated to the features would "
            f"put {100 * by_chance:.0f} % of the variance between classes."
        )
    return LocalDensity(
        points=tuple(points[: len(temperatures)]),
        purity=purity,
        classes=dict(zip(given.names, given.sizes(), strict=True)),
        balanced_ceiling=1 - 1 / count,
        calinski_harabasz=_index(function, given),
        between_share=between,
        between_random=by_chance,
        local_share=local,
        reading=reading,
        sentence=sentence,
        num=num,
        settings={
            "normalize": normalize,
            "interval": _JACKKNIFE if any(intervals) else None,
            "purity_interval": _ROWS if any(point.interval for point in purity) else None,
        },
        notes=tuple(notes),
    )


def _point(density: Density, interval: Interval, names: Sequence[str]) -> DensityPoint:
    return DensityPoint(
        temperature=density.temperature,
        value=density.value,
        interval=interval,
        ceiling=density.ceiling,
        random=density.random + 0.0,  # no minus before zero
        contributions=dict(zip(names, density.contributions, strict=True)),
        shares=dict(zip(names, density.shares, strict=True)),
    )


def _index(function: str, given: Labelled) -> float | None:
    try:
        return float(calinski_harabasz_of(function, given.rows, given.codes))
    except UndefinedError:
        return None


def _read(local: float | None, between: float) -> tuple[Reading, str]:
    """The reading by our rule, and its sentence."""
    if local is None:
        return "neither", "Neither locally nor globally dense: one class has all rows, or all weight."
    near, whole = local >= HALF, between >= HALF
    reading: Reading = (
        "both" if near and whole else "locally dense" if near else "globally dense" if whole else "neither"
    )
    name = {
        "both": "Locally and globally dense",
        "locally dense": "Locally dense, not globally",
        "globally dense": "Globally dense, not locally",
        "neither": "Neither locally nor globally dense",
    }[reading]
    neighbors = "mostly of its own class" if near else "often of other classes"
    wholes = (
        "classes differ more than rows of one class"
        if whole
        else "rows of one class differ more than classes"
    )
    return reading, (
        f"{name}: the nearest neighbours of a row are {neighbors}, and {wholes} do. Relative local density "
        f"at temperature {READING_TEMPERATURE:g} goes {_percent(local)} of the way from random labels to its "
        f"ceiling; {_percent(between)} of the variance lies between classes."
    )


def _percent(share: float) -> str:
    """A share in per cent, never rounded up to the threshold."""
    text = f"{round(100 * share)}"
    return f"{min(100 * share, 49.9):.1f} %" if text == "50" and share < HALF else f"{text} %"


def _several(temperatures: Any) -> list[Any]:
    """A number, or several, as a list."""
    try:
        values = list(temperatures)
    except TypeError:
        return [temperatures]
    if not values:
        _checks.refuse(
            InputError, "local_density", "temperatures", "hold at least one number",
            "the curve has a point for each", "an empty sequence",
            "Pass for instance temperatures=(1.0, 0.1)",
        )  # fmt: skip
    return values


def _too_many_neighbors(ks: Sequence[int], num: int) -> list[str]:
    many = [str(k) for k in ks if k >= num]
    if not many:
        return []
    return [f"Neighbor purity at k = {', '.join(many)} left out: a row has only {num - 1} others."]


# --- a part of measure() -----------------------------------------------------------------------------------


def add_density(
    found: dict[str, Measurement],
    notes: list[str],
    given: Labelled,
    neighbors: Sequence[Neighborhood],
    *,
    normalize: bool,
) -> LocalDensity | None:
    """Add relative local density and Calinski-Harabasz, or notes that say why there are none."""
    num, left_out = len(given), "relative_local_density and calinski_harabasz left out"
    if num < 2:
        notes.append(f"{left_out}: they need at least 2 rows with a label.")
        return None
    interval = 2 * _jackknife.NUM_GROUPS <= num <= MOST_ROWS
    try:
        density = described("measure", given, neighbors, TEMPERATURES, interval=interval, normalize=normalize)
    except UndefinedError:
        notes.append(f"{left_out}: all rows are equal, there is no distance to compare others with.")
        return None
    point = density.reading_point
    found["relative_local_density"] = Measurement(
        name="relative_local_density",
        value=point.value,
        interval=point.interval,
        baseline={
            "random labels": point.random,
            "ceiling": point.ceiling,
            "balanced ceiling": density.balanced_ceiling,
        },
        num=num,
        settings={
            "temperature": point.temperature,
            "normalize": normalize,
            "interval": _JACKKNIFE if point.interval else None,
        },
        better="higher",
        label=f"Relative local density (temperature = {point.temperature:g})",
    )
    if density.calinski_harabasz is None:
        count = len(given.names)
        why = (
            "there is one class"
            if count == 1
            else ("every row is a class of its own" if count == num else "no class has any variance")
        )
        notes.append(f"calinski_harabasz left out: {why}.")
    else:
        ends = _index_interval(density, given)
        found["calinski_harabasz"] = Measurement(
            name="calinski_harabasz",
            value=density.calinski_harabasz,
            interval=ends,
            baseline={"unrelated labels": 1.0},
            num=num,
            settings={
                "normalize": normalize,
                "interval": _JACKKNIFE if ends else None,
            },
            better="higher",
            label="Calinski-Harabasz",
        )
    more = _too_many_neighbors(NEIGHBORS, num)
    if num > MOST_ROWS:
        more.append(
            f"No interval of relative local density: with more than {MOST_ROWS} rows it is made on request, "
            "by local_density(x, labels, interval=True)."
        )
    return replace(density, notes=(*more, *density.notes))


def _index_interval(density: LocalDensity, given: Labelled) -> Interval:
    """The interval of the share of variance between classes, on the scale of the index."""
    num, count = len(given), len(given.names)
    if num < 2 * _jackknife.NUM_GROUPS:
        return None
    group = _jackknife.group_of_rows(num).to(given.rows.device)
    kept = [group != left for left in range(_jackknife.NUM_GROUPS)]
    try:
        shares = [between_share(given.rows[each], given.codes[each]) for each in kept]
    except UndefinedError:  # all other rows are equal
        return None
    ends = _jackknife.interval(density.between_share, shares, num, low=0.0, high=1.0)
    if ends is None or ends[1] >= 1:
        return None
    low, high = (share / (1 - share) * (num - count) / (count - 1) for share in ends)
    return low, high


def add_neighbors(
    found: dict[str, Measurement],
    notes: list[str],
    given: Labelled,
    neighbors: Sequence[Neighborhood],
    k: int,
    *,
    normalize: bool,
) -> None:
    """Add neighbor purity and hubness at k, or a note that says why there are none."""
    near = next((one for one in neighbors if one.k == k), None)
    if near is None:
        few = f"k = {k} neighbours need more than {len(given)} labelled rows"
        notes.append(f"neighbor_purity and hubness left out: {few}.")
        return
    at = _purity_point(given, near)
    found["neighbor_purity"] = Measurement(
        name="neighbor_purity",
        value=at.value,
        interval=at.interval,
        baseline={"unrelated labels": at.baseline},
        num=len(given),
        settings={"k": k, "normalize": normalize, "interval": _ROWS if at.interval else None},
        better="higher",
        label=f"Neighbor purity (k = {k})",
    )
    found["hubness"] = Measurement(
        name="hubness",
        value=skewness_of(near.occurrences),
        baseline={"no hubs": 0.0},
        num=len(given),
        settings={"k": k, "normalize": normalize, "interval": None},
        better="lower",
        label=f"Hubness (k = {k})",
    )
