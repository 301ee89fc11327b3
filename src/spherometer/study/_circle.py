"""The circle figure: encoders with two output coordinates, whose features can be looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spherometer import losses, metrics
from spherometer.data import DigitViews
from spherometer.probes import LinearProbe
from spherometer.study._encoders import Parts, on_sphere, start_encoder, train_views
from spherometer.study._grid import Task
from spherometer.training import encode, train

_MOST_POINTS = 400
_MEASURED_SEED = 1_000_033
_SHARPNESS = 8.0  # of the supervised head: cosines alone could not make a class certain


def _supervised(task: Task, parts: Parts) -> tuple[Any, list[nn.Parameter]]:
    labels = parts.train[1].to(parts.device)
    head = nn.Linear(2, parts.images.num_classes, bias=True, device="meta").to_empty(device=parts.device)
    generator = torch.Generator().manual_seed(task.seed)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
        head.bias.zero_()

    def loss(x: Tensor, y: Tensor, index: Tensor) -> Tensor:
        target = labels[index.to(parts.device)]
        return F.cross_entropy(_SHARPNESS * head(torch.cat([x, y])), torch.cat([target, target]))

    return loss, list(head.parameters())


def run_circle(task: Task, parts: Parts) -> dict[str, Any]:
    """Train one encoder to the circle; features, pair distances and accuracy on test images."""
    encoder = start_encoder(task, parts, 2)
    recipe = replace(task.protocol.recipe, seed=task.seed).whole()
    if task.variant == "Supervised":
        loss, extra = _supervised(task, parts)
        train(encoder, train_views(task, parts), loss, recipe, parameters=[*encoder.parameters(), *extra])
    elif task.variant == "Contrastive":
        info_nce = losses.InfoNCELoss(temperature=0.5)
        train(encoder, train_views(task, parts), lambda x, y, _: info_nce(x, y), recipe)
    images, labels = parts.test
    views = DigitViews(images, _MEASURED_SEED)(0, torch.arange(len(images)))
    x, y = (encode(encoder, view).output.double() for view in views)
    points = encode(encoder, images).output.double()
    train_points = on_sphere(encode(encoder, parts.train[0]).output)
    probe = LinearProbe(standardize=False).fit(train_points, parts.train[1])
    shown = slice(0, _MOST_POINTS)
    return {
        "name": task.variant,
        "points": [[round(value, 5) for value in point] for point in points[shown].tolist()],
        "labels": labels[shown].tolist(),
        "distances": [round(value, 5) for value in (x - y).norm(dim=1)[shown].tolist()],
        "alignment": float(metrics.alignment(x, y)),
        "uniformity": float(metrics.uniformity(points)),
        "accuracy": probe.score(on_sphere(points), labels),
    }
