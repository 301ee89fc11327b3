"""Volumes with label maps: NIfTI files beside each other, on one grid.

Shapes: N volumes, X x Y x Z voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks
from spherometer.data._nifti import (
    SUFFIXES,
    Grid,
    UnusableVolumeError,
    Volume,
    _nibabel,
    covering,
    prepared,
    read,
)
from spherometer.data._segmented import MAX_CLASSES, SegmentedImages
from spherometer.data._source import content_hash, digest
from spherometer.data._volume_open import fits
from spherometer.data._volumes import VolumeSet
from spherometer.errors import InputError

ENDINGS = ("_dseg", "_label")


def segmented_volumes(
    folder: str | Path,
    *,
    suffix: str | None = None,
    voxel_size: float | None = None,
    shape: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
) -> SegmentedImages:
    """Volumes of a folder with the class of every voxel, in memory.

    A file NAME_dseg.nii.gz or NAME_label.nii.gz (also .nii) is the label map of the file NAME.nii.gz or
    NAME_SUFFIX.nii.gz in the same folder. Volumes come to one grid and one scale as those of ``bids:`` do;
    label maps take the class of the nearest voxel, 0 outside. The numbers of all maps become the classes
    0, 1, ... in their order.

    Args:
        folder: files in its sub-folders count as well.
        suffix: which volumes, such as "T1w", where a label map lies beside several.
        voxel_size, shape: edge of the voxels in mm, or voxels along each axis, of one grid that covers all
            volumes. By default they keep their own, which must be the same for all.
        class_names: of the numbers in their order, that of 0 first; None: the numbers.

    Returns:
        Volumes [N, 1, X, Y, Z] with maps [N, X, Y, Z].

    Raises:
        InputError: no pair, unusable files, several grids, numbers that are no classes, more than 1 GiB.
        MissingExtraError: nibabel is not installed.
    """
    _checks.extra("nibabel", "neuro", "reading NIfTI files")
    if voxel_size is not None:
        _checks.positive("segmented_volumes", "voxel_size", voxel_size)
    if shape is not None and (len(shape) != 3 or voxel_size is not None):
        _refuse(
            "shape",
            "have three numbers, and go without voxel_size",
            "either of them says what the grid is",
            f"shape {tuple(shape)}, voxel_size {voxel_size}",
            "Pass one of the two",
        )
    root = Path(folder).expanduser()
    pairs = [_Pair.read(volume, label) for volume, label in _paths(root, suffix)]
    target = None
    if voxel_size is not None or shape is not None:
        sides = None if shape is None else tuple(int(side) for side in shape)
        target = covering([pair.grid for pair in pairs], voxel_size=voxel_size, shape=sides)
    else:
        _check_alike(pairs)
    dims = (target or pairs[0].grid).shape
    if not fits(len(pairs), dims):
        _refuse(
            f"folder {str(root)!r}",
            "hold volumes of at most 1 GiB together",
            "they are kept in memory",
            f"{len(pairs)} of {' x '.join(map(str, dims))} voxels",
            "Pass a larger voxel_size",
        )
    numbers = np.unique(np.concatenate([[0.0], *(np.unique(pair.classes) for pair in pairs)]))
    if len(numbers) > MAX_CLASSES:
        _refuse(
            "label maps",
            f"hold at most {MAX_CLASSES} numbers",
            "maps are kept as bytes",
            str(len(numbers)),
            "Join regions first",
        )
    listed = [str(int(number)) for number in numbers]
    names = listed if class_names is None else [str(name) for name in class_names]
    if len(names) != len(numbers):
        _refuse(
            "class_names",
            f"name {len(numbers)} classes",
            f"label maps hold {', '.join(listed[:8])}"[:80],
            f"{len(names)} names",
            "Name each, that of 0 first",
        )
    kept = torch.empty((len(pairs), *dims))
    maps = torch.empty((len(pairs), *dims), dtype=torch.uint8)
    for row, pair in enumerate(pairs):
        volume, classes = pair.on(target)
        kept[row] = torch.from_numpy(volume)
        maps[row] = torch.from_numpy(np.searchsorted(numbers, classes).astype(np.uint8))
    images = VolumeSet(
        root.resolve().name or "volumes", f"folder {str(root)!r}",
        ["/".join(pair.path.relative_to(root).parts) for pair in pairs], dims, _Kept(kept),
        digest(volumes=content_hash(kept)), kept=kept,
    )  # fmt: skip
    return SegmentedImages.of(images, maps, names)


@dataclass(frozen=True)
class _Kept:
    """Reads volumes in memory."""

    volumes: Tensor

    def __call__(self, row: int) -> Volume:
        found: Volume = self.volumes[row].numpy()
        return found


@dataclass(frozen=True)
class _Pair:
    """A volume and the numbers of its voxels, each on its grid."""

    path: Path
    volume: Volume
    grid: Grid
    classes: Volume
    classes_grid: Grid

    @classmethod
    def read(cls, path: Path, label: Path) -> _Pair:
        try:
            volume, grid = read(path)
        except UnusableVolumeError as error:
            _unusable(path, error)
        try:
            classes, classes_grid = read(label)
        except UnusableVolumeError as error:
            _unusable(label, error)
        wrong = (classes < 0) | (classes != np.rint(classes))
        if wrong.any():
            _refuse(f"label map {str(label)!r}", "hold whole numbers from 0", "each is a class",
                    f"{float(classes[wrong][0]):g}", "Threshold or round it first")  # fmt: skip
        return cls(path, volume, grid, classes, classes_grid)

    def on(self, target: Grid | None) -> tuple[Volume, Volume]:
        """The volume and its numbers on a grid; None: on that of the volume."""
        place = target or self.grid
        classes = self.classes
        if not self.classes_grid.is_at(place):
            image = _nibabel().Nifti1Image(classes, self.classes_grid.affine)
            at = (place.shape, place.affine)
            image = _nibabel(".processing").resample_from_to(
                image, at, order=0, mode="grid-constant", cval=0.0
            )
            classes = np.asarray(image.dataobj, dtype=np.float32)
        try:
            return prepared(self.volume, self.grid, target), classes
        except UnusableVolumeError as error:
            _unusable(self.path, error)


def _refuse(what: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "segmented_volumes", what, must, because, got, fix)


def _unusable(path: Path, error: Exception) -> NoReturn:
    _refuse(
        f"file {str(path)!r}",
        "be a usable volume",
        "every file is a sample, or its label map",
        str(error),
        "Mend it, or move the pair elsewhere",
    )


def _stem(path: Path) -> str | None:
    """Name without .nii or .nii.gz; None for other files."""
    ending = next((each for each in reversed(SUFFIXES) if path.name.lower().endswith(each)), None)
    return None if ending is None else path.name[: -len(ending)]


def _paths(root: Path, suffix: str | None) -> list[tuple[Path, Path]]:
    """Volumes and their label maps, by name."""
    if not root.is_dir():
        got = "a file" if root.exists() else "nothing there"
        _refuse(f"folder {str(root)!r}", "be a folder", "volumes lie in it", got, "Check the path")
    files = {path: stem for path in sorted(root.rglob("*")) if (stem := _stem(path)) is not None}
    found = []
    for label, stem in files.items():
        ending = next((each for each in ENDINGS if stem.endswith(each)), None)
        if ending is None:
            continue
        bare = stem.removesuffix(ending)
        wanted = {bare} if suffix is None else {f"{bare}_{suffix}"}
        beside = [
            path
            for path, other in files.items()
            if path.parent == label.parent and not other.endswith(ENDINGS)
            and (other in wanted or (suffix is None and other.rpartition("_")[0] == bare))
        ]  # fmt: skip
        if len(beside) != 1:
            got = ", ".join(path.name for path in beside) or "none"
            fix = "Pass suffix, such as 'T1w'" if beside else "Put the volume beside its label map"
            _refuse(f"label map {str(label)!r}", "lie beside one volume", "it says what that shows", got, fix)
        found.append((beside[0], label))
    if not found:
        _refuse(
            f"folder {str(root)!r}",
            f"hold label maps that end in {' or '.join(ENDINGS)}",
            "volumes without one have no classes",
            f"{len(files)} other NIfTI files",
            "Rename them",
        )
    return found


def _check_alike(pairs: Sequence[_Pair]) -> None:
    first = pairs[0]
    for pair in pairs:
        apart = float(abs(pair.grid.voxel_sizes / first.grid.voxel_sizes - 1).max())
        if pair.grid.shape != first.grid.shape or apart > 0.01:
            both = (
                f"{' x '.join(map(str, each.grid.shape))} in {each.path.name!r}" for each in (first, pair)
            )
            _refuse("voxel_size or shape", "be given for these volumes", "a batch needs volumes of one grid",
                    " and ".join(both), "Pass for instance voxel_size=2: all come to one grid")  # fmt: skip
