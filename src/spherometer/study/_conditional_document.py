"""From results to the document of a study of meta-data: tables over seeds, curves, comparisons, findings.

A task has a ``key``, a ``seed`` and a ``configuration`` with ``arm``, ``bandwidth`` and ``name``. A result
has "metrics" (name -> number), "scores" (name -> {"validation": number, "test": {"value", "interval",
"num"}}), "losses" and "message" (None, or why training stopped).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from spherometer._version import __version__
from spherometer.study._conditional_findings import conditional_findings, over_seeds
from spherometer.study._conditional_story import Story
from spherometer.study._document import environment, finite

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
        "measures": [{"name": name, "label": label} for name, label in story.measures.items()],
        "chosen_by": story.chosen_by,
        "bandwidth": story.bandwidth,
        "arms": arms,
        "curves": [_curve(arm, trials, story) for arm in arms if arm["conditioned"]],
        "trade": None if story.trade is None else list(story.trade),
        "trials": trials,
        "caveats": list(story.caveats),
    }
    found["findings"] = conditional_findings(story, found)
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


def _curve(arm: Row, trials: list[Row], story: Story) -> Row:
    """Everything against the bandwidth: also what the validation part did not choose."""
    own = [trial for trial in trials if trial["arm"] == arm["arm"] and trial["status"] == "finished"]
    points = []
    for bandwidth in sorted({trial["bandwidth"] for trial in own}):
        there = [trial for trial in own if trial["bandwidth"] == bandwidth]
        points.append(
            {
                "bandwidth": bandwidth,
                "seeds": [trial["seed"] for trial in there],
                "num_chosen": arm["bandwidths"].count(bandwidth),
                **_averages(there, story),
            }
        )
    return {"arm": arm["arm"], "name": arm["name"], "points": points}
