"""A curve against the bandwidth of a kernel: the results, their table and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spherometer._strict_json import Reader, is_interval, is_number, written
from spherometer._version import __version__

SCHEMA = "spherometer.bandwidth_curve/1"
_READER = Reader("BandwidthCurve")
Interval = tuple[float, float] | None
_KEYS = (
    "schema", "spherometer", "kernel", "definition", "num", "settings", "points", "unconditional",
    "infinite", "notes",
)  # fmt: skip
_POINT = (
    "factor", "bandwidths", "neighbors", "alignment", "alignment_interval", "uniformity",
    "uniformity_interval",
)  # fmt: skip
_HEADER = ("bandwidth", "similar samples", "conditional alignment", "conditional uniformity")


@dataclass(frozen=True)
class BandwidthPoint:
    """Both quantities at one bandwidth.

    Attributes:
        factor: by which the kernel's own bandwidths are multiplied.
        bandwidths: the products, by column ("metadata" for a kernel without names).
        neighbors: how many other samples count as similar, sum_j w_ij, on average over samples.
        alignment: conditional alignment; None without a second side.
        alignment_interval: its 95 % interval, or None.
        uniformity: conditional uniformity; None where it is undefined.
        uniformity_interval: its 95 % interval, or None.
    """

    factor: float
    bandwidths: Mapping[str, float]
    neighbors: float
    alignment: float | None = None
    alignment_interval: Interval = None
    uniformity: float | None = None
    uniformity_interval: Interval = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {name: getattr(self, name) for name in _POINT}
        for name in ("alignment_interval", "uniformity_interval"):
            found[name] = None if found[name] is None else list(found[name])
        return {**found, "bandwidths": dict(self.bandwidths)}

    @classmethod
    def from_dict(cls, document: Any) -> BandwidthPoint:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.keys("in points an object", document, _POINT)
        widths = document["bandwidths"]
        if not isinstance(widths, Mapping) or not widths or not all(map(is_number, widths.values())):
            _READER.bad("hold 'bandwidths', an object of numbers, in every point", repr(widths))
        for name in ("factor", "neighbors"):
            if not is_number(document[name]):
                _READER.bad(f"hold a number {name!r} in every point", repr(document[name]))
        return cls(
            factor=float(document["factor"]),
            bandwidths={str(name): float(width) for name, width in widths.items()},
            neighbors=float(document["neighbors"]),
            alignment=_maybe_number("'alignment' in every point", document["alignment"]),
            alignment_interval=_ends(document, "alignment_interval"),
            uniformity=_maybe_number("'uniformity' in every point", document["uniformity"]),
            uniformity_interval=_ends(document, "uniformity_interval"),
        )


@dataclass(frozen=True)
class BandwidthCurve:
    """Conditional alignment and conditional uniformity against the bandwidth; ``print`` for a table.

    Attributes:
        points: one for each factor, from the smallest to the largest.
        kernel: the kernel of factor 1, in words; ``definition``: the same as plain values.
        unconditional: plain "alignment" (None without a second side) and "uniformity": what a small bandwidth
            gives where all samples differ.
        infinite: both for an ever larger bandwidth (None where there is no such limit).
        num: number of rows.
        settings: alpha, t, form, threshold, normalize.
        notes: what a reader must know.
        version: the version of the package that measured.
    """

    points: tuple[BandwidthPoint, ...]
    kernel: str
    definition: Mapping[str, Any]
    unconditional: Mapping[str, float | None]
    infinite: Mapping[str, float | None]
    num: int
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    version: str = __version__

    @property
    def columns(self) -> list[str]:
        """Columns that have a bandwidth."""
        return list(self.points[0].bandwidths)

    def rows(self) -> list[dict[str, float | None]]:
        """One flat row for each point: for tables and data frames.

        Columns: factor, "bandwidth" (or "bandwidth of NAME" for several columns), neighbors,
        conditional_alignment, _low, _high, conditional_uniformity, _low, _high.
        """
        found: list[dict[str, float | None]] = []
        for point in self.points:
            row: dict[str, float | None] = {"factor": point.factor}
            for name, width in point.bandwidths.items():
                row["bandwidth" if len(point.bandwidths) == 1 else f"bandwidth of {name}"] = width
            row["neighbors"] = point.neighbors
            for name, value, ends in (
                ("conditional_alignment", point.alignment, point.alignment_interval),
                ("conditional_uniformity", point.uniformity, point.uniformity_interval),
            ):
                low, high = (None, None) if ends is None else ends
                row |= {name: value, f"{name}_low": low, f"{name}_high": high}
            found.append(row)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema": SCHEMA,
            "spherometer": self.version,
            "kernel": self.kernel,
            "definition": dict(self.definition),
            "num": self.num,
            "settings": dict(self.settings),
            "points": [point.to_dict() for point in self.points],
            "unconditional": dict(self.unconditional),
            "infinite": dict(self.infinite),
            "notes": list(self.notes),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """Strict JSON text; also written to ``path`` when one is given."""
        return written(self.to_dict(), path)

    @classmethod
    def from_dict(cls, document: Any) -> BandwidthCurve:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.schema(document, SCHEMA)
        _READER.keys("in the curve an object", document, _KEYS)
        points, notes = document["points"], document["notes"]
        if not isinstance(points, list) or not points:
            _READER.bad("hold a list 'points' that is not empty", repr(points))
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            _READER.bad("hold a list of strings 'notes'", repr(notes))
        for name in ("spherometer", "kernel"):
            if not isinstance(document[name], str):
                _READER.bad(f"hold a string {name!r}", repr(document[name]))
        if type(document["num"]) is not int or document["num"] < 0:
            _READER.bad("hold a whole number 'num'", repr(document["num"]))
        for name in ("definition", "settings"):
            if not isinstance(document[name], Mapping):
                _READER.bad(f"hold an object {name!r}", repr(document[name]))
        for name in ("unconditional", "infinite"):
            _READER.keys(f"in {name!r} an object", document[name], ("alignment", "uniformity"))
            for key, value in document[name].items():
                _maybe_number(f"{key!r} in {name!r}", value)
        read = tuple(BandwidthPoint.from_dict(point) for point in points)
        if any(list(point.bandwidths) != list(read[0].bandwidths) for point in read):
            _READER.bad("name the same 'bandwidths' in every point", "different ones")
        return cls(
            points=read,
            kernel=document["kernel"],
            definition=document["definition"],
            unconditional=document["unconditional"],
            infinite=document["infinite"],
            num=document["num"],
            settings=document["settings"],
            notes=tuple(notes),
            version=document["spherometer"],
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> BandwidthCurve:
        """Read what :meth:`to_json` wrote; anything else is an InputError."""
        return cls.from_dict(_READER.parsed(text))

    def __str__(self) -> str:
        rows = [_HEADER, ("no kernel", "", *self._reference(self.unconditional))]
        for point in self.points:
            widths = ", ".join(f"{width:.4g}" for width in point.bandwidths.values())
            rows.append(
                (
                    widths + (" (the kernel's)" if point.factor == 1 else ""),
                    f"{point.neighbors:.1f}",
                    _cell(point.alignment, point.alignment_interval),
                    _cell(point.uniformity, point.uniformity_interval),
                )
            )
        rows.append(("infinite", "", *self._reference(self.infinite)))
        sizes = [max(len(row[k]) for row in rows) for k in range(len(_HEADER))]
        lines = [
            "  ".join([row[0].ljust(sizes[0]), *map(str.rjust, row[1:], sizes[1:])]).rstrip() for row in rows
        ]
        lines.insert(1, "  ".join("-" * size for size in sizes))
        head = f"Against the bandwidth of {', '.join(self.columns)}. Kernel: {self.kernel}. n = {self.num}"
        return "\n".join([head, *lines, *(f"Note: {note}" for note in self.notes)])

    def _reference(self, values: Mapping[str, float | None]) -> tuple[str, str]:
        return _cell(values["alignment"]), _cell(values["uniformity"])


def _cell(value: float | None, interval: Interval = None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" + ("" if interval is None else f" [{interval[0]:.4f}, {interval[1]:.4f}]")


def _ends(document: Mapping[str, Any], name: str) -> Interval:
    ends = document[name]
    if ends is None:
        return None
    if not is_interval(ends):
        _READER.bad(f"hold two numbers or null as {name!r} in every point", repr(ends))
    return float(ends[0]), float(ends[1])


def _maybe_number(what: str, value: Any) -> float | None:
    if value is not None and not is_number(value):
        _READER.bad(f"hold a number or null as {what}", repr(value))
    return None if value is None else float(value)
