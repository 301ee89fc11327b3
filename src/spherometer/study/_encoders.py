"""One configuration, from loss to result: train, measure on validation images, probe on validation and test.

Shapes: N images, D output coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import losses, metrics
from spherometer._measure import measure
from spherometer.data import DigitViews, ImageSet
from spherometer.probes import KNNProbe, LinearProbe, few_labels, wilson_interval
from spherometer.study._grid import Configuration, Protocol, Task
from spherometer.study._slopes import slopes, stacked
from spherometer.training import ConvEncoder, encode, save_encoder, train
from spherometer.training._encoder import Encoded

_MEASURED_SEED = 1_000_003  # views that encoders are measured on: the same for all, never trained on
HEADLINE = "few_output"
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Parts:
    """The image set on a device, part by part."""

    images: ImageSet
    device: str

    def _of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.images.images[rows].to(self.device), self.images.labels[rows]

    @cached_property
    def train(self) -> tuple[Tensor, Tensor]:
        """Images and labels that train encoders and probes."""
        return self._of(self.images.split.train)

    @cached_property
    def validation(self) -> tuple[Tensor, Tensor]:
        """Images that encoders are measured on, and labels by which they are chosen."""
        return self._of(self.images.split.validation)

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """Images and labels that are only reported on."""
        return self._of(self.images.split.test)

    @cached_property
    def measured_views(self) -> tuple[Tensor, Tensor]:
        """Two views of every validation image."""
        images = self.validation[0]
        return DigitViews(images, _MEASURED_SEED)(0, torch.arange(len(images)))

    def more_views(self, many: int) -> list[Tensor]:
        """``many`` views of every validation image, the two of ``measured_views`` first."""
        images = self.validation[0]
        views, rows = DigitViews(images, _MEASURED_SEED), torch.arange(len(images))
        return [view for draw in range(math.ceil(many / 2)) for view in views(draw, rows)][:many]


def loss_of(configuration: Configuration) -> Loss:
    """The weighted sum of the terms that the configuration has."""
    terms: list[tuple[float, torch.nn.Module]] = []
    if configuration.align_weight or configuration.uniform_weight:
        weights = configuration.align_weight, configuration.uniform_weight
        terms.append((1.0, losses.AlignUniformLoss(*weights, configuration.alpha, configuration.t)))
    if configuration.contrastive_weight:
        kind = losses.InfoNCELoss if configuration.contrastive == "InfoNCE" else losses.NTXentLoss
        terms.append((configuration.contrastive_weight, kind(configuration.temperature)))
    combined = losses.CombinedLoss(terms)

    def loss(x: Tensor, y: Tensor, index: Tensor) -> Tensor:
        value: Tensor = combined(x, y)
        return value

    return loss


def start_encoder(task: Task, parts: Parts, dim: int) -> ConvEncoder:
    """Initial weights: a function of the task's seed, the same for all configurations of one dimension."""
    return ConvEncoder(dim, channels=parts.images.images.shape[1], seed=task.seed).to(parts.device)


def train_views(task: Task, parts: Parts) -> DigitViews:
    """The views that this task trains on."""
    return DigitViews(parts.train[0], seed=task.seed)


def measured(encoder: ConvEncoder, parts: Parts, protocol: Protocol) -> tuple[dict[str, Any], float]:
    """Alignment of two views of the validation images, LiDAR of several, the rest of the images alone.

    And the InfoNCE loss.
    """
    x, y = (encode(encoder, view).output for view in parts.measured_views)
    pairs = measure(x, y)
    rows = encode(encoder, parts.validation[0]).output
    images = measure(rows)
    found = {"alignment": pairs["alignment"].to_dict()}
    for name in ("uniformity", "normalized_uniformity", "effective_rank", "rankme"):
        found[name] = images[name].to_dict()
    views = [encode(encoder, view).output for view in parts.more_views(protocol.lidar_views)]
    found |= slopes(rows, stacked(views))
    info_nce = losses.info_nce_loss(x, y, temperature=protocol.info_nce_temperature)
    return found, float(info_nce)


def alignment_and_uniformity(encoder: ConvEncoder, parts: Parts) -> tuple[float, float]:
    """The two values alone, as ``measured`` defines them."""
    x, y = (encode(encoder, view).output.double() for view in parts.measured_views)
    images = encode(encoder, parts.validation[0]).output.double()
    return float(metrics.alignment(x, y)), float(metrics.uniformity(images))


def _accuracy(validation: float, test: float, num: int) -> dict[str, Any]:
    interval = [round(end, 6) for end in wilson_interval(test, num)]
    return {"validation": validation, "test": {"value": test, "interval": interval, "num": num}}


def on_sphere(rows: Tensor) -> Tensor:
    """Unit rows in the scale that gives uniform ones variance 1 per coordinate; nothing else is rescaled."""
    return rows * math.sqrt(rows.shape[1])


def _probed(features: list[Tensor], parts: Parts, protocol: Protocol, suffix: str) -> dict[str, Any]:
    """Accuracies of the three probes on features of the train, validation and test images.

    The one with few labels also keeps how often each test image was right (``right``), so that two encoders
    can be compared image by image.
    """
    unit = suffix == "output"
    train_x, validation_x, test_x = (on_sphere(rows) if unit else rows for rows in features)
    train_y, validation_y, test_y = parts.train[1], parts.validation[1], parts.test[1]

    def both(probe: LinearProbe | KNNProbe) -> tuple[float, float]:
        return probe.score(validation_x, validation_y), probe.score(test_x, test_y)

    draws, right = [], np.zeros(len(test_y), dtype=np.int64)
    for draw in range(protocol.few_label_draws):
        rows = torch.from_numpy(few_labels(train_y, protocol.few_labels, seed=draw))
        probe = LinearProbe(standardize=not unit).fit(train_x[rows.to(train_x.device)], train_y[rows])
        hits = probe.predict(test_x) == test_y.numpy()
        draws.append((probe.score(validation_x, validation_y), float(hits.mean())))
        right += hits
    few = np.mean(draws, axis=0)
    linear = both(LinearProbe(standardize=not unit).fit(train_x, train_y))
    nearest = both(KNNProbe(protocol.neighbors).fit(train_x, train_y))
    num = len(test_y)
    return {
        f"linear_{suffix}": _accuracy(*linear, num),
        f"knn_{suffix}": _accuracy(*nearest, num),
        f"few_{suffix}": _accuracy(float(few[0]), float(few[1]), num) | {"right": right.tolist()},
    }


def probed(encoder: ConvEncoder, parts: Parts, protocol: Protocol) -> dict[str, Any]:
    """All accuracies of an encoder."""
    sets: list[Encoded] = [encode(encoder, images) for images in _part_images(parts)]
    output = _probed([each.output for each in sets], parts, protocol, "output")
    return output | _probed([each.penultimate for each in sets], parts, protocol, "penultimate")


def _part_images(parts: Parts) -> list[Tensor]:
    return [parts.train[0], parts.validation[0], parts.test[0]]


def _raw_pixels(parts: Parts, protocol: Protocol) -> dict[str, Any]:
    pixels = [images.flatten(1) for images in _part_images(parts)]
    found = _probed(pixels, parts, protocol, "penultimate")  # standardised: pixels are no unit vectors
    same = {name.replace("penultimate", "output"): value for name, value in found.items()}
    return {"metrics": {}, "accuracy": same | found, "info_nce": None, "losses": [], "message": None}


def run_encoder(task: Task, parts: Parts, out: Path) -> dict[str, Any]:
    """Train (if there is something to train), measure, probe, and keep the encoder."""
    configuration = task.configuration
    assert configuration is not None
    if configuration.family == "raw_pixels":
        return _raw_pixels(parts, task.protocol)
    encoder = start_encoder(task, parts, configuration.dim)
    history: tuple[float, ...] = ()
    if configuration.family != "untrained":
        recipe = replace(task.protocol.recipe, seed=task.seed).whole()
        log = train(encoder, train_views(task, parts), loss_of(configuration), recipe)
        history = log.losses
        if log.stopped is not None:
            return {
                "metrics": {},
                "accuracy": {},
                "info_nce": None,
                "losses": list(history),
                "message": log.stopped,
            }
    found, info_nce = measured(encoder, parts, task.protocol)
    accuracy = probed(encoder, parts, task.protocol)
    save_encoder(
        encoder, out / "encoders" / f"{task.key}.safetensors", notes={"name": task.name, "seed": task.seed}
    )
    return {
        "metrics": found,
        "accuracy": accuracy,
        "info_nce": info_nce,
        "losses": [round(value, 6) for value in history],
        "message": None,
    }
