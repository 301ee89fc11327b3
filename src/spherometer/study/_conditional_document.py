"""From results to the document of a study of meta-data: tables over seeds, curves, comparisons, findings.

A task has a ``key``, a ``seed`` and a ``configuration`` with ``arm``, ``bandwidth`` and ``name``. A result has
"metrics" (name -> number), "scores" (name -> {"validation": number, "test": {"value", "interval", "num"}}),
"losses" and "message" (None, or why training stopped).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from spherometer._version import __version__
from spherometer.study._conditional_story import Claim, Story
from spherometer.study._document import environment, finite
from spherometer.study._findings import in_points, judge, make_finding

SCHEMA = "spherometer.study/conditional/1"
INTERVALS = (
    "95 % intervals of Student's t over seeds (n - 1 degrees of freedom); differences are paired: seed by "
    "seed, then the interval of their mean"
)
Row = dict[str, Any]


def conditional_document(
    story: Story, tasks: Sequence[Any], results: Mapping[str, Any], *, quick: bool, encoders: set[str]
) -> dict[str, Any]:
    """The study document; ``encoders`` are the names of the files that exist."""
    trials = [_trial(task, results[task.key], encoders) for task in tasks]
    arms = [_arm(name, trials, story) for name in story.names if any(t["arm"] == name for t in trials)]
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "spherometer": __version__,
        "study": story.study,
        "title": story.title,
        "lead": list(story.lead),
        "quick": quick,
        "seeds": sorted({trial["seed"] for trial in trials}),
        "environment": environment(),
        "data": dict(story.data),
        "protocol": {**story.protocol, "intervals": INTERVALS},
        "scores": [{"name": each.name, "label": each.label, "kind": each.kind} for each in story.scores],
        "measures": dict(story.measures),
        "chosen_by": story.chosen_by,
        "bandwidth": story.bandwidth,
        "arms": arms,
        "curves": [_curve(name, trials, story) for name in story.conditioned],
        "trade": None if story.trade is None else list(story.trade),
        "trials": trials,
        "caveats": list(story.caveats),
    }
    found["findings"] = [check_claim(claim, found) for claim in story.claims]
    cleaned: dict[str, Any] = finite(found)
    return cleaned


def _trial(task: Any, result: Mapping[str, Any], encoders: set[str]) -> Row:
    file = f"{task.key}.safetensors"
    return {
        "key": task.key,
        "name": task.configuration.name,
        "arm": task.configuration.arm,
        "bandwidth": task.configuration.bandwidth,
        "seed": task.seed,
        "status": "finished" if result["message"] is None else "failed",
        "message": result["message"],
        "metrics": dict(result["metrics"]),
        "scores": dict(result["scores"]),
        "encoder": f"encoders/{file}" if file in encoders else None,
    }


def over_seeds(values: Iterable[float]) -> Row:
    """Mean over seeds with Student's t interval (None for one seed), and the values."""
    array = np.asarray(list(values), dtype=np.float64)
    mean, num = float(array.mean()), len(array)
    interval = None
    if num > 1:
        from scipy.special import stdtrit

        half = float(stdtrit(num - 1, 0.975)) * float(array.std(ddof=1)) / math.sqrt(num)
        interval = [mean - half, mean + half]
    return {"value": mean, "interval": interval, "num": num, "values": array.tolist()}


def _arm(name: str, trials: list[Row], story: Story) -> Row:
    """One arm: in every seed the encoder whose bandwidth the validation part chose."""
    own = [trial for trial in trials if trial["arm"] == name]
    chosen = []
    for seed in sorted({trial["seed"] for trial in own}):
        there = [trial for trial in own if trial["seed"] == seed and trial["status"] == "finished"]
        if there:
            chosen.append(max(there, key=lambda trial: _validation(trial, story.chosen_by)))
    return {
        "arm": name,
        "name": story.names[name],
        "conditioned": name in story.conditioned,
        "seeds": [trial["seed"] for trial in chosen],
        "bandwidths": [trial["bandwidth"] for trial in chosen] if name in story.conditioned else [],
        "num_candidates": len({trial["bandwidth"] for trial in own}),
        "num_failed": sum(trial["status"] == "failed" for trial in own),
        **_averages(chosen, story),
    }


def _validation(trial: Row, score: str) -> float:
    found = trial["scores"].get(score)
    return -math.inf if found is None else float(found["validation"])


def _averages(trials: list[Row], story: Story) -> Row:
    """Test and validation scores and metrics of some trials, one for each seed, over seeds."""
    scores, validation, metrics = {}, {}, {}
    for name in [each.name for each in story.scores]:
        there = [trial["scores"][name] for trial in trials if name in trial["scores"]]
        if there:
            scores[name] = over_seeds(each["test"]["value"] for each in there)
            validation[name] = over_seeds(each["validation"] for each in there)
    for name in story.measures:
        values = [trial["metrics"][name] for trial in trials if name in trial["metrics"]]
        if values:
            metrics[name] = over_seeds(values)
    return {"scores": scores, "validation": validation, "metrics": metrics}


def _curve(name: str, trials: list[Row], story: Story) -> Row:
    """Everything against the bandwidth: also what the validation part did not choose."""
    own = [trial for trial in trials if trial["arm"] == name and trial["status"] == "finished"]
    best = {trial["seed"]: _validation(trial, story.chosen_by) for trial in own}
    for trial in own:
        best[trial["seed"]] = max(best[trial["seed"]], _validation(trial, story.chosen_by))
    points = []
    for bandwidth in sorted({trial["bandwidth"] for trial in own}):
        there = [trial for trial in own if trial["bandwidth"] == bandwidth]
        chosen = sum(_validation(trial, story.chosen_by) == best[trial["seed"]] for trial in there)
        points.append({"bandwidth": bandwidth, "num_chosen": chosen, **_averages(there, story)})
    return {"arm": name, "name": story.names[name], "points": points}


def compare_arms(first: Row, second: Row, score: str) -> Row | None:
    """The paired difference of two arms over the seeds that both have; None when there is none."""
    one, two = (_by_seed(arm, score) for arm in (first, second))
    shared = sorted(one.keys() & two.keys())
    return over_seeds(one[seed] - two[seed] for seed in shared) if shared else None


def _by_seed(arm: Row, score: str) -> dict[int, float]:
    if score not in arm["scores"]:
        return {}
    return dict(zip(arm["seeds"], arm["scores"][score]["values"], strict=True))


def check_claim(claim: Claim, document: Mapping[str, Any]) -> dict[str, str]:
    """One finding: the claim, its verdict by rule, the numbers behind it."""
    first, second = (_strongest(names, claim.score, document) for names in (claim.first, claim.second))
    pair = None if first is None or second is None else compare_arms(first, second, claim.score)
    if first is None or second is None or pair is None:
        return make_finding(claim.text, "unclear", "One of the arms has no finished run.")
    score = next(each for each in document["scores"] if each["name"] == claim.score)
    spoken = (
        f"{first['name']}: {_shown(score, first['scores'][claim.score]['value'])}; {second['name']}: "
        f"{_shown(score, second['scores'][claim.score]['value'])}; difference {_difference(score, pair)} "
        f"({score['label']}, test part)."
    )
    if pair["interval"] is None:
        return make_finding(claim.text, "unclear", spoken + " One seed has no interval.")
    return make_finding(claim.text, _verdict(claim, pair["interval"]), spoken)


def _verdict(claim: Claim, interval: Sequence[float]) -> str:
    low, high = interval
    if claim.lower:
        return judge(-high, -low, claim.margin)
    return judge(low, high, -claim.margin)


def _strongest(names: Sequence[str], score: str, document: Mapping[str, Any]) -> Row | None:
    """Of several arms the one with the highest score on the validation part."""
    there = [arm for arm in document["arms"] if arm["arm"] in names and score in arm["scores"]]
    if not there:
        return None
    found: Row = max(there, key=lambda arm: float(arm["validation"][score]["value"]))
    return found


def _shown(score: Mapping[str, str], value: float) -> str:
    return f"{value:.1%}" if score["kind"] == "accuracy" else f"{value:.3f}"


def _difference(score: Mapping[str, str], pair: Row) -> str:
    points = score["kind"] == "accuracy"
    write = in_points if points else (lambda value: f"{value:+.3f}")
    ends = "" if pair["interval"] is None else f" [{', '.join(write(end) for end in pair['interval'])}]"
    return f"{write(pair['value'])}{' points' if points else ''}{ends} over {pair['num']} seeds"
