"""From results to the study document: tables, relations and selections, nothing trained and nothing drawn."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import sklearn
import torch

from spherometer import sphere
from spherometer._version import __version__
from spherometer.data import DigitViews, ImageSet
from spherometer.study import _tables
from spherometer.study._encoders import HEADLINE
from spherometer.study._findings import findings
from spherometer.study._grid import CIRCLE, Configuration, Protocol, Task

ACCURACIES = tuple(
    f"{probe}_{layer}" for probe in ("linear", "knn", "few") for layer in ("output", "penultimate")
)
_COLLAPSE_MARGIN = 0.05
Trial = dict[str, Any]


def document(
    tasks: Sequence[Task], results: dict[str, Any], images: ImageSet, *, quick: bool, encoders: set[str]
) -> dict[str, Any]:
    """The study document; ``encoders`` are the names of the files that exist."""
    protocol = tasks[0].protocol
    trials = [
        trial_of(task, results[task.key], encoders, ACCURACIES, _collapsed(results[task.key], images))
        for task in tasks
        if task.kind == "encoder"
    ]
    trained = [each for each in trials if each["family"] in _tables.FAMILIES and each["status"] == "finished"]
    found: dict[str, Any] = {
        "schema": "spherometer.study/1",
        "spherometer": __version__,
        "study": images.name,
        "quick": quick,
        "seeds": sorted({trial["seed"] for trial in trials}),
        "environment": environment(),
        "data": _data(images),
        "protocol": _protocol(protocol, images),
        "trials": trials,
        "headline": HEADLINE,
        "relation": {name: _tables.relations(trained, name) for name in ACCURACIES},
        "selection": {
            which: _tables.selection(part, protocol.info_nce_temperature)
            for which, part in _tables.sets(trained).items()
        },
        "best": _tables.best(trials),
        "sweep": _tables.sweep(tasks, trained),
        "trajectories": next(results[task.key] for task in tasks if task.kind == "trajectories"),
        "circle": _circle(tasks, results),
        "baselines": _baselines(images),
    }
    right = {task.key: right_of(results[task.key]) for task in tasks if task.kind == "encoder"}
    found["findings"] = findings(found, right, protocol.few_label_draws)
    cleaned: dict[str, Any] = finite(found)
    return cleaned


def _collapsed(result: dict[str, Any], images: ImageSet) -> bool:
    accuracy = result["accuracy"].get(HEADLINE)
    return accuracy is not None and accuracy["validation"] <= images.chance + _COLLAPSE_MARGIN


def trial_of(
    task: Any, result: dict[str, Any], encoders: set[str], accuracies: Sequence[str], collapsed: bool
) -> Trial:
    """One row of the document, from a task and its result."""
    configuration = task.configuration
    finished = result["message"] is None
    accuracy = {
        name: {part: value for part, value in result["accuracy"][name].items() if part != "right"}
        for name in accuracies
        if finished and name in result["accuracy"]
    }
    file = f"{task.key}.safetensors"
    return {
        "key": task.key,
        "name": configuration.name,
        "family": configuration.family,
        "config": configuration.to_dict(),
        "seed": task.seed,
        "status": "finished" if finished else "failed",
        "message": result["message"],
        "metrics": result["metrics"],
        "accuracy": accuracy,
        "info_nce": result["info_nce"],
        "collapsed": bool(collapsed),
        "encoder": f"encoders/{file}" if file in encoders else None,
    }


def right_of(result: dict[str, Any], headline: str = HEADLINE) -> np.ndarray[Any, Any] | None:
    """How often each row of the test part was right; None for a failed run."""
    accuracy = result["accuracy"].get(headline)
    return None if accuracy is None else np.asarray(accuracy["right"], dtype=np.float64)


def environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def _data(images: ImageSet) -> dict[str, Any]:
    return {
        "name": images.name,
        "source": images.source,
        "num_train": len(images.split.train),
        "num_validation": len(images.split.validation),
        "num_test": len(images.split.test),
        "num_classes": images.num_classes,
        "image_shape": list(images.images.shape[1:]),
        "chance": images.chance,
    }


def _protocol(protocol: Protocol, images: ImageSet) -> dict[str, Any]:
    views = DigitViews(images.images[:1], 0)
    recipe = asdict(protocol.recipe)
    recipe.pop("seed")
    return recipe | {
        "schedule": f"linear warm-up over {recipe['warmup']:.0%} of the steps, then a cosine to 0",
        "views": f"rotation up to {views.rotation:g} degrees, shifts up to {views.translation:.1%} of the "
        f"side, size changed by up to {views.scale:.0%}, contrast by up to {views.contrast:.0%}, brightness "
        f"by up to {views.brightness:g}, noise of standard deviation {views.noise:g} (pixels in [0, 1])",
        "measured_on": "validation images",
        "alignment_of": "two views of each validation image, the same for all encoders",
        "uniformity_of": "the validation images themselves, without augmentation",
        "lidar_of": f"{protocol.lidar_views} views of each validation image, the same for all encoders; "
        "where alpha-ReQ or LiDAR is undefined (one point) it counts as the worst of all",
        "accuracy_on": "test images; encoders are chosen by their accuracy on validation images",
        "probe_features": "outputs are read as unit vectors (times sqrt(D), not standardised); penultimate "
        "features and pixels are standardised",
        "headline_reason": f"the linear probe with {protocol.few_labels} labels: with all labels a linear "
        "probe reads most digits from raw pixels already, so little is left to tell encoders apart",
        "intervals": "relation and selection: bootstrap over configurations; accuracies: Wilson; "
        "metrics: as measured",
        "few_labels": protocol.few_labels,
        "few_label_draws": protocol.few_label_draws,
        "neighbors": protocol.neighbors,
        "info_nce_temperature": protocol.info_nce_temperature,
        "finetune_epochs": protocol.finetune_epochs,
        "version": protocol.version,
    }


def _circle(tasks: Sequence[Task], results: dict[str, Any]) -> list[dict[str, Any]]:
    circles = {task.variant: results[task.key] for task in tasks if task.kind == "circle"}
    return [circles[name] for name in CIRCLE]


def _baselines(images: ImageSet) -> dict[str, Any]:
    num, dim = len(images.split.validation), Configuration.dim
    return {
        "expected_uniformity": sphere.expected_uniformity(dim),
        "minimum_uniformity": sphere.minimum_uniformity(num, dim),
        "dim": dim,
        "t": 2.0,
        "num": num,
        "collapse_accuracy": images.chance + _COLLAPSE_MARGIN,
    }


def finite(value: Any) -> Any:
    """The same document with None where a number is not finite (JSON has no name for those)."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
