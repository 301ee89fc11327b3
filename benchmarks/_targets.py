"""What the benchmarks are asked to show, and how a result is held against it.

Asked: ratios that the project set itself. Yardsticks: what a first version in plain torch reached on a
Sapphire Rapids processor. A figure that falls short says why: where the case has a floor (its matrix
products and exponentials alone), what that floor would give; otherwise what is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Records = Mapping[str, Mapping[str, Any]]  # script -> what it wrote

_PDIST = (
    "torch.pdist is bound by plain vector instructions and ours by matrix products and exponentials, so "
    "their ratio differs between processors."
)
_PASSES = (
    "Each pass over the pairs makes products and square roots again, where the full matrix is made once and "
    "kept; several temperatures share the passes."
)


@dataclass(frozen=True)
class Target:
    """One figure that is asked for: ``numbers[case][figure]`` of a script's results."""

    words: str
    script: str
    case: str
    figure: str
    asked: float
    must: bool = True  # False: a yardstick
    why: str = ""
    most: bool = False  # True: at most, seconds


@dataclass(frozen=True)
class Least:
    """The least of all promises of a script whose names contain some words."""

    words: str
    script: str
    part: str
    asked: float = 1.0
    why: str = ""
    must: bool = True


def _uniformity() -> Iterator[Target]:
    both, one = "forward + backward", "forward"
    for num, name, asked in (
        (256, "full", 1.0),
        (4096, "pdist", 6.0),
        (4096, "full", 3.0),
        (16384, "pdist", 20.0),
        (16384, "full", 5.0),
    ):
        why = _PDIST if name == "pdist" else ""
        yield Target(
            f"uniformity, {both}, N = {num}: {_peer(name)}",
            "uniformity",
            f"{both} {num}",
            name,
            asked,
            why=why,
        )
    table = {
        one: {
            768: (5.4, 2.5, 3.5),
            4096: (6.3, 7.4, 6.1),
            16384: (10.0, 9.2, 6.3),
        },
        both: {
            256: (2.4, 1.6, 1.06),
            768: (5.5, 2.7, 1.7),
            4096: (9.0, 7.1, 3.5),
            16384: (28.0, 8.0, 6.2),
        },
    }
    for passes, sizes in table.items():
        for num, reached in sizes.items():
            for name, asked in zip(("pdist", "cdist", "full"), reached, strict=True):
                yield Target(
                    f"uniformity, {passes}, N = {num}: {_peer(name)}",
                    "uniformity",
                    f"{passes} {num}",
                    name,
                    asked,
                    must=False,
                    why=_PDIST if name == "pdist" else "",
                )


def _peer(name: str) -> str:
    return "full matrix" if name == "full" else f"torch.{name}"


TARGETS: tuple[Target | Least, ...] = (
    *_uniformity(),
    Target(
        "NT-Xent, N = 4096: full matrix and cross-entropy", "info_nce", "NT-Xent 4096", "cross_entropy", 4.0
    ),
    Target("NT-Xent, N = 4096: full matrix and log-sum-exp", "info_nce", "NT-Xent 4096", "logsumexp", 4.0),
    Target(
        "conditional uniformity, N = 4096: full matrix",
        "conditional",
        "potential 4096 forward + backward",
        "dense",
        4.0,
    ),
    Target(
        "ConditionalAlignUniformLoss, N = 4096: full matrix",
        "conditional",
        "ConditionalAlignUniformLoss 4096",
        "dense",
        4.0,
    ),
    Target("YAwareInfoNCELoss, N = 4096: full matrix", "conditional", "YAwareInfoNCELoss 4096", "dense", 4.0),
    Target(
        "relative local density, N = 4000, one temperature: full matrix",
        "local_density",
        "4000 mixture one",
        "dense",
        3.0,
        why=_PASSES,
    ),
    Target(
        "relative local density, N = 4000, five temperatures: full matrix",
        "local_density",
        "4000 mixture five",
        "dense",
        3.0,
        why=_PASSES,
    ),
    *(
        Target(
            f"uniformity, {passes}, N = {num}: share of the floor",
            "uniformity",
            f"{passes} {num}",
            "floor",
            0.65,
        )
        for num in (4096, 16384)
        for passes in ("forward", "forward + backward")
    ),
    Target("NT-Xent, N = 4096: share of the floor", "info_nce", "NT-Xent 4096", "floor", 0.65),
    Target(
        "conditional uniformity, N = 4096: share of the floor",
        "conditional",
        "potential 4096 forward + backward",
        "floor",
        0.65,
    ),
    Target("all pairs from disk, N = 16384: share of the floor", "streamed", "16384", "share 64 MiB", 0.65),
    Least(
        "memory: allowed (6 N D numbers and two tiles) / added, the least of all cases", "memory", "allowed"
    ),
    Least("two processes: 1e-12 / difference of their value from one process, float64", "processes", "1e-12"),
    Least(
        "two processes: work of the less busy / of the busier, half ring",
        "processes",
        "least work",
        0.9,
        why="Processor time of few rows is mostly exchange; the pairs themselves are shared evenly.",
    ),
    Least(
        "N = 64, 256, 512: full matrix, the least of all quantities",
        "small",
        "",
        1.0,
        why="Checks of the rows and totals in float64 cost about a tenth of a millisecond, whatever N; "
        "the table of small.py names each function.",
    ),
    Target(
        "NT-Xent, N = 512: full matrix and cross-entropy",
        "info_nce",
        "NT-Xent 512",
        "cross_entropy",
        1.3,
        False,
    ),
    Target(
        "NT-Xent, N = 4096: full matrix and cross-entropy",
        "info_nce",
        "NT-Xent 4096",
        "cross_entropy",
        6.0,
        False,
    ),
    Target(
        "NT-Xent, N = 16384: full matrix and cross-entropy",
        "info_nce",
        "NT-Xent 16384",
        "cross_entropy",
        5.5,
        False,
    ),
    Target(
        "conditional uniformity, N = 768: full matrix",
        "conditional",
        "potential 768 forward + backward",
        "dense",
        2.7,
        False,
    ),
    Target(
        "conditional uniformity, N = 4096: full matrix",
        "conditional",
        "potential 4096 forward + backward",
        "dense",
        11.0,
        False,
    ),
    Target(
        "relative local density, N = 4000: full matrix",
        "local_density",
        "4000 mixture one",
        "dense",
        5.3,
        False,
        _PASSES,
    ),
    Target("KeOps, uniformity, N = 4096", "peers", "KeOps, uniformity 4096", "theirs", 72.0, False),
    Target(
        "KeOps, uniformity with gradient, N = 4096",
        "peers",
        "KeOps, uniformity with gradient 4096",
        "theirs",
        142.0,
        False,
    ),
    Target(
        "pytorch-metric-learning, NT-Xent, N = 128",
        "peers",
        "pytorch-metric-learning, NT-Xent 128",
        "theirs",
        88.0,
        False,
        "At this size a call of ours is mostly checks and bookkeeping; the ratio grows with N.",
    ),
    Target(
        "pytorch-metric-learning, NT-Xent, N = 512",
        "peers",
        "pytorch-metric-learning, NT-Xent 512",
        "theirs",
        1850.0,
        False,
    ),
    Target(
        "65536 x 128, forward, one thread: seconds",
        "scaling",
        "uniformity, forward",
        "seconds/65536",
        5.7,
        False,
        most=True,
        why="Seconds of another processor.",
    ),
    Target(
        "65536 x 128, forward + backward, one thread: seconds",
        "scaling",
        "uniformity, forward + backward",
        "seconds/65536",
        15.7,
        False,
        most=True,
        why="Seconds of another processor.",
    ),
)


def _figure(record: Mapping[str, Any] | None, case: str, path: str) -> dict[str, float] | None:
    value: Any = (record or {}).get("numbers", {}).get(case, {})
    for part in path.split("/"):
        value = value.get(part) if isinstance(value, Mapping) else None
    return _spread(value)


def _spread(value: Any) -> dict[str, float] | None:
    if isinstance(value, Mapping) and "median" in value:
        return {name: float(value[name]) for name in ("median", "low", "high")}
    if isinstance(value, (int, float)):
        return dict.fromkeys(("median", "low", "high"), float(value))
    return None


def _least(record: Mapping[str, Any] | None, part: str, asked: float) -> tuple[dict[str, float] | None, str]:
    chosen = [one for one in (record or {}).get("promises", []) if part in one["name"]]
    found = [(_spread(one["found"]), one["name"]) for one in chosen]
    known = [(each, name) for each, name in found if each is not None]
    if not known:
        return None, ""
    least, name = min(known, key=lambda one: one[0]["median"])
    reached = sum(each["median"] >= asked for each, _ in known)
    return least, f"{reached} of {len(known)} reach it; the least is {name}."


def judged(records: Records) -> list[dict[str, Any]]:
    """Every target with what was found: words, found, asked, verdict, ceiling, why."""
    rows = []
    for target in TARGETS:
        record = records.get(target.script)
        note, ceiling = "", None
        if isinstance(target, Least):
            found, note = _least(record, target.part, target.asked)
        else:
            found = _figure(record, target.case, target.figure)
            floor = None if target.figure == "floor" else _figure(record, target.case, "floor")
            if found is not None and floor is not None and not target.most:
                ceiling = found["median"] / floor["median"]
        most = isinstance(target, Target) and target.most
        verdict = "not measured"
        if found is not None:
            good = found["median"] <= target.asked if most else found["median"] >= target.asked
            verdict = "reached" if good else "short"
        rows.append(
            {
                "words": target.words,
                "script": target.script,
                "asked": target.asked,
                "most": most,
                "must": target.must,
                "found": found,
                "verdict": verdict,
                "ceiling": ceiling,
                "why": _why(target, found, verdict, ceiling, note),
            }
        )
    return rows


def _why(
    target: Target | Least, found: dict[str, float] | None, verdict: str, ceiling: float | None, note: str
) -> str:
    if found is None:
        return ""
    said = [note] if note else []
    if verdict == "short":
        short = abs(found["median"] / target.asked - 1)
        said.insert(0, f"{100 * short:.0f} % {'above' if getattr(target, 'most', False) else 'short'}.")
        if ceiling is not None and ceiling < target.asked:
            said.append(
                f"Out of reach here: products of matrices and exponentials alone, without any other work, "
                f"would give {ceiling:.2f} on this processor."
            )
        elif ceiling is not None:
            said.append(f"Products of matrices and exponentials alone would give {ceiling:.2f}.")
        if target.why:
            said.append(target.why)
    return " ".join(said)
