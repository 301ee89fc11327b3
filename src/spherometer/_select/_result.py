"""What ``select`` found: the ranked candidates, how far they can be trusted, and the JSON of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spherometer._strict_json import Reader, is_interval, is_number, written
from spherometer._version import __version__

SCHEMA = "spherometer.selection/1"
_READER = Reader("Selection", "select again")
_KEYS = (
    "schema", "spherometer", "criterion", "candidates", "scores", "quality", "chance", "relation", "warnings",
    "notes", "settings",
)  # fmt: skip
_CANDIDATE = ("name", "run", "step", "rank", "front", "score", "tied_with_best", "performance", "metrics")
_METRIC = ("value", "interval", "better", "label")
_BETTER = ("lower", "higher", None)


@dataclass(frozen=True)
class Candidate:
    """One encoder, as it was ranked.

    Attributes:
        name: of the candidate.
        run: the training it belongs to, where the name says so.
        step: where in that training it was saved (steps or epochs, as the name says).
        rank: 1 is the best; candidates with the same score share a rank; None without a score.
        front: whether no other candidate is both better aligned and more uniform.
        score: the value of the criterion, in its own units.
        tied_with_best: whether the interval of its score overlaps that of the best one.
        performance: the given result.
        metrics: key -> {"value", "interval", "better", "label"}.
    """

    name: str
    run: str | None
    step: float | None
    rank: int | None
    front: bool
    score: float | None
    tied_with_best: bool
    performance: float | None
    metrics: Mapping[str, Mapping[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: getattr(self, name) for name in _CANDIDATE[:-1]}
        return plain | {"metrics": {name: dict(each) for name, each in self.metrics.items()}}

    @classmethod
    def from_dict(cls, document: Any) -> Candidate:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.keys("every candidate", document, _CANDIDATE)
        name, run, metrics = document["name"], document["run"], document["metrics"]
        good = {
            "name": isinstance(name, str),
            "run": run is None or isinstance(run, str),
            "step": _maybe(document["step"]),
            "rank": document["rank"] is None or (type(document["rank"]) is int and document["rank"] >= 1),
            "front": isinstance(document["front"], bool),
            "score": _maybe(document["score"]),
            "tied_with_best": isinstance(document["tied_with_best"], bool),
            "performance": _maybe(document["performance"]),
            "metrics": isinstance(metrics, Mapping),
        }
        for key, usable in good.items():
            if not usable:
                _READER.bad(f"hold a usable {key!r} in every candidate", repr(document[key]))
        for key, metric in metrics.items():
            _READER.keys(f"metric {key!r}", metric, _METRIC)
            interval = metric["interval"]
            if not (
                is_number(metric["value"])
                and (interval is None or is_interval(interval))
                and metric["better"] in _BETTER
                and isinstance(metric["label"], str)
            ):
                _READER.bad(f"hold a usable metric {key!r} in every candidate", repr(dict(metric)))
        return cls(**{key: document[key] for key in _CANDIDATE})


@dataclass(frozen=True)
class Selection:
    """Candidates in their order, the best first; ``print`` for a table.

    ``selection["name"]`` is a candidate, ``selection.best`` the first one.

    Attributes:
        criterion: what they are ranked by.
        candidates: every one of them, the best first.
        scores: criterion -> its value for each of ``candidates``, in that order; None where it is undefined.
        quality: with performance: criterion -> how well it orders the candidates and what its pick loses (as
            ``selection_quality`` says it), else None.
        chance: with performance: the same for picking blindly, else None.
        relation: with performance of at least 8 candidates: ``performance_relation`` as a dictionary, else
            None.
        warnings: why this ranking may not be trusted.
        notes: what else a reader must know.
        settings: the arguments, and for each criterion its label and which end is better.
        version: the version of the package that measured.
    """

    criterion: str
    candidates: tuple[Candidate, ...]
    scores: Mapping[str, tuple[float | None, ...]]
    quality: Mapping[str, Mapping[str, Any]] | None = None
    chance: Mapping[str, Any] | None = None
    relation: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    @property
    def best(self) -> Candidate:
        """The first candidate."""
        return self.candidates[0]

    @property
    def front(self) -> tuple[Candidate, ...]:
        """Candidates that no other one beats in alignment and in uniformity."""
        return tuple(each for each in self.candidates if each.front)

    @property
    def trajectories(self) -> dict[str, tuple[Candidate, ...]]:
        """Candidates of every run that was saved more than once, in the order of their steps."""
        runs: dict[str, list[Candidate]] = {}
        for each in self.candidates:
            if each.step is not None:
                runs.setdefault(each.run or "", []).append(each)
        return {
            run: tuple(sorted(saved, key=lambda each: (each.step or 0.0, each.name)))
            for run, saved in sorted(runs.items())
            if len(saved) > 1
        }

    def __getitem__(self, name: str) -> Candidate:
        for each in self.candidates:
            if each.name == name:
                return each
        raise KeyError(name)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        quality = self.quality
        return {
            "schema": SCHEMA,
            "spherometer": self.version,
            "criterion": self.criterion,
            "candidates": [each.to_dict() for each in self.candidates],
            "scores": {name: list(values) for name, values in self.scores.items()},
            "quality": None if quality is None else {name: dict(each) for name, each in quality.items()},
            "chance": None if self.chance is None else dict(self.chance),
            "relation": None if self.relation is None else dict(self.relation),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "settings": dict(self.settings),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """Strict JSON text; also written to ``path`` when one is given."""
        return written(self.to_dict(), path)

    @classmethod
    def from_dict(cls, document: Any) -> Selection:
        """Read what :meth:`to_dict` wrote; anything else is an InputError."""
        _READER.schema(document, SCHEMA)
        _READER.keys("the result", document, _KEYS)
        for name in ("spherometer", "criterion"):
            if not isinstance(document[name], str):
                _READER.bad(f"hold a text {name!r}", repr(document[name]))
        for name in ("candidates", "warnings", "notes"):
            if not isinstance(document[name], list):
                _READER.bad(f"hold a list {name!r}", type(document[name]).__name__)
        for name in ("warnings", "notes"):
            if not all(isinstance(each, str) for each in document[name]):
                _READER.bad(f"hold texts in {name!r}", repr(document[name]))
        for name in ("quality", "chance", "relation"):
            if document[name] is not None and not isinstance(document[name], Mapping):
                _READER.bad(f"hold an object or null {name!r}", type(document[name]).__name__)
        candidates = tuple(Candidate.from_dict(each) for each in document["candidates"])
        names = {each.name for each in candidates}
        if not candidates or len(names) < len(candidates):
            found = f"{len(names)} names, {len(candidates)} candidates"
            _READER.bad("hold candidates of different names", found)
        scores, settings = document["scores"], document["settings"]
        if not isinstance(settings, Mapping) or not isinstance(scores, Mapping):
            _READER.bad("hold objects 'scores' and 'settings'", repr(scores)[:100])
        for name, values in scores.items():
            there = isinstance(values, list) and len(values) == len(candidates)
            if not there or not all(map(_maybe, values)):
                _READER.bad(f"hold a number or null for each candidate as score {name!r}", repr(values))
        if document["criterion"] not in scores:
            _READER.bad("hold the scores of its criterion", repr(document["criterion"]))
        return cls(
            criterion=document["criterion"],
            candidates=candidates,
            scores={name: tuple(values) for name, values in scores.items()},
            quality=document["quality"],
            chance=document["chance"],
            relation=document["relation"],
            warnings=tuple(document["warnings"]),
            notes=tuple(document["notes"]),
            settings=settings,
            version=document["spherometer"],
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Selection:
        """Read what :meth:`to_json` wrote; anything else is an InputError."""
        return cls.from_dict(_READER.parsed(text))

    def __str__(self) -> str:
        from spherometer._select._words import spoken

        return spoken(self)


def _maybe(value: Any) -> bool:
    return value is None or is_number(value)
