"""A made-up study document that follows schema spherometer.study/1, for the tests of pages and figures.

The numbers only look like a study: they are drawn from seeded noise around smooth curves, and show nothing.
"""

from __future__ import annotations

import hashlib
import math
import random
from typing import Any


def _key(name: str, seed: int) -> str:
    return hashlib.sha256(f"{name}/{seed}".encode()).hexdigest()[:16]


def _measurement(
    value: float, label: str, better: str | None, baseline: dict[str, float], half: float
) -> dict[str, Any]:
    return {
        "value": value,
        "interval": [value - half, value + half],
        "baseline": baseline,
        "num": 360,
        "settings": {"t": 2.0} if "niform" in label else {},
        "better": better,
        "label": label,
    }


def _metrics(alignment: float, uniformity: float, rank: float) -> dict[str, Any]:
    return {
        "alignment": _measurement(alignment, "Alignment", "lower", {"unrelated uniform pairs": 2.0}, 0.01),
        "uniformity": _measurement(
            uniformity, "Uniformity", "lower", {"uniform law": -3.752, "minimum for 360 points": -3.86}, 0.02
        ),
        "normalized_uniformity": _measurement(
            1 + uniformity / 3.752,
            "Normalised uniformity",
            "lower",
            {"uniform law": 0.0, "one point": 1.0},
            0.005,
        ),
        "effective_rank": _measurement(rank, "Effective rank", "higher", {"dimensions": 32.0}, 0.3),
        "rankme": _measurement(rank * 0.9, "RankMe", "higher", {"dimensions": 32.0}, 0.3),
    }


def _accuracy(value: float) -> dict[str, Any]:
    half = 1.96 * math.sqrt(max(value * (1 - value), 1e-4) / 360)
    return {
        "validation": round(value, 4),
        "test": {
            "value": round(value - 0.004, 4),
            "interval": [value - half, min(1.0, value + half)],
            "num": 360,
        },
    }


def _accuracies(value: float) -> dict[str, Any]:
    return {
        "linear_output": _accuracy(value),
        "linear_penultimate": _accuracy(min(0.985, value + 0.01)),
        "knn_output": _accuracy(max(0.1, value - 0.01)),
        "knn_penultimate": _accuracy(max(0.1, value - 0.005)),
        "few_output": _accuracy(max(0.1, value - 0.1)),
        "few_penultimate": _accuracy(max(0.1, value - 0.08)),
    }


def _trial(
    name: str,
    family: str,
    config: dict[str, Any],
    point: tuple[float, float, float, float] | None,
    accuracy: float,
) -> dict[str, Any]:
    key = _key(name, 0)
    return {
        "key": key,
        "name": name,
        "family": family,
        "config": config,
        "seed": 0,
        "status": "finished",
        "message": None,
        "metrics": {} if point is None else _metrics(*point[:3]),
        "accuracy": _accuracies(accuracy),
        "collapsed": accuracy < 0.15,
        "encoder": None if point is None else f"encoders/{key}.safetensors",
    }


def _trials(rng: random.Random) -> list[dict[str, Any]]:
    trials = []
    for align, uniform in [(0, 1), (0.25, 1), (0.5, 1), (1, 1), (2, 1), (3, 1), (1, 0.3), (1, 0.1), (1, 0)]:
        for alpha, t in [(2, 2.0), (1, 2.0)]:
            share = align / (align + uniform)
            alignment = 0.75 * (1 - share) ** 1.5 + 0.02 + rng.uniform(0, 0.01)
            uniformity = -3.75 * (1 - share**3) + rng.uniform(0, 0.08)
            good = 0.985 - 0.07 * (share - 0.55) ** 2 - 0.01 * rng.random()
            accuracy = 0.11 if share == 1 else 0.2 if share == 0 and alpha == 1 else good
            trials.append(
                _trial(
                    f"align {align} + uniform {uniform} (alpha {alpha}, t {t:g})",
                    "align_uniform",
                    {"align_weight": align, "uniform_weight": uniform, "alpha": alpha, "t": t, "dim": 32},
                    (alignment, min(-0.001, uniformity), 24 * (1 - share**2) + 1, accuracy),
                    accuracy,
                )
            )
    for temperature in [0.05, 0.1, 0.2, 0.5, 1.0, 2.5]:
        accuracy = 0.965 - 0.01 * abs(math.log(temperature / 0.3)) + 0.004 * rng.random()
        point = (
            0.42 - 0.08 * math.log(temperature),
            -3.4 + 0.35 * max(0, math.log(temperature / 0.2)),
            18.0,
            accuracy,
        )
        trials.append(
            _trial(
                f"contrastive (temperature {temperature:g})",
                "info_nce",
                {"contrastive_weight": 1.0, "temperature": temperature, "dim": 32},
                point,
                accuracy,
            )
        )
    for temperature, align in [(0.5, 1), (0.2, 0.5), (0.1, 2), (0.5, 0)]:
        accuracy = 0.972 + 0.006 * rng.random()
        trials.append(
            _trial(
                f"contrastive (temperature {temperature:g}) + align {align} + uniform 1",
                "combination",
                {
                    "contrastive_weight": 1.0,
                    "temperature": temperature,
                    "align_weight": align,
                    "uniform_weight": 1,
                },
                (0.3 + 0.1 * rng.random(), -3.45 - 0.1 * rng.random(), 20.0, accuracy),
                accuracy,
            )
        )
    trials.append(_trial("untrained encoder", "untrained", {"dim": 32}, (0.12, -0.62, 6.0, 0.931), 0.931))
    trials.append(_trial("raw pixels", "raw_pixels", {}, None, 0.955))
    failed = _trial(
        "align 1 + uniform 1 (alpha 2, t 8)", "align_uniform", {"align_weight": 1, "t": 8.0}, None, 0.1
    )
    failed |= {
        "status": "failed",
        "message": "the loss was not finite at step 12",
        "accuracy": {},
        "encoder": None,
    }
    return [*trials, failed]


def _relation(num: int, r: float, rho: float) -> dict[str, Any]:
    return {
        "num": num,
        "num_groups": num,
        "multiple_r": r,
        "adjusted_r2": r * r - 0.05,
        "rho": rho,
        "rho_spearman": rho - 0.05,
        "direction": 41.0,
        "beta_align": -0.6,
        "beta_uniform": -0.7,
        "partial_align": -0.7,
        "partial_uniform": -0.8,
        "vif": 1.4,
        "r_align": -0.2,
        "r_uniform": -0.5,
        "r_between": -0.53,
        "intervals": {"multiple_r": [r - 0.1, min(1.0, r + 0.05)], "rho": [rho - 0.1, min(1.0, rho + 0.06)]},
        "p_value": 0.0005,
        "warnings": [],
    }


def _selection(scale: float) -> dict[str, Any]:
    numbers = {
        "sum": ("Standardised sum of alignment and uniformity", 0.76, 0.007),
        "alignment": ("Alignment alone", -0.12, 0.87),
        "uniformity": ("Uniformity alone", 0.58, 0.02),
        "info_nce": ("InfoNCE loss", 0.7, 0.012),
        "rankme": ("RankMe", 0.42, 0.079),
        "chance": ("Chance (any encoder)", 0.0, 0.05),
    }
    rows = {}
    for name, (label, correlation, regret) in numbers.items():
        chance = name == "chance"
        picked = f"align 1 + uniform 1 (alpha {1 if name == 'sum' else 2}, t 2)"
        rows[name] = {
            "label": label,
            "rank_correlation": {
                "value": correlation * scale,
                "interval": None
                if chance
                else [correlation * scale - 0.15, min(1.0, correlation * scale + 0.12)],
            },
            "regret": {
                "value": regret,
                "interval": [max(0.0, regret - 0.01), regret + 0.02] if chance else None,
            },
            "picked": None if chance else _key(picked, 0),
            "picked_name": None if chance else picked,
        }
    return rows


def _circle(rng: random.Random) -> list[dict[str, Any]]:
    panels = []
    for name, spread, distance, accuracy in [
        ("Random", 0.25, 0.05, 0.2),
        ("Supervised", 0.12, 0.1, 0.85),
        ("Contrastive", 0.4, 0.25, 0.55),
    ]:
        points, labels, distances = [], [], []
        for index in range(200):
            label = index % 10
            centre = 0.9 if name == "Random" else 2 * math.pi * label / 10
            angle = centre + rng.gauss(0, spread)
            points.append([math.cos(angle), math.sin(angle)])
            labels.append(label)
            distances.append(min(2.0, abs(rng.gauss(0, distance))))
        panels.append(
            {
                "name": name,
                "points": points,
                "labels": labels,
                "distances": distances,
                "alignment": sum(d * d for d in distances) / len(distances),
                "uniformity": -0.2 if name == "Random" else -1.5,
                "accuracy": accuracy,
            }
        )
    return panels


def _trajectories() -> dict[str, Any]:
    start = {"name": "contrastive (temperature 2.5)", "alignment": 0.35, "uniformity": -2.5, "accuracy": 0.94}
    ends = {"align only": (0.0, -0.1, 0.15), "uniform only": (0.9, -3.74, 0.9), "both": (0.25, -3.5, 0.975)}
    paths = {}
    for name, (alignment, uniformity, accuracy) in ends.items():
        steps = []
        for step in range(0, 11):
            share = 1 - (1 - step / 10) ** 2
            steps.append(
                {
                    "step": step * 20,
                    "alignment": 0.35 + share * (alignment - 0.35),
                    "uniformity": -2.5 + share * (uniformity + 2.5),
                    "accuracy": 0.94 + share * (accuracy - 0.94),
                }
            )
        paths[name] = steps
    return {"start": start, "paths": paths}


def study_document() -> dict[str, Any]:
    """Return a fresh document; change it freely."""
    rng = random.Random(7)
    trials = _trials(rng)
    by_name = {trial["name"]: trial for trial in trials}
    best = []
    for role, name in [
        ("Best contrastive", "contrastive (temperature 0.2)"),
        ("Best direct align + uniform", "align 1 + uniform 1 (alpha 2, t 2)"),
        ("Best combination", "contrastive (temperature 0.5) + align 1 + uniform 1"),
        ("Untrained encoder", "untrained encoder"),
        ("Raw pixels", "raw pixels"),
    ]:
        trial = by_name[name]
        accuracy = trial["accuracy"]["linear_output"]
        best.append(
            {
                "role": role,
                "key": trial["key"],
                "name": name,
                "validation": accuracy["validation"],
                "test": accuracy["test"],
                "alignment": trial["metrics"].get("alignment"),
                "uniformity": trial["metrics"].get("uniformity"),
            }
        )
    sweep = []
    for trial in trials[:18:2]:
        config = trial["config"]
        align, uniform = config["align_weight"], config["uniform_weight"]
        sweep.append(
            {
                "ratio": align / uniform if uniform else None,
                "align_weight": align,
                "uniform_weight": uniform,
                "alignment": trial["metrics"]["alignment"]["value"],
                "exp_uniformity": math.exp(trial["metrics"]["uniformity"]["value"]),
                "accuracy": trial["accuracy"]["linear_output"]["test"]["value"],
                "key": trial["key"],
            }
        )
    refused = {
        "refused": "performance_relation: align must have at least 8 rows, as three points fit any plane. "
        "Got 6 rows. Pass more encoders."
    }
    sets = {
        "all": _relation(29, 0.93, 0.9),
        "non_collapsed": _relation(25, 0.82, 0.78),
        "without_align_uniform": _relation(11, 0.7, 0.6),
        "without_info_nce": _relation(23, 0.94, 0.92),
        "without_combination": refused,
    }
    return {
        "schema": "spherometer.study/1",
        "spherometer": "0.1.0",
        "study": "digits",
        "quick": False,
        "seeds": [0],
        "environment": {"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6", "scikit-learn": "1.9.1"},
        "data": {
            "name": "digits",
            "source": "scikit-learn load_digits (UCI optical recognition of handwritten digits, test part)",
            "num_train": 1077,
            "num_validation": 360,
            "num_test": 360,
            "num_classes": 10,
            "image_shape": [1, 8, 8],
            "chance": 0.1,
        },
        "protocol": {
            "epochs": 30,
            "batch_size": 256,
            "optimizer": "Adam",
            "learning_rate": 0.003,
            "views": "two random shifts, rotations, scalings and intensity changes of one image, and noise",
            "measured_on": "validation images",
            "few_labels": 50,
        },
        "trials": trials,
        "headline": "linear_output",
        "relation": {"linear_output": sets, "few_output": dict.fromkeys(sets, sets["all"])},
        "selection": {"all": _selection(1.0), "non_collapsed": _selection(0.9)},
        "best": best,
        "sweep": sweep,
        "trajectories": _trajectories(),
        "circle": _circle(rng),
        "baselines": {
            "expected_uniformity": -3.752,
            "minimum_uniformity": -3.86,
            "dim": 32,
            "t": 2.0,
            "collapse_accuracy": 0.15,
        },
        "findings": [
            {
                "claim": "Encoders low in alignment and in uniformity are the accurate ones.",
                "verdict": "shown",
                "evidence": "Multiple R .82 [.72, .87] over 25 encoders that did not collapse.",
            },
            {
                "claim": "Optimising the two directly is at least as good as contrastive training.",
                "verdict": "unclear",
                "evidence": "98.1 % against 96.4 % on test; the intervals overlap.",
            },
            {
                "claim": "The sum of the two picks a better encoder than RankMe.",
                "verdict": "not shown",
                "evidence": "Regret .7 points against 7.9.",
            },
        ],
    }
