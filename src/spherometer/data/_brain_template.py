"""The real brain that made ones start from: MNI152, as nilearn brings it along.

Shapes: X x Y x Z voxels of the fine grid, whose voxels are half as long as those of the volumes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks

_BOX = (208, 240, 200)  # mm: holds the template and divides into voxels of 2, 4 and 8 mm
TISSUES = ("grey matter", "white matter", "fluid")


@dataclass(frozen=True, eq=False)
class BrainTemplate:
    """Maps [4, X, Y, Z] float32: the shares of grey matter, white matter and fluid, and the rest of T1.

    T1 is the sum of the shares times ``means``, plus the rest; white matter has mean 1. ``affine`` takes
    voxels of the fine grid to mm. ``digest`` names the files' contents.
    """

    name: str
    maps: Tensor
    means: Tensor
    voxel: float
    affine: np.ndarray[Any, np.dtype[np.float64]]
    digest: str

    @property
    def t1(self) -> Tensor:
        """The template itself, [X, Y, Z], white matter 1."""
        return (self.maps[:3] * self.means[:, None, None, None]).sum(0) + self.maps[3]


@lru_cache(maxsize=2)
def load_brain_template(voxel_size: int = 8) -> BrainTemplate:
    """MNI152 (Fonov et al. 2011) of nilearn: T1, grey and white matter; nothing is downloaded.

    Fluid is what remains inside the brain. Voxels of 1 mm are averaged in blocks to half of ``voxel_size``.

    Raises:
        MissingExtraError: nilearn is not installed.
    """
    datasets = _checks.extra("nilearn.datasets", "neuro", "make_brains")
    images = [
        datasets.load_mni152_template(),
        datasets.load_mni152_gm_template(),
        datasets.load_mni152_wm_template(),
    ]
    arrays = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.rint(array * 255).astype(np.uint8).tobytes())
    t1, grey, white = (torch.from_numpy(array) for array in arrays)
    fluid = ((t1 > 0).float() - grey - white).clamp(min=0)
    before = [(box - side) // 2 for box, side in zip(_BOX, t1.shape, strict=True)]
    after = [box - side - pad for box, side, pad in zip(_BOX, t1.shape, before, strict=True)]
    pads = [pad for pair in zip(before[::-1], after[::-1], strict=True) for pad in pair]
    whole = F.pad(torch.stack([grey, white, fluid, t1]), pads)
    block = voxel_size // 2
    maps = F.avg_pool3d(whole, block) if block > 1 else whole
    affine = np.array(images[0].affine, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ ((block - 1) / 2 - np.array(before))
    affine[:3, :3] *= block
    means = _means(maps)
    maps[3] = maps[3] / means[1] - (maps[:3] * (means / means[1])[:, None, None, None]).sum(0)
    return BrainTemplate(
        "MNI152 (ICBM 2009a nonlinear symmetric)", maps, means / means[1], float(block), affine,
        found.hexdigest(),
    )  # fmt: skip


def _means(maps: Tensor) -> Tensor:
    """T1 of pure grey matter, white matter and fluid, by least squares over the brain."""
    inside = maps[:3].sum(0) > 0.5
    shares, t1 = maps[:3, inside].T.double(), maps[3, inside].double()
    found: Tensor = torch.linalg.solve(shares.T @ shares, shares.T @ t1).float()
    return found
