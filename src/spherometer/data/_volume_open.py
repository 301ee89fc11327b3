"""Volumes of a BIDS tree: which there are, their grid, what is left out, and what the cache lacks.

Shapes: N volumes, X x Y x Z voxels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.data._bids import BidsFile, read_tree, subjects_of
from spherometer.data._locations import data_dir_of
from spherometer.data._nifti import Grid, UnusableVolumeError, Volume, covering, look, prepared, read
from spherometer.data._rows import stamp_of
from spherometer.data._source import digest
from spherometer.data._volume_cache import CachedReader, VolumeCache
from spherometer.data._volume_table import Columns, Participants, chosen, five
from spherometer.data._volumes import VolumeSet
from spherometer.errors import InputError

KEPT_BYTES = 1 << 30  # volumes that are kept in memory; of more, each is read whenever it is used
MADE = 1  # number of the way in which volumes are preprocessed: caches of another one do not count


class VolumesLeftOutWarning(UserWarning):
    """Volumes that cannot be used, or subjects without one, were left out, as ``skip_bad`` allows."""


@dataclass(frozen=True)
class VolumeOptions:
    """What is asked for, as :func:`spherometer.data.open_data` says it."""

    metadata: Sequence[str] | None = None
    suffix: str | None = None
    derivatives: str | None = None
    space: str | None = None
    voxel_size: float | None = None
    shape: tuple[int, ...] | None = None
    cache_dir: str | Path | None = None
    data_dir: str | Path | None = None
    skip_bad: int = 0

    def __post_init__(self) -> None:
        _checks.whole("open_data", "skip_bad", self.skip_bad, at_least=0)
        if isinstance(self.metadata, str):
            _refuse("metadata", "be several names", "each is a column", repr(self.metadata)[:80],
                    f"Pass metadata=({self.metadata!r},)")  # fmt: skip
        if self.voxel_size is not None:
            _checks.positive("open_data", "voxel_size", self.voxel_size)
        if self.shape is None:
            return
        if len(self.shape) != 3 or self.voxel_size is not None:
            got = f"shape {tuple(self.shape)}, voxel_size {self.voxel_size}"
            _refuse("shape", "have three numbers, and go without voxel_size",
                    "either of them says what the grid is", got, "Pass one of the two")  # fmt: skip
        for side in self.shape:
            _checks.whole("open_data", "shape", side)

    @property
    def given(self) -> dict[str, Any]:
        """What other data do not have."""
        others = ("data_dir", "skip_bad")
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in others}

    @property
    def cache(self) -> Path:
        """Where preprocessed volumes are kept."""
        given = self.cache_dir
        return data_dir_of(self.data_dir) / "volumes" if given is None else Path(given).expanduser()

    def target(self, grids: Sequence[Grid]) -> Grid | None:
        """The grid that all volumes come to, or None when they keep their own."""
        if self.voxel_size is None and self.shape is None:
            return None
        return covering(grids, voxel_size=self.voxel_size, shape=self.shape)


def _refuse(what: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", what, must, because, got, fix)


class LeftOut:
    """What is left out, with the reason, and how much may be."""

    def __init__(self, source: str, num: int, skip_bad: int) -> None:
        self.source = source
        self.num = num
        self.skip_bad = skip_bad
        self.unmatched = 0
        self.bad: dict[str, str] = {}  # name -> reason
        self._notes: list[str] = []

    def match(self, files: Sequence[str], subjects: Sequence[str], where: str) -> None:
        """Count files without a row and subjects without a file; refuse too many."""
        self.unmatched = len(files) + len(subjects)
        found = []
        if files:
            found.append(f"{len(files)} of {self.num} files without a row in {where} ({five(files)})")
        if subjects:
            found.append(f"{len(subjects)} subjects in {where} without a file ({five(subjects)})")
        if self.unmatched > self.skip_bad:
            _refuse(
                f"files and subjects of {self.source}",
                f"match{self._but()}",
                "a volume without meta-data, or meta-data without a volume, is no sample",
                " and ".join(found),
                f"Complete the table or the files, or pass skip_bad={self.unmatched} "
                f"(--skip-bad {self.unmatched})",
            )
        self._notes += [f"{each}: left out" for each in found]

    def check(self) -> None:
        """Refuse more unusable volumes than may be."""
        total = self.unmatched + len(self.bad)
        if self.bad and total > self.skip_bad:
            name, reason = next(iter(self.bad.items()))
            _refuse(
                f"all volumes of {self.source}",
                f"be usable{self._but()}",
                "each is a sample",
                f"{len(self.bad)} of {self.num} that are not, the first is {name!r} ({reason})",
                f"Mend or remove them, or pass skip_bad={total} (--skip-bad {total})",
            )

    def warn(self) -> None:
        """One warning about everything that is left out."""
        self.check()
        if self.bad:
            name, reason = next(iter(self.bad.items()))
            counted = f"{len(self.bad)} of {self.num} volumes left out because they cannot be used"
            self._notes.append(f"{counted}, the first is {name!r} ({reason})")
        if self._notes:
            told = f"open_data: {self.source}: {'; '.join(self._notes)}"
            warnings.warn(told, VolumesLeftOutWarning, stacklevel=2)

    def _but(self) -> str:
        return f" but for {self.skip_bad} at most (skip_bad)" if self.skip_bad else ""


@dataclass(frozen=True)
class _FromFiles:
    """Makes the volume of a row from its file."""

    files: Sequence[BidsFile]
    target: Grid | None

    def __call__(self, row: int) -> Volume:
        values, grid = read(self.files[row].path)
        return prepared(values, grid, self.target)

    def stamp(self, row: int) -> tuple[int, int]:
        """Size and time of change of its file."""
        try:
            return stamp_of(self.files[row].path)
        except OSError as error:
            raise UnusableVolumeError((error.strerror or str(error)).lower()) from error


@dataclass(frozen=True)
class Opened:
    """A set of volumes, and all subjects there are, also those that are left out."""

    volumes: VolumeSet
    subjects: Sequence[str]


def open_bids(root: Path, options: VolumeOptions) -> Opened:
    """The volumes of a BIDS tree.

    Raises:
        InputError: as :func:`spherometer.data.open_data`.
    """
    _checks.extra("nibabel", "neuro", "reading NIfTI files")
    tree = read_tree(
        root, suffix=options.suffix or "T1w", derivatives=options.derivatives, space=options.space
    )
    left = LeftOut(tree.source, len(tree.files), options.skip_bad)
    matched: Sequence[BidsFile] = tree.files
    people = None
    if options.metadata is not None:
        people = Participants(tree.roots, subjects_of(tree.files))
        if not people:
            _refuse(tree.source, "hold participants.tsv", "meta-data are read from there",
                    "neither that nor sessions.tsv", "Add it, or leave metadata out")  # fmt: skip
        chosen(people.cells((), options.metadata), options.metadata, people.where, people.texts)
        unknown = [file.name for file in tree.files if not people.knows(file.scan)]
        left.match(unknown, people.without_files(file.scan for file in tree.files), people.where)
        matched = [file for file in tree.files if people.knows(file.scan)]
    grids: dict[str, Grid] = {}
    for file in tree.files:
        try:
            grids[file.name] = look(file.path)
        except UnusableVolumeError as error:
            if file in matched:
                left.bad[file.name] = str(error)
    left.check()
    files = [file for file in matched if file.name in grids]
    check_some(tree.source, files)
    target = options.target(list(grids.values()))
    if target is None:
        _check_alike({file.name: grids[file.name] for file in files})
    make = _FromFiles(files, target)
    reader, good, shas = fill(
        root.resolve().name, tree.source, [file.name for file in files], make, make.stamp,
        cache=options.cache, place=[str(root.resolve()), options.suffix or "T1w", options.derivatives],
        sides=(target or grids[files[0].name]).shape, target=target, left=left,
    )  # fmt: skip
    files = [files[row] for row in good]
    metadata: Columns | None = None
    if people is not None and options.metadata is not None:
        cells = people.cells([file.scan for file in files], options.metadata)
        metadata = chosen(cells, options.metadata, people.where, people.texts)
    found = VolumeSet(
        root.resolve().name or "bids", tree.source, [file.name for file in files], reader.cache.sides, reader,
        digest(volumes=shas), metadata, subjects_of(files), keep(reader.read, len(files), reader.cache.sides),
    )  # fmt: skip
    reader.cache.warn_of_damage()
    return Opened(found, subjects_of(tree.files))


def fill(
    name: str, source: str, names: Sequence[str], make: Callable[[int], Volume],
    stamp: Callable[[int], Sequence[int]], *, cache: Path, place: Any, sides: tuple[int, int, int],
    target: Grid | None, left: LeftOut,
) -> tuple[CachedReader, list[int], list[str]]:  # fmt: skip
    """Make what the cache lacks; a reader of the usable rows, which they are, and the SHA-256 of each.

    Raises:
        InputError: more are unusable than may be.
    """
    grid = None if target is None else target.to_dict()
    kept = VolumeCache(cache, name or "volumes", {"made": MADE, "place": place, "grid": grid}, sides)
    for row, each in enumerate(names):
        try:
            now = stamp(row)
            if not kept.has(each, now):
                kept.put(each, now, make(row))
        except UnusableVolumeError as error:
            left.bad[each] = str(error)
    kept.save()
    left.warn()
    good = [row for row, each in enumerate(names) if each not in left.bad]
    check_some(source, good)
    reader = CachedReader(kept, [names[row] for row in good], _Rows(make, good), _Rows(stamp, good))
    return reader, good, [kept.sha256(names[row]) for row in good]


@dataclass(frozen=True)
class _Rows:
    """A function of rows, for some of them."""

    of: Callable[[int], Any]
    rows: Sequence[int]

    def __call__(self, row: int) -> Any:
        return self.of(self.rows[row])


def fits(num: int, sides: tuple[int, int, int]) -> bool:
    """Whether so many volumes are kept in memory."""
    return num * math.prod(sides) * 4 <= KEPT_BYTES


def keep(reader: Callable[[int], Volume], num: int, sides: tuple[int, int, int]) -> Tensor | None:
    """All volumes [N, X, Y, Z] in memory, when they fit into 1 GiB."""
    if not fits(num, sides):
        return None
    found = torch.empty((num, *sides))
    for row in range(num):
        found[row] = torch.from_numpy(reader(row))
    return found


def check_some(source: str, rows: Sequence[Any]) -> None:
    """Refuse a set of nothing."""
    if not rows:
        _refuse(source, "hold volumes", "they are the training data", "none that is usable", "Mend them")


def _check_alike(grids: dict[str, Grid]) -> None:
    """Refuse volumes of several shapes or sizes of voxels."""
    names = list(grids)
    first = grids[names[0]]
    for name in names[1:]:
        grid = grids[name]
        apart = abs(grid.voxel_sizes / first.voxel_sizes - 1).max()
        if grid.shape == first.shape and apart <= 0.01:
            continue
        each = [
            f"{' x '.join(map(str, grids[one].shape))} voxels of "
            f"{' x '.join(f'{edge:.3g}' for edge in grids[one].voxel_sizes)} mm in {one!r}"
            for one in (names[0], name)
        ]
        edge = float(max(first.voxel_sizes.max(), grid.voxel_sizes.max()))
        _refuse(
            "voxel_size or shape",
            "be given for these volumes",
            "a batch needs volumes of one grid",
            " and ".join(each),
            f"Pass for instance voxel_size={edge:.3g}: all are resampled to one grid",
        )
