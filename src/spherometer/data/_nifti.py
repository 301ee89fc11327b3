"""Volumes of NIfTI files: canonical axes, one grid, one scale.

Shapes: X x Y x Z voxels.
"""

from __future__ import annotations

import gzip
import math
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherometer import _checks
from spherometer.errors import InputError

SUFFIXES = (".nii", ".nii.gz")
MAX_BYTES = 2 << 30  # of a file, decompressed
_MAX_VOXELS = 1 << 28  # of a grid
_CLOSE = 1e-4  # voxels: as far as two places may lie apart to be one

Volume = NDArray[np.float32]


class UnusableVolumeError(ValueError):
    """A volume that cannot be used; the message says why in a few words."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a volume lie.

    Args:
        shape: X, Y and Z.
        affine: [4, 4], from numbers of voxels to millimetres (right, anterior, superior).
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def voxel_sizes(self) -> NDArray[np.float64]:
        """Edges of a voxel along X, Y and Z, mm."""
        sizes: NDArray[np.float64] = np.linalg.norm(self.affine[:3, :3], axis=0)
        return sizes

    def corners(self, margin: float = 0.5) -> NDArray[np.float64]:
        """The outermost points [8, 3] of the voxels (of their centres with a margin of 0), mm."""
        ends = [(-margin, side - 1 + margin) for side in self.shape]
        places: NDArray[np.float64] = np.array(list(product(*ends)), dtype=np.float64)
        return places @ self.affine[:3, :3].T + self.affine[:3, 3]

    def is_at(self, other: Grid) -> bool:
        """Whether every voxel lies where that of ``other`` lies."""
        if self.shape != other.shape:
            return False
        apart = np.abs(self.corners(0) - other.corners(0)).max()
        return bool(apart <= _CLOSE * float(self.voxel_sizes.min()))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}


def look(path: Path) -> Grid:
    """Where the voxels lie once the axes are canonical, from the header alone.

    Raises:
        UnusableVolumeError: no header of a single volume.
    """
    try:
        with _quiet(), np.errstate(all="ignore"):
            header, _ = _header(_content(path, 540))
            return _canonical(header)
    except Exception as error:  # readers of damaged files raise what they like
        raise UnusableVolumeError(_reason(error, path)) from error


def read(path: Path) -> tuple[Volume, Grid]:
    """The volume of a ``.nii`` or ``.nii.gz`` file in canonical orientation, and where its voxels lie.

    Axes are permuted and turned until they are as close to right, anterior, superior as they can be. The
    scale of the header is applied; voxels of NaN lie outside (of the brain, the mask) and become 0. The
    checksum of compressed files is verified.

    Raises:
        UnusableVolumeError: no file of a single volume, cut short or damaged, infinite voxels.
    """
    try:
        with _quiet(), np.errstate(all="ignore"):
            return _read(path)
    except Exception as error:
        raise UnusableVolumeError(_reason(error, path)) from error


def _nibabel(part: str = "") -> Any:
    return _checks.extra(f"nibabel{part}", "neuro", "reading NIfTI files")


def _quiet() -> Any:
    """Nothing of what the library would say about headers on standard error: what matters is raised."""
    return _nibabel(".imageglobals").LoggingOutputSuppressor()


def _read(path: Path) -> tuple[Volume, Grid]:
    nibabel = _nibabel()
    content = _content(path, MAX_BYTES + 1)
    header, kind = _header(content)
    grid = _canonical(header)
    needed = header.get_data_offset() + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
    if max(needed, len(content)) > MAX_BYTES:
        raise UnusableVolumeError(f"more than {MAX_BYTES >> 30} GiB")
    if len(content) < needed:
        raise UnusableVolumeError(f"cut short: {len(content)} of {needed} bytes")
    image = nibabel.as_closest_canonical(nibabel.squeeze_image(kind.from_bytes(content)))
    values: Volume = np.array(image.get_fdata(dtype=np.float32, caching="unchanged"), order="C")
    values[np.isnan(values)] = 0
    if not np.isfinite(values).all():
        raise UnusableVolumeError(f"{int(np.isinf(values).sum())} infinite voxels")
    return values.reshape(grid.shape), grid


def _content(path: Path, most: int) -> bytes:
    """The first bytes of a file, decompressed; at its end the checksum of a compressed one is verified."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UnusableVolumeError("no regular file")
    with gzip.GzipFile(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
        return file.read(most)


def _header(content: bytes) -> tuple[Any, Any]:
    """The checked header of a single-file NIfTI image of either version, and the class of the image."""
    nibabel = _nibabel()
    for order in ("<", ">"):
        size = int(np.frombuffer(content[:4], f"{order}i4")[0]) if len(content) >= 4 else 0
        if size not in (348, 540):
            continue
        kind = nibabel.Nifti1Image if size == 348 else nibabel.Nifti2Image
        if len(content) < size:
            raise UnusableVolumeError(f"cut short: {len(content)} bytes")
        header = kind.header_class(content[:size])
        if header["magic"].item() != header.single_magic:
            raise UnusableVolumeError("no single-file NIfTI image")
        if header.get_data_dtype().kind not in "iuf":
            raise UnusableVolumeError(f"voxels of type {header.get_data_dtype()}, not one number each"[:90])
        return header, kind
    raise UnusableVolumeError("no NIfTI file" if content else "an empty file")


def _canonical(header: Any) -> Grid:
    """Shape and affine after the axes are permuted and turned as nibabel's ``as_closest_canonical`` does."""
    orientations = _nibabel(".orientations")
    whole = tuple(int(side) for side in header.get_data_shape())
    shape = whole[:3]
    if len(shape) < 3 or min(whole) < 1 or math.prod(whole[3:]) != 1:
        raise UnusableVolumeError(f"{len(whole)}-D, {' x '.join(map(str, whole))}: no single volume")
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * edges.prod():
        raise UnusableVolumeError("an affine that cannot be inverted")
    turn = orientations.io_orientation(affine)
    sides = tuple(shape[int(axis)] for axis in np.argsort(turn[:, 0]))
    return Grid((sides[0], sides[1], sides[2]), affine @ orientations.inv_ornt_aff(turn, shape))


def _reason(error: BaseException, path: Path) -> str:
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return "a link to a file that is not here"
    if isinstance(error, EOFError):
        return "cut short"
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split())[:100].rstrip(".") or type(error).__name__


def covering(
    grids: Sequence[Grid], *, voxel_size: float | None = None, shape: tuple[int, ...] | None = None
) -> Grid:
    """One grid along right, anterior, superior that covers all ``grids``, their outermost voxels included.

    Args:
        grids: of the volumes.
        voxel_size: edge of the cubic voxels, mm; the box is widened evenly to whole voxels.
        shape: X, Y and Z instead; the voxels divide the box.

    Raises:
        InputError: more than 2^28 voxels.
    """
    corners = np.concatenate([grid.corners() for grid in grids])
    low, high = corners.min(axis=0), corners.max(axis=0)
    if shape is None:
        assert voxel_size is not None
        sides = np.maximum(np.ceil((high - low) / voxel_size - 1e-3), 1)
        edges = np.full(3, float(voxel_size))
        if sides.prod() > _MAX_VOXELS:
            box = " x ".join(f"{extent:.4g}" for extent in high - low)
            _checks.refuse(
                InputError,
                "open_data",
                "voxel_size",
                "give a grid of at most 2^28 voxels",
                "every volume is kept on it",
                f"{voxel_size:g} mm for a box of {box} mm that covers all volumes",
                "Pass a larger one",
            )
    else:
        sides = np.array(shape, dtype=np.float64)
        edges = (high - low) / sides
    affine = np.diag([*edges, 1.0])
    affine[:3, 3] = (low + high) / 2 - (sides - 1) / 2 * edges
    return Grid((int(sides[0]), int(sides[1]), int(sides[2])), affine)


def resampled(values: Volume, grid: Grid, target: Grid) -> Volume:
    """The volume at the places of another grid: linear interpolation by both affines, 0 outside.

    Where the new voxels are larger than the old ones, the volume is smoothed before by the Gaussian whose
    width (full, at half maximum) is the square root of the difference of the squared edges.
    """
    processing = _nibabel(".processing")
    width = np.sqrt(np.maximum(target.voxel_sizes**2 - grid.voxel_sizes**2, 0))
    image = _nibabel().Nifti1Image(values, grid.affine)
    if width.max() > _CLOSE * float(grid.voxel_sizes.min()):
        image = processing.smooth_image(image, width, mode="nearest")
    at = (target.shape, target.affine)
    image = processing.resample_from_to(image, at, order=1, mode="grid-constant", cval=0.0)
    return np.ascontiguousarray(image.dataobj, dtype=np.float32)


def prepared(values: Volume, grid: Grid | None = None, target: Grid | None = None) -> Volume:
    """A volume as encoders see it: on the grid ``target``, with mean 0 and standard deviation 1 inside.

    Inside are the voxels other than 0; after resampling those of which at least half lies inside.

    Raises:
        UnusableVolumeError: nothing is inside, or all of it is alike.
    """
    inside = values != 0
    if grid is not None and target is not None and not grid.is_at(target):
        share = resampled(inside.astype(np.float32), grid, target)
        values, inside = resampled(values, grid, target), share >= 0.5
    some = values[inside].astype(np.float64)
    if not len(some):
        raise UnusableVolumeError("no voxel other than 0")
    mean, spread = float(some.mean()), float(some.std())
    if spread <= 1e-7 * float(np.abs(some).max()):
        raise UnusableVolumeError("the same number in all voxels other than 0")
    found = np.zeros(values.shape, dtype=np.float32)
    found[inside] = (some - mean) / spread
    return found
