"""What a study of meta-data works on: samples with meta-data, and what probes are to read from features.

Shapes: N samples, K columns of meta-data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from spherometer.data import Draws
from spherometer.kernels import Kernel
from spherometer.training import PairedViews
from spherometer.training._encoder import Encoder

PARTS = ("train", "validation", "test")
MEASURED_SEED = 1_000_003  # of the views that encoders are measured on: the same for all, never trained on
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Target:
    """What a probe reads: classes [N], or numbers [N] or [N, T] whose R^2 is averaged.

    ``few`` says whether it is also read with few labels.
    """

    name: str
    kind: Literal["classes", "numbers"]
    values: Array
    few: bool = False


@dataclass(frozen=True, eq=False)
class Sample:
    """The data of one seed of a study.

    Args:
        inputs: [N, ...] of all samples.
        metadata: column -> [N] float64, of all samples; only those of the training part are trained on.
        rows: row numbers of the parts "train", "validation" and "test".
        targets: what probes read.
        kernel: the kernel of a bandwidth, in the study's unit.
        views: pairs of views of some inputs, from a seed.
        encoder: a new encoder, from a seed.
        kept: whether encoders are written to files.
    """

    inputs: Tensor
    metadata: Mapping[str, Tensor]
    rows: Mapping[str, Tensor]
    targets: tuple[Target, ...]
    kernel: Callable[[float], Kernel]
    views: Callable[[Tensor, int], PairedViews]
    encoder: Callable[[int], Encoder]
    kept: bool = True

    def table(self, part: str) -> dict[str, Tensor]:
        """Meta-data of a part."""
        rows = self.rows[part]
        return {name: values[rows] for name, values in self.metadata.items()}

    def columns(self, part: str) -> Tensor:
        """Meta-data of a part as [n, K], each column in standard deviations from its mean over the part."""
        found = torch.stack(list(self.table(part).values()), dim=1)
        return (found - found.mean(dim=0)) / found.std(dim=0)


def few_seed(seed: int, draw: int) -> int:
    """Seed of one choice of labelled rows: the same for all arms."""
    return int(Draws(seed, view=1000 + draw).uniform(torch.tensor([0]), 1)[0, 0] * 2**31)
