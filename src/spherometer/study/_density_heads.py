"""What classifiers read from features in the study of local density; labels of test images only score.

Shapes: N training images, M test images, D output coordinates, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer.probes import KNNProbe, LinearProbe, few_labels
from spherometer.probes._gcn import GCNClassifier
from spherometer.study._density_grid import DensityProtocol
from spherometer.study._encoders import on_sphere

ACCURACIES = ("linear", "knn", "gcn", "gcn_chosen_on_test")
AT_THE_END = ("gcn_attached",)  # accuracies that only the end of a training has
FEW = ("linear", "knn", "gcn")
_UNLABELED = -1


@dataclass(frozen=True)
class Features:
    """Unit rows of both parts, with their classes.

    ``standardize``: the linear probe scales columns first, as it does for pixels, which are no unit vectors
    by nature.
    """

    train: Tensor  # [N, D]
    train_labels: Tensor
    test: Tensor  # [M, D]
    test_labels: Tensor
    standardize: bool = False

    def hits(self, predicted: Any) -> float:
        """Share of the test images that are right."""
        return float(np.mean(np.asarray(predicted) == self.test_labels.numpy()))


def _linear(features: Features, rows: Tensor | None = None) -> float:
    train, labels = features.train, features.train_labels
    if rows is not None:
        train, labels = train[rows], labels[rows]
    probe = LinearProbe(standardize=features.standardize).fit(on_sphere(train), labels)
    return features.hits(probe.predict(on_sphere(features.test)))


def _nearest(features: Features, shared: DensityProtocol, rows: Tensor | None = None) -> float:
    train, labels = features.train, features.train_labels
    if rows is not None:
        train, labels = train[rows], labels[rows]
    return features.hits(KNNProbe(shared.neighbors).fit(train, labels).predict(features.test))


def graph_classifier(
    features: Features, temperature: tuple[float, ...], shared: DensityProtocol, seed: int,
    rows: Tensor | None = None,
) -> tuple[GCNClassifier, float]:  # fmt: skip
    """The classifier on all images, test images and (with ``rows``) the other training ones unlabeled."""
    known = features.train_labels.numpy()
    if rows is not None:
        known = np.full_like(known, _UNLABELED)
        known[rows.numpy()] = features.train_labels.numpy()[rows.numpy()]
    labels = np.concatenate([known, np.full(len(features.test), _UNLABELED)])
    model = GCNClassifier(temperature, max_steps=shared.gcn_steps, seed=seed)
    model.fit(torch.cat([features.train, features.test]).numpy(), labels)
    return model, features.hits(model.transduction_[len(known) :])


def _attached(features: Features, temperature: float, shared: DensityProtocol, seed: int) -> float:
    """The classifier fitted without the test images, which are attached one way afterwards."""
    model = GCNClassifier((temperature,), max_steps=shared.gcn_steps, seed=seed)
    model.fit(features.train.numpy(), features.train_labels.numpy())
    return features.hits(model.predict(features.test.numpy()))


def accuracies(features: Features, shared: DensityProtocol, seed: int, *, end: bool) -> dict[str, float]:
    """Accuracy on test images of each classifier; at the end the graph's temperature is chosen, too.

    "gcn_chosen_on_test" is what the graph classifier would have claimed if its step (at the end also its
    temperature) were chosen by the test labels, as the paper's code does; nothing else uses it.
    """
    temperature = shared.gcn_temperatures if end else (shared.gcn_temperature,)
    model, gcn = graph_classifier(features, temperature, shared, seed)
    found = {
        "linear": _linear(features),
        "knn": _nearest(features, shared),
        "gcn": gcn,
        "gcn_chosen_on_test": max(gcn, _chosen_on_test(model, features)),
    }
    if end:
        found["gcn_attached"] = _attached(features, model.temperature_, shared, seed)
    return found


def few_accuracies(features: Features, shared: DensityProtocol, seed: int) -> dict[str, float]:
    """The same with few labels, means over draws; the graph keeps all images, most of them unlabeled."""
    found: dict[str, list[float]] = {name: [] for name in FEW}
    for draw in range(shared.few_draws):
        chosen = few_labels(features.train_labels, shared.few_labels, seed=1000 * seed + draw)
        rows = torch.from_numpy(chosen)
        found["linear"].append(_linear(features, rows))
        found["knn"].append(_nearest(features, shared, rows))
        found["gcn"].append(graph_classifier(features, (shared.gcn_temperature,), shared, seed, rows)[1])
    return {name: float(np.mean(values)) for name, values in found.items()}


def head_rows(shared: DensityProtocol, num_classes: int, num_train: int) -> list[dict[str, Any]]:
    """Parameters of each classifier, and what else it has to keep to answer."""
    width = 16
    graph = (num_classes + 1) * width + (width * width + width + 1) + 2 * width
    graph += width * num_classes + num_classes + 1
    kept = f"the features of all {num_train} training images ({num_train} x {shared.dim} numbers)"
    return [
        {
            "name": "linear",
            "parameters": shared.dim * num_classes + num_classes,
            "words": f"a map from {shared.dim} coordinates to {num_classes} classes; nothing else is kept",
        },
        {
            "name": "knn",
            "parameters": 0,
            "words": f"keeps {kept} and their classes",
        },
        {
            "name": "gcn",
            "parameters": graph,
            "words": f"whatever the dimension; keeps {kept}, their classes and the graph among them",
        },
    ]


def _chosen_on_test(model: GCNClassifier, features: Features) -> float:
    """The best accuracy on test images over all steps and temperatures of a fit."""
    return max(features.hits(model.classes_[places.numpy()]) for places in model.claims)
