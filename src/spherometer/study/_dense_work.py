"""What a worker of the study of dense representations does: one encoder, from loss to result.

Shapes: N scenes, C channels of a map, h x w cells, K classes with the background.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer._measure import measure
from spherometer.metrics import dense_alignment_samples
from spherometer.probes import LinearProbe, MultiLabelProbe, SegmentationProbe, wilson_interval
from spherometer.study._dense_data import Scenes, load_scenes
from spherometer.study._dense_grid import ABLATION, Data, DenseProtocol, DenseTask
from spherometer.study._dense_grid import task_from_dict as task_from_dict
from spherometer.study._worker import Order
from spherometer.training import DenseEncoder, build_encoder, encode_dense, save_encoder
from spherometer.training._dense_method import DenseViews
from spherometer.training._loop import train_method
from spherometer.training._measuring import MEASURED_EPOCH, Cells, cells_of, dense_measurements, outputs

METRICS = ("dense_alignment", "dense_uniformity", "dense_uniformity_within", "alignment", "uniformity")
TASKS = ("segmentation", "classification")
HEADLINE = TASKS[0]
PICTURED = ("geometric", "random")  # arms of the ablation whose cells are shown
_PATCH = 8  # side of the raw patches that are compared with cells, where 7 x 7 of them cover 56 pixels
_THUMB = 14  # side of the raw images that are classified


@dataclass
class Parts:
    """The scenes of each data set, made when the first task asks for them."""

    protocol: DenseProtocol
    device: str
    known: dict[str, Scenes] = field(default_factory=dict)

    def scenes(self, name: Data) -> Scenes:
        """Of one data set."""
        if name not in self.known:
            self.known[name] = load_scenes(name, self.protocol)
        return self.known[name]


def load_parts(order: Order) -> Parts:
    """Nothing yet: scenes are made when they are needed."""
    return Parts(order.tasks[0].protocol, order.device)


def start_encoder(task: DenseTask) -> DenseEncoder:
    """Initial weights: a function of the task's seed, the same for every loss."""
    shared = task.protocol
    inner = build_encoder(
        "conv", dim=shared.dim, channels=1, width=shared.width, hidden=shared.hidden, depth=4, down="pool",
        seed=task.seed,
    )  # fmt: skip
    encoder = DenseEncoder(inner, dense_dim=shared.dim, seed=task.seed)
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # half the time
    return encoder


def measured(encoder: DenseEncoder, task: DenseTask, scenes: Scenes, device: str) -> dict[str, Any]:
    """Numbers of two views of the held-out scenes; None where nothing trained the head they are of.

    Cells are matched by where they lie, whatever the encoder was trained with, so that all are comparable.
    """
    chosen, shared, where = task.configuration, task.protocol, torch.device(device)
    found: dict[str, Any] = dict.fromkeys(METRICS)
    views, rows = scenes.views("held_out", 0), torch.arange(shared.num_held_out)
    if chosen.trains_cells:
        numbers, _ = dense_measurements(
            encoder, views, rows, where, matching="geometric", num_cells=shared.num_cells
        )
        found |= {name: each.to_dict() for name, each in numbers.items()}
    if chosen.trains_instances:
        x, y = outputs(encoder, views, rows, where)
        found |= {"alignment": measure(x, y)["alignment"].to_dict()}
        found |= {"uniformity": measure(torch.cat([x, y]))["uniformity"].to_dict()}
    return found


def probed(
    maps: tuple[Tensor, Tensor], rows: tuple[Tensor, Tensor], scenes: Scenes, shared: DenseProtocol
) -> dict[str, Any]:
    """Scores of linear probes on maps [N, C, h, w] and on rows [N, D] of the scenes as wholes."""
    fitted, tested = scenes.fitted, scenes.tested
    probe = SegmentationProbe(shared.strength, upsample=shared.upsample).fit(maps[0], fitted.masks)
    scores = probe.evaluate(maps[1], tested.masks)
    names = scenes.train.of.class_names
    return {
        "segmentation": _plain(scores["miou"].value, scores["miou"].interval, len(tested.masks))
        | {
            "pixel_accuracy": scores["pixel_accuracy"].value,
            "per_class": {
                name: scores[f"iou_{k}"].value for k, name in enumerate(names) if f"iou_{k}" in scores
            },
            "converged": probe.converged,
        },
        "classification": _classified(rows, scenes, shared.strength),
    }


def _classified(rows: tuple[Tensor, Tensor], scenes: Scenes, strength: float) -> dict[str, Any]:
    fitted, tested = scenes.fitted, scenes.tested
    num = len(tested.labels)
    if scenes.score == "accuracy":
        value = LinearProbe(strength).fit(rows[0], fitted.labels).score(rows[1], tested.labels)
        return _plain(value, wilson_interval(value, num), num)
    found = MultiLabelProbe(strength).fit(rows[0], fitted.shown).evaluate(rows[1], tested.shown)["map"]
    return _plain(found.value, found.interval, num)


def _plain(value: float, interval: Any, num: int) -> dict[str, Any]:
    ends = None if interval is None else [float(end) for end in interval]
    return {"value": float(value), "interval": ends, "num": num}


def _features(encoder: DenseEncoder, images: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """What every encoder is probed on: the map [N, C, h, w] under both heads, and its mean [N, C]."""
    maps = encode_dense(encoder, images.to(device)).backbone.cpu()
    return maps, maps.flatten(2).mean(dim=2)


def _pixels(images: Tensor) -> tuple[Tensor, Tensor]:
    """The same of raw pixels: the patch [64] of every cell, and the image in few pixels."""
    return F.pixel_unshuffle(images, _PATCH), F.adaptive_avg_pool2d(images, _THUMB).flatten(1)


def heat(cells: Cells, images: Tensor, name: str) -> list[dict[str, Any]]:
    """First views with the distance of each of their cells from its partner in the second."""
    values = dense_alignment_samples(
        cells.x, cells.y, per="location", matching="geometric", geometry=cells.geometry
    )
    return [
        {
            "name": name,
            "image": [[[round(float(v), 2)] for v in row] for row in image.mean(dim=0).clamp(0, 1).tolist()],
            "alignment": [[None if v != v else round(v, 4) for v in row] for row in value.tolist()],
        }
        for image, value in zip(images, values, strict=True)
    ]


def _pictures(encoder: DenseEncoder, task: DenseTask, scenes: Scenes, device: str) -> list[dict[str, Any]]:
    """Of the first seed of the arms that are shown."""
    arm = next((rule for rule in PICTURED if ABLATION[rule] == task.configuration), None)
    if arm is None or task.seed or not task.protocol.num_heat:
        return []
    views, rows = scenes.views("held_out", 0), torch.arange(task.protocol.num_heat)
    training = encoder.training
    encoder.eval()
    try:
        cells = cells_of(encoder, views, rows, torch.device(device))
    finally:
        encoder.train(training)
    return heat(cells, views(MEASURED_EPOCH, rows)[0], f"trained with {arm} partners")


def run_encoder(task: DenseTask, parts: Parts, out: Path) -> dict[str, Any]:
    """Train (if there is something to train), measure, probe, and keep the encoder."""
    chosen, shared, scenes = task.configuration, task.protocol, parts.scenes(task.data)
    both = scenes.fitted.images, scenes.tested.images
    nothing: dict[str, Any] = {"metrics": dict.fromkeys(METRICS), "tasks": {}, "losses": [], "heat": []}
    nothing["message"] = None
    if chosen.loss == "raw":
        maps, rows = zip(*(_pixels(images) for images in both), strict=True)
        return nothing | {"tasks": probed(maps, rows, scenes, shared)}
    encoder = start_encoder(task).to(parts.device)
    found = nothing
    if chosen.trained:
        recipe = replace(shared.recipe, seed=task.seed).whole()
        method = DenseViews(encoder, chosen.method(shared.batch_cells))
        log = train_method(method, scenes.views("train", task.seed), recipe)
        found = nothing | {"losses": [round(value, 6) for value in log.losses]}
        if log.stopped is not None:
            return found | {"message": log.stopped}
        encoder.eval()
        found["metrics"] = measured(encoder, task, scenes, parts.device)
        found["heat"] = _pictures(encoder, task, scenes, parts.device)
        notes = {"name": task.name, "seed": task.seed}
        save_encoder(encoder, out / "encoders" / f"{task.key}.safetensors", notes=notes)
    maps, rows = zip(*(_features(encoder, images, parts.device) for images in both), strict=True)
    return found | {"tasks": probed(maps, rows, scenes, shared)}


def run_task(task: DenseTask, parts: Parts, out: Path) -> tuple[dict[str, Any], float]:
    """The result of a task, and the one number that Optuna shows for it."""
    result = run_encoder(task, parts, out)
    return result, result["tasks"][HEADLINE]["value"] if result["tasks"] else 0.0
