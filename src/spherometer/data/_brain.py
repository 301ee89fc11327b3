"""Brain volumes with an age and a sex, made by warping, thinning and shading a real template.

THESE ARE NOT PATIENT DATA. One real average brain is bent into many, and how much age and sex show in them
is our choice. They are there to try methods for meta-data on volumes where the truth is known; what is found
on them says nothing about medicine.

Shapes: N subjects, B of them in a batch, X x Y x Z voxels (x, y, z on the fine grid).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks
from spherometer.data._brain_template import BrainTemplate, load_brain_template
from spherometer.data._draws import Draws
from spherometer.data._source import digest
from spherometer.errors import InputError

VERSION = 1  # raised whenever the same recipe and seed would give other volumes
NOTICE = (
    "These volumes are not patient data. They were made by warping, thinning and shading one average brain "
    "(MNI152); age and sex were drawn at random, and how strongly they show was chosen by the authors of the "
    "generator. Nothing medical can be learned from them."
)
_VOXELS_AT_ONCE = 3_000_000  # of the fine grid
# where each part of a subject comes from; fixed, so that no part moves another
_LATENT, _ANATOMY, _COARSE, _FINE, _REGIONS, _SHADE, _NOISE = range(7)
_VENTRICLES = (0.0, -12.0, 16.0)  # mm in MNI coordinates: between the lateral ventricles
_REACH = 26.0  # mm over which their growth pushes the tissue away
_NODES_COARSE, _NODES_FINE, _NODES_REGIONS, _NODES_SHADE = (4, 5, 4), (8, 9, 8), (6, 7, 6), (3, 4, 3)


@dataclass(frozen=True)
class BrainRecipe:
    """How brains are made; every number is ours, chosen so that methods differ, not so that it is true.

    What is drawn per subject is normal with the standard deviation given here, but age (uniform) and sex.

    Args:
        voxel_size: 8 (26 x 30 x 25 voxels), 4 (52 x 60 x 50) or 2 mm (104 x 120 x 100).
        ages: youngest and oldest, years.
        thinning: share of grey matter that turns to fluid from the youngest to the oldest.
        ventricles: growth of the ventricles' radius from the youngest to the oldest, as a share.
        individuality: deviation of a subject's thinning and ventricles from what its age says, as a share of
            the whole effect of age; it is why no method can tell age exactly.
        dimorphism: how much longer a male brain is along each axis, as a share.
        grey_share: how much more grey matter a female brain has, as a share of it.
        head_size: of the length of each brain, as a share.
        warp, fine_warp: of smooth displacements, mm, at nodes about 55 and 25 mm apart.
        turn, shift: degrees and mm that registration left over.
        regions: of the share of grey matter, region by region.
        contrast: of the brightness of each tissue, as a share; as different scanners have it.
        shade: of a smooth change of brightness across the volume, as a share.
        noise: of each voxel, in units of the brightness of white matter.
    """

    voxel_size: int = 8
    ages: tuple[float, float] = (20.0, 80.0)
    thinning: float = 0.3
    ventricles: float = 0.5
    individuality: float = 0.12
    dimorphism: float = 0.04
    grey_share: float = 0.05
    head_size: float = 0.02
    warp: float = 2.0
    fine_warp: float = 1.0
    turn: float = 1.0
    shift: float = 1.0
    regions: float = 0.05
    contrast: float = 0.05
    shade: float = 0.1
    noise: float = 0.03

    def __post_init__(self) -> None:
        _checks.one_of("BrainRecipe", "voxel_size", str(self.voxel_size), ("2", "4", "8"))
        young, old = self.ages
        if not (math.isfinite(young) and math.isfinite(old) and 0 <= young < old):
            _checks.refuse(
                InputError, "BrainRecipe", "ages", "be (youngest, oldest) with 0 <= youngest < oldest",
                "ages are drawn between them", repr(self.ages)[:80], "Pass for instance ages=(20.0, 80.0)",
            )  # fmt: skip
        for name, value in asdict(self).items():
            usable = isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
            if name not in ("voxel_size", "ages") and not usable:
                _checks.refuse(
                    InputError, "BrainRecipe", name, "be a number of at least 0",
                    "it is the size of an effect", repr(value)[:80],
                    f"Pass for instance {name}={getattr(BrainRecipe, name)}",
                )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Brains:
    """Volumes [N, 1, X, Y, Z] float32 (0 outside the brain), and the age [N] and sex of their subjects.

    Not patient data: see :func:`make_brains`. Subject i is called ``sub-NNNNN`` by its number ``first + i``.
    """

    volumes: Tensor
    age: Tensor
    sex: tuple[str, ...]
    affine: np.ndarray[Any, np.dtype[np.float64]]
    recipe: BrainRecipe
    seed: int
    first: int
    template: str = field(repr=False)
    template_digest: str = field(repr=False)

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def metadata(self) -> dict[str, list[Any]]:
        """Age and sex, as a table."""
        return {"age": self.age.tolist(), "sex": list(self.sex)}

    @property
    def groups(self) -> list[str]:
        """The subject of each row."""
        return [f"sub-{self.first + row + 1:05d}" for row in range(len(self))]

    @cached_property
    def standardized(self) -> Tensor:
        """The volumes with mean 0 and variance 1 over the voxels of each brain, 0 outside."""
        inside = self.volumes != 0
        num = inside.flatten(1).sum(1).clamp(min=2).view(-1, 1, 1, 1, 1)
        mean = self.volumes.flatten(1).sum(1).view_as(num) / num
        centred = torch.where(inside, self.volumes - mean, 0.0)
        variance = centred.square().flatten(1).sum(1).view_as(num) / num
        return centred / variance.sqrt().clamp(min=1e-8)

    def fingerprint(self) -> str:
        """Of everything that the volumes are a function of."""
        return brains_fingerprint(len(self), self.seed, self.first, self.recipe, self.template_digest)

    def write_bids(self, directory: Path | str) -> Path:
        """Write a BIDS tree: one T1w file for each subject, participants.tsv, and what it is.

        ``spherometer train --data bids:DIRECTORY --metadata age,sex`` reads it. A directory that is there
        already is replaced.

        Raises:
            InputError: it cannot be written there. MissingExtraError: nibabel is not installed.
        """
        from spherometer.data._brain_bids import write_bids

        return write_bids(self, Path(directory))


def brains_fingerprint(num: int, seed: int, first: int, recipe: BrainRecipe, template_digest: str) -> str:
    """Of the volumes that ``make_brains`` would make."""
    return digest(
        generator="brains", version=VERSION, num=num, seed=seed, first=first, recipe=asdict(recipe),
        template=template_digest,
    )  # fmt: skip


def make_brains(
    num: int = 200, *, seed: int = 0, first: int = 0, recipe: BrainRecipe | None = None
) -> Brains:
    r"""Make ``num`` brain volumes, each with an age and a sex.

    These are not patient data. Each brain is the MNI152 template, real but an average,

    - warped: turned, moved, scaled, bent smoothly, with ventricles that grow with age;
    - thinned: grey matter turns to fluid with age, more or less in each region;
    - shaded: tissues get another contrast, the volume another brightness from one side to the other, and
      every voxel noise; what the template's T1 has beyond its tissues moves along.

    Female brains are a little smaller and have a little more grey matter. All sizes of effects are ours: they
    stand in :class:`BrainRecipe`.

    Args:
        num: subjects.
        seed: of all that is drawn; the global generators are not touched.
        first: number of the first subject. Subject ``first + i`` depends on its number and the seed alone, so
            that further subjects can be made later.
        recipe: sizes of effects; the defaults are those of ``spherometer study brain``.

    Returns:
        Volumes with their meta-data and affine (RAS, mm); the same on every run on the same machine and
        versions.

    Raises:
        InputError: an argument cannot be used. MissingExtraError: nilearn is not installed.

    Cost: about 5 s to load the template, then about 20 ms for each subject at 8 mm.

    Source: the generator is ours; the template is MNI152 (Fonov et al. 2011), as bundled with nilearn.
    """
    _checks.whole("make_brains", "num", num)
    _checks.whole("make_brains", "seed", seed, at_least=0)
    _checks.whole("make_brains", "first", first, at_least=0)
    recipe = BrainRecipe() if recipe is None else recipe
    template = load_brain_template(recipe.voxel_size)
    index = torch.arange(first, first + num)
    latent = Draws(seed, view=_LATENT).uniform(index, 2)
    young, old = recipe.ages
    age = (100 * (young + (old - young) * latent[:, 0])).round() / 100
    male = latent[:, 1] < 0.5
    maker = _Maker(recipe, template, seed)
    elder = (age - young) / (old - young)
    batch = max(1, _VOXELS_AT_ONCE // template.maps[0].numel())
    parts = [
        maker(*(each[start : start + batch] for each in (index, elder, male)))
        for start in range(0, num, batch)
    ]
    affine = template.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, 0.5)
    affine[:3, :3] *= 2
    sex = tuple("M" if each else "F" for each in male.tolist())
    return Brains(torch.cat(parts), age, sex, affine, recipe, seed, first, template.name, template.digest)


@dataclass(frozen=True)
class _Maker:
    """Makes volumes [B, 1, X, Y, Z] from subject numbers, ages in [0, 1] and sexes."""

    recipe: BrainRecipe
    template: BrainTemplate
    seed: int

    def __call__(self, index: Tensor, elder: Tensor, male: Tensor) -> Tensor:
        own = Draws(self.seed, view=_ANATOMY).normal(index, 16).float()
        elder, sexed = elder.float(), male.float() - 0.5
        shares, rest = self._warped(index, own, elder, sexed)
        shares = self._thinned(shares, index, own, elder, sexed)
        return self._shaded(shares, rest, index, own)

    @cached_property
    def _places(self) -> Tensor:
        """Of the voxels, mm from the centre of the grid, [x, y, z, 3]."""
        axes = [(torch.arange(side) - (side - 1) / 2) * self.template.voxel for side in self._sides]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)

    @property
    def _sides(self) -> list[int]:
        return list(self.template.maps.shape[1:])

    def _smooth(self, index: Tensor, view: int, nodes: Sequence[int], channels: int, sides: Any) -> Tensor:
        """Random fields [B, channels, ...], linear between nodes with standard normal values."""
        drawn = Draws(self.seed, view=view).normal(index, channels * math.prod(nodes)).float()
        fields = drawn.view(len(index), channels, *nodes)
        for num, side in zip(nodes, sides, strict=True):
            fields = torch.tensordot(fields, _between(num, side), dims=([2], [0]))  # that axis goes last
        return fields

    def _warped(self, index: Tensor, own: Tensor, elder: Tensor, sexed: Tensor) -> tuple[Tensor, Tensor]:
        """Shares [B, 3, x, y, z] of the tissues, and the rest [B, 1, x, y, z] of T1, where they moved to.

        For every voxel of the new brain: the place of the template that it shows.
        """
        recipe = self.recipe
        size = torch.exp(recipe.head_size * own[:, 0] + recipe.dimorphism * sexed)
        turns = _rotations(torch.deg2rad(recipe.turn * own[:, 1:4]))
        places = torch.einsum("bij,xyzj->bxyzi", turns / size[:, None, None], self._places)
        places = places + recipe.shift * own[:, None, None, None, 4:7]
        for view, nodes, strength in (
            (_COARSE, _NODES_COARSE, recipe.warp),
            (_FINE, _NODES_FINE, recipe.fine_warp),
        ):
            places = places + strength * self._smooth(index, view, nodes, 3, self._sides).movedim(1, -1)
        origin = torch.from_numpy(self.template.affine[:3, 3] + self.template.affine[:3, :3] @ (
            (np.array(self._sides) - 1) / 2
        )).float()  # fmt: skip
        away = places - (torch.tensor(_VENTRICLES) - origin)
        near = torch.exp(-away.square().sum(-1, keepdim=True) / (2 * _REACH**2))
        growth = recipe.ventricles * (elder - 0.5 + recipe.individuality * own[:, 7])
        places = places - growth.clamp(-0.8, 0.8).view(-1, 1, 1, 1, 1) * near * away
        grid = 2 * places / (torch.tensor(self._sides) * self.template.voxel)
        maps = self.template.maps.expand(len(index), -1, -1, -1, -1)
        moved = F.grid_sample(maps, grid.flip(-1), padding_mode="zeros", align_corners=False)
        return moved[:, :3], moved[:, 3:]

    def _thinned(self, shares: Tensor, index: Tensor, own: Tensor, elder: Tensor, sexed: Tensor) -> Tensor:
        """The same with some grey matter turned to fluid (or fluid to grey matter)."""
        recipe = self.recipe
        lost = recipe.thinning * (elder - 0.5 + recipe.individuality * own[:, 8]) + recipe.grey_share * sexed
        regions = recipe.regions * self._smooth(index, _REGIONS, _NODES_REGIONS, 1, self._sides)
        grey, white, fluid = torch.split(shares, 1, dim=1)
        lost_here = (lost.view(-1, 1, 1, 1, 1) + regions).clamp(-0.5, 0.9) * grey
        lost_here = torch.maximum(lost_here, -fluid)  # no more can be gained than there is room for
        return torch.cat([grey - lost_here, white, fluid + lost_here], dim=1)

    def _shaded(self, shares: Tensor, rest: Tensor, index: Tensor, own: Tensor) -> Tensor:
        """The volumes on the coarse grid."""
        recipe = self.recipe
        bright = self.template.means * torch.exp(recipe.contrast * own[:, 9:12])
        fine = (shares * bright[:, :, None, None, None]).sum(1, keepdim=True) + rest
        volumes, inside = F.avg_pool3d(fine, 2), F.avg_pool3d(shares.sum(1, keepdim=True), 2) > 0.25
        sides = volumes.shape[2:]
        shade = torch.exp(recipe.shade * self._smooth(index, _SHADE, _NODES_SHADE, 1, sides))
        drawn = Draws(self.seed, view=_NOISE).normal(index, math.prod(sides)).float()
        noise = recipe.noise * drawn.view_as(volumes)
        return torch.where(inside, (volumes * shade + noise).clamp(min=1e-3), 0.0)


def _between(nodes: int, side: int) -> Tensor:
    """Weights [nodes, side] of linear interpolation from nodes to places, both from end to end."""
    places = torch.linspace(0, nodes - 1, side)
    return (1 - (places - torch.arange(nodes)[:, None]).abs()).clamp(min=0)


def _rotations(angles: Tensor) -> Tensor:
    """Rotations [B, 3, 3] about the three axes, one after the other, angles [B, 3] in radians."""
    generators = torch.zeros(3, 3, 3)
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        generators[axis, a, b], generators[axis, b, a] = -1.0, 1.0
    x, y, z = (torch.linalg.matrix_exp(angles[:, axis, None, None] * generators[axis]) for axis in range(3))
    turned: Tensor = x @ y @ z
    return turned
