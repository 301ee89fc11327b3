"""What ``compare`` found: two evaluations, their differences with verdicts, drift, and the JSON of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spherometer._results import Evaluation
from spherometer._strict_json import Reader, is_interval, is_number, written
from spherometer._version import __version__

SCHEMA = "spherometer.comparison/1"
_READER = Reader("Comparison", "compare again")
_KEYS = (
    "schema", "spherometer", "names", "paired", "num", "num_shared", "dims", "metrics", "overall", "drift",
    "evaluations", "notes", "settings",
)  # fmt: skip
_METRIC = (
    "label", "better", "values", "intervals", "difference", "interval", "p_value", "p_holm", "verdict",
    "normalized", "method",
)  # fmt: skip
_VERDICTS = ("better", "worse", "not distinguishable")
_DRIFT = ("mmd", "dimensions", "num_shifted", "classes", "neighbor_overlap", "cka")


@dataclass(frozen=True)
class Compared:
    """One metric of both sets; the verdict is of b against a.

    Attributes:
        label: what to call it.
        better: "lower", "higher", or None where neither is better by itself.
        values: of a and of b.
        intervals: of each value.
        difference: b minus a.
        interval: 95 % interval of the difference; None where none is known.
        p_value: two-sided, of this metric alone.
        p_holm: the same after Holm's correction for the metrics that are tested.
        verdict: "better", "worse" or "not distinguishable" (p_holm against 0.05); None without a test.
        normalized: whether values of different dimensions can be compared.
        method: how the interval was made.
    """

    label: str
    better: str | None
    values: tuple[float, float]
    intervals: tuple[tuple[float, float] | None, tuple[float, float] | None]
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    p_holm: float | None
    verdict: str | None
    normalized: bool
    method: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **{name: getattr(self, name) for name in _METRIC},
            "values": list(self.values),
            "intervals": [None if one is None else list(one) for one in self.intervals],
            "interval": None if self.interval is None else list(self.interval),
        }

    @classmethod
    def from_dict(cls, name: str, document: Any) -> Compared:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.keys(f"metric {name!r}", document, _METRIC)
        values, intervals, interval = (document[key] for key in ("values", "intervals", "interval"))
        good = {
            "label": isinstance(document["label"], str),
            "better": document["better"] in ("lower", "higher", None),
            "values": is_interval(values),
            "intervals": isinstance(intervals, list)
            and len(intervals) == 2
            and all(map(_maybe_two, intervals)),
            "difference": is_number(document["difference"]),
            "interval": _maybe_two(interval),
            "p_value": document["p_value"] is None or is_number(document["p_value"]),
            "p_holm": document["p_holm"] is None or is_number(document["p_holm"]),
            "verdict": document["verdict"] is None or document["verdict"] in _VERDICTS,
            "normalized": isinstance(document["normalized"], bool),
            "method": isinstance(document["method"], str),
        }
        for key, usable in good.items():
            if not usable:
                _READER.bad(f"hold a usable {key!r} in metric {name!r}", repr(document[key]))
        plain = {
            **{key: document[key] for key in _METRIC},
            "values": tuple(values),
            "intervals": tuple(None if one is None else tuple(one) for one in intervals),
            "interval": None if interval is None else tuple(interval),
        }
        return cls(**plain)


@dataclass(frozen=True)
class Comparison:
    """Two sets of features, compared; ``print`` for a table. ``comparison["uniformity"]`` is one metric.

    Attributes:
        names: of a and of b; every verdict is of b against a.
        paired: whether rows of a and b are the same samples.
        num: rows of each.
        num_shared: samples that both have; None where rows do not correspond.
        dims: dimensions of each.
        metrics: key -> ``Compared``.
        verdict: on the plane of alignment and uniformity: "better", "worse", "mixed" or
            "not distinguishable".
        words: the same as a sentence.
        drift: whether the two sets come from the same law, and where not; None where it was not asked.
        evaluations: of a and of b.
        notes: what a reader must know.
        settings: the arguments.
        version: the version of the package that compared.
    """

    names: tuple[str, str]
    paired: bool
    num: tuple[int, int]
    num_shared: int | None
    dims: tuple[int, int]
    metrics: Mapping[str, Compared]
    verdict: str
    words: str
    drift: Mapping[str, Any] | None
    evaluations: tuple[Evaluation, Evaluation]
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    def __getitem__(self, name: str) -> Compared:
        return self.metrics[name]

    def __contains__(self, name: object) -> bool:
        return name in self.metrics

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema": SCHEMA,
            "spherometer": self.version,
            "names": list(self.names),
            "paired": self.paired,
            "num": list(self.num),
            "num_shared": self.num_shared,
            "dims": list(self.dims),
            "metrics": {name: one.to_dict() for name, one in self.metrics.items()},
            "overall": {"verdict": self.verdict, "words": self.words},
            "drift": None if self.drift is None else dict(self.drift),
            "evaluations": [one.to_dict() for one in self.evaluations],
            "notes": list(self.notes),
            "settings": dict(self.settings),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """Strict JSON text; also written to ``path`` when one is given."""
        return written(self.to_dict(), path)

    @classmethod
    def from_dict(cls, document: Any) -> Comparison:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.schema(document, SCHEMA)
        _READER.keys("the result", document, _KEYS)
        overall, drift, shared = (document[key] for key in ("overall", "drift", "num_shared"))
        counts = all(_counts(document[key]) for key in ("num", "dims"))
        good = {
            "spherometer": isinstance(document["spherometer"], str),
            "names": _texts(document["names"]) and len(document["names"]) == 2,
            "paired": isinstance(document["paired"], bool),
            "num": counts,
            "num_shared": shared is None or type(shared) is int,
            "metrics": isinstance(document["metrics"], Mapping),
            "overall": isinstance(overall, Mapping)
            and set(overall) == {"verdict", "words"}
            and overall["verdict"] in (*_VERDICTS, "mixed")
            and isinstance(overall["words"], str),
            "drift": drift is None or (isinstance(drift, Mapping) and set(drift) == set(_DRIFT)),
            "evaluations": isinstance(document["evaluations"], list) and len(document["evaluations"]) == 2,
            "notes": _texts(document["notes"]),
            "settings": isinstance(document["settings"], Mapping),
        }
        for key, usable in good.items():
            if not usable:
                _READER.bad(f"hold a usable {key!r}", repr(document[key]))
        one, two = (Evaluation.from_dict(each) for each in document["evaluations"])
        return cls(
            names=(document["names"][0], document["names"][1]),
            paired=document["paired"],
            num=(document["num"][0], document["num"][1]),
            num_shared=shared,
            dims=(document["dims"][0], document["dims"][1]),
            metrics={name: Compared.from_dict(name, each) for name, each in document["metrics"].items()},
            verdict=overall["verdict"],
            words=overall["words"],
            drift=drift,
            evaluations=(one, two),
            notes=tuple(document["notes"]),
            settings=document["settings"],
            version=document["spherometer"],
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Comparison:
        """Read what :meth:`to_json` wrote; anything else is an InputError."""
        return cls.from_dict(_READER.parsed(text))

    def __str__(self) -> str:
        from spherometer._compare._words import spoken

        return spoken(self)


def _maybe_two(value: Any) -> bool:
    return value is None or is_interval(value)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(one) is int and one > 0 for one in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
