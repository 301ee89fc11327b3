"""Flat indexes of faiss (and flat ones with ids), read from their bytes without faiss."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spherometer.stores._matrix import StoredMatrix, column
from spherometer.stores._regular import RegularFile

_FLAT = {b"IxF2", b"IxFI", b"IxFl"}  # squared distance, inner product, any other metric
_WITH_IDS = {b"IxMp", b"IxM2"}
_HEADER = struct.Struct("<iqqqBi")  # dimensions, rows, two unused numbers, trained, metric


@dataclass(frozen=True)
class _Header:
    dim: int
    num: int
    end: int


def flat_index(file: RegularFile) -> tuple[StoredMatrix, Callable[[], Any] | None]:
    """The vectors of a flat index, and the numbers that name them where it has such.

    Raises:
        InputError: another kind of index, or a damaged one.
    """
    kind = file.read(0, 4)
    if kind in _WITH_IDS:
        outer = _header(file, 4)
        matrix, end = _flat(file, file.read(outer.end, 4), outer.end + 4)
        (num,) = struct.unpack("<Q", file.read(end, 8))
        if num != matrix.shape[0] or outer.num != num or outer.dim != matrix.shape[1]:
            file.damaged(f"{num} ids and {outer.num} rows are declared for {matrix.shape[0]} vectors")
        _check_end(file, end + 8 + 8 * num)
        return matrix, lambda: column(file, end + 8, num, "int64")
    matrix, end = _flat(file, kind, 4)
    _check_end(file, end)
    return matrix, None


def _flat(file: RegularFile, kind: bytes, at: int) -> tuple[StoredMatrix, int]:
    """The vectors of a flat index whose four letters were read, and where it ends."""
    if kind not in _FLAT:
        file.refuse(
            "hold a flat faiss index (IndexFlat, or IndexIDMap of one)",
            "other kinds keep rounded vectors, or keep them in another order",
            f"an index of kind {kind.decode('ascii', 'replace')!r}",
            "Save its vectors with np.save(path, index.reconstruct_n(0, index.ntotal))",
        )
    header = _header(file, at)
    (num,) = struct.unpack("<Q", file.read(header.end, 8))
    if num != header.num * header.dim:
        file.damaged(f"{num} numbers are stored for {header.num} rows of {header.dim}")
    matrix = StoredMatrix(file, file.name, header.end + 8, (header.num, header.dim), "float32")
    return matrix, header.end + 8 + 4 * num


def _header(file: RegularFile, at: int) -> _Header:
    dim, num, _, _, trained, metric = _HEADER.unpack(file.read(at, _HEADER.size))
    if dim < 1 or num < 0 or trained not in (0, 1) or metric < 0:
        file.damaged(f"its header says {num} rows of {dim} dimensions, metric {metric}")
    return _Header(dim, num, at + _HEADER.size + (4 if metric > 1 else 0))


def _check_end(file: RegularFile, end: int) -> None:
    if end != file.size:
        file.damaged(f"its index ends at byte {end} and it has {file.size}")
