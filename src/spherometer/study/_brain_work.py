"""What a worker of the brain study does: the arms of the studies of meta-data, on volumes.

Shapes: N subjects, B in a batch, X x Y x Z voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer.data import VolumeChanges, VolumePart, VolumeSet, VolumeViews, permutation
from spherometer.data._source import content_hash
from spherometer.kernels import Gaussian, Product
from spherometer.study import _conditional_work
from spherometer.study._brain_grid import BrainProtocol
from spherometer.study._brain_grid import task_from_dict as task_from_dict
from spherometer.study._brain_parts import BrainVolumes, open_brains
from spherometer.study._conditional_grid import ConditionalTask
from spherometer.study._conditional_parts import PARTS, Sample, Target
from spherometer.study._worker import Order
from spherometer.training import build_encoder
from spherometer.training._encoder import Encoder


@dataclass(frozen=True, eq=False)
class BrainParts:
    """The volumes on a device, as what the arms work on."""

    brains: BrainVolumes
    shared: BrainProtocol
    device: str

    @cached_property
    def _inputs(self) -> Tensor:
        return self.brains.volumes.to(self.device)

    def sample(self, shared: Any, seed: int) -> Sample:
        """The data of one seed: the same subjects, split anew."""
        return Sample(
            inputs=self._inputs,
            metadata={"age": self.brains.age},
            rows=split(self.shared, seed),
            targets=(
                Target("age", "numbers", self.brains.age.numpy(), few=True),
                Target("sex", "classes", self.brains.male.numpy().astype(np.int64), few=True),
            ),
            kernel=lambda bandwidth: Product({"age": Gaussian(bandwidth)}),
            views=_views,
            encoder=self._encoder,
        )

    def _encoder(self, seed: int) -> Encoder:
        """Initial weights: a function of the seed, the same for all arms."""
        built = build_encoder("conv3d", dim=self.shared.dim, seed=seed, channels=1, width=self.shared.width)
        return built.to(self.device)


def _views(volumes: Tensor, seed: int) -> VolumeViews:
    """Two views of every volume [N, 1, X, Y, Z], with all changes of the y-Aware paper."""
    kept = volumes[:, 0]
    x, y, z = kept.shape[1:]
    names = [str(row) for row in range(len(kept))]
    held = VolumeSet(
        "made brains", "make_brains", names, (x, y, z), lambda row: kept[row].cpu().numpy(),
        content_hash(kept), kept=kept,
    )  # fmt: skip
    return VolumeViews(VolumePart(held), VolumeChanges("all"), seed)


def split(shared: BrainProtocol, seed: int) -> dict[str, Tensor]:
    """Row numbers of the three parts, a function of the seed."""
    order = permutation(shared.num_subjects, seed=seed)
    sizes = [shared.num_train, shared.num_validation, shared.num_test]
    return {part: rows.sort().values for part, rows in zip(PARTS, torch.split(order, sizes), strict=True)}


def load_parts(order: Order) -> BrainParts:
    """The volumes, from the file that the parent process made."""
    shared = order.tasks[0].protocol
    return BrainParts(open_brains(Path(order.data), shared), shared, order.device)


def run_task(task: ConditionalTask, parts: BrainParts, out: Path) -> tuple[dict[str, Any], float]:
    """The result of a task, and the one number that Optuna shows for it."""
    found: tuple[dict[str, Any], float] = _conditional_work.run_task(task, parts, out)  # type: ignore[arg-type]
    return found
