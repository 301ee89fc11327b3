"""The made brains that the brain study trains and judges on, kept in one file beside its results.

Shapes: N subjects, X x Y x Z voxels of the box that holds all brains.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer.data import BrainRecipe, make_brains
from spherometer.data._brain import brains_fingerprint
from spherometer.data._brain_template import load_brain_template
from spherometer.data._source import content_hash
from spherometer.stores import write_file
from spherometer.study._brain_grid import BrainProtocol

_SEED = 0  # of the brains; those of the study split them, and draw weights, views and labelled subjects
_FILE = "brains.npz"


def corpus(num: int) -> str:
    """Fingerprint of the study's brains, without making them."""
    recipe = BrainRecipe()
    return brains_fingerprint(num, _SEED, 0, recipe, load_brain_template(recipe.voxel_size).digest)


@dataclass(frozen=True, eq=False)
class BrainVolumes:
    """Volumes [N, 1, X, Y, Z] standardised inside each brain, age [N] float64, and who is male [N] bool."""

    volumes: Tensor
    age: Tensor
    male: Tensor

    def to_dict(self) -> dict[str, Any]:
        """What the study's document says about them."""
        return {
            "name": "made brains",
            "source": f"made by spherometer.data.make_brains({len(self.age)}, seed={_SEED}) from MNI152, as "
            "bundled with nilearn; not patient data",
            "volume_shape": list(self.volumes.shape[2:]),
            "mean_age": float(self.age.mean()),
            "deviation_of_age": float(self.age.std()),
            "share_male": float(self.male.double().mean()),
        }


def keep_brains(out: Path, shared: BrainProtocol) -> Path:
    """The file with the study's volumes; made when it is not there, or not of this protocol, or damaged."""
    path = out / _FILE
    if _opened(path, shared.corpus) is None:
        brains = make_brains(shared.num_subjects, seed=_SEED)
        volumes = brains.standardized[(..., *_box(brains.volumes))].contiguous()
        content = io.BytesIO()
        np.savez(
            content,
            volumes=volumes.numpy(),
            age=brains.age.numpy(),
            male=np.array([sex == "M" for sex in brains.sex]),
            corpus=np.array(shared.corpus),
            digest=np.array(content_hash(volumes)),
        )
        write_file(path, content.getvalue())
    return path


def open_brains(path: Path, shared: BrainProtocol) -> BrainVolumes:
    """What :func:`keep_brains` kept; made again if somebody removed it while the study ran."""
    found = _opened(path, shared.corpus) or _opened(keep_brains(path.parent, shared), shared.corpus)
    assert found is not None
    return found


def _opened(path: Path, wanted: str) -> BrainVolumes | None:
    """The volumes, None when the file does not hold them whole."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if str(archive["corpus"]) != wanted:
                return None
            found = BrainVolumes(*(torch.from_numpy(archive[name]) for name in ("volumes", "age", "male")))
            whole = content_hash(found.volumes) == str(archive["digest"])
    except Exception:  # not there, cut short, no archive: NumPy raises a kind of its own for each
        return None
    return found if whole else None


def _box(volumes: Tensor) -> tuple[slice, slice, slice]:
    """The smallest box with all brains, and a voxel of air around them where there is one."""
    inside = (volumes != 0).any(dim=0)[0]
    found = []
    for axis, side in enumerate(inside.shape):
        first, second = (other for other in range(3) if other != axis)
        there = inside.any(dim=second).any(dim=first).nonzero().flatten()
        found.append(slice(max(0, int(there[0]) - 1), min(side, int(there[-1]) + 2)))
    return found[0], found[1], found[2]
