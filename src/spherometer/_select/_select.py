"""Rank encoders without labels, and say how far the ranking can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from spherometer import _checks
from spherometer._checks import NanPolicy
from spherometer._relation import performance_relation
from spherometer._select._candidates import Measured, measured
from spherometer._select._criteria import CRITERIA, DEFAULTS, PLANE, front, order, ranks, score, ties
from spherometer._select._names import candidates_of, performances, run_and_step
from spherometer._select._result import Candidate, Selection
from spherometer._select._words import doubts
from spherometer._selection import chance_quality, selection_quality
from spherometer.errors import InputError, UndefinedError

TEMPERATURE = 0.2


def select(
    candidates: Any,
    *,
    performance: Any = None,
    criterion: str | None = None,
    groups: Mapping[str, str] | None = None,
    labels: Any = None,
    temperature: float = TEMPERATURE,
    t: float = 2.0,
    alpha: float = 2.0,
    nan: NanPolicy = "refuse",
    normalize: bool = True,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Selection:
    """Rank encoders by a number that needs no label: which checkpoint, which model?

    Every candidate is measured as ``measure`` does, plus the InfoNCE loss of at most 1024 of its pairs. The
    criteria: alignment and uniformity, alone and as the sum of both in units of their standard deviation over
    the candidates; the InfoNCE loss; RankMe; alpha-ReQ (distance from 1); LiDAR.

    Args:
        candidates: a mapping name -> features, or a directory of files (and directories below it), each of
            which is a candidate called by its name without its ending. Features are an array [N, D]; pairs as
            (x, y) or views [N, V, D]; a path (an .npz with x and y, or z1 and z2, holds pairs); what ``open``
            returns; an ``Evaluation`` or the .json of one; a function without arguments that returns one of
            these, called when its turn comes. All should be made of the same rows.
        performance: results by name, higher is better: a mapping, or a .csv or .tsv whose first column names
            the candidates. They do not change the ranking: they say how good every criterion would have been.
        criterion: one of "sum", "info_nce", "alignment", "uniformity", "rankme", "alpha_req", "lidar".
            None: "sum" where every candidate has alignment, else "rankme". Of our three sets of encoders
            (see the page "Choosing a model without labels") the sum ordered each better than chance; so did
            the InfoNCE loss at temperatures 0.1 and 0.2, but not at others; the rest did not.
        groups: candidate -> group, for the intervals of ``quality`` and ``relation``; candidates of one group
            are not independent. None: the run that the name tells, else each on its own.
        labels: [N] classes of the rows, for the metrics that need them.
        temperature: of the InfoNCE loss.
        t: sharpness of the Gaussian potential of uniformity.
        alpha: power of the distance in alignment.
        nan: "refuse" rows with NaN or infinity, or "drop" them.
        normalize: as for ``measure``.
        seed: of random subsets and of bootstraps.
        progress: called with (done, of, name) after each candidate.

    Returns:
        A ``Selection``; ``print`` it. ``tied_with_best`` marks candidates whose interval overlaps that of
        the best one; that is cautious, because all are measured on the same rows: ``compare`` two of them to
        know. ``warnings`` say why a ranking may not be trusted.

    Raises:
        InputError: fewer than two candidates, unknown names, what ``measure`` refuses (naming the candidate).
        UndefinedError: a criterion that fewer than two candidates have.

    Cost: that of ``measure`` for each candidate; one at a time is held in memory.

    Source: our own; the criteria are their papers' (see ``citation``).

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = torch.randn(100, 8, generator=generator)
        >>> noise = torch.randn(100, 8, generator=generator)
        >>> sizes = {"far": 2.0, "close": 0.1, "near": 0.5}
        >>> [each.name for each in select({name: (z, z + size * noise) for name, size in sizes.items()})]
        ['close', 'near', 'far']
    """
    if criterion is not None:
        _checks.one_of("select", "criterion", criterion, tuple(CRITERIA))
    _checks.positive("select", "temperature", temperature)
    _checks.whole("select", "seed", seed, at_least=0)
    given, notes = _given(candidates, performance)
    names = list(given)
    results = {} if performance is None else performances(performance, names)
    options: dict[str, Any] = {"t": t, "alpha": alpha, "nan": nan, "normalize": normalize}
    if labels is not None:
        options["labels"] = labels
    found: list[Measured] = []
    for name, value in given.items():
        try:
            found.append(measured(name, value, options=options, temperature=float(temperature), seed=seed))
        except InputError as error:
            raise type(error)(f"{error} Candidate: {name!r:.200}.") from error
        notes += [f"{name}: {note}" for note in found[-1].notes]
        if progress is not None:
            progress(len(found), len(names), name)
    apart = _dims_differ(found)
    metrics = [each.metrics for each in found]
    scored = {key: score(key, metrics) for key in CRITERIA}
    chosen = criterion or _default({key: values for key, (values, _) in scored.items()})
    values, intervals = scored[chosen]
    if sum(value is not None for value in values) < 2:
        _checks.refuse(
            UndefinedError, "select", "criterion", "be one that at least two candidates have",
            "there is nothing to rank otherwise", f"{chosen!r}",
            "Give positive pairs, or another criterion",
        )  # fmt: skip
    lower = CRITERIA[chosen].lower
    rank, tied, best = ranks(values, lower), ties(values, intervals, lower), front(metrics)
    parsed = [run_and_step(name) for name in names]
    rows = [
        Candidate(
            name=name, run=parsed[k][0], step=parsed[k][1], rank=rank[k], front=best[k], score=values[k],
            tied_with_best=tied[k], performance=results.get(name), metrics=metrics[k],
        )
        for k, name in enumerate(names)
    ]  # fmt: skip
    places = order(values, lower)
    scores = {key: tuple(one[place] for place in places) for key, (one, _) in scored.items()}
    ordered = tuple(rows[place] for place in places)
    group_of = _groups(ordered, groups)
    quality, chance, relation, more = _judged(ordered, scores, group_of, seed)
    return Selection(
        criterion=chosen,
        candidates=ordered,
        scores=scores,
        quality=quality,
        chance=chance,
        relation=relation,
        warnings=tuple(doubts(chosen, ordered, found, apart, quality, chance, relation)),
        notes=tuple(notes + more),
        settings={
            "t": t, "alpha": alpha, "temperature": float(temperature), "nan": nan, "normalize": normalize,
            "seed": seed, "uniformity": PLANE[1],
            "criteria": {
                key: {"label": one.label, "lower_is_better": one.lower} for key, one in CRITERIA.items()
            },
        },
    )  # fmt: skip


def _given(candidates: Any, performance: Any) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    if isinstance(candidates, (str, PathLike)):
        if not Path(candidates).is_dir():
            _checks.refuse(
                InputError, "select", "candidates", "be a directory, or a mapping name -> features",
                "several candidates are compared", f"the path {str(candidates)!r}",
                "Put one file for each encoder into a directory",
            )  # fmt: skip
        candidates, notes = candidates_of(Path(candidates), performance)
    if not isinstance(candidates, Mapping):
        _checks.refuse(
            InputError, "select", "candidates", "be a directory, or a mapping name -> features",
            "every candidate needs a name", type(candidates).__name__, "Pass for instance {'a': x, 'b': z}",
        )  # fmt: skip
    if not all(isinstance(name, str) for name in candidates):
        _checks.refuse(
            InputError, "select", "candidates", "be called by texts", "names go into the table",
            repr(next(name for name in candidates if not isinstance(name, str)))[:80], "Pass str(name)",
        )  # fmt: skip
    if len(candidates) < 2:
        _checks.refuse(
            InputError, "select", "candidates", "be at least two", "one alone needs no choice",
            f"{len(candidates)}", "Measure a single one with spherometer.measure",
        )  # fmt: skip
    return dict(candidates), notes


def _dims_differ(found: Sequence[Measured]) -> bool:
    """From the dimensions, or where one is unknown (an evaluation) from the value of the uniform law."""
    if all(each.dim is not None for each in found):
        return len({each.dim for each in found}) > 1
    return len({each.uniform_law for each in found}) > 1


def _default(scores: Mapping[str, Sequence[float | None]]) -> str:
    return next((key for key in DEFAULTS if all(value is not None for value in scores[key])), DEFAULTS[-1])


def _groups(ordered: Sequence[Candidate], groups: Mapping[str, str] | None) -> list[str]:
    if groups is not None:
        names = [each.name for each in ordered]
        if not isinstance(groups, Mapping) or set(groups) != set(names):
            _checks.refuse(
                InputError, "select", "groups", "be a mapping that names every candidate once",
                "each belongs to one group", repr(groups)[:120], "Pass {name: group}",
            )  # fmt: skip
        return [str(groups[name]) for name in names]
    return [each.name if each.step is None else f"run {each.run}" for each in ordered]


def _judged(
    ordered: Sequence[Candidate],
    scores: Mapping[str, Sequence[float | None]],
    groups: Sequence[str],
    seed: int,
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, dict[str, Any] | None, list[str]]:
    """With performance: quality of each criterion, of chance, and the relation; why one is missing."""
    notes: list[str] = []
    known = [place for place, each in enumerate(ordered) if each.performance is not None]
    if not known:
        return None, None, None, notes
    if len(known) < len(ordered):
        notes.append(f"{len(ordered) - len(known)} candidates without a performance are ranked, not judged.")

    def of(places: Sequence[int]) -> dict[str, Any]:
        return {
            "performance": [ordered[place].performance for place in places],
            "groups": [groups[place] for place in places],
            "seed": seed,
        }

    quality: dict[str, Any] = {}
    for key, values in scores.items():
        places = [place for place in known if values[place] is not None]
        try:
            one = selection_quality(
                [values[place] for place in places], lower_is_better=CRITERIA[key].lower, **of(places)
            ).to_dict()
        except UndefinedError as error:
            if places:
                notes.append(f"{CRITERIA[key].label}: not judged ({error})")
            continue
        picked = one["picked"]
        quality[key] = one | {"picked": None if picked is None else ordered[places[picked]].name}
    try:
        chance = chance_quality(**of(known)).to_dict()
    except UndefinedError as error:
        return None, None, None, [*notes, f"No criterion was judged: {error}"]
    return quality, chance, _relation(ordered, known, of, notes), notes


def _relation(
    ordered: Sequence[Candidate],
    known: Sequence[int],
    of: Callable[[Sequence[int]], dict[str, Any]],
    notes: list[str],
) -> dict[str, Any] | None:
    places = [place for place in known if all(name in ordered[place].metrics for name in PLANE)]
    if not places:
        return None
    align, uniform = ([ordered[place].metrics[name]["value"] for place in places] for name in PLANE)
    try:
        return performance_relation(align, uniform, **of(places)).to_dict()
    except UndefinedError as error:
        notes.append(f"No relation to alignment and uniformity: {error}")
        return None
