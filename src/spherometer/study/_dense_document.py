"""From results to the document of the study of dense representations; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from spherometer._relation import performance_relation
from spherometer._version import __version__
from spherometer.errors import UndefinedError
from spherometer.metrics import expected_uniformity
from spherometer.study._conditional_findings import over_seeds
from spherometer.study._dense_data import LARGEST, SMALLEST, Scenes, changes, load_scenes
from spherometer.study._dense_findings import CAVEATS, dense_findings
from spherometer.study._dense_grid import ABLATION, BASELINES, DenseConfiguration, DenseProtocol, DenseTask
from spherometer.study._dense_work import TASKS
from spherometer.study._document import environment, finite

SCHEMA = "spherometer.study/dense/1"
_LEAST_SPREAD = 0.1  # of the uniformity of the uniform law: cells with less are called one point
KINDS = {"dense": ("dense_alignment", "dense_uniformity"), "instance": ("alignment", "uniformity")}
Row = dict[str, Any]


def dense_document(work: Sequence[DenseTask], results: Mapping[str, Any], *, quick: bool) -> Row:
    """The study document."""
    shared = work[0].protocol
    names = list(dict.fromkeys(task.data for task in work))
    trials = [_trial(task, results[task.key]) for task in work]
    configurations = list(dict.fromkeys(task.configuration for task in work))
    found: Row = {
        "schema": SCHEMA,
        "spherometer": __version__,
        "study": "dense",
        "quick": quick,
        "seeds": sorted({task.seed for task in work}),
        "environment": environment(),
        "data": {name: _data(load_scenes(name, shared), shared) for name in names},
        "protocol": _protocol(shared),
        "configurations": [_configuration(each) for each in configurations],
        "trials": trials,
        "relations": [relation(trials, *cell) for cell in _cells(names)],
        "matching": [row for name in names for task in TASKS for row in ablation(trials, name, task)],
        "correlations": {name: {kind: _between(trials, name, kind) for kind in KINDS} for name in names},
        "spread": _spread(trials, names, shared),
        "per_class": [row for name in names for row in per_class(trials, name)],
        "heat": [picture for task in work for picture in results[task.key]["heat"]],
        "caveats": list(CAVEATS),
    }
    found["findings"] = dense_findings(found)
    cleaned: Row = finite(found)
    return cleaned


def at_one_point(trial: Row, dim: int) -> bool:
    """Whether its cells lie nearly all at one point: not a tenth of the way to the uniform law."""
    found = trial["metrics"].get("dense_uniformity")
    return bool(found) and float(found["value"]) > _LEAST_SPREAD * expected_uniformity(dim)


def _spread(trials: Sequence[Row], names: Sequence[str], shared: DenseProtocol) -> Row:
    """The numbers of cells once more without encoders whose cells lie at one point; {} if there are none."""
    dropped = [trial for trial in trials if at_one_point(trial, shared.dim)]
    sets = [name for name in names if any(trial["data"] == name for trial in dropped)]
    kept = [trial for trial in trials if not at_one_point(trial, shared.dim)]
    if not sets:
        return {}
    return {
        "dropped": [{key: trial[key] for key in ("data", "configuration", "seed")} for trial in dropped],
        "relations": [relation(kept, name, task, "dense") for name in sets for task in TASKS],
        "correlations": {name: _between(kept, name, "dense") for name in sets},
    }


def per_class(trials: Sequence[Row], data: str) -> list[Row]:
    """IoU of every class, mean over seeds: of the arms of the ablation, of no training, of raw pixels."""
    arms = {**{name: each.id for name, each in ABLATION.items()}, **{each.id: each.id for each in BASELINES}}
    rows = []
    for name, chosen in arms.items():
        found = [
            trial["tasks"]["segmentation"]["per_class"]
            for trial in trials
            if (trial["data"], trial["configuration"]) == (data, chosen) and trial["tasks"]
        ]
        if found:
            classes = [each for each in found[0] if all(each in one for one in found)]
            means = [float(np.mean([one[each] for one in found])) for each in classes]
            rows.append({"data": data, "name": name, "classes": classes, "values": means})
    return rows


def _cells(names: Sequence[str]) -> list[tuple[str, str, str]]:
    return [(name, task, kind) for name in names for task in TASKS for kind in KINDS]


def _configuration(one: DenseConfiguration) -> Row:
    return {"id": one.id, "name": one.name} | asdict(one)


def _trial(task: DenseTask, result: Mapping[str, Any]) -> Row:
    return {
        "configuration": task.configuration.id,
        "data": task.data,
        "seed": task.seed,
        "key": task.key,
        "status": "finished" if result["message"] is None else "failed",
        "message": result["message"],
        "metrics": result["metrics"],
        "tasks": result["tasks"],
        "losses": result["losses"],
    }


def comparable(trials: Sequence[Row], data: str, task: str, kind: str) -> list[Row]:
    """Trials of a data set that have the task and both numbers."""
    return [
        trial
        for trial in trials
        if trial["data"] == data
        and trial["tasks"].get(task)
        and all(trial["metrics"].get(name) for name in KINDS[kind])
    ]


def _columns(trials: Sequence[Row], kind: str) -> list[list[float]]:
    return [[float(trial["metrics"][name]["value"]) for trial in trials] for name in KINDS[kind]]


def relation(trials: Sequence[Row], data: str, task: str, kind: str) -> Row:
    """How both numbers go with the task over all encoders that have them, or why that cannot be said."""
    chosen = comparable(trials, data, task, kind)
    row: Row = {"data": data, "task": task, "metrics": kind, "num": len(chosen)}
    align, uniform = _columns(chosen, kind)
    try:
        found = performance_relation(
            align,
            uniform,
            [float(trial["tasks"][task]["value"]) for trial in chosen],
            groups=[trial["configuration"] for trial in chosen],
        )
    except UndefinedError as error:
        return row | {"relation": None, "message": str(error)}
    return row | {"relation": found.to_dict(), "message": None}


def _between(trials: Sequence[Row], data: str, kind: str) -> float | None:
    """Correlation of alignment with uniformity over encoders; None where one of them does not vary."""
    chosen = comparable(trials, data, TASKS[0], kind)
    columns = _columns(chosen, kind)
    if len(chosen) < 3 or any(np.ptp(column) == 0 for column in columns):
        return None
    return float(np.corrcoef(np.array(columns))[0, 1])


def ablation(trials: Sequence[Row], data: str, task: str) -> list[Row]:
    """Mean over seeds of each arm that differs in nothing but its partners, best first."""
    rows = []
    for rule, configuration in ABLATION.items():
        chosen = [
            trial
            for trial in trials
            if trial["data"] == data
            and trial["configuration"] == configuration.id
            and trial["tasks"].get(task)
        ]
        if not chosen:
            continue
        values = [float(t["tasks"][task]["value"]) for t in sorted(chosen, key=lambda t: int(t["seed"]))]
        found = over_seeds(values)
        rows.append(
            {
                "data": data,
                "matching": rule,
                "task": task,
                "value": found["value"],
                "interval": found["interval"],
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "seeds": values,
            }
        )
    return sorted(rows, key=lambda row: -row["value"])


def _data(scenes: Scenes, shared: DenseProtocol) -> Row:
    """What the scenes are, and what the tasks give without looking at them."""
    fitted, tested = scenes.fitted, scenes.tested
    counts = torch.bincount(tested.masks.flatten(), minlength=scenes.num_classes).double()
    usual = int(torch.bincount(fitted.masks.flatten()).argmax())
    present = int((counts > 0).sum())
    if scenes.score == "accuracy":
        most = int(torch.bincount(fitted.labels).argmax())
        classified = float((tested.labels == most).double().mean())
    else:
        shares = tested.shown.double().mean(dim=0)
        classified = float(shares[shares > 0].mean())
    return {
        "name": "Several digits" if scenes.name == "multi" else "One digit",
        "source": scenes.train.source,
        "num_train": shared.num_train,
        "num_held_out": shared.num_held_out,
        "num_test": shared.num_test,
        "num_fitted": shared.num_fitted,
        "size": shared.size,
        "grid": list(shared.grid),
        "num_classes": scenes.num_classes,
        "classification": scenes.score,
        "chance": {
            "segmentation": float(counts[usual] / counts.sum()) / max(present, 1),
            "classification": classified,
        },
    }


def _protocol(shared: DenseProtocol) -> Row:
    recipe = asdict(shared.recipe)
    recipe.pop("seed")
    return recipe | {
        "schedule": f"linear warm-up over {recipe['warmup']:.0%} of the steps, then a cosine to 0",
        "scenes": f"{shared.background} background",
        "views": f"random crops of {_range(SMALLEST)} of a scene, resized to {shared.view_size} pixels; "
        f"measured: of {_range(LARGEST)}, resized to {shared.size} pixels; contrast and brightness "
        f"{changes(shared, 'train').jitter[0]:g}",
        "encoder": f"four convolutions from {shared.width} channels, maxima of 2 x 2 between them; a linear "
        "head for the image, two 1 x 1 convolutions for the cells",
        "dim": shared.dim,
        "loss": "(1 - weight of cells) times the loss of images + weight of cells times that of cells; "
        "negatives of a cell are the mean cells of the other images of the batch",
        "measured": f"{shared.num_held_out} scenes with digits that no training scene shows, two views of "
        "each. Cells are matched by where they lie, whatever the encoder was trained with; uniformity: pairs "
        f"of cells of different scenes, at most {shared.num_cells} cells. The projected cells and the "
        "output of the image are measured, each only where it was trained",
        "segmentation": "multinomial logistic regression on the cells of the map under both heads (a 1 x 1 "
        "convolution), logits interpolated to the pixels; mean IoU over the classes and the background",
        "classification": "logistic regression on the mean of the same map: accuracy with one digit, mean "
        "average precision over the digits with several",
        "raw_pixels": "patches of 8 x 8 pixels as cells; the scene in 14 x 14 pixels as a whole",
        "chosen": "background, crops, width, rate, and the loss under which partners are compared: for what "
        "separates the arms, on other scenes of several of the digits that encoders are measured on, one "
        "seed; pooling by maxima and the probe's doubling of maps: earlier, on test scenes",
        "relations": "bootstrap and permutations of configurations, not of encoders",
        "strength": shared.strength,
        "upsample": shared.upsample,
        "version": shared.version,
    }


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.0%} to {ends[1]:.0%}"
