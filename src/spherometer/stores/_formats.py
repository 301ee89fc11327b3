"""All formats behind one interface: path and wish in, rows out."""

from __future__ import annotations

from pathlib import Path

from spherometer.stores import _rows_faiss, _rows_safetensors, _rows_torch
from spherometer.stores._regular import RegularFile
from spherometer.stores._rows_arrow import open_arrow, open_parquet
from spherometer.stores._rows_npy import open_npy, open_npz
from spherometer.stores._rows_text import TextTable
from spherometer.stores._stored import Stored, Wanted, chosen
from spherometer.stores._verified import VerifiedFile


def open_safetensors(path: Path, wanted: Wanted) -> Stored:
    """A ``.safetensors`` file: a matrix by name; vectors are columns."""
    file = RegularFile(path)
    matrices, columns = _rows_safetensors.tensors(file)
    return Stored(matrices[chosen(file, list(matrices), wanted.column)], columns, (file,))


def open_torch(path: Path, wanted: Wanted) -> Stored:
    """A ``.pt`` or ``.pth`` file: its tensor, or a matrix by name; vectors and lists are columns."""
    file = VerifiedFile(path)
    matrices, columns = _rows_torch.tensors(file)
    return Stored(matrices[chosen(file, list(matrices), wanted.column)], columns, (file,))


def open_faiss(path: Path, wanted: Wanted) -> Stored:
    """A flat index of faiss; the numbers of an id map are the column "id"."""
    file = RegularFile(path)
    rows, ids = _rows_faiss.flat_index(file)
    if wanted.column is not None:
        file.refuse(
            "be opened without column=",
            "it holds one matrix without a name",
            repr(wanted.column),
            "Leave it out",
        )
    return Stored(rows, {} if ids is None else {"id": ids}, (file,))


def open_text(path: Path, wanted: Wanted) -> Stored:
    """A ``.csv``, ``.tsv`` or ``.jsonl`` file: a column of lists, or the numbered columns under a prefix."""
    file = RegularFile(path)
    table = TextTable(file)
    rows = table.matrices[chosen(file, list(table.matrices), wanted.column)]()
    cut = "the last line has no line break: if the file was cut short, its last number was, too"
    notes = () if table.is_ended or file.path.suffix.lower() in (".jsonl", ".ndjson") else (cut,)
    return Stored(rows, table.columns, (file,), notes)


FORMATS = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".parquet": open_parquet,
    ".arrow": open_arrow,
    ".feather": open_arrow,
    ".safetensors": open_safetensors,
    ".pt": open_torch,
    ".pth": open_torch,
    ".faiss": open_faiss,
    ".index": open_faiss,
    ".csv": open_text,
    ".tsv": open_text,
    ".jsonl": open_text,
    ".ndjson": open_text,
}
