"""A document of the study of local density whose results are made up, for the tests of document and page.

The numbers only look like a study: smooth curves with a little seeded noise, which show nothing.
"""

from __future__ import annotations

import random
from typing import Any

from spherometer.study._density_data import load_sample
from spherometer.study._density_document import density_document
from spherometer.study._density_grid import DensityTask, tasks

# at the end: density at temperature 1, at .1; Calinski-Harabasz; share between classes; purity at 100;
# contrastive loss; accuracy of linear, nearest neighbours, graph; the same with few labels
_ENDS = {
    "supervised": (0.18, 0.885, 500.0, 0.78, 0.98, 5.8, 0.992, 0.996, 0.994, 0.97, 0.97, 0.60),
    "contrastive": (0.13, 0.875, 232.0, 0.62, 0.83, 5.2, 0.985, 0.990, 0.988, 0.94, 0.92, 0.40),
    "align_uniform": (0.12, 0.872, 215.0, 0.60, 0.82, 5.2, 0.984, 0.988, 0.986, 0.93, 0.91, 0.40),
    "bad": (0.03, 0.849, 17.0, 0.11, 0.40, 6.1, 0.863, 0.940, 0.930, 0.60, 0.70, 0.35),
    "untrained": (0.07, 0.823, 114.0, 0.45, 0.58, 7.7, 0.950, 0.944, 0.955, 0.83, 0.80, 0.30),
    "raw": (0.07, 0.830, 120.0, 0.46, 0.60, 0.0, 0.955, 0.985, 0.970, 0.85, 0.85, 0.30),
}


def _entry(task: DensityTask, epoch: int, share: float, noise: random.Random, *, end: bool) -> dict[str, Any]:
    """Between the untrained numbers (share 0) and those of the end (share 1)."""
    near, far = _ENDS["untrained"], _ENDS[task.arm.objective]
    if task.arm.objective == "raw":
        near = far
    worse = 0.97 if task.arm.architecture == "vit" else 1.0
    now = [
        (a + (b - a) * share) * (1 + 0.005 * noise.random()) * worse for a, b in zip(near, far, strict=True)
    ]
    large, small, ratio, between, purity, loss = now[:6]
    linear, knn, gcn = (min(each, 1.0) for each in now[6:9])
    keys = [f"{each:g}" for each in task.protocol.rld_temperatures]
    steps = [0.0, 0.3, 0.85, 1.0, 1.0]
    rld = {key: large + (small - large) * step for key, step in zip(keys, steps, strict=True)}
    numbers = {
        "rld": rld,
        "rld_share": {key: value / 0.9 for key, value in rld.items()},
        "purity": {"1": 0.98 * worse, "10": 0.98 * worse - (0.98 * worse - purity) * 0.2, "100": purity},
        "calinski_harabasz": ratio,
        "between_share": between,
    }
    accuracy = {"linear": linear, "knn": knn, "gcn": gcn, "gcn_chosen_on_test": min(1.0, gcn + 0.004)}
    return {
        "epoch": epoch,
        **numbers,
        **{f"test_{name}": value for name, value in numbers.items()},
        "contrastive_loss": None if task.arm.objective == "raw" else loss,
        "accuracy": accuracy | ({"gcn_attached": gcn - 0.002} if end else {}),
        "few": dict(zip(("linear", "knn", "gcn"), now[9:], strict=True)) if end else None,
    }


def made_up_result(task: DensityTask) -> dict[str, Any]:
    """What a worker would hand back."""
    noise = random.Random(f"{task.arm.id} {task.seed}")
    if task.arm.objective in ("untrained", "raw"):
        entries = [_entry(task, 0, 0.0, noise, end=True)]
    else:
        marks = task.protocol.checkpoints
        entries = [
            _entry(task, epoch, (place + 1) / len(marks), noise, end=epoch == marks[-1])
            for place, epoch in enumerate(marks)
        ]
    pictured = task.seed == 0 and task.arm.id in ("supervised-conv", "contrastive-conv", "bad-conv")
    return {"entries": entries, "losses": [], "message": None, "panels": _panels(task, noise) * pictured}


def _panels(task: DensityTask, noise: random.Random) -> list[dict[str, Any]]:
    labels = [row % 10 for row in range(100)]
    return [
        {
            "arm": task.arm.id,
            "perplexity": perplexity,
            "words": words,
            "method": "t-SNE",
            "points": [[round(noise.gauss(label, 1), 3), round(noise.gauss(0, 1), 3)] for label in labels],
            "labels": labels,
        }
        for words, perplexity in (("small", 5), ("medium", 30), ("large", 99))
    ]


def made_up_document(*, quick: bool = False, seeds: int = 3) -> dict[str, Any]:
    """The document of made-up results, by the code that makes true ones."""
    work = tasks("digits", quick, seeds)
    results = {task.key: made_up_result(task) for task in work}
    return density_document(work, results, load_sample(work[0].protocol), quick=quick)
