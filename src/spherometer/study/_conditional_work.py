"""What a worker of a study of meta-data does: one arm, from loss to scores.

Shapes: N samples, B in a batch, K columns of meta-data, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spherometer import losses, metrics
from spherometer.probes import LinearProbe, RidgeProbe, few_labels, regression_scores, wilson_interval
from spherometer.study._conditional_digits import digits_sample
from spherometer.study._conditional_grid import DIABETES, ConditionalProtocol, ConditionalTask
from spherometer.study._conditional_grid import task_from_dict as task_from_dict
from spherometer.study._conditional_parts import MEASURED_SEED, PARTS, Array, Sample, Target, few_seed
from spherometer.study._diabetes_data import diabetes_sample
from spherometer.study._encoders import on_sphere
from spherometer.study._worker import Order
from spherometer.training import Encoder, encode, save_encoder, train

LAYERS = ("output", "penultimate")
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Parts:
    """The data of a study, seed by seed; the last seed's are kept."""

    device: str
    _kept: dict[Any, Sample] = field(default_factory=dict)

    def sample(self, shared: ConditionalProtocol, seed: int) -> Sample:
        """The data of one seed."""
        key = (shared.study, shared.amount, shared.dim, seed)
        if key not in self._kept:
            make = diabetes_sample if shared.study == DIABETES else digits_sample
            self._kept = {key: make(shared, seed, self.device)}
        return self._kept[key]


def load_parts(order: Order) -> Parts:
    """Nothing yet: data are made seed by seed."""
    return Parts(order.device)


class MetadataRegression(nn.Module):
    """Mean squared error of a linear map from outputs [2B, D] to standardised meta-data [N, K]."""

    def __init__(self, dim: int, columns: Tensor, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.map = nn.Linear(dim, columns.shape[1], device="meta").to_empty(device="cpu")
        with torch.no_grad():
            self.map.weight.normal_(generator=generator)
            self.map.bias.zero_()
        self.columns: Tensor
        self.register_buffer("columns", columns.float())

    def forward(self, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
        """Of both views of the rows ``index`` [B]."""
        wanted = self.columns[index.to(self.columns.device)]
        return F.mse_loss(self.map(torch.cat([x, y])), torch.cat([wanted, wanted]))


def loss_of(task: ConditionalTask, sample: Sample) -> tuple[Loss, list[nn.Parameter]]:
    """What an arm minimises, as the loop calls it, and parameters of the loss itself."""
    arm, width = task.configuration.arm, task.configuration.bandwidth
    device = sample.inputs.device
    if arm == "regression":
        regression = MetadataRegression(task.protocol.dim, sample.columns("train"), task.seed).to(device)
        return regression, list(regression.parameters())
    if arm in ("align_uniform", "nt_xent"):
        plain = (
            losses.NTXentLoss(task.protocol.temperature) if arm == "nt_xent" else losses.AlignUniformLoss()
        )
        return lambda x, y, index: plain(x, y), []
    assert width is not None
    kernel = sample.kernel(width)
    known = kernel.encode(sample.table("train"), f"study {task.protocol.study}").to(device)
    compare: nn.Module
    if arm == "y_aware":
        compare = losses.YAwareInfoNCELoss(kernel, task.protocol.temperature)
    elif arm == "conditional":
        compare = losses.ConditionalAlignUniformLoss(kernel)
    else:
        compare = losses.ConditionalAlignUniformLoss(kernel, 0.0, 1.0, instance_align_weight=1.0)
    return lambda x, y, index: compare(x, y, known[index.to(device)]), []


def _measured(encoder: Encoder, sample: Sample, shared: ConditionalProtocol) -> dict[str, float]:
    """Alignment and uniformity, plain and conditional, of the validation part."""
    inputs = sample.inputs[sample.rows["validation"].to(sample.inputs.device)]
    views = sample.views(inputs, MEASURED_SEED)
    x, y = (encode(encoder, view).output.double() for view in views(0, torch.arange(len(inputs))))
    z = encode(encoder, inputs).output.double()
    kernel = sample.kernel(shared.measured_bandwidth)
    known = kernel.encode(sample.table("validation")).to(z.device)
    return {
        "alignment": float(metrics.alignment(x, y)),
        "uniformity": float(metrics.uniformity(z)),
        "conditional_alignment": float(metrics.conditional_alignment(x, y, known, kernel=kernel)),
        "conditional_uniformity": float(metrics.conditional_uniformity(z, known, kernel=kernel)),
    }


def probed(
    features: Array, targets: Sequence[Target], rows: Mapping[str, Array], task: Any, *, unit: bool
) -> dict[str, Any]:
    """Scores of probes on features [N, D]: "NAME_all" of every target, "NAME_few" of those with few labels.

    ``unit``: features are unit vectors, and not standardised.
    """
    shared, found = task.protocol, {}
    train = rows["train"]
    for target in targets:
        choices = {"all": [train]}
        if target.few:
            draws = [few_seed(task.seed, draw) for draw in range(shared.few_label_draws)]
            few = (few_labels(target.values[train], shared.few_labels, seed=seed) for seed in draws)
            choices["few"] = [train[chosen] for chosen in few]
        for which, several in choices.items():
            probes = [_fitted(features[some], target, target.values[some], unit) for some in several]
            found[f"{target.name}_{which}"] = _score(probes, features, target, rows)
    return found


def _fitted(features: Array, target: Target, values: Array, unit: bool) -> LinearProbe | RidgeProbe:
    if target.kind == "classes":
        return LinearProbe(standardize=not unit).fit(features, values)
    return RidgeProbe(standardize=not unit).fit(features, values)


def _score(probes: list[Any], features: Array, target: Target, rows: Mapping[str, Array]) -> dict[str, Any]:
    """Mean over probes on validation and test part, with an interval over the rows of the test part."""
    validation, test = (
        float(np.mean([each.score(features[rows[part]], target.values[rows[part]]) for each in probes]))
        for part in PARTS[1:]
    )
    num = len(rows["test"])
    interval: list[float] | None = None
    if target.kind == "classes":
        interval = [round(end, 6) for end in wilson_interval(test, num)]
    elif len(probes) == 1 and target.values.ndim == 1:
        scores = regression_scores(target.values[rows["test"]], probes[0].predict(features[rows["test"]]))
        ends = scores["r2"].interval
        interval = None if ends is None else list(ends)
    return {"validation": validation, "test": {"value": test, "interval": interval, "num": num}}


def _both(scores: dict[str, Any]) -> dict[str, Any]:
    """The same scores under the names of both layers, for what has no layers."""
    return {f"{name}_{layer}": value for name, value in scores.items() for layer in LAYERS}


def _without_encoder(task: ConditionalTask, sample: Sample, rows: Mapping[str, Array]) -> dict[str, Any]:
    """Probes on the samples themselves, their principal components, or on samples and meta-data together."""
    flat = sample.inputs.flatten(1).double().cpu().numpy()
    if task.configuration.arm == "raw_and_metadata":
        flat = np.concatenate([flat, np.stack([each.numpy() for each in sample.metadata.values()], 1)], 1)
    if task.configuration.arm != "pca":
        return _both(probed(flat, sample.targets, rows, task, unit=False))
    train = flat[rows["train"]]
    axes = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)[2]
    principal = (flat - train.mean(axis=0)) @ axes.T
    tried = {
        num: probed(principal[:, :num], sample.targets, rows, task, unit=False)
        for num in task.protocol.components
        if num < len(axes)
    }
    scores = {}
    for name in next(iter(tried.values())):
        num = max(tried, key=lambda each: float(tried[each][name]["validation"]))
        scores[name] = tried[num][name] | {"components": num}
    return _both(scores)


def run_arm(task: ConditionalTask, parts: Parts, out: Path) -> dict[str, Any]:
    """Train (if there is something to train), measure, probe, and keep the encoder."""
    arm, shared = task.configuration.arm, task.protocol
    sample = parts.sample(shared, task.seed)
    rows = {part: sample.rows[part].numpy() for part in PARTS}
    nothing: dict[str, Any] = {"metrics": {}, "scores": {}, "losses": [], "message": None}
    if arm in ("raw", "pca", "raw_and_metadata"):
        return nothing | {"scores": _without_encoder(task, sample, rows)}
    encoder = sample.encoder(task.seed)
    history: tuple[float, ...] = ()
    if arm != "untrained":
        views = sample.views(sample.inputs[sample.rows["train"].to(sample.inputs.device)], task.seed)
        loss, own = loss_of(task, sample)
        recipe = replace(shared.recipe, seed=task.seed).whole()
        log = train(encoder, views, loss, recipe, parameters=[*encoder.parameters(), *own])
        history = log.losses
        if log.stopped is not None:
            return nothing | {"losses": list(history), "message": log.stopped}
    encoded = encode(encoder, sample.inputs)
    scores: dict[str, Any] = {}
    for layer in LAYERS:
        unit = layer == "output"
        features = on_sphere(encoded.output) if unit else encoded.penultimate
        found = probed(features.double().cpu().numpy(), sample.targets, rows, task, unit=unit)
        scores |= {f"{name}_{layer}": value for name, value in found.items()}
    if sample.kept:
        notes = {"name": task.name, "seed": task.seed}
        save_encoder(encoder, out / "encoders" / f"{task.key}.safetensors", notes=notes)
    return {
        "metrics": _measured(encoder, sample, shared),
        "scores": scores,
        "losses": [round(value, 6) for value in history],
        "message": None,
    }


def run_task(task: ConditionalTask, parts: Parts, out: Path) -> tuple[dict[str, Any], float]:
    """The result of a task, and the one number that Optuna shows for it."""
    result = run_arm(task, parts, out)
    headline = next(iter(result["scores"].values()), None)
    return result, 0.0 if headline is None else headline["validation"]
