"""The grids of the studies of meta-data: which arms are trained, and the key under which a result is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from spherometer.study._recipe import StudyRecipe

Arm = Literal[
    "y_aware", "conditional", "instance_conditional", "align_uniform", "nt_xent", "regression", "untrained",
    "pca", "raw", "raw_and_metadata",
]  # fmt: skip
Name = Literal["digits --metadata proxy", "digits --metadata angle", "diabetes", "brain"]

_PROTOCOL = 1  # raised whenever the same configuration would give other numbers
PROXY: Name = "digits --metadata proxy"
ANGLE: Name = "digits --metadata angle"
DIABETES: Name = "diabetes"
CONDITIONED: tuple[Arm, ...] = ("y_aware", "conditional", "instance_conditional")
UNCONDITIONED: tuple[Arm, ...] = ("align_uniform", "nt_xent", "regression", "untrained", "pca", "raw")
NAMES: dict[str, str] = {
    "y_aware": "y-Aware InfoNCE",
    "conditional": "Conditional align + conditional uniform",
    "instance_conditional": "Instance align + conditional uniform",
    "align_uniform": "Align + uniform",
    "nt_xent": "NT-Xent",
    "regression": "Direct regression of the meta-data",
    "untrained": "Untrained encoder",
    "pca": "PCA",
    "raw": "Raw features",
    "raw_and_metadata": "Raw features and meta-data",
}


@dataclass(frozen=True)
class ConditionalConfiguration:
    """One arm; those that compare meta-data have a bandwidth, in the unit that the study names."""

    arm: Arm
    bandwidth: float | None = None

    @property
    def name(self) -> str:
        """In words."""
        return NAMES[self.arm] + ("" if self.bandwidth is None else f" (bandwidth {self.bandwidth:g})")


@dataclass(frozen=True)
class ConditionalProtocol:
    """What all arms of a study share; part of every key.

    Args:
        study: its name, as on the command line.
        recipe: of every training.
        amount: what the study makes of the data: standard deviation of the proxy's noise, in classes; largest
            angle, in degrees; share of the columns that a view replaces.
        bandwidths: candidates.
        measured_bandwidth: of the conditional metrics: the same for all arms.
        few_labels, few_label_draws: of the probes with few labels.
        dim: output coordinates.
        temperature: of both contrastive losses.
        components: numbers of principal components to choose from.
    """

    study: Name
    recipe: StudyRecipe
    amount: float
    bandwidths: tuple[float, ...]
    measured_bandwidth: float
    few_label_draws: int
    few_labels: int = 50
    dim: int = 32
    temperature: float = 0.1
    components: tuple[int, ...] = (5, 10, 20, 40)
    version: int = _PROTOCOL


@dataclass(frozen=True)
class ConditionalTask:
    """One encoder to be trained (or one baseline), kept in the storage under ``key``."""

    configuration: ConditionalConfiguration
    seed: int
    protocol: ConditionalProtocol

    @property
    def key(self) -> str:
        """Hash of everything that the result depends on; of the bandwidths only its own."""
        fields = asdict(self)
        del fields["protocol"]["bandwidths"]
        content = json.dumps(["conditional", fields], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For the progress line."""
        return self.configuration.name + (f", seed {self.seed}" if self.seed else "")


def task_from_dict(fields: dict[str, Any]) -> ConditionalTask:
    """The task whose ``asdict`` is ``fields``."""
    protocol = dict(fields["protocol"])
    protocol["recipe"] = StudyRecipe(**protocol["recipe"])
    for name in ("bandwidths", "components"):
        protocol[name] = tuple(protocol[name])
    configuration = ConditionalConfiguration(**fields["configuration"])
    return ConditionalTask(configuration, fields["seed"], ConditionalProtocol(**protocol))


def protocol(study: Name, quick: bool) -> ConditionalProtocol:
    """The shared settings; how long to train, so that five seeds take minutes."""
    draws = 5 if quick else 10
    if study == DIABETES:
        recipe = StudyRecipe(epochs=10 if quick else 100, batch_size=64, learning_rate=3e-3)
        widths = (0.25, 1.0) if quick else (0.125, 0.25, 0.5, 1.0, 2.0)
        return ConditionalProtocol(study, recipe, 0.3, widths, 0.5, draws, dim=16, components=(2, 4, 6))
    recipe = StudyRecipe(epochs=8 if quick else 40, batch_size=128, learning_rate=3e-3)
    if study == PROXY:
        widths = (0.25, 1.0) if quick else (0.03125, 0.125, 0.5, 1.0, 2.0)
        return ConditionalProtocol(study, recipe, 0.5, widths, 0.5, draws)
    widths = (5.0, 20.0) if quick else (0.25, 1.0, 5.0, 20.0, 40.0)
    return ConditionalProtocol(study, recipe, 60.0, widths, 10.0, draws)


def grid(shared: ConditionalProtocol) -> list[ConditionalConfiguration]:
    """All arms, those with a bandwidth first."""
    more: tuple[Arm, ...] = ("raw_and_metadata",) if shared.study == DIABETES else ()
    return [
        *(ConditionalConfiguration(arm, width) for arm in CONDITIONED for width in shared.bandwidths),
        *(ConditionalConfiguration(arm) for arm in (*UNCONDITIONED, *more)),
    ]


def tasks(study: Name, quick: bool, seeds: int) -> list[ConditionalTask]:
    """All work of a study."""
    shared = protocol(study, quick)
    return [
        ConditionalTask(configuration, seed, shared)
        for seed in range(seeds)
        for configuration in grid(shared)
    ]
