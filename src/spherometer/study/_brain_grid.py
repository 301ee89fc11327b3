"""The grid of the brain study: which arms are trained, and what they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spherometer.study._conditional_grid import (
    Arm,
    ConditionalConfiguration,
    ConditionalProtocol,
    ConditionalTask,
)
from spherometer.study._recipe import StudyRecipe

NAMES: dict[str, str] = {
    "y_aware": "y-Aware InfoNCE",
    "conditional": "Conditional align + conditional uniform",
    "nt_xent": "NT-Xent (SimCLR)",
    "regression": "Direct regression of age",
    "untrained": "Untrained encoder",
    "pca": "PCA + ridge",
    "raw": "Voxels + ridge",
}
CONDITIONED: tuple[Arm, ...] = ("y_aware", "conditional")
UNCONDITIONED: tuple[Arm, ...] = ("nt_xent", "regression", "untrained", "pca", "raw")


@dataclass(frozen=True)
class BrainProtocol(ConditionalProtocol):
    """What all arms share; part of every key.

    Args:
        corpus: fingerprint of the volumes.
        num_train, num_validation, num_test: subjects that train, by which bandwidths and numbers of
            components are chosen, and that are reported on; split anew in every seed.
        width: channels of the first convolution.
    """

    corpus: str = ""
    num_train: int = 200
    num_validation: int = 100
    num_test: int = 200
    width: int = 8

    @property
    def num_subjects(self) -> int:
        """Of all three parts."""
        return self.num_train + self.num_validation + self.num_test


def task_from_dict(fields: dict[str, Any]) -> ConditionalTask:
    """The task whose ``asdict`` is ``fields``."""
    shared = dict(fields["protocol"])
    shared["recipe"] = StudyRecipe(**shared["recipe"])
    for name in ("bandwidths", "components"):
        shared[name] = tuple(shared[name])
    configuration = ConditionalConfiguration(**fields["configuration"])
    return ConditionalTask(configuration, fields["seed"], BrainProtocol(**shared))


def protocol(quick: bool, corpus: str = "") -> BrainProtocol:
    """The shared settings: 200 subjects and 25 epochs, so that five seeds take minutes.

    Bandwidths are in years, ``amount`` is the side of a voxel in mm.
    """
    recipe = StudyRecipe(epochs=10 if quick else 25, batch_size=25, learning_rate=1e-2)
    widths = (5.0, 15.0) if quick else (2.0, 5.0, 10.0, 20.0)
    sizes = (100, 60, 100) if quick else (200, 100, 200)
    draws = 5 if quick else 10
    return BrainProtocol(
        "brain", recipe, 8.0, widths, 10.0, draws, 40, 32, 0.1, (5, 10, 20, 40), 1, corpus, *sizes
    )


def tasks(seeds: int, shared: BrainProtocol) -> list[ConditionalTask]:
    """All work of a study. The seed is that of split, weights, views and labels; the volumes stay."""
    grid = [
        *(ConditionalConfiguration(arm, width) for arm in CONDITIONED for width in shared.bandwidths),
        *(ConditionalConfiguration(arm) for arm in UNCONDITIONED),
    ]
    return [ConditionalTask(configuration, seed, shared) for seed in range(seeds) for configuration in grid]
