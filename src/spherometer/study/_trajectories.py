"""Fine-tuning trajectories: what each half of the objective does to an encoder that learned little."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from spherometer.probes import LinearProbe, few_labels
from spherometer.study._encoders import (
    Parts,
    alignment_and_uniformity,
    loss_of,
    on_sphere,
    start_encoder,
    train_views,
)
from spherometer.study._grid import Configuration, Task
from spherometer.training import ConvEncoder, encode, train

START = Configuration("info_nce", contrastive_weight=1.0, temperature=2.5)
PATHS = {
    "align only": Configuration("align_uniform", align_weight=1.0),
    "uniform only": Configuration("align_uniform", uniform_weight=1.0),
    "both": Configuration("align_uniform", align_weight=1.0, uniform_weight=1.0),
}


def _state(encoder: ConvEncoder, parts: Parts, task: Task) -> dict[str, float]:
    alignment, uniformity = alignment_and_uniformity(encoder, parts)
    known = on_sphere(encode(encoder, parts.train[0]).output)
    asked = on_sphere(encode(encoder, parts.validation[0]).output)
    scores = []
    for draw in range(task.protocol.few_label_draws):
        rows = torch.from_numpy(few_labels(parts.train[1], task.protocol.few_labels, seed=draw))
        probe = LinearProbe(standardize=False).fit(known[rows.to(known.device)], parts.train[1][rows])
        scores.append(probe.score(asked, parts.validation[1]))
    return {"alignment": alignment, "uniformity": uniformity, "accuracy": sum(scores) / len(scores)}


def run_trajectories(task: Task, parts: Parts) -> dict[str, Any]:
    """Train the start, then three copies of it; accuracy is that of few labels, on validation images."""
    start = start_encoder(task, parts, START.dim)
    views = train_views(task, parts)
    train(start, views, loss_of(START), replace(task.protocol.recipe, seed=task.seed).whole())
    begin = _state(start, parts, task)
    recipe = replace(task.protocol.recipe, epochs=task.protocol.finetune_epochs, seed=task.seed + 1)
    steps = recipe.epochs * max(1, views.num_images // recipe.batch_size)
    points = task.protocol.finetune_points
    stops = {max(1, round(steps * point / points)) for point in range(1, points + 1)}
    paths: dict[str, list[dict[str, float]]] = {}
    for name, configuration in PATHS.items():
        encoder = copy.deepcopy(start)
        path: list[dict[str, float]] = [{"step": 0, **begin}]

        def record(step: int, encoder: ConvEncoder = encoder, path: list[dict[str, float]] = path) -> None:
            if step in stops:
                path.append({"step": step, **_state(encoder, parts, task)})

        train(encoder, views, loss_of(configuration), recipe.whole(), after_step=record)
        paths[name] = path
    return {"start": {"name": START.name, **begin}, "paths": paths}
