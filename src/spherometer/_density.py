"""How densely classes lie, near by and as wholes: the results, their reading, their table, their JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spherometer._strict_json import Reader, is_interval, is_number, written
from spherometer._version import __version__

SCHEMA = "spherometer.local_density/1"
_READER = Reader("LocalDensity")
READING_TEMPERATURE = 0.1
HALF = 0.5  # of the way to the ceiling, and of the variance: our thresholds
RULE = (
    "Our rule: locally dense, when relative local density at temperature 0.1 is at least half way from "
    "random labels to its ceiling; globally dense, when at least half of the total variance lies between "
    "classes."
)
Reading = Literal["locally dense", "globally dense", "both", "neither"]
Interval = tuple[float, float] | None
_READINGS: tuple[Reading, ...] = ("locally dense", "globally dense", "both", "neither")
_KEYS = (
    "schema", "spherometer", "reading", "sentence", "local_share", "between_share", "between_random",
    "calinski_harabasz", "balanced_ceiling", "classes", "points", "purity", "num", "settings", "notes",
)  # fmt: skip
_POINT = ("temperature", "value", "interval", "ceiling", "random", "contributions", "shares")
_PURITY = ("k", "value", "interval", "baseline")
_MOST_CLASSES = 20  # of a printed table


@dataclass(frozen=True)
class DensityPoint:
    """Relative local density at one temperature.

    Attributes:
        temperature: of the softmax over neighbours, in units of the mean distance.
        value: relative local density.
        interval: its 95 % interval, or None.
        ceiling: what it would be if no edge left its class, 1 - sum_c share_c^2.
        random: its mean over random permutations of the labels.
        contributions: of each class, by name; they sum to the value.
        shares: of each class in the weight of the edges, by name; a class gives at most share - share^2.
    """

    temperature: float
    value: float
    interval: Interval
    ceiling: float
    random: float
    contributions: Mapping[str, float]
    shares: Mapping[str, float]

    @property
    def local_share(self) -> float | None:
        """How far from random labels (0) to the ceiling (1); None for one class, where both are 0."""
        way = self.ceiling - self.random
        return (self.value - self.random) / way if way > 1e-12 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; classes in the order of the result's."""
        found = {name: getattr(self, name) for name in _POINT}
        found["interval"] = None if self.interval is None else list(self.interval)
        return {**found, **{name: list(found[name].values()) for name in ("contributions", "shares")}}

    @classmethod
    def from_dict(cls, document: Any, classes: tuple[str, ...]) -> DensityPoint:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.keys("in every point an object", document, _POINT)
        by_class = {}
        for name in ("contributions", "shares"):
            values = document[name]
            if not isinstance(values, list) or len(values) != len(classes) or not all(map(is_number, values)):
                _READER.bad(f"hold one number for each class as {name!r} in every point", repr(values))
            by_class[name] = dict(zip(classes, map(float, values), strict=True))
        return cls(
            temperature=_temperature(document),
            value=_number(document, "value"),
            interval=_ends(document),
            ceiling=_number(document, "ceiling"),
            random=_number(document, "random"),
            **by_class,
        )


@dataclass(frozen=True)
class PurityPoint:
    """Neighbor purity at one number of neighbours.

    Attributes:
        k: number of neighbours.
        value: mean share of a row's k nearest that have its class.
        interval: its 95 % interval, or None.
        baseline: what labels unrelated to the features give.
    """

    k: int
    value: float
    interval: Interval
    baseline: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ends = None if self.interval is None else list(self.interval)
        return {"k": self.k, "value": self.value, "interval": ends, "baseline": self.baseline}

    @classmethod
    def from_dict(cls, document: Any) -> PurityPoint:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.keys("in 'purity' an object", document, _PURITY)
        k = _whole(document, "k", 1)
        return cls(k, _number(document, "value"), _ends(document), _number(document, "baseline"))


@dataclass(frozen=True)
class LocalDensity:
    """How densely the classes of rows lie, among neighbours and as wholes; ``print`` for a table.

    Attributes:
        points: relative local density, one for each temperature, as they were asked for.
        purity: neighbor purity, one for each k.
        classes: number of rows of each class, by name.
        balanced_ceiling: 1 - 1/C: the ceiling of C classes with equal shares.
        calinski_harabasz: variance between classes over that within, per degree of freedom; None where it is
            undefined (one class, as many classes as rows, no variance within).
        between_share: share of the total variance that lies between classes: the same in [0, 1].
        between_random: its mean over random permutations of the labels, (C - 1) / (N - 1).
        local_share: how far relative local density at temperature 0.1 is from random labels (0) to its
            ceiling (1); None for one class.
        reading: "locally dense", "globally dense", "both" or "neither".
        sentence: the reading in words, with its two numbers.
        num: number of rows.
        settings: normalize, and how the intervals were made.
        notes: what a reader must know.
        version: the version of the package that measured.

    The reading is our rule: locally dense, when ``local_share`` is at least 1/2; globally dense, when
    ``between_share`` is.
    """

    points: tuple[DensityPoint, ...]
    purity: tuple[PurityPoint, ...]
    classes: Mapping[str, int]
    balanced_ceiling: float
    calinski_harabasz: float | None
    between_share: float
    between_random: float
    local_share: float | None
    reading: Reading
    sentence: str
    num: int
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    version: str = __version__

    @property
    def reading_point(self) -> DensityPoint:
        """The point whose temperature is nearest to that of the reading."""
        return min(self.points, key=lambda point: abs(math.log(point.temperature / READING_TEMPERATURE)))

    def rows(self) -> list[dict[str, float | None]]:
        """One flat row for each temperature: for tables and data frames.

        Columns: temperature, relative_local_density, _low, _high, ceiling, random.
        """
        found: list[dict[str, float | None]] = []
        for point in self.points:
            low, high = (None, None) if point.interval is None else point.interval
            found.append(
                {
                    "temperature": point.temperature,
                    "relative_local_density": point.value,
                    "relative_local_density_low": low,
                    "relative_local_density_high": high,
                    "ceiling": point.ceiling,
                    "random": point.random,
                }
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema": SCHEMA,
            "spherometer": self.version,
            "reading": self.reading,
            "sentence": self.sentence,
            "local_share": self.local_share,
            "between_share": self.between_share,
            "between_random": self.between_random,
            "calinski_harabasz": self.calinski_harabasz,
            "balanced_ceiling": self.balanced_ceiling,
            "classes": [{"name": name, "num": num} for name, num in self.classes.items()],
            "points": [point.to_dict() for point in self.points],
            "purity": [point.to_dict() for point in self.purity],
            "num": self.num,
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """Strict JSON text; also written to ``path`` when one is given."""
        return written(self.to_dict(), path)

    @classmethod
    def from_dict(cls, document: Any) -> LocalDensity:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.schema(document, SCHEMA)
        _READER.keys("in the result an object", document, _KEYS)
        for name in ("classes", "points", "purity", "notes"):
            if not isinstance(document[name], list):
                _READER.bad(f"hold a list {name!r}", repr(document[name]))
        for name in ("spherometer", "sentence"):
            if not isinstance(document[name], str):
                _READER.bad(f"hold a string {name!r}", repr(document[name]))
        if not all(isinstance(note, str) for note in document["notes"]):
            _READER.bad("hold a list of strings 'notes'", repr(document["notes"]))
        if not isinstance(document["settings"], Mapping):
            _READER.bad("hold an object 'settings'", repr(document["settings"]))
        if document["reading"] not in _READINGS:
            _READER.bad(f"hold as 'reading' one of {', '.join(_READINGS)}", repr(document["reading"]))
        classes = _classes(document["classes"])
        points = tuple(DensityPoint.from_dict(point, tuple(classes)) for point in document["points"])
        if not points:
            _READER.bad("hold a list 'points' that is not empty", "[]")
        return cls(
            points=points,
            purity=tuple(PurityPoint.from_dict(point) for point in document["purity"]),
            classes=classes,
            balanced_ceiling=_number(document, "balanced_ceiling"),
            calinski_harabasz=_maybe(document, "calinski_harabasz"),
            between_share=_number(document, "between_share"),
            between_random=_number(document, "between_random"),
            local_share=_maybe(document, "local_share"),
            reading=document["reading"],
            sentence=document["sentence"],
            num=_whole(document, "num", 2),
            settings=document["settings"],
            notes=tuple(document["notes"]),
            version=document["spherometer"],
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> LocalDensity:
        """Read what :meth:`to_json` wrote; anything else is an InputError."""
        return cls.from_dict(_READER.parsed(text))

    def __str__(self) -> str:
        lines = [*textwrap.wrap(f"{self.sentence} {RULE}", 100), ""]
        density = [("temperature", "relative local density", "random labels", "ceiling")]
        for point in self.points:
            value = _cell(point.value, point.interval)
            density.append((f"{point.temperature:g}", value, _short(point.random), _short(point.ceiling)))
        lines += _table(density)
        if self.purity:
            purity = [("neighbours", "neighbor purity", "unrelated labels")]
            purity += [
                (f"{one.k}", _cell(one.value, one.interval), f"{one.baseline:.4f}") for one in self.purity
            ]
            lines += ["", *_table(purity)]
        index = "undefined" if self.calinski_harabasz is None else f"{self.calinski_harabasz:.4g}"
        lines += [
            "",
            f"Calinski-Harabasz: {index}. Between classes: {100 * self.between_share:.1f} % of the variance "
            f"(unrelated labels: {100 * self.between_random:.1f} %).",
            f"Ceiling of balanced classes: {self.balanced_ceiling:.4f}. n = {self.num}",
        ]
        point = self.reading_point
        each = [("class", "rows", f"contribution at {point.temperature:g}", "at most")]
        lines += ["", *_table([*each, *_class_rows(point, self.classes)])]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def _class_rows(point: DensityPoint, classes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Name, rows, contribution and its ceiling of each class; the last ones of many in one row."""
    names = list(classes)
    shown = names if len(names) <= _MOST_CLASSES else names[: _MOST_CLASSES - 1]
    groups = [(name, [name]) for name in shown]
    if rest := names[len(shown) :]:
        groups.append((f"{len(rest)} more classes", rest))
    return [
        (
            words,
            f"{sum(classes[name] for name in each)}",
            _short(math.fsum(point.contributions[name] for name in each)),
            _short(math.fsum(point.shares[name] * (1 - point.shares[name]) for name in each)),
        )
        for words, each in groups
    ]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    sizes = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(sizes[0]), *map(str.rjust, row[1:], sizes[1:])]).rstrip() for row in rows
    ]
    return [lines[0], "  ".join("-" * size for size in sizes), *lines[1:]]


def _cell(value: float, interval: Interval = None) -> str:
    return _short(value) + ("" if interval is None else f" [{_short(interval[0])}, {_short(interval[1])}]")


def _short(value: float) -> str:
    text = f"{value:.4f}"
    return text.lstrip("-") if float(text) == 0 else text


def _classes(entries: list[Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in entries:
        _READER.keys("in 'classes' an object", entry, ("name", "num"))
        if not isinstance(entry["name"], str) or entry["name"] in found:
            _READER.bad("hold 'classes' with a name of their own each", repr(entry["name"]))
        found[entry["name"]] = _whole(entry, "num", 1)
    if not found:
        _READER.bad("hold a list 'classes' that is not empty", "[]")
    return found


def _number(document: Mapping[str, Any], name: str) -> float:
    if not is_number(document[name]):
        _READER.bad(f"hold a number {name!r}", repr(document[name]))
    return float(document[name])


def _temperature(document: Mapping[str, Any]) -> float:
    value = _number(document, "temperature")
    if value <= 0:
        _READER.bad("hold a number 'temperature' greater than 0", repr(value))
    return value


def _maybe(document: Mapping[str, Any], name: str) -> float | None:
    return None if document[name] is None else _number(document, name)


def _whole(document: Mapping[str, Any], name: str, least: int) -> int:
    value = document[name]
    if type(value) is not int or value < least:
        _READER.bad(f"hold a whole number {name!r} of at least {least}", repr(value))
    return int(value)


def _ends(document: Mapping[str, Any]) -> Interval:
    ends = document["interval"]
    if ends is None:
        return None
    if not is_interval(ends):
        _READER.bad("hold two numbers or null as 'interval'", repr(ends))
    return float(ends[0]), float(ends[1])
