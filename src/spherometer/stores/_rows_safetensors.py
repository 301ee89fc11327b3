"""The safetensors format, read strictly: every byte of the file belongs to exactly one tensor."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from spherometer.rows import Dtype
from spherometer.stores._matrix import StoredMatrix, column
from spherometer.stores._regular import RegularFile

_MAX_HEADER = 100_000_000
_MAX_DIMS = 64
_FEATURES: dict[str, Dtype] = {
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I8": "int8",
}  # fmt: skip
_COLUMNS = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32",
    "I32": "int32", "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E5M2FNUZ": 8,
    "F8_E4M3FNUZ": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    """One tensor: its type in the header's word, its shape, and its bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def entries(file: RegularFile) -> dict[str, _Entry]:
    """Tensors by name, in the order of the header.

    Raises:
        InputError: the header is not what the format allows, or the file is not filled exactly.
    """
    with file.guarded():
        (length,) = struct.unpack("<Q", file.read(0, 8))
        if length > _MAX_HEADER:
            file.damaged(f"a header of {length} bytes, and {_MAX_HEADER} are allowed")
        text = file.read(8, length).decode("utf-8")
        if not text.startswith("{"):
            raise ValueError("the header does not begin with an object")
        header = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        described = {
            name: _entry(name, fields, 8 + length)
            for name, fields in header.items()
            if name != "__metadata__" or _check_notes(fields)
        }
        at = 8 + length
        for name, entry in sorted(described.items(), key=lambda item: (item[1].start, item[1].stop)):
            if entry.start != at:
                raise ValueError(f"tensor {name[:40]!r} begins at byte {entry.start} where {at} is next")
            at = entry.stop
        if at != file.size:
            raise ValueError(f"its tensors end at byte {at} and it has {file.size}")
        return described


def tensors(file: RegularFile) -> tuple[Mapping[str, StoredMatrix], Mapping[str, Callable[[], Any]]]:
    """What can be features (matrices of floats or int8), and what can be a column (vectors), by name."""
    matrices: dict[str, StoredMatrix] = {}
    columns: dict[str, Callable[[], Any]] = {}
    for name, entry in entries(file).items():
        if len(entry.shape) == 2 and entry.shape[1] and entry.dtype in _FEATURES:
            shape, dtype = (entry.shape[0], entry.shape[1]), _FEATURES[entry.dtype]
            matrices[name] = StoredMatrix(file, name, entry.start, shape, dtype)
        elif len(entry.shape) == 1 and entry.dtype in _COLUMNS:
            columns[name] = _reader(file, entry)
    return matrices, columns


def _reader(file: RegularFile, entry: _Entry) -> Callable[[], Any]:
    return lambda: column(file, entry.start, entry.shape[0], _COLUMNS[entry.dtype])


def _entry(name: str, fields: Any, base: int) -> _Entry:
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name[:40]!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor {name[:40]!r} has the unknown dtype {str(dtype)[:40]!r}")
    if not _is_whole(shape) or not _is_whole(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {name[:40]!r} has a shape or offsets that are no whole numbers")
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or offsets[1] - offsets[0] != bits // 8:
        raise ValueError(f"tensor {name[:40]!r} needs {bits // 8} bytes and has {offsets[1] - offsets[0]}")
    return _Entry(dtype, tuple(shape), base + offsets[0], base + offsets[1])


def _is_whole(values: Any) -> bool:
    if not isinstance(values, list) or len(values) > _MAX_DIMS:
        return False
    return all(type(each) is int and 0 <= each < 1 << 63 for each in values)


def _check_notes(fields: Any) -> bool:
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise ValueError("__metadata__ is not a mapping of texts")
    return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"two entries named {name[:40]!r} in the header")
            seen.add(name)
    return mapping


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} in the header is no number")
