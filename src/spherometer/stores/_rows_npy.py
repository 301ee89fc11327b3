"""NumPy's files as rows: a matrix is read from its place in the file; what was packed is unpacked whole."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherometer.rows import BYTES, ArrayRows, Dtype, RowSource
from spherometer.stores._matrix import StoredMatrix
from spherometer.stores._numpy import Archive, read_header, read_npy
from spherometer.stores._regular import RegularFile
from spherometer.stores._stored import Stored, Wanted, chosen

_BLOCK = 1 << 20
_KINDS = {"<f2": "float16", "<f4": "float32", "<f8": "float64", "|i1": "int8"}
_LOCAL = 30  # bytes of a member's own header before its name


def open_npy(path: Path, wanted: Wanted) -> Stored:
    """A ``.npy`` file: one matrix without a name."""
    file = RegularFile(path)
    if wanted.column is not None:
        file.refuse(
            "be opened without column=",
            "it holds a single array without a name",
            repr(wanted.column),
            "Use a .npz file, or leave it out",
        )
    with file.guarded():
        dtype, shape, fortran, used = read_header(path, file.stream())
    _check_size(file, used + math.prod(shape) * dtype.itemsize, file.size)
    _check_features(file, "", dtype, shape)
    kind = _KINDS.get(dtype.str)
    if kind is not None and not fortran:
        return Stored(_matrix(file, path.name, used, shape, kind), {}, (file,))
    _check_budget(file, file.size, wanted, "is not stored row by row as little-endian numbers")
    return Stored(ArrayRows(_native(read_npy(path)), path.name), {}, (file,))


def open_npz(path: Path, wanted: Wanted) -> Stored:
    """A ``.npz`` file: a matrix by name, the vectors as columns.

    What ``numpy.savez`` wrote is read from its place once its checksum was checked; what
    ``savez_compressed`` wrote is unpacked whole.
    """
    file = RegularFile(path)
    with Archive(path, trust_size=wanted.trust_size) as archive:
        heads = {name: archive.head(name) for name in archive.names}
    matrices = [
        name
        for name, (dtype, shape) in heads.items()
        if len(shape) == 2 and shape[1] and (dtype.kind == "f" or dtype.str == "|i1")
    ]
    name = chosen(file, matrices, wanted.column)
    columns = {
        other: _column(path, other, wanted.trust_size)
        for other, (_, shape) in heads.items()
        if other != name and len(shape) == 1
    }
    return Stored(_member(file, name, wanted), columns, (file,))


def _column(path: Path, name: str, trust_size: bool) -> Callable[[], Any]:
    def read() -> Any:
        with Archive(path, trust_size=trust_size) as archive:
            return archive[name]

    return read


def _member(file: RegularFile, name: str, wanted: Wanted) -> RowSource:
    """A matrix of an archive: where it lies unpacked in the file, read from there."""
    with file.guarded(), zipfile.ZipFile(file.stream()) as archive:
        member = next(each for each in archive.infolist() if each.filename.removesuffix(".npy") == name)
        if member.compress_type == zipfile.ZIP_STORED:
            local = file.read(member.header_offset, _LOCAL)
            begin = member.header_offset + _LOCAL
            begin += int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            with archive.open(member) as stream:
                dtype, shape, fortran, used = read_header(file.path, stream)
            kind = _KINDS.get(dtype.str)
            if kind is not None and not fortran:
                _check_size(file, used + math.prod(shape) * dtype.itemsize, member.file_size)
                _check_checksum(file, begin, member)
                return _matrix(file, name, begin + used, shape, kind)
    _check_budget(file, member.file_size, wanted, f"holds {name!r} compressed, or not row by row")
    with Archive(file.path, trust_size=wanted.trust_size) as archive:
        return ArrayRows(_native(archive[name]), name)


def _check_checksum(file: RegularFile, begin: int, member: zipfile.ZipInfo) -> None:
    """Read the whole member once and compare its CRC-32."""
    found, buffer = 0, bytearray(min(_BLOCK, member.file_size))
    for at in range(0, member.file_size, _BLOCK):
        view = memoryview(buffer)[: min(_BLOCK, member.file_size - at)]
        file.read_into(begin + at, view)
        found = zlib.crc32(view, found)
    if found != member.CRC:
        file.damaged(f"the checksum of {member.filename[:40]!r} is wrong")


def _matrix(file: RegularFile, name: str, offset: int, shape: tuple[int, ...], kind: str) -> StoredMatrix:
    known: Dtype = kind  # type: ignore[assignment]
    assert known in BYTES
    return StoredMatrix(file, name, offset, (shape[0], shape[1]), known)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def _check_features(file: RegularFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    what = f"array {name!r}" if name else "it"
    if len(shape) != 2 or not shape[1]:
        file.refuse(
            "hold an array of shape [N, D] with D >= 1",
            "each row is one point",
            f"{what} of shape {shape}",
            "Save one row per point",
        )
    if dtype.str[1:] not in ("f2", "f4", "f8", "i1"):
        file.refuse(
            "hold float16, float32, float64 or int8",
            "it is a set of feature vectors",
            f"{what} of dtype {dtype}",
            "Save it with .astype('float32')",
        )


def _check_size(file: RegularFile, needed: int, there: int) -> None:
    if needed != there:
        file.refuse(
            "be exactly as long as its header says",
            "a shorter or longer file was damaged or is being written",
            f"{there} bytes for a header that needs {needed}",
            "Write it again",
        )


def _check_budget(file: RegularFile, size: int, wanted: Wanted, why: str) -> None:
    if 2 * size > wanted.budget:
        file.refuse(
            f"fit twice into the memory budget of {wanted.budget} bytes",
            f"it {why}, so it is read whole",
            f"{size} bytes",
            "Save it with np.save(path, np.ascontiguousarray(x)), or raise the budget",
        )
