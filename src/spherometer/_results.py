"""Results: a number with what is needed to read it, and a set of such numbers.

JSON is strict (no NaN) and in a fixed order, so that the same result is the same bytes.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from spherometer import _checks
from spherometer._curve import BandwidthCurve
from spherometer._density import LocalDensity
from spherometer._portrait_record import Portrait
from spherometer._strict_json import Reader, is_interval, is_number, written
from spherometer._version import __version__

SCHEMA = "spherometer.evaluation/2"
_READER = Reader("Evaluation")
_FIRST_SCHEMA = "spherometer.evaluation/1"  # still read: "metrics" was called "measurements"
Better = Literal["lower", "higher"]
_KEYS = ("value", "interval", "baseline", "num", "settings", "better", "label")


@dataclass(frozen=True)
class Measurement:
    """A value, its 95 % interval, what to compare it with, and how it was made.

    Attributes:
        name: key of the quantity, for instance "uniformity".
        value: the number.
        interval: 95 % interval (low, high); None where no honest one is known.
        baseline: reference values by label, the most telling first.
        num: number of rows (or pairs) it was computed from.
        settings: the arguments that define it, and how the interval was made.
        better: "lower", "higher", or None where neither is better by itself.
        label: what to call it in a table or a figure.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    baseline: Mapping[str, float] = field(default_factory=dict)
    num: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    better: Better | None = None
    label: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "baseline", MappingProxyType(dict(self.baseline)))
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
        object.__setattr__(self, "label", self.label or self.name)

    def __float__(self) -> float:
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        baseline, settings = dict(self.baseline), dict(self.settings)
        fields = (self.value, self.interval, baseline, self.num, settings, self.better, self.label)
        return Measurement, (self.name, *fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the name is the key it is kept under."""
        return {
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "baseline": dict(self.baseline),
            "num": self.num,
            "settings": dict(self.settings),
            "better": self.better,
            "label": self.label,
        }

    @classmethod
    def from_dict(cls, name: str, document: Any) -> Measurement:
        """Read what :meth:`to_dict` wrote; anything else is refused by name."""
        _READER.keys(f"measurement {name!r}", document, _KEYS)
        value, interval, baseline = document["value"], document["interval"], document["baseline"]
        checks = {
            "value": is_number(value),
            "interval": interval is None or is_interval(interval),
            "baseline": isinstance(baseline, Mapping) and all(map(is_number, baseline.values())),
            "num": type(document["num"]) is int and document["num"] >= 0,
            "settings": isinstance(document["settings"], Mapping),
            "better": document["better"] in ("lower", "higher", None),
            "label": isinstance(document["label"], str),
        }
        for key, good in checks.items():
            if not good:
                _READER.bad(f"hold a usable {key!r} in measurement {name!r}", repr(document[key]))
        return cls(
            name=name,
            value=float(value),
            interval=None if interval is None else (float(interval[0]), float(interval[1])),
            baseline={str(key): float(number) for key, number in baseline.items()},
            num=document["num"],
            settings=document["settings"],
            better=document["better"],
            label=document["label"],
        )


class Evaluation(Mapping[str, Measurement]):
    """Measurements of one set of features by name: ``e["uniformity"].interval``; ``print(e)`` for a table.

    Attributes:
        notes: what a reader must know, for instance how many rows were dropped.
        version: the version of the package that measured.
        bandwidth_curve: the conditional measures against the bandwidth, where they were asked for.
        local_density: how densely the classes lie, where labels were given.
        portrait: what the rows look like, where it was asked for.
        provenance: files with their checksums and what else the result depends on, for rows from files.
    """

    __slots__ = (
        "_measurements", "bandwidth_curve", "local_density", "notes", "portrait", "provenance", "version",
    )  # fmt: skip

    def __init__(
        self,
        measurements: Mapping[str, Measurement],
        *,
        notes: tuple[str, ...] = (),
        version: str = __version__,
        bandwidth_curve: BandwidthCurve | None = None,
        local_density: LocalDensity | None = None,
        portrait: Portrait | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self._measurements = dict(measurements)
        self.bandwidth_curve = bandwidth_curve
        self.local_density = local_density
        self.portrait = portrait
        self.provenance = None if provenance is None else dict(provenance)
        self.notes = tuple(notes)
        self.version = version

    def __getitem__(self, name: str) -> Measurement:
        return self._measurements[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._measurements)

    def __len__(self) -> int:
        return len(self._measurements)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Evaluation):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={measured.value:.4g}" for name, measured in self.items())
        return f"Evaluation({shown})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found: dict[str, Any] = {
            "schema": SCHEMA,
            "spherometer": self.version,
            "metrics": {name: measured.to_dict() for name, measured in self.items()},
            "notes": list(self.notes),
        }
        if self.bandwidth_curve is not None:
            found["bandwidth_curve"] = self.bandwidth_curve.to_dict()
        if self.local_density is not None:
            found["local_density"] = self.local_density.to_dict()
        if self.portrait is not None:
            found["portrait"] = self.portrait.to_dict()
        if self.provenance is not None:
            found["provenance"] = dict(self.provenance)
        return found

    def to_json(self, path: str | Path | None = None) -> str:
        """Strict JSON text; also written to ``path`` when one is given."""
        return written(self.to_dict(), path)

    @classmethod
    def from_dict(cls, document: Any) -> Evaluation:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        schema = _READER.schema(document, SCHEMA, _FIRST_SCHEMA)
        key = "metrics" if schema == SCHEMA else "measurements"
        measurements, notes = document.get(key), document.get("notes")
        if not isinstance(measurements, Mapping):
            _READER.bad(f"hold an object {key!r}", repr(measurements))
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            _READER.bad("hold a list of strings 'notes'", repr(notes))
        version = document.get("spherometer")
        if not isinstance(version, str):
            _READER.bad("hold a string 'spherometer' (the version)", repr(version))
        parts = ("bandwidth_curve", "local_density", "portrait", "provenance")
        known = ("schema", "spherometer", key, "notes", *parts)
        extra = sorted(set(document) - set(known))
        if extra:
            _READER.bad(f"hold nothing but {', '.join(known[:-1])} and {known[-1]}", str(extra))
        read = {name: Measurement.from_dict(name, each) for name, each in measurements.items()}
        curve, density, portrait, provenance = (document.get(part) for part in parts)
        if provenance is not None and not isinstance(provenance, Mapping):
            _READER.bad("hold an object 'provenance'", repr(provenance))
        return cls(
            read,
            notes=tuple(notes),
            version=version,
            bandwidth_curve=None if curve is None else BandwidthCurve.from_dict(curve),
            local_density=None if density is None else LocalDensity.from_dict(density),
            portrait=None if portrait is None else Portrait.from_dict(portrait),
            provenance=provenance,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Evaluation:
        """Read what :meth:`to_json` wrote; anything else is an InputError."""
        return cls.from_dict(_READER.parsed(text))

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row for each measurement (pandas must be installed)."""
        pandas = _checks.extra("pandas", "dev", "Evaluation.to_frame")
        rows = [
            {
                "name": name,
                "label": m.label,
                "value": m.value,
                "low": math.nan if m.interval is None else m.interval[0],
                "high": math.nan if m.interval is None else m.interval[1],
                "baseline": next(iter(m.baseline.values()), math.nan),
                "baseline_label": next(iter(m.baseline), ""),
                "num": m.num,
                "better": m.better or "",
            }
            for name, m in self.items()
        ]
        columns = ["name", "label", "value", "low", "high", "baseline", "baseline_label", "num", "better"]
        return pandas.DataFrame(rows, columns=columns).set_index("name")

    def _cells(self) -> list[tuple[str, str, str, list[str], str, str]]:
        """Label, value, interval, baselines (a line each), n and direction of each measurement."""
        return [
            (
                m.label,
                _number(m.value),
                "" if m.interval is None else f"[{_number(m.interval[0])}, {_number(m.interval[1])}]",
                [f"{_number(number)} {label}" for label, number in m.baseline.items()],
                f"{m.num}",
                m.better or "",
            )
            for m in self.values()
        ]

    def __str__(self) -> str:
        rows = [_HEADER]
        for label, value, interval, baselines, num, better in self._cells():
            first, *others = baselines or [""]
            rows.append((label, value, interval, first, num, better))
            rows += [("", "", "", other, "", "") for other in others]
        widths = [max(_width(row[column]) for row in rows) for column in range(len(_HEADER))]
        lines = ["  ".join(map(_pad, row, widths, _RIGHT)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        parts = [str(part) for part in (self.bandwidth_curve, self.local_density) if part is not None]
        return "\n".join(
            [*lines, *(f"Note: {note}" for note in self.notes), *(f"\n{part}" for part in parts)]
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _HEADER)
        body = []
        for label, value, interval, baselines, num, better in self._cells():
            escaped = "<br>".join(map(html.escape, baselines))
            plain = [f"<td>{html.escape(text)}</td>" for text in (label, value, interval)]
            tail = [f"<td>{escaped}</td>", f"<td>{num}</td>", f"<td>{better}</td>"]
            body.append("<tr>" + "".join([*plain, *tail]) + "</tr>")
        notes = "".join(f"<p>Note: {html.escape(note)}</p>" for note in self.notes)
        parts = [str(part) for part in (self.bandwidth_curve, self.local_density) if part is not None]
        more = "".join(f"<pre>{html.escape(part)}</pre>" for part in parts)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{notes}{more}"


_HEADER = ("metric", "value", "95 % interval", "compare with", "n", "better")
_RIGHT = (False, True, True, False, True, False)


def _number(value: float) -> str:
    """Four decimals, or four digits where decimals would show nothing or too much."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4f}" if abs(value) < 100 else f"{value:.2f}"
    return f"{value:.3e}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
