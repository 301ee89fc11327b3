"""Tables of a study: relations, selections without labels, the best of each kind, the weight sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spherometer._relation import performance_relation
from spherometer._selection import chance_quality, selection_quality, standardized_sum
from spherometer.errors import UndefinedError
from spherometer.study._encoders import HEADLINE
from spherometer.study._grid import sweep_ratio

FAMILIES = ("align_uniform", "info_nce", "combination")
ROLES = (
    ("Best contrastive", "info_nce"),
    ("Best direct align + uniform", "align_uniform"),
    ("Best combination", "combination"),
    ("Untrained encoder", "untrained"),
    ("Raw pixels", "raw_pixels"),
)
Trial = dict[str, Any]


def _test(trial: Trial, name: str = HEADLINE) -> float:
    return float(trial["accuracy"][name]["test"]["value"])


def _metric(trial: Trial, name: str) -> float:
    return float(trial["metrics"][name]["value"])


def relation(trials: list[Trial], name: str) -> dict[str, Any]:
    """Relation over some encoders, or why there is none."""
    try:
        return performance_relation(
            [_metric(trial, "alignment") for trial in trials],
            [_metric(trial, "uniformity") for trial in trials],
            [_test(trial, name) for trial in trials],
            groups=[trial["name"] for trial in trials],
        ).to_dict()
    except UndefinedError as error:
        return {"refused": str(error)}


def sets(trained: list[Trial]) -> dict[str, list[Trial]]:
    """The encoders that relation and selection look at.

    Runs with alignment or uniformity as their only term lie at the ends of the plane and are bad: they alone
    could make a relation, so it is also shown without them, whether they collapsed altogether or not.
    """
    return {
        "all": trained,
        "non_collapsed": [trial for trial in trained if not trial["collapsed"]],
        "without_single_terms": [trial for trial in trained if not _is_single_term(trial)],
    }


def _is_single_term(trial: Trial) -> bool:
    config = trial["config"]
    has_both = bool(config["align_weight"]) and bool(config["uniform_weight"])
    return trial["family"] == "align_uniform" and not has_both


def relations(trained: list[Trial], name: str) -> dict[str, Any]:
    """Relation of alignment and uniformity to one accuracy, over all encoders and over parts of them."""
    parts = sets(trained)
    for family in FAMILIES:
        parts[f"without_{family}"] = [trial for trial in trained if trial["family"] != family]
    return {which: relation(trials, name) for which, trials in parts.items()}


def selection(
    trials: list[Trial], temperature: float, *, headline: str = HEADLINE, noun: str = "images"
) -> dict[str, Any]:
    """How well each criterion that needs no label chooses; empty where nothing can be ordered.

    ``temperature`` is that of the InfoNCE loss that is one of the criteria.
    """
    if len(trials) < 3:
        return {}
    performance = [_test(trial, headline) for trial in trials]
    groups = [trial["name"] for trial in trials]
    alignment = [_metric(trial, "alignment") for trial in trials]
    uniformity = [_metric(trial, "uniformity") for trial in trials]
    try:
        total = standardized_sum(alignment, uniformity)
    except UndefinedError:
        return {}
    what = "validation views" if noun == "images" else "test pairs"
    criteria: dict[str, tuple[str, list[float], bool]] = {
        "sum": ("Standardised alignment + uniformity", total, True),
        "alignment": ("Alignment alone", alignment, True),
        "uniformity": ("Uniformity alone", uniformity, True),
        "info_nce": (
            f"InfoNCE on {what} (temperature {temperature:g})",
            [trial["info_nce"] for trial in trials],
            True,
        ),
        "rankme": ("RankMe", [_metric(trial, "rankme") for trial in trials], False),
        "alpha_req": ("alpha-ReQ (distance from 1)", _or_worst(trials, "alpha_req", 1.0), True),
        "lidar": (f"LiDAR ({_lidar_views(trials)} views)", _or_worst(trials, "lidar"), False),
    }
    found: dict[str, Any] = {}
    for name, (label, score, lower) in criteria.items():
        try:
            quality = selection_quality(score, performance, groups=groups, lower_is_better=lower).to_dict()
        except UndefinedError:
            continue
        picked = trials[quality["picked"]]
        found[name] = _choice(label, quality, picked["key"], picked["name"])
    try:
        found["chance"] = _choice("Chance", chance_quality(performance, groups=groups).to_dict(), None, None)
    except UndefinedError:
        return {}
    return found


def _or_worst(trials: list[Trial], name: str, target: float | None = None) -> list[float]:
    """A metric, or its distance from ``target``; undefined (one point): worse than all the others."""
    there = [_metric(trial, name) if name in trial["metrics"] else None for trial in trials]
    scores = [value if value is None or target is None else abs(value - target) for value in there]
    known = [score for score in scores if score is not None]
    if not known:
        return [0.0] * len(trials)
    worst = max(known) + 1 if target is not None else min(known) - 1
    return [worst if score is None else score for score in scores]


def _lidar_views(trials: list[Trial]) -> int:
    known = [
        trial["metrics"]["lidar"]["settings"]["views"] for trial in trials if "lidar" in trial["metrics"]
    ]
    return int(known[0]) if known else 0


def _choice(label: str, quality: dict[str, Any], key: str | None, name: str | None) -> dict[str, Any]:
    kept = {part: quality[part] for part in ("rank_correlation", "regret", "num_tied")}
    return {"label": label, **kept, "picked": key, "picked_name": name}


def best(
    trials: list[Trial], *, headline: str = HEADLINE, roles: Sequence[tuple[str, str]] = ROLES
) -> list[dict[str, Any]]:
    """The encoder of each kind with the best validation accuracy, and what it reaches on the test part."""
    rows = []
    for role, family in roles:
        candidates = [each for each in trials if each["family"] == family and each["status"] == "finished"]
        if not candidates:
            continue
        best = max(candidates, key=lambda trial: trial["accuracy"][headline]["validation"])
        accuracy = best["accuracy"][headline]
        rows.append(
            {
                "role": role,
                "key": best["key"],
                "name": best["name"],
                "num_candidates": len(candidates),
                "validation": accuracy["validation"],
                "test": accuracy["test"],
                "alignment": best["metrics"].get("alignment"),
                "uniformity": best["metrics"].get("uniformity"),
            }
        )
    return rows


def sweep(tasks: Sequence[Any], trained: list[Trial], *, headline: str = HEADLINE) -> list[dict[str, Any]]:
    """Means over seeds; the ratio of align only is None (infinite) and comes last."""
    by_key = {trial["key"]: trial for trial in trained}
    points: dict[tuple[float, float], list[Trial]] = {}
    for task in tasks:
        configuration = task.configuration
        if configuration is None or task.key not in by_key or not sweep_ratio(configuration):
            continue
        weights = (configuration.align_weight, configuration.uniform_weight)
        points.setdefault(weights, []).append(by_key[task.key])

    def ratio(weights: tuple[float, float]) -> float:
        return weights[0] / weights[1] if weights[1] else math.inf

    return [
        {
            "ratio": ratio(weights) if weights[1] else None,
            "align_weight": weights[0],
            "uniform_weight": weights[1],
            "alignment": float(np.mean([_metric(trial, "alignment") for trial in points[weights]])),
            "exp_uniformity": float(
                np.mean([math.exp(_metric(trial, "uniformity")) for trial in points[weights]])
            ),
            "accuracy": float(np.mean([_test(trial, headline) for trial in points[weights]])),
            "key": points[weights][0]["key"],
        }
        for weights in sorted(points, key=ratio)
    ]
