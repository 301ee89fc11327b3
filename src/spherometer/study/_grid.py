"""The grid of the digits study: what is trained, and the key under which its result is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from spherometer.study._recipe import StudyRecipe

Family = Literal["align_uniform", "info_nce", "combination", "untrained", "raw_pixels", "tf_idf", "minilm"]
Kind = Literal["encoder", "trajectories", "circle"]

_PROTOCOL = (
    2  # raised whenever the same configuration would give other numbers: old results are then kept apart
)


@dataclass(frozen=True)
class Configuration:
    """One encoder of the grid: weights of the loss terms, their parameters, and the output dimension."""

    family: Family
    align_weight: float = 0.0
    uniform_weight: float = 0.0
    contrastive_weight: float = 0.0
    contrastive: Literal["InfoNCE", "NT-Xent"] = "InfoNCE"
    alpha: float = 2.0
    t: float = 2.0
    temperature: float = 0.5
    dim: int = 32

    @property
    def name(self) -> str:
        """In words, with the parameters of the terms that are there."""
        if self.family in ("untrained", "raw_pixels"):
            return "Untrained encoder" if self.family == "untrained" else "Raw pixels"
        terms = []
        if self.contrastive_weight:
            weight = "" if self.contrastive_weight == 1 else f"{self.contrastive_weight:g} "
            terms.append(f"{weight}{self.contrastive} (temperature {self.temperature:g})")
        if self.align_weight:
            terms.append(f"align {self.align_weight:g} (alpha {self.alpha:g})")
        if self.uniform_weight:
            terms.append(f"uniform {self.uniform_weight:g} (t {self.t:g})")
        return " + ".join(terms) + ("" if self.dim == type(self).dim else f", {self.dim} dimensions")

    def to_dict(self) -> dict[str, Any]:
        """Fields by name; parameters of terms that are not there are None."""
        fields = asdict(self)
        fields.pop("family")
        if not self.align_weight:
            fields["alpha"] = None
        if not self.uniform_weight:
            fields["t"] = None
        if not self.contrastive_weight:
            fields["temperature"] = fields["contrastive"] = None
        return fields


@dataclass(frozen=True)
class Protocol:
    """What all encoders of a study share; part of every key, so that results of two protocols never mix."""

    recipe: StudyRecipe
    finetune_epochs: int  # of each trajectory
    finetune_points: int  # measured along each trajectory, after its start
    few_labels: int = 50
    few_label_draws: int = 10
    neighbors: int = 5
    info_nce_temperature: float = 0.5  # of the loss that is a criterion of selection
    lidar_views: int = 10  # of each image
    version: int = _PROTOCOL


@dataclass(frozen=True)
class Task:
    """One piece of work: trained once, kept in the storage under ``key``."""

    kind: Kind
    configuration: Configuration | None
    variant: str  # which of the kind's variants; "" for encoders
    seed: int
    protocol: Protocol

    @property
    def key(self) -> str:
        """Hash of everything that the result depends on."""
        content = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For the progress line."""
        if self.configuration is None:
            return f"{self.kind} {self.variant}".strip()
        return self.configuration.name + (f", seed {self.seed}" if self.seed else "")


def task_from_dict(fields: dict[str, Any]) -> Task:
    """The task whose ``asdict`` is ``fields``."""
    protocol = dict(fields["protocol"])
    protocol["recipe"] = StudyRecipe(**protocol["recipe"])
    configuration = fields["configuration"]
    return Task(
        kind=fields["kind"],
        configuration=None if configuration is None else Configuration(**configuration),
        variant=fields["variant"],
        seed=fields["seed"],
        protocol=Protocol(**protocol),
    )


def protocol(quick: bool) -> Protocol:
    """The shared settings; chosen so that every family's training loss has levelled off, the same for all."""
    recipe = StudyRecipe(epochs=8 if quick else 60, batch_size=128, learning_rate=3e-3)
    if quick:
        return Protocol(recipe, finetune_epochs=3, finetune_points=4, few_label_draws=5)
    return Protocol(recipe, finetune_epochs=20, finetune_points=10)


def _align_uniform(align: float, uniform: float, **fields: Any) -> Configuration:
    return Configuration("align_uniform", align_weight=align, uniform_weight=uniform, **fields)


def _contrastive(temperature: float, **fields: Any) -> Configuration:
    return Configuration("info_nce", contrastive_weight=1.0, temperature=temperature, **fields)


def _combination(contrastive: float, temperature: float, align: float, uniform: float) -> Configuration:
    return Configuration("combination", align, uniform, contrastive, temperature=temperature)


def grid(quick: bool) -> list[Configuration]:
    """The trained configurations: the papers' axes, one at a time, around align 1 + uniform 1 in 32-d."""
    if quick:
        return [
            *(_align_uniform(a, u) for a, u in ((0.0, 1.0), (0.25, 1.0), (1.0, 1.0), (4.0, 1.0), (1.0, 0.0))),
            _align_uniform(1.0, 1.0, dim=2),
            *(_contrastive(temperature) for temperature in (0.1, 0.5, 2.5)),
            _combination(0.5, 0.5, 0.0, 1.0),
        ]
    ratios = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)
    return [
        *(_align_uniform(ratio, 1.0) for ratio in ratios),
        _align_uniform(1.0, 0.0),
        *(_align_uniform(ratio, 1.0, alpha=1.0) for ratio in (0.5, 1.0, 2.0, 4.0)),
        *(_align_uniform(1.0, 1.0, t=t) for t in (1.0, 3.0, 5.0, 8.0)),
        _align_uniform(3.0, 1.0, t=3.0),
        *(_align_uniform(1.0, 1.0, dim=dim) for dim in (2, 4, 8, 128)),
        *(_contrastive(temperature) for temperature in (0.05, 0.07, 0.1, 0.2, 0.5, 1.0, 2.5)),
        *(_contrastive(temperature, contrastive="NT-Xent") for temperature in (0.1, 0.5)),
        *(_contrastive(0.2, dim=dim) for dim in (2, 8, 128)),
        _combination(0.5, 0.5, 0.0, 1.0),
        _combination(1.0, 0.5, 0.0, 1.0),
        _combination(0.5, 0.1, 1.0, 0.0),
        _combination(0.5, 0.5, 0.5, 0.5),
        _combination(0.5, 0.1, 0.5, 0.5),
    ]


def sweep_ratio(configuration: Configuration) -> bool:
    """Whether it belongs to the weight sweep: align and uniform alone, alpha 2, t 2, 32 dimensions."""
    plain = replace(configuration, align_weight=0.0, uniform_weight=0.0)
    return plain == type(configuration)("align_uniform")


CIRCLE = ("Random", "Supervised", "Contrastive")


def tasks(quick: bool, seeds: int) -> list[Task]:
    """All work of a study, the longest pieces first."""
    shared = protocol(quick)
    work = [Task("trajectories", None, "", 0, shared)]
    work += [Task("circle", None, variant, 0, shared) for variant in reversed(CIRCLE)]
    for seed in range(seeds):
        rows = [*grid(quick), Configuration("untrained")]
        work += [Task("encoder", configuration, "", seed, shared) for configuration in rows]
    work.append(Task("encoder", Configuration("raw_pixels"), "", 0, shared))
    return work
