"""What is changed at random to make a view of a volume.

Shapes: B volumes, C channels, X x Y x Z voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks
from spherometer.correspondence import ViewGeometry
from spherometer.data._draws import Draws
from spherometer.errors import InputError, ShapeError

# where each change finds its numbers among those of one view; fixed, so that no change moves another's
_FLIP, _CROP, _BLUR, _NOISE, _CUTOUT, _NUM_SLOTS = 0, 1, 5, 7, 10, 14
_TAPS = 3.0  # standard deviations at which the blur ends

# chances of flip, crop, blur, noise and cutout
_CHANCES: Mapping[str, tuple[float, float, float, float, float]] = MappingProxyType(
    {
        "all": (0.5, 0.5, 0.5, 0.5, 0.5),  # as y-Aware InfoNCE was studied (Dufumier et al. 2021)
        "cutout": (0.0, 0.0, 0.0, 0.0, 1.0),  # as its published model was trained
        "none": (0.0, 0.0, 0.0, 0.0, 0.0),
    }
)
VOLUME_PRESETS = tuple(_CHANCES)


@dataclass(frozen=True)
class VolumeChanges:
    """One way to make views of volumes: mirror, crop and resize, blur, add noise, cut out, in this order.

    Every number is drawn per volume from ``Draws`` at (seed, epoch, index, view), also those of the noise, so
    a view depends neither on the batch it is made in nor on the kind of device. A volume for which nothing is
    drawn passes unchanged, bit for bit. Changes and chances are those of y-Aware InfoNCE; the strengths of
    blur and noise are ours, for volumes with mean 0 and variance 1.

    Args:
        preset: "all": every change with chance 1/2; "cutout": cutout alone, always; "none".
        crop: share of each side that a crop keeps; it is resized to the whole grid (trilinear).
        sigma: range of the blur's standard deviation, voxels.
        noise: range of the noise's standard deviation.
        cutout: share of each side of the box that becomes 0.

    Example:
        >>> volumes = torch.rand(2, 1, 8, 10, 9)
        >>> VolumeChanges("all").view(volumes, Draws(0, epoch=1), torch.arange(2)).shape
        torch.Size([2, 1, 8, 10, 9])
    """

    preset: str = "all"
    crop: float = 0.75
    sigma: tuple[float, float] = (0.1, 1.0)
    noise: tuple[float, float] = (0.05, 0.5)
    cutout: float = 0.25

    def __post_init__(self) -> None:
        _checks.one_of("VolumeChanges", "preset", self.preset, VOLUME_PRESETS)
        for name in ("crop", "cutout"):
            if not _between(getattr(self, name), 0, 1):
                _refuse(name, "lie in (0, 1]", "it is a share of each side", getattr(self, name), "0.5")
        for name in ("sigma", "noise"):
            value = getattr(self, name)
            usable = isinstance(value, (tuple, list)) and len(value) == 2
            if not (usable and all(_between(end, 0, 100) for end in value) and value[0] <= value[1]):
                must = "be (lowest, highest), above 0 and at most 100"
                _refuse(name, must, "a number between them is drawn", value, "(0.1, 1.0)")

    @property
    def name(self) -> str:
        """Of the preset."""
        return self.preset

    def settings(self) -> dict[str, Any]:
        """Everything that decides what a view is, JSON-able."""
        return {"kind": "volumes", **asdict(self)}

    def still(self, images: Tensor) -> Tensor:
        """The volumes as they are: nothing but random changes is made here."""
        return images

    def view(self, images: Tensor, draws: Draws, index: Tensor) -> Tensor:
        """One view of ``images`` [B, C, X, Y, Z], the rows ``index`` [B] of the set."""
        if images.ndim != 5 or not images.is_floating_point() or index.shape != images.shape[:1]:
            dtype = str(images.dtype).replace("torch.", "")
            _checks.refuse(
                ShapeError, "VolumeChanges.view", "images",
                "have shape [B, C, X, Y, Z] and hold floating-point numbers, one row number for each",
                "the numbers of a view are drawn by it",
                f"shape {tuple(images.shape)}, dtype {dtype}, index {tuple(index.shape)}",
                "Pass volumes with the row numbers that they have in their set",
            )  # fmt: skip
        if self.preset == "none":
            return images
        numbers = draws.uniform(index.to(images.device), _NUM_SLOTS)
        flip, crop, blur, noise, cutout = _CHANCES[self.preset]
        out = images.clone()
        self._flipped(out, _drawn(numbers, _FLIP, flip))
        self._cropped(out, _drawn(numbers, _CROP, crop), numbers[:, _CROP + 1 : _BLUR])
        self._blurred(out, _drawn(numbers, _BLUR, blur), numbers[:, _BLUR + 1])
        self._noisy(out, _drawn(numbers, _NOISE, noise), numbers[:, _NOISE + 1 : _CUTOUT])
        self._cut(out, _drawn(numbers, _CUTOUT, cutout), numbers[:, _CUTOUT + 1 :])
        return out

    def geometry(self, draws: Draws, index: Tensor, image_size: tuple[int, int, int]) -> ViewGeometry:
        """Where :meth:`view` of volumes of ``image_size``, rows ``index`` [B] of a set, lies in them."""
        whole = ViewGeometry.whole(len(index), image_size)
        if self.preset == "none":
            return whole
        numbers = draws.uniform(index, _NUM_SLOTS).double()
        flip, crop, *_ = _CHANCES[self.preset]
        size = torch.ones(len(index), 3, dtype=torch.float64)
        centre = torch.zeros_like(size)
        if self.crop < 1:
            rows = _drawn(numbers, _CROP, crop)
            size[rows] = self.crop
            centre[rows] = (2 * numbers[rows, _CROP + 1 : _BLUR] - 1) * (1 - self.crop)
        for part in (size, centre):  # the volume is mirrored before it is cropped
            part[_drawn(numbers, _FLIP, flip), 0] *= -1
        half = whole.matrix[..., -1]
        return ViewGeometry(
            torch.cat([torch.diag_embed(size * half), (half * (centre + 1))[..., None]], dim=2)
        )

    @staticmethod
    def _flipped(out: Tensor, rows: Tensor) -> None:
        """Exchange left and right, the first axis."""
        if len(rows):
            out[rows] = out[rows].flip(2)

    def _cropped(self, out: Tensor, rows: Tensor, places: Tensor) -> None:
        """Keep a box and resize it: one trilinear sampling; a box ends anywhere, not only between voxels."""
        if not len(rows) or self.crop == 1:
            return
        # in coordinates from -1 to 1 the box has half width ``crop`` and its centre within 1 - crop
        centres = ((2 * places[rows] - 1) * (1 - self.crop)).to(out.dtype)
        shape = (len(rows), *out.shape[2:])
        lines = []
        for axis, side in enumerate(out.shape[2:]):
            inside = torch.arange(side, dtype=out.dtype, device=out.device).mul(2).add(1 - side).div(side)
            line = self.crop * inside + centres[:, axis, None]
            lines.append(line.view(-1, *(side if axis == other else 1 for other in range(3))).expand(shape))
        grid = torch.stack(lines[::-1], dim=-1)  # grid_sample counts axes from the last
        out[rows] = F.grid_sample(out[rows], grid, padding_mode="border", align_corners=False)

    def _blurred(self, out: Tensor, rows: Tensor, strengths: Tensor) -> None:
        """Gaussian blur, axis after axis, as a weighted sum of shifted volumes; edges are repeated."""
        if not len(rows):
            return
        low, high = self.sigma
        sigma = low + (high - low) * strengths[rows]
        radius = max(1, math.ceil(_TAPS * high))
        steps = torch.arange(-radius, radius + 1, dtype=torch.float64, device=out.device)
        taps = torch.exp(-0.5 * (steps / sigma[:, None]).square())
        total = torch.zeros_like(sigma)
        for part in taps.unbind(dim=1):  # a reduction would add up another way for one row than for several
            total += part
        taps = (taps / total[:, None]).to(out.dtype)
        some = out[rows]
        for axis in (2, 3, 4):
            pad = [0] * 6
            pad[2 * (4 - axis)] = pad[2 * (4 - axis) + 1] = radius
            wide = F.pad(some, pad, mode="replicate")
            some = torch.zeros_like(some)
            for tap in range(2 * radius + 1):
                some += taps[:, tap].view(-1, 1, 1, 1, 1) * wide.narrow(axis, tap, out.shape[axis])
        out[rows] = some

    def _noisy(self, out: Tensor, rows: Tensor, numbers: Tensor) -> None:
        """Add normal noise, from a generator of each volume's own."""
        low, high = self.noise
        for row in rows.tolist():
            strength, seed = (float(number) for number in numbers[row])
            generator = torch.Generator().manual_seed(int(seed * 2**53))
            drawn = torch.randn(out.shape[1:], generator=generator).to(out)
            out[row].add_(drawn, alpha=low + (high - low) * strength)

    def _cut(self, out: Tensor, rows: Tensor, places: Tensor) -> None:
        """Put 0 into a box."""
        sides = [max(1, round(self.cutout * side)) for side in out.shape[2:]]
        for row in rows.tolist():
            where = [
                int(float(place) * (side - box + 1))
                for place, side, box in zip(places[row], out.shape[2:], sides, strict=True)
            ]
            x, y, z = (slice(start, start + box) for start, box in zip(where, sides, strict=True))
            out[row, :, x, y, z] = 0


def _drawn(numbers: Tensor, slot: int, chance: float) -> Tensor:
    """Rows that a change happens to."""
    return (numbers[:, slot] < chance).nonzero()[:, 0]


def _between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low < value <= high


def _refuse(name: str, must: str, because: str, got: Any, example: str) -> NoReturn:
    _checks.refuse(
        InputError,
        "VolumeChanges",
        name,
        must,
        because,
        repr(got)[:80],
        f"Pass for instance {name}={example}",
    )
