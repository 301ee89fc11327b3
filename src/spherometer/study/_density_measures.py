"""What is measured of features at a checkpoint of the study of local density.

Shapes: N images, D output coordinates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spherometer import losses
from spherometer._local_density import local_density
from spherometer.errors import UndefinedError
from spherometer.study._density_data import Sample
from spherometer.study._density_grid import DensityProtocol

DENSITIES = ("rld", "rld_share", "purity")  # by temperature, by temperature, by k
NUMBERS = ("calinski_harabasz", "between_share")
TEST = "test_"  # before the names of what is measured on test images


def densities(rows: Tensor, labels: Tensor, shared: DensityProtocol) -> dict[str, Any]:
    """Relative local density by temperature, purity by k, Calinski-Harabasz, the share between classes.

    "rld_share" is how far relative local density is from random labels (0) to its ceiling (1). All is None
    where the rows are one point.
    """
    keys = [f"{each:g}" for each in shared.rld_temperatures]
    ks = [k for k in shared.ks if k < len(rows)]
    try:
        found = local_density(rows, labels, temperatures=shared.rld_temperatures, k=ks)
    except UndefinedError:
        nothing = dict.fromkeys(keys)
        return {"rld": nothing, "rld_share": nothing, "purity": {str(k): None for k in ks}} | dict.fromkeys(
            NUMBERS
        )
    return {
        "rld": {key: point.value for key, point in zip(keys, found.points, strict=True)},
        "rld_share": {key: point.local_share for key, point in zip(keys, found.points, strict=True)},
        "purity": {str(point.k): point.value for point in found.purity},
        "calinski_harabasz": found.calinski_harabasz,
        "between_share": found.between_share,
    }


def measured(train: Tensor, test: Tensor, sample: Sample, shared: DensityProtocol) -> dict[str, Any]:
    """``densities`` of the training images, and of the test images under names that begin with "test_"."""
    found = densities(train, sample.labels[0], shared)
    return found | {TEST + name: value for name, value in densities(test, sample.labels[1], shared).items()}


def contrastive_loss(x: Tensor, y: Tensor, shared: DensityProtocol) -> float:
    """NT-Xent of two views [N, D] of all training images at once, whatever the encoder was trained with."""
    with torch.no_grad():
        return float(losses.nt_xent_loss(x, y, temperature=shared.temperature))
