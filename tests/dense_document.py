"""A document of the study of dense representations from made-up results, whose relations are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherometer.study._dense_document import dense_document
from spherometer.study._dense_grid import ABLATION, Data, DenseTask, tasks

# what each arm of the ablation scores, so that verdicts are known
ARMS = {"geometric": 0.40, "similarity": 0.37, "index": 0.30, "random": 0.25, "instance only": 0.26}


def measured(value: float, half: float = 0.01, num: int = 64) -> dict[str, Any]:
    """A measurement."""
    return {"value": value, "interval": [value - half, value + half], "num": num}


def made_up_result(task: DenseTask, rng: np.random.Generator) -> dict[str, Any]:
    """Segmentation is 0.6 - 0.2 (alignment + uniformity / 4) of cells for all but the ablation's arms."""
    chosen = task.configuration
    align, uniform = rng.uniform(0.2, 0.9), -rng.uniform(1.0, 3.5)
    arm = next((rule for rule, each in ABLATION.items() if each == chosen), None)
    value = 0.5 - 0.2 * (align + uniform / 4) if arm is None else ARMS[arm] + 0.004 * task.seed
    metrics: dict[str, Any] = dict.fromkeys(
        ("dense_alignment", "dense_uniformity", "dense_uniformity_within", "alignment", "uniformity")
    )
    if chosen.trains_cells:
        metrics |= {"dense_alignment": measured(align), "dense_uniformity": measured(uniform)}
        metrics |= {"dense_uniformity_within": measured(uniform + 0.2)}
    if chosen.trains_instances:
        metrics |= {"alignment": measured(align + 0.1), "uniformity": measured(float(rng.uniform(-3, -1)))}
    more = {"pixel_accuracy": 0.8, "per_class": {"background": 0.8}, "converged": True}
    return {
        "metrics": metrics,
        "tasks": {
            "segmentation": measured(value, 0.02) | more,
            "classification": measured(0.5 + float(rng.uniform(0, 0.2)), 0.03),
        },
        "losses": [2.0, 1.5] if chosen.trained else [],
        "heat": [],
        "message": None,
    }


def made_up_results(work: list[DenseTask], seed: int = 0) -> dict[str, Any]:
    """By key."""
    rng = np.random.default_rng(seed)
    return {task.key: made_up_result(task, rng) for task in work}


def made_up_document(data: tuple[Data, ...] = ("multi",), seeds: int = 3) -> dict[str, Any]:
    """The document of these results, of the quick study."""
    work = tasks(data, True, seeds)
    return dense_document(work, made_up_results(work), quick=True)
