"""The encoders of the study of dense representations, and the key under which each result is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from spherometer.study._recipe import StudyRecipe
from spherometer.training import MethodRecipe

Data = Literal["multi", "single"]
Loss = Literal["dense_info_nce", "dense_align_uniform", "info_nce", "align_uniform", "untrained", "raw"]
Rule = Literal["geometric", "similarity", "index", "random"]

DATA: tuple[Data, ...] = ("multi", "single")
RULES: tuple[Rule, ...] = ("geometric", "similarity", "index", "random")
INSTANCE_ONLY = "instance only"  # of the ablation: no loss of cells
UNTRAINED: tuple[Loss, ...] = ("untrained", "raw")
_PROTOCOL = 2  # raised whenever the same configuration would give other numbers


@dataclass(frozen=True)
class DenseConfiguration:
    """One line of the grid: what is minimised, how cells find partners, what the cells weigh.

    ``temperature`` is None without a contrastive loss, the weights and ``t`` without align + uniform.
    """

    loss: Loss
    matching: Rule | None = None
    dense_weight: float = 0.0
    temperature: float | None = None
    align_weight: float | None = None
    uniform_weight: float | None = None
    t: float | None = None

    @property
    def id(self) -> str:
        """In the document: short, of small letters."""
        parts = [self.loss.replace("_", "-")]
        if self.matching is not None:
            parts += [self.matching, f"d{self.dense_weight:g}"]
        if self.temperature is not None:
            parts.append(f"t{self.temperature:g}")
        if self.align_weight is not None:
            parts.append(f"a{self.align_weight:g}-u{self.uniform_weight:g}")
        return "-".join(parts)

    @property
    def name(self) -> str:
        """For people."""
        if self.loss in UNTRAINED:
            return "Untrained" if self.loss == "untrained" else "Raw pixels"
        kind = (
            f"InfoNCE (temperature {self.temperature:g})"
            if self.temperature is not None
            else f"{self.align_weight:g} align + {self.uniform_weight:g} uniform"
        )
        if self.matching is None:
            return f"{kind}, whole images only"
        share = "cells only" if self.dense_weight == 1 else f"cells {self.dense_weight:g}"
        return f"{kind}, {share}, {self.matching}"

    @property
    def trained(self) -> bool:
        """Whether there is something to train."""
        return self.loss not in UNTRAINED

    @property
    def trains_cells(self) -> bool:
        """Whether anything trains the head of the cells."""
        return self.dense_weight > 0

    @property
    def trains_instances(self) -> bool:
        """Whether anything trains the output for the image as a whole."""
        return self.trained and self.dense_weight < 1

    def method(self, num_cells: int) -> MethodRecipe:
        """The method that trains it; ``num_cells`` of a batch make its uniformity."""
        shared: dict[str, Any] = {"dense_weight": self.dense_weight, "matching": self.matching or "index"}
        if self.temperature is not None:
            return MethodRecipe("dense_info_nce", temperature=self.temperature, **shared)
        assert self.align_weight is not None
        assert self.uniform_weight is not None
        return MethodRecipe(
            "dense_align_uniform", align_weight=self.align_weight, uniform_weight=self.uniform_weight,
            t=self.t or 2.0, num_cells=num_cells, **shared,
        )  # fmt: skip


def _contrast(matching: Rule, temperature: float) -> DenseConfiguration:
    return DenseConfiguration("dense_info_nce", matching, 0.5, temperature)


def _direct(
    matching: Rule, align: float = 1.0, uniform: float = 1.0, dense_weight: float = 0.5
) -> DenseConfiguration:
    return DenseConfiguration("dense_align_uniform", matching, dense_weight, None, align, uniform, 2.0)


TEMPERATURE = 0.07  # of the contrastive losses that differ in their partners
ABLATION: dict[str, DenseConfiguration] = {
    **{rule: _direct(rule) for rule in RULES},
    INSTANCE_ONLY: DenseConfiguration("align_uniform", None, 0.0, None, 1.0, 1.0, 2.0),
}
OTHERS: tuple[DenseConfiguration, ...] = (
    _contrast("geometric", TEMPERATURE),
    _contrast("similarity", TEMPERATURE),
    _contrast("random", TEMPERATURE),
    _contrast("geometric", 0.2),
    _direct("geometric", dense_weight=1.0),
    _contrast("geometric", 0.5),
    _direct("geometric", dense_weight=0.2),
    _direct("geometric", align=3.0),
    DenseConfiguration("info_nce", temperature=TEMPERATURE),
)
BASELINES = (DenseConfiguration("untrained"), DenseConfiguration("raw"))


@dataclass(frozen=True)
class DenseProtocol:
    """What all encoders share; part of every key.

    Args:
        recipe: of every training.
        num_train: scenes that train encoders; the first ``num_fitted`` of them fit the probes.
        num_held_out: scenes that encoders are measured on, of things that no training scene shows.
        num_test: scenes that the tasks are scored on, of things that neither show.
        size: side of a scene, pixels.
        view_size: side of the crops that train encoders; they are measured on crops of the scenes' own size.
        background: of the scenes.
        width: channels of the first of four convolutions, with maxima of 2 x 2 between them.
        hidden: penultimate features.
        dim: output coordinates of an image, and of a cell.
        num_cells: cells at most whose uniformity is measured.
        batch_cells: cells of a batch whose uniformity is trained.
        strength: inverse penalty of all probes: set, not searched.
        upsample: of the segmentation probe.
        num_heat: images whose agreement is shown cell by cell.
        scenes_seed: of the scenes.
    """

    recipe: StudyRecipe
    num_train: int
    num_fitted: int
    num_held_out: int
    num_test: int
    size: int = 56
    view_size: int = 32
    background: Literal["textured", "plain"] = "plain"
    width: int = 12
    hidden: int = 128
    dim: int = 64
    num_cells: int = 2048
    batch_cells: int = 512
    strength: float = 1.0
    upsample: int = 2
    num_heat: int = 2
    scenes_seed: int = 0
    version: int = _PROTOCOL

    @property
    def grid(self) -> tuple[int, int]:
        """Cells along both sides of a map: the side is halved three times."""
        return self.size // 8, self.size // 8


@dataclass(frozen=True)
class DenseTask:
    """One configuration on one data set with one seed, kept in the storage under ``key``."""

    configuration: DenseConfiguration
    data: Data
    seed: int
    protocol: DenseProtocol

    @property
    def key(self) -> str:
        """Hash of everything that the result depends on."""
        content = json.dumps(["dense", asdict(self)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For the progress line."""
        return f"{self.data}: {self.configuration.name}" + (f", seed {self.seed}" if self.seed else "")


def task_from_dict(fields: dict[str, Any]) -> DenseTask:
    """The task whose ``asdict`` (by way of JSON) is ``fields``."""
    shared = dict(fields["protocol"])
    shared["recipe"] = StudyRecipe(**shared["recipe"])
    chosen = DenseConfiguration(**fields["configuration"])
    return DenseTask(chosen, fields["data"], fields["seed"], DenseProtocol(**shared))


def protocol(quick: bool) -> DenseProtocol:
    """The shared settings, so that one data set takes minutes."""
    if quick:
        recipe = StudyRecipe(epochs=2, batch_size=64, learning_rate=8e-3)
        return DenseProtocol(recipe, 256, 128, 64, 128, num_cells=1024)
    recipe = StudyRecipe(epochs=12, batch_size=64, learning_rate=8e-3)
    return DenseProtocol(recipe, 2048, 512, 256, 512)


def tasks(data: Sequence[Data], quick: bool, seeds: int) -> list[DenseTask]:
    """All work, data set by data set: the arms of the ablation with every seed, all else with one."""
    shared = protocol(quick)
    found = []
    for name in data:
        found += [
            DenseTask(chosen, name, seed, shared)
            for chosen in (*ABLATION.values(), BASELINES[0])
            for seed in range(seeds)
        ]
        found += [DenseTask(chosen, name, 0, shared) for chosen in (*OTHERS, BASELINES[1])]
    return sorted(found, key=lambda task: (not task.configuration.trained, DATA.index(task.data)))
