"""The arms of the study of local density, and the key under which each result is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from spherometer.study._recipe import StudyRecipe

Objective = Literal["supervised", "contrastive", "align_uniform", "bad", "untrained", "raw"]
Architecture = Literal["conv", "vit"]
Data = Literal["digits", "mnist", "fashion-mnist"]

DATA: tuple[Data, ...] = ("digits", "mnist", "fashion-mnist")
TRAINED: tuple[Objective, ...] = ("supervised", "contrastive", "align_uniform", "bad")
ARCHITECTURES: tuple[Architecture, ...] = ("conv", "vit")
TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05)
KS = (1, 10, 100)
_PROTOCOL = 2  # raised whenever the same arm would give other numbers

_OBJECTIVES = {
    "supervised": "Supervised",
    "contrastive": "Contrastive (NT-Xent)",
    "align_uniform": "Align + uniform",
    "bad": "Contrastive, scattered",
    "untrained": "Untrained",
}
_ARCHITECTURES = {"conv": "ConvNet", "vit": "ViT"}


@dataclass(frozen=True)
class Arm:
    """One line of the trial: what is minimised, by which architecture."""

    objective: Objective
    architecture: Architecture | None

    @property
    def id(self) -> str:
        """In the document."""
        return self.objective if self.architecture is None else f"{self.objective}-{self.architecture}"

    @property
    def name(self) -> str:
        """For people."""
        if self.architecture is None:
            return "Raw pixels"
        return f"{_OBJECTIVES[self.objective]}, {_ARCHITECTURES[self.architecture]}"


@dataclass(frozen=True)
class DensityProtocol:
    """What all arms share; part of every key.

    Args:
        data: the images.
        images: their fingerprint.
        recipe: of every training.
        checkpoints: epochs after which encoders are measured and probed, the last the end. What epoch 0 would
            show is what the untrained encoder of the same seed shows, which has the same weights.
        num_train, num_test: images of a large set that train and test; 0: all there are.
        dim: output coordinates D.
        temperature: of the contrastive loss, trained and measured.
        label_smoothing: of the supervised one.
        bad_weight: alpha of contrastive + alpha log(1 + Calinski-Harabasz).
        bad_rise: share of the steps over which alpha rises from 0; sooner, the ViT does not learn at all.
        rld_temperatures, ks: of relative local density, and of neighbour purity.
        gcn_temperature: of the graph classifier along the training; at its end it chooses among
            ``gcn_temperatures`` by labels that it holds back from itself.
        gcn_steps: most steps of that classifier.
        neighbors: of the k-nearest-neighbour probe.
        few_labels, few_draws: labels of the rows with few labels, and how often they are drawn.
        panel_rows: test images in each of the two-dimensional panels; 0: no panels.
    """

    data: Data
    recipe: StudyRecipe
    checkpoints: tuple[int, ...]
    num_train: int = 0
    num_test: int = 0
    dim: int = 64
    temperature: float = 0.2
    label_smoothing: float = 0.1
    bad_weight: float = 1.0
    bad_rise: float = 1.0
    rld_temperatures: tuple[float, ...] = TEMPERATURES
    ks: tuple[int, ...] = KS
    gcn_temperature: float = 0.1
    gcn_temperatures: tuple[float, ...] = (0.1, 0.2)
    gcn_steps: int = 1000
    neighbors: int = 5
    few_labels: int = 50
    few_draws: int = 1
    panel_rows: int = 540
    images: str = ""
    version: int = _PROTOCOL


@dataclass(frozen=True)
class DensityTask:
    """One arm with one seed, kept in the storage under ``key``."""

    arm: Arm
    seed: int
    protocol: DensityProtocol

    @property
    def key(self) -> str:
        """Hash of everything that the result depends on."""
        content = json.dumps(["local-density", asdict(self)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For the progress line."""
        return self.arm.name + (f", seed {self.seed}" if self.seed else "")


def task_from_dict(fields: dict[str, Any]) -> DensityTask:
    """The task whose ``asdict`` (by way of JSON) is ``fields``."""
    shared: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields["protocol"].items()
    }
    shared["recipe"] = StudyRecipe(**shared["recipe"])
    return DensityTask(Arm(**fields["arm"]), fields["seed"], DensityProtocol(**shared))


def protocol(data: Data, quick: bool) -> DensityProtocol:
    """The shared settings, so that the digits take minutes."""
    if data == "digits" and quick:
        recipe = StudyRecipe(epochs=6, batch_size=64, learning_rate=5e-3)
        return DensityProtocol(data, recipe, (2, 6), gcn_steps=100, panel_rows=200)
    if data == "digits":
        recipe = StudyRecipe(epochs=24, batch_size=64, learning_rate=5e-3)
        return DensityProtocol(data, recipe, (2, 8, 24))
    if quick:
        recipe = StudyRecipe(epochs=2, batch_size=128, learning_rate=3e-3)
        return DensityProtocol(data, recipe, (1, 2), 1000, 300, gcn_steps=100, panel_rows=200)
    recipe = StudyRecipe(epochs=12, batch_size=128, learning_rate=3e-3)
    return DensityProtocol(data, recipe, (1, 3, 6, 12), 8000, 2000)


def arms(quick: bool) -> list[Arm]:
    """All lines of the trial, the longest first; quick leaves out what differs least."""
    kinds: tuple[Architecture, ...] = ARCHITECTURES[:1] if quick else ARCHITECTURES[::-1]
    trained = [Arm(objective, kind) for kind in kinds for objective in TRAINED]
    return [*trained, *(Arm("untrained", kind) for kind in kinds), Arm("raw", None)]


def tasks(data: Data, quick: bool, seeds: int, images: str = "") -> list[DensityTask]:
    """All work of a study on images with this fingerprint, the longest pieces first."""
    shared = replace(protocol(data, quick), images=images)
    return [DensityTask(arm, seed, shared) for arm in arms(quick) for seed in range(seeds)]
