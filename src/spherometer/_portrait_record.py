"""What the page of a set of features shows beside its measurements: the record, and its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from spherometer._strict_json import Reader, is_number, written
from spherometer._version import __version__

SCHEMA = "spherometer.portrait/1"
_READER = Reader("Portrait")
DENSITIES = ("circle", "sphere", "projection")
_Check = Callable[[str, Any], None]


# --- what a document may hold -----------------------------------------------------------------------------


def _bad(where: str, must: str, got: Any) -> NoReturn:
    _READER.bad(f"hold {must} at {where}", repr(got))


def _number(where: str, value: Any) -> None:
    if not is_number(value):
        _bad(where, "a number", value)


def _whole(where: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value < 2**63:
        _bad(where, "a whole number of at least 0", value)


def _text(where: str, value: Any) -> None:
    if not isinstance(value, str):
        _bad(where, "a text", value)


def _truth(where: str, value: Any) -> None:
    if not isinstance(value, bool):
        _bad(where, "true or false", value)


def _maybe(check: _Check) -> _Check:
    return lambda where, value: None if value is None else check(where, value)


def _many(check: _Check, num: int | None = None) -> _Check:
    def each(where: str, value: Any) -> None:
        if not isinstance(value, list) or num not in (None, len(value)):
            _bad(where, "a list" if num is None else f"a list of {num}", value)
        for index, one in enumerate(value):
            check(f"{where}[{index}]", one)

    return each


def _object(**parts: _Check) -> _Check:
    def keys(where: str, value: Any) -> None:
        if not isinstance(value, Mapping) or set(value) != set(parts):
            found = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            _bad(where, f"an object with the keys {', '.join(parts)}", found)
        for name, check in parts.items():
            check(f"{where}.{name}", value[name])

    return keys


def _mapping(where: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        _bad(where, "an object", value)


_RANGE = _many(_number, 2)
_PARTS: dict[str, _Check] = {
    "num": _whole,
    "num_total": _whole,
    "num_pairs": _whole,
    "dim": _whole,
    "lengths": _object(least=_number, median=_number, most=_number),
    "mean_length": _number,
    "distances": _object(
        edges=_many(_number),
        random=_many(_whole),
        num_random=_whole,
        every=_truth,
        positive=_maybe(_many(_whole)),
        closer=_maybe(_number),
        uniform=_many(_number),
    ),
    "spectrum": _object(
        num=_whole,
        num_directions=_whole,
        ranks=_many(_whole),
        shares=_many(_number),
        uniform=_many(_number),
        half=_whole,
        most=_whole,
        uniform_half=_whole,
        uniform_most=_whole,
    ),
    "density": _object(
        kind=_text,
        across=_many(_number),
        up=_many(_number),
        counts=_many(_many(_whole)),
        shares=_many(_number),
        uniform_radius=_maybe(_number),
        marks=_many(_object(name=_text, at=_RANGE)),
    ),
    "groups": _many(
        _object(
            name=_text,
            labels=_truth,
            num_groups=_whole,
            num_missing=_whole,
            rows=_many(
                _object(
                    name=_text,
                    num=_whole,
                    alignment=_maybe(_number),
                    uniformity=_maybe(_number),
                    shift=_number,
                )
            ),
        )
    ),
    "neighbors": _maybe(
        _object(
            num=_whole,
            k=_whole,
            num_equal=_whole,
            num_close=_whole,
            close=_number,
            duplicates=_many(_object(ids=_many(_text, 2), cosine=_number, distance=_number)),
            outliers=_many(_object(id=_text, distance=_number)),
            median=_number,
        )
    ),
    "bands": _object(uniformity=_RANGE, alignment=_maybe(_RANGE)),
    "settings": _mapping,
    "notes": _many(_text),
}  # fmt: skip


@dataclass(frozen=True)
class Portrait:
    """What a set of features looks like, as plain numbers that a page can draw.

    Attributes:
        num: rows the portrait was made from.
        num_total: rows of the whole set.
        num_pairs: positive pairs among the rows; 0 without another side.
        dim: D.
        lengths: least, median and most of the lengths that rows had before they were scaled to 1.
        mean_length: length of the mean of the unit rows: 0 for directions that cancel, 1 for one point.
        distances: counts of the distances of random pairs (all of them when ``every``) and of positive pairs
            between ``edges``; ``closer``: how often a positive pair is closer than a random one; ``uniform``:
            shares of the uniform law in D dimensions, exact.
        spectrum: shares of the variance of centred unit rows along principal directions, at some ``ranks``;
            ``uniform``: those of as many rows of the uniform law (Marchenko-Pastur); in how many directions
            half of it, and nine tenths (``most``), lie.
        density: counts of rows on a grid: by angle on the circle ("circle"), by longitude and height on the
            sphere ("sphere", cells of equal area), or in the plane of the two leading principal directions
            ("projection"), which carry ``shares`` of the variance; within ``uniform_radius`` of its middle
            lie 95 % of uniform rows; ``marks``: where the means of the largest classes are.
        groups: a table for the labels and for each column of meta-data: rows, alignment (mean over positive
            pairs), uniformity within and the distance of the mean from that of all rows, of each group.
        neighbors: nearest pairs (``duplicates``) and rows far from their ``k``-th neighbour (``outliers``);
            None for fewer than three rows.
        bands: where 95 % of sets of ``num_total`` rows (pairs) of the uniform law lie.
        settings: seed, t, alpha, and limits.
        notes: what a reader must know.
        version: the version of the package that made it.
    """

    num: int
    num_total: int
    num_pairs: int
    dim: int
    lengths: Mapping[str, float]
    mean_length: float
    distances: Mapping[str, Any]
    spectrum: Mapping[str, Any]
    density: Mapping[str, Any]
    groups: tuple[Mapping[str, Any], ...]
    neighbors: Mapping[str, Any] | None
    bands: Mapping[str, Any]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {name: getattr(self, name) for name in _PARTS}
        lists = {"groups": list(self.groups), "notes": list(self.notes)}
        return {"schema": SCHEMA, "spherometer": self.version, **found, **lists}

    def to_json(self, path: str | Path | None = None) -> str:
        """Strict JSON text; also written to ``path`` when one is given."""
        return written(self.to_dict(), path)

    @classmethod
    def from_dict(cls, document: Any) -> Portrait:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.schema(document, SCHEMA)
        _object(schema=_text, spherometer=_text, **_PARTS)("the top", document)
        _lengths(document)
        parts = {name: document[name] for name in _PARTS}
        lists = {"groups": tuple(document["groups"]), "notes": tuple(document["notes"])}
        return cls(**{**parts, **lists}, version=document["spherometer"])

    @classmethod
    def from_json(cls, text: str | bytes) -> Portrait:
        """Read what :meth:`to_json` wrote; anything else is an InputError."""
        return cls.from_dict(_READER.parsed(text))


def _lengths(document: Mapping[str, Any]) -> None:
    """Refuse lists that belong together and differ in length."""
    distances, spectrum, density = (document[name] for name in ("distances", "spectrum", "density"))
    bins = len(distances["edges"]) - 1
    for name in ("random", "positive", "uniform"):
        if distances[name] is not None and len(distances[name]) != bins:
            _bad(f"distances.{name}", f"{bins} numbers", f"{len(distances[name])} numbers")
    for name in ("shares", "uniform"):
        if len(spectrum[name]) != len(spectrum["ranks"]):
            _bad(f"spectrum.{name}", f"{len(spectrum['ranks'])} numbers", f"{len(spectrum[name])} numbers")
    if density["kind"] not in DENSITIES:
        _bad("density.kind", f"one of {', '.join(DENSITIES)}", density["kind"])
    rows, columns = max(len(density["up"]) - 1, 1), max(len(density["across"]) - 1, 1)
    if len(density["counts"]) != rows or any(len(row) != columns for row in density["counts"]):
        _bad("density.counts", f"{rows} rows of {columns} numbers", "another shape")
