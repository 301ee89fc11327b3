"""From a difference and its standard error to an interval, a p-value and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["better", "worse", "not distinguishable"]
LEVEL = 0.05
ROUNDING = 1e-6  # of the values: differences below are those of rounding, not of encoders


@dataclass(frozen=True)
class Difference:
    """b minus a, with what is known of its error.

    Attributes:
        values: of a and of b.
        error: standard error of the difference; None where none is known.
        freedom: degrees of freedom of the error; infinite for the normal law.
        method: how the error was made.
    """

    values: tuple[float, float]
    error: float | None
    freedom: float
    method: str

    @property
    def difference(self) -> float:
        """b minus a."""
        return self.values[1] - self.values[0]

    @property
    def nothing(self) -> bool:
        """Whether the values are the same up to rounding."""
        return abs(self.difference) <= ROUNDING * max(abs(self.values[0]), abs(self.values[1]))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the difference."""
        if self.error is None or (self.error == 0 and not self.nothing):
            return None
        half = student_quantile(1 - LEVEL / 2, self.freedom) * self.error
        return self.difference - half, self.difference + half

    @property
    def p_value(self) -> float | None:
        """Two-sided; None where no error is known, or where none was seen although the values differ."""
        if self.error is None or (self.error == 0 and not self.nothing):
            return None
        return 1.0 if self.nothing else student_p(self.difference / self.error, self.freedom)


def student_p(statistic: float, freedom: float) -> float:
    """Two-sided p-value of Student's t (normal where ``freedom`` is infinite)."""
    size = abs(statistic)
    if not math.isfinite(freedom):
        return math.erfc(size / math.sqrt(2))
    return _beta(freedom / (freedom + size * size), freedom / 2, 0.5)


def student_quantile(level: float, freedom: float) -> float:
    """The value that Student's t stays below with probability ``level`` > 1/2."""
    low, high, wanted = 0.0, 1.0, 2 * (1 - level)
    while student_p(high, freedom) > wanted:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > wanted else (low, middle)
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function, by its continued fraction."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    log_front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    tiny = 1e-300
    ratio, above = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    value = above
    for m in range(1, 400):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            above = 1 / _away(1 + term * above, tiny)
            ratio = _away(1 + term / ratio, tiny)
            value *= ratio * above
        if abs(ratio * above - 1) < 1e-15:
            break
    return min(1.0, math.exp(log_front) * value / a)


def _away(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, running = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted


def verdict_of(difference: float, p_value: float | None, better: str | None) -> Verdict | None:
    """What a metric with a better side says of b against a."""
    if p_value is None or better is None:
        return None
    if p_value >= LEVEL:
        return "not distinguishable"
    return "better" if (difference < 0) == (better == "lower") else "worse"


def overall(verdicts: Mapping[str, Verdict | None], names: tuple[str, str]) -> tuple[str, str]:
    """The verdict on the plane of alignment and uniformity, and its words.

    Better: better on one axis and not worse on the other; mixed: better on one and worse on the other.
    """
    known = {name: verdict for name, verdict in verdicts.items() if verdict is not None}
    a, b = names
    if not known:
        return "not distinguishable", "Neither alignment nor uniformity could be tested."
    better = [name for name, verdict in known.items() if verdict == "better"]
    worse = [name for name, verdict in known.items() if verdict == "worse"]
    words = {"alignment": ("better aligned", "worse aligned"), "uniformity": ("more uniform", "less uniform")}
    told = [words[name][0] for name in better] + [words[name][1] for name in worse]
    missing = (
        "" if "alignment" in known else " Without positive pairs there is no alignment to weigh it against."
    )
    if not told:
        axes = " and ".join(known)
        return "not distinguishable", f"{b} and {a} cannot be told apart by {axes} of these rows.{missing}"
    verdict = "mixed" if better and worse else "better" if better else "worse"
    rest = [name for name in known if name not in better and name not in worse]
    tail = f"; their {rest[0]} cannot be told apart" if rest else ""
    return verdict, f"{b} is {' and '.join(told)} than {a}{tail}.{missing}"
