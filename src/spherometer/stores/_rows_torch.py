"""Tensors that torch.save wrote: torch says where they lie, without code and without reading them.

The description is loaded with ``weights_only=True`` onto the device that holds nothing ("meta"); rows are
then read from their place in the file as in any other format: a ``.pt`` may be larger than the memory. The
checksums of the records are taken on the way.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer.errors import InputError
from spherometer.rows import BYTES, Dtype
from spherometer.stores._matrix import StoredMatrix, column
from spherometer.stores._regular import RegularFile
from spherometer.stores._verified import Part, VerifiedFile

_SAFE = (
    2,
    10,
)  # before it, weights_only has let code in (CVE-2025-32434) and corrupted memory (CVE-2026-24747)
_MAX_DESCRIPTION = 64 << 20
_COLUMNS = {
    torch.bool: "bool", torch.uint8: "uint8", torch.int8: "int8", torch.int16: "int16", torch.int32: "int32",
    torch.int64: "int64", torch.float16: "float16", torch.float32: "float32", torch.float64: "float64",
}  # fmt: skip


def tensors(file: VerifiedFile) -> tuple[Mapping[str, StoredMatrix], Mapping[str, Callable[[], Any]]]:
    """What can be features and what can be a column, by name; a file of one tensor names it "".

    Raises:
        InputError: no archive of torch.save, something else than one tensor or a flat mapping of tensors and
            lists, code, or torch older than 2.10.
    """
    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < _SAFE:
        file.refuse(
            "be read with torch 2.10 or later", "older ones run code from files made to do so",
            f"torch {torch.__version__}", "Upgrade torch, or save the features with safetensors or np.save",
        )  # fmt: skip
    with file.guarded():
        parts = _records(file)
        content = _described(file)
    file.expect(parts)
    records = {part.start: part.stop - part.start for part in parts}
    if isinstance(content, Tensor):
        content = {"": content}
    matrices: dict[str, StoredMatrix] = {}
    columns: dict[str, Callable[[], Any]] = {}
    for name, value in content.items() if isinstance(content, dict) else [(None, None)]:
        if not isinstance(name, str) or not isinstance(value, (Tensor, list, tuple)):
            got = f"a mapping with a {type(value).__name__}" if name else f"a {type(content).__name__}"
            file.refuse(
                "hold one tensor, or a flat mapping of names to tensors", "rows are looked for by name", got,
                "Save torch.save({'features': z}, path)",
            )  # fmt: skip
        if isinstance(value, Tensor):
            _sort(file, name, value, records, matrices, columns)
        elif all(type(each) in (str, int, float) for each in value):
            columns[name] = _array(value)
    return matrices, columns


def _sort(
    file: RegularFile,
    name: str,
    value: Tensor,
    records: Mapping[int, int],
    matrices: dict[str, StoredMatrix],
    columns: dict[str, Callable[[], Any]],
) -> None:
    dtype = str(value.dtype).removeprefix("torch.")
    is_matrix = value.ndim == 2 and dtype in BYTES and value.shape[1] > 0
    if not is_matrix and not (value.ndim == 1 and value.dtype in _COLUMNS):
        return
    offset = _offset(file, name, value, records)
    if is_matrix:
        known: Dtype = dtype  # type: ignore[assignment]
        matrices[name] = StoredMatrix(file, name, offset, (value.shape[0], value.shape[1]), known)
    else:
        columns[name] = lambda: column(file, offset, value.shape[0], _COLUMNS[value.dtype])


def _offset(file: RegularFile, name: str, value: Tensor, records: Mapping[int, int]) -> int:
    """First byte of a tensor; its storage must be exactly one record of the archive."""
    if value.layout != torch.strided or not value.is_contiguous():
        file.refuse(
            f"keep tensor {name!r} row by row", "rows are read from their place in the file",
            f"strides {tuple(value.stride()) if value.layout == torch.strided else value.layout}",
            "Save z.contiguous()",
        )  # fmt: skip
    storage = value.untyped_storage()
    place = getattr(storage, "_checkpoint_offset", None)
    if place is None:
        file.refuse(
            "be described by torch without being read", "it is read in blocks",
            f"torch {torch.__version__}, which cannot", "Upgrade torch, or save with safetensors",
        )  # fmt: skip
    if records.get(place) != storage.nbytes():
        file.damaged(f"tensor {name[:40]!r} declares {storage.nbytes()} bytes, its record has another size")
    size = value.element_size()
    first = place + value.storage_offset() * size
    if value.storage_offset() < 0 or first + value.numel() * size > place + storage.nbytes():
        file.damaged(f"tensor {name[:40]!r} reaches beyond its record")
    return int(first)


def _records(file: RegularFile) -> list[Part]:
    """Place and checksum of every record; none may be compressed, as none of torch.save's is."""
    records: list[Part] = []
    head = file.read(0, min(4, file.size))
    if head != b"PK\x03\x04":
        raise ValueError(
            "it is no archive of torch.save (plain pickles and the format before torch 1.6 are refused)"
        )
    with zipfile.ZipFile(file.stream()) as archive:
        names = [member.filename for member in archive.infolist()]
        if len(set(names)) != len(names):
            raise ValueError("two records have one name")
        if not any(member.CRC for member in archive.infolist()):
            file.refuse(
                "have checksums", "a damaged one has no trustworthy numbers", "an archive without any",
                "Save it after torch.serialization.set_crc32_options(True)",
            )  # fmt: skip
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(
                    f"record {member.filename[:40]!r} is compressed, which torch.save never does"
                )
            tail = member.filename.rpartition("/")[2]
            if tail == "constants.pkl":
                raise ValueError("it is a TorchScript program, not tensors")
            if tail == "data.pkl" and member.file_size > _MAX_DESCRIPTION:
                raise ValueError(f"a description of {member.file_size} bytes is too long")
            if tail == "data.pkl":
                archive.read(member)  # the description against its checksum
            if tail == "byteorder" and _content(archive, member) != b"little":
                raise ValueError("its numbers are not little-endian")
            local = file.read(member.header_offset, 30)
            start = member.header_offset + 30 + int.from_bytes(local[26:28], "little")
            start += int.from_bytes(local[28:30], "little")
            if start + member.file_size > file.size:
                raise ValueError(f"record {member.filename[:40]!r} reaches beyond the file")
            records.append(Part(member.filename, start, start + member.file_size, member.CRC))
    return records


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A short record, which is checked against its checksum."""
    return archive.read(member) if member.file_size <= 64 else b""


def _described(file: RegularFile) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file.stream(), map_location="meta", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # its unpickler raises whatever a damaged description makes it do
        file.check()
        first = str(error).strip().splitlines()[:1]
        words = "it would run code, or is damaged" if "nsupported" in str(error) else "".join(first)
        file.damaged(words or type(error).__name__)


def _array(values: list[Any] | tuple[Any, ...]) -> Callable[[], Any]:
    return lambda: np.asarray(values)
