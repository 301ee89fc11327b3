"""Label-free criteria: their scores, which candidates tie with the best, the Pareto front.

K candidates; a score is None where a candidate lacks what it is made of.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, Mapping[str, Any]]
Scores = list[float | None]
Ends = tuple[float, float] | None
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Criterion:
    """A number by which candidates are ranked.

    Attributes:
        label: what tables call it.
        metric: what it is read from; None: alignment and uniformity together.
        lower: whether lower is better.
        target: the score is the distance of the metric from this number.
        pairs: whether it needs positive pairs.
    """

    label: str
    metric: str | None
    lower: bool
    target: float | None = None
    pairs: bool = False


CRITERIA = {
    "sum": Criterion("Standardised alignment + uniformity", None, True, pairs=True),
    "info_nce": Criterion("InfoNCE loss", "info_nce", True, pairs=True),
    "alignment": Criterion("Alignment alone", "alignment", True, pairs=True),
    "uniformity": Criterion("Uniformity alone", "uniformity", True),
    "rankme": Criterion("RankMe", "rankme", False),
    "alpha_req": Criterion("alpha-ReQ (distance from 1)", "alpha_req", True, target=1.0),
    "lidar": Criterion("LiDAR", "lidar", False, pairs=True),
}
DEFAULTS = ("sum", "rankme")  # the first that every candidate has: see docs/selection.md


PLANE = ("alignment", "uniformity")  # not relative to the dimension: see docs/selection.md


def _measured(metrics: Metrics, name: str, target: float | None = None) -> tuple[float | None, Ends]:
    if name not in metrics:
        return None, None
    value, interval = float(metrics[name]["value"]), metrics[name]["interval"]
    ends = None if interval is None else (float(interval[0]), float(interval[1]))
    if target is None:
        return value, ends
    if ends is not None:
        far = [abs(end - target) for end in ends]
        ends = (0.0 if ends[0] <= target <= ends[1] else min(far), max(far))
    return abs(value - target), ends


def score(key: str, candidates: Sequence[Metrics]) -> tuple[Scores, list[Ends]]:
    """The criterion of every candidate, and its 95 % interval where there is one."""
    criterion = CRITERIA[key]
    if criterion.metric is not None:
        both = [_measured(metrics, criterion.metric, criterion.target) for metrics in candidates]
        return [value for value, _ in both], [ends for _, ends in both]
    return _sum(candidates)


def _sum(candidates: Sequence[Metrics]) -> tuple[Scores, list[Ends]]:
    """Both terms in units of their standard deviation over the candidates; errors added as independent.

    A term that does not vary adds nothing.
    """
    nothing: tuple[Scores, list[Ends]] = [None] * len(candidates), [None] * len(candidates)
    full = [all(name in metrics for name in PLANE) for metrics in candidates]
    total, variance = [0.0] * len(candidates), [0.0] * len(candidates)
    known, varies = list(full), False
    for name in PLANE:
        values = [float(each[name]["value"]) for each, there in zip(candidates, full, strict=True) if there]
        if len(values) < 2:
            return nothing
        mean, spread = statistics.fmean(values), statistics.pstdev(values)
        if spread <= 1e-12 * max(map(abs, values)):
            continue
        varies = True
        for index, metrics in enumerate(candidates):
            if not full[index]:
                continue
            value, ends = _measured(metrics, name)
            assert value is not None
            total[index] += (value - mean) / spread
            if ends is None:
                known[index] = False
            else:
                variance[index] += ((ends[1] - ends[0]) / (2 * Z95 * spread)) ** 2
    if not varies:
        return nothing
    half = [Z95 * math.sqrt(each) for each in variance]
    return (
        [value if there else None for value, there in zip(total, full, strict=True)],
        [(v - h, v + h) if k else None for v, h, k in zip(total, half, known, strict=True)],
    )


def order(scores: Scores, lower: bool) -> list[int]:
    """Places of the candidates, the best first; those without a score last, in their given order."""

    def goodness(place: int) -> tuple[bool, float, int]:
        value = scores[place]
        return (True, 0.0, place) if value is None else (False, value if lower else -value, place)

    return sorted(range(len(scores)), key=goodness)


def ranks(scores: Scores, lower: bool) -> list[int | None]:
    """1 for the best; the same rank for the same score; None without one."""
    known = [value for value in scores if value is not None]
    return [
        None if value is None else 1 + sum(other < value if lower else other > value for other in known)
        for value in scores
    ]


def ties(scores: Scores, intervals: Sequence[Ends], lower: bool) -> list[bool]:
    """Whether the interval of each overlaps that of the best (the best itself: True)."""
    first = order(scores, lower)[0]
    best, ends = scores[first], intervals[first]
    if best is None:
        return [False] * len(scores)
    low, high = ends or (best, best)
    found = []
    for value, own in zip(scores, intervals, strict=True):
        if value is None:
            found.append(False)
            continue
        bottom, top = own or (value, value)
        found.append(bottom <= high and top >= low)
    return found


def front(candidates: Sequence[Metrics]) -> list[bool]:
    """Whether no other candidate is at least as aligned and as uniform, and better in one of them."""
    points = [
        tuple(float(metrics[name]["value"]) for name in PLANE)
        if all(name in metrics for name in PLANE)
        else None
        for metrics in candidates
    ]

    def beaten(point: tuple[float, ...]) -> bool:
        others = [other for other in points if other is not None and other != point]
        return any(all(a <= b for a, b in zip(other, point, strict=True)) for other in others)

    return [point is not None and not beaten(point) for point in points]
