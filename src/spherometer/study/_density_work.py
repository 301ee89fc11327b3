"""What a worker of the study of local density does: one arm, from the first weights to the last checkpoint.

Shapes: N images, D output coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spherometer import sphere
from spherometer.study._density_data import Sample, load_sample
from spherometer.study._density_grid import DensityTask
from spherometer.study._density_grid import task_from_dict as task_from_dict
from spherometer.study._density_heads import Features, accuracies, few_accuracies
from spherometer.study._density_measures import contrastive_loss, measured
from spherometer.study._density_objectives import objective_of
from spherometer.study._density_panels import panels
from spherometer.study._worker import Order
from spherometer.training import ConvEncoder, Encoder, ViTMicro, build_encoder, encode, save_encoder, train

_SMALLEST = 16  # images up to this size have the small ConvNet
PERPLEXITIES = ("small", "medium", "large")
# arms whose test images are drawn in two dimensions
PICTURED = ("supervised-conv", "contrastive-conv", "bad-conv", "contrastive-vit")


@dataclass(frozen=True)
class Parts:
    """The images, and the device that encoders are trained on."""

    sample: Sample
    device: str

    @cached_property
    def pixels(self) -> tuple[Tensor, Tensor]:
        """Raw pixels of both parts as unit rows."""
        train, test = (sphere.normalize(images.flatten(1)) for images in self.sample.images)
        return train, test


def load_parts(order: Order) -> Parts:
    """The images of the first task's protocol, which all tasks share."""
    return Parts(load_sample(order.tasks[0].protocol, order.data or None), order.device)


def start_encoder(task: DensityTask, sample: Sample) -> Encoder:
    """Initial weights: a function of the task's seed, the same for every objective."""
    channels, height, width = sample.size
    dim = task.protocol.dim
    if task.arm.architecture == "vit":
        return ViTMicro(dim, channels=channels, size=(height, width), head="mlp", seed=task.seed)
    if max(height, width) <= _SMALLEST:
        return ConvEncoder(dim, channels=channels, seed=task.seed)
    return build_encoder("conv", dim=dim, channels=channels, width=16, hidden=128, seed=task.seed)


def _checkpoint(
    rows: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor] | None, task: DensityTask, parts: Parts,
    *, epoch: int, end: bool,
) -> dict[str, Any]:  # fmt: skip
    """Everything about unit rows of the training and test images at one moment."""
    shared, sample = task.protocol, parts.sample
    train_labels, test_labels = sample.labels
    features = Features(rows[0], train_labels, rows[1], test_labels, standardize=task.arm.objective == "raw")
    return {
        "epoch": epoch,
        **measured(*rows, sample, shared),
        "contrastive_loss": None if views is None else contrastive_loss(*views, shared),
        "accuracy": accuracies(features, shared, task.seed, end=end),
        "few": few_accuracies(features, shared, task.seed) if end else None,
    }


def _encoded(encoder: Encoder, parts: Parts) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Outputs of the images of both parts, and of two views of the training images."""
    train, test, x, y = (
        encode(encoder, images.to(parts.device)).output.cpu()
        for images in (*parts.sample.images, *parts.sample.measured_views)
    )
    return (train, test), (x, y)


def _pictures(rows: Tensor, task: DensityTask, sample: Sample) -> list[dict[str, Any]]:
    """Panels of the test images of the first seed."""
    shared = task.protocol
    if task.seed or not shared.panel_rows or task.arm.id not in PICTURED:
        return []
    labels = sample.labels[1][: shared.panel_rows]
    num = len(labels)
    chosen = (5, max(6, num // 18), max(7, (num - 1) // 3))  # t-SNE needs three times as many rows
    drawn = panels(rows[: shared.panel_rows], labels, chosen, seed=0)
    return [
        {
            "arm": task.arm.id,
            "perplexity": perplexity,
            "words": words,
            "method": method,
            "points": [[round(float(value), 3) for value in point] for point in points],
            "labels": labels.tolist(),
        }
        for words, perplexity, (method, points) in zip(PERPLEXITIES, chosen, drawn, strict=False)
    ]


def run_arm(task: DensityTask, parts: Parts, out: Path) -> dict[str, Any]:
    """Train (if there is something to train), measure and probe at every checkpoint, keep the encoder."""
    if task.arm.objective == "raw":
        entry = _checkpoint(parts.pixels, None, task, parts, epoch=0, end=True)
        return _result([entry], ())
    shared = task.protocol
    encoder = start_encoder(task, parts.sample).to(parts.device)
    if task.arm.objective == "untrained":
        entry = _checkpoint(*_encoded(encoder, parts), task, parts, epoch=0, end=True)
        return _result([entry], ())
    loss, extra = objective_of(task, parts.sample)
    if isinstance(loss, torch.nn.Module):
        loss.to(parts.device)
    entries: list[dict[str, Any]] = []
    per_epoch = max(1, len(parts.sample.train) // shared.recipe.batch_size)

    def after_step(done: int) -> None:
        epoch, rest = divmod(done, per_epoch)
        if rest or epoch not in shared.checkpoints:
            return
        end = epoch == shared.recipe.epochs
        entries.append(_checkpoint(*_encoded(encoder, parts), task, parts, epoch=epoch, end=end))

    recipe = replace(shared.recipe, seed=task.seed).whole()
    views = parts.sample.views(task.seed)
    log = train(
        encoder, views, loss, recipe,
        parameters=[*encoder.parameters(), *extra], after_step=after_step,
    )  # fmt: skip
    if log.stopped is not None:
        return _result(entries, log.losses, log.stopped)
    notes = {"name": task.name, "seed": task.seed}
    save_encoder(encoder, out / "encoders" / f"{task.key}.safetensors", notes=notes)
    pictures = _pictures(_encoded(encoder, parts)[0][1], task, parts.sample)
    return _result(entries, log.losses) | {"panels": pictures}


def _result(
    entries: list[dict[str, Any]], history: tuple[float, ...], message: str | None = None
) -> dict[str, Any]:
    losses = [round(value, 6) for value in history]
    return {"entries": entries, "losses": losses, "message": message, "panels": []}


def run_task(task: DensityTask, parts: Parts, out: Path) -> tuple[dict[str, Any], float]:
    """The result of a task, and the one number that Optuna shows for it."""
    result = run_arm(task, parts, out)
    return result, result["entries"][-1]["accuracy"]["linear"] if result["entries"] else 0.0
