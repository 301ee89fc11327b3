"""Volumes in a .npy file with a table beside it, row by row: the form in which brain data have been released.

Shapes: N volumes, X x Y x Z voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from spherometer import _checks
from spherometer.data._damage import refuse_file
from spherometer.data._folder import PARTS
from spherometer.data._nifti import Grid, UnusableVolumeError, Volume, prepared
from spherometer.data._rows import FileRows, stamp_of
from spherometer.data._source import ArrayImages, digest
from spherometer.data._volume_open import MADE, LeftOut, Opened, VolumeOptions, check_some, fill, fits, keep
from spherometer.data._volume_table import SUBJECTS, Columns, chosen
from spherometer.data._volumes import VolumeSet
from spherometer.errors import InputError
from spherometer.stores import read_npy, read_table
from spherometer.stores._numpy import _DAMAGE, _damaged, _opened, read_header
from spherometer.stores._table import MISSING

_TABLES = (".csv", ".tsv")
_Rows = FileRows | ArrayImages


def _refuse(what: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", what, must, because, got, fix)


def array_parts(path: Path) -> dict[str, Path]:
    """The .npy file under "", or those of the parts "train" and "test".

    Raises:
        InputError: there is none, or it is not clear which is meant.
    """
    if path.suffix.lower() == ".npy" and path.is_file():
        return {"": path}
    if not path.is_dir():
        got = "another kind of file" if path.exists() else "nothing there"
        _refuse(f"volumes {str(path)!r}", "be a .npy file or a folder of one", "volumes are its rows", got,
                "Check the path; trees of NIfTI files are read as bids:PATH")  # fmt: skip
    files = sorted(each for each in path.iterdir() if each.suffix.lower() == ".npy" and each.is_file())
    if len(files) == 1:
        return {"": files[0]}
    found = {
        part: file
        for part, names in PARTS.items()
        for name in reversed(names)
        for file in files
        if file.stem.lower() == name
    }
    if set(found) != set(PARTS):
        names = ", ".join(file.name for file in files[:5]) or "none"
        _refuse(f"volumes {str(path)!r}", "hold one .npy file, or train.npy and test.npy",
                "volumes are its rows", names, "Pass the path of the file itself")  # fmt: skip
    return found


def _table_of(path: Path) -> Path | None:
    """The table beside an array: of the same name, or the only one."""
    for suffix in _TABLES:
        if path.with_suffix(suffix).is_file():
            return path.with_suffix(suffix)
    others = sorted(each for each in path.parent.iterdir() if each.suffix.lower() in _TABLES)
    arrays = [each for each in path.parent.iterdir() if each.suffix.lower() == ".npy"]
    return others[0] if len(others) == 1 and len(arrays) == 1 else None


def _rows_of(path: Path) -> tuple[_Rows, tuple[int, int, int], tuple[int, int]]:
    """The rows of a .npy file [N, X, Y, Z] or [N, 1, X, Y, Z], X, Y and Z, and the stamp of the file."""
    with _opened(path) as file:
        stamp = stamp_of(path)
        try:
            dtype, shape, fortran, used = read_header(path, file)
        except InputError:
            raise
        except _DAMAGE as error:
            _damaged(path, error)
    sides = shape[-3:]
    if len(shape) < 4 or min(shape) < 1 or math.prod(shape) != shape[0] * math.prod(sides):
        refuse_file(path, "have shape [N, X, Y, Z] or [N, 1, X, Y, Z] with N >= 1", "each row is one volume",
                    f"shape {shape}", "Save the volumes with np.save")  # fmt: skip
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        refuse_file(path, "hold real numbers", "each voxel is one", f"dtype {dtype}", "Convert it")
    if math.prod(shape) * dtype.itemsize != stamp[0] - used:
        refuse_file(
            path, "be exactly as long as its header says",
            "a shorter or longer file was damaged or is still being written",
            f"{stamp[0]} bytes for a header that needs {used + math.prod(shape) * dtype.itemsize}",
            "Write it again",
        )  # fmt: skip
    dims = (sides[0], sides[1], sides[2])
    if fortran:  # a volume is scattered over the whole file
        values = np.ascontiguousarray(read_npy(path).reshape(shape[0], *dims), dtype=np.float32)
        return ArrayImages(path.stem, str(path), torch.from_numpy(values)), dims, stamp
    return FileRows(path.stem, str(path), path, shape[0], dims, "chw", dtype, used, None, stamp), dims, stamp


@dataclass(frozen=True)
class _FromRows:
    """Makes the volume of a row of an array."""

    rows: _Rows
    names: Sequence[str]
    grid: Grid
    target: Grid | None
    file_stamp: tuple[int, int]

    def __call__(self, row: int) -> Volume:
        values = self.rows.pixels(torch.tensor([row]))[0].to(torch.float32).numpy().copy()
        values[np.isnan(values)] = 0
        if not np.isfinite(values).all():
            raise UnusableVolumeError(f"{int(np.isinf(values).sum())} infinite voxels")
        return prepared(values, self.grid, self.target)

    def stamp(self, row: int) -> tuple[int, int]:
        """Size and time of change of the file."""
        return self.file_stamp


@dataclass(frozen=True)
class _Late:
    """Volumes that are made whenever they are used."""

    make: _FromRows
    rows: Sequence[int]

    def __call__(self, row: int) -> Volume:
        name = self.make.names[self.rows[row]]
        try:
            return self.make(self.rows[row])
        except UnusableVolumeError as error:
            _refuse(f"the volume of {name}", "be usable", "every volume is used in every epoch", str(error),
                    "Leave that row out of the file")  # fmt: skip


def open_array(path: Path, options: VolumeOptions) -> Opened:
    """The volumes of one .npy file, and the columns of the table beside it.

    Raises:
        InputError: as :func:`spherometer.data.open_data`.
    """
    if options.voxel_size is not None:
        _refuse("voxel_size", "be left out for arrays", "they do not say how large their voxels are",
                f"{options.voxel_size:g}", "Pass shape instead, or leave both out")  # fmt: skip
    rows, sides, stamp = _rows_of(path)
    names = [f"{path.stem} {row}" for row in range(len(rows))]
    table = _table_of(path)
    cells = {} if table is None else read_table(table)
    where = "" if table is None else repr(str(table))
    if options.metadata is not None and table is None:
        _refuse(f"volumes {str(path)!r}", "have a table beside them", "meta-data are read from there",
                f"no {path.stem}.csv or {path.stem}.tsv", "Add it, or leave metadata out")  # fmt: skip
    num = len(next(iter(cells.values()))) if cells else len(rows)
    if num != len(rows):
        _refuse(f"table {where}", "have one row for each volume", "row i is about volume i",
                f"{num} rows for {len(rows)} volumes", "Correct the table")  # fmt: skip
    metadata: Columns | None = None
    if options.metadata is not None:
        metadata = chosen(cells, options.metadata, where)
    key = next((name for name in SUBJECTS if name in cells), None)
    subjects = names if key is None else cells[key]
    nobody = [row for row, subject in enumerate(subjects) if subject.lower() in MISSING]
    if nobody:
        _refuse(f"column {key!r} of {where}", "name the subject of every row", "subjects are kept apart",
                f"{len(nobody)} missing, the first in row {nobody[0]}", "Complete the table")  # fmt: skip
    source = f"volumes in {str(path)!r}"
    grid = Grid(sides, np.eye(4))
    target = options.target([grid])
    left = LeftOut(source, len(rows), options.skip_bad)
    make = _FromRows(rows, names, grid, None if target is None or grid.is_at(target) else target, stamp)
    if make.target is None:
        found, good = _direct(path, source, make, left)
    else:
        reader, good, shas = fill(
            path.stem, source, names, make, make.stamp, cache=options.cache, place=str(path.resolve()),
            sides=make.target.shape, target=make.target, left=left,
        )  # fmt: skip
        found = VolumeSet(
            path.stem, source, [names[row] for row in good], make.target.shape, reader, digest(volumes=shas),
            kept=keep(reader.read, len(good), make.target.shape),
        )  # fmt: skip
        reader.cache.warn_of_damage()
    some = None
    if metadata is not None:
        some = {name: [values[row] for row in good] for name, values in metadata.items()}
    return Opened(replace(found, metadata=some, groups=[subjects[row] for row in good]), subjects)


def _direct(path: Path, source: str, make: _FromRows, left: LeftOut) -> tuple[VolumeSet, list[int]]:
    """Volumes that keep their grid, and their rows; made at once where they fit into memory."""
    sides, names = make.grid.shape, make.names
    good, kept = list(range(len(names))), None
    if fits(len(names), sides):
        kept = torch.zeros((len(names), *sides))
        for row, name in enumerate(names):
            try:
                kept[row] = torch.from_numpy(make(row))
            except UnusableVolumeError as error:
                left.bad[name] = str(error)
        left.warn()
        good = [row for row in good if names[row] not in left.bad]
        check_some(source, good)
        kept = kept if len(good) == len(kept) else kept[good]
    late = _Late(make, good)
    identity = digest(rows=make.rows.fingerprint(), made=MADE)
    return VolumeSet(path.stem, source, [names[row] for row in good], sides, late, identity, kept=kept), good
