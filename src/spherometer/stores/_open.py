"""``open``: a file of embeddings, many of them, or an array, as rows with all that belongs to them."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from spherometer import _checks
from spherometer.errors import InputError, ShapeError
from spherometer.rows import BUDGET, ArrayRows, Embeddings, RowSource, is_stored
from spherometer.stores import _columns
from spherometer.stores._formats import FORMATS
from spherometer.stores._picked import picked
from spherometer.stores._regular import RegularFile, digests
from spherometer.stores._shards import joined_shards
from spherometer.stores._stored import Stored, Wanted

_MAX_SHARDS = 100_000
_STATE = "state.json"


def open(
    path: Any,
    *,
    column: str | None = None,
    id: str | None = None,
    labels: str | None = None,
    metadata: Sequence[str] | None = None,
    views: tuple[str, str] | None = None,
    pair_id: str | None = None,
    table: str | os.PathLike[str] | None = None,
    budget: int = BUDGET,
    trust_size: bool = False,
) -> Embeddings:
    """Open embeddings of any size; nothing but the header is read before it is needed.

    Formats by their ending: .npy, .npz, .parquet, .arrow, .feather, .safetensors, .pt, .pth, .faiss (flat),
    .csv, .tsv, .jsonl; a data set that Hugging Face ``datasets`` saved to disk. Features are a matrix of
    float16, bfloat16, float32, float64 or int8, a column of lists, or numbered columns ("emb_0", "emb_1",
    ...). No file can run code, and none is mapped into memory.

    Args:
        path: a file; a directory of shards or a pattern such as "shards/*.parquet", whose files follow each
            other in the order of their names and numbers; a list of files; or an array.
        column: array, tensor or column of the features, or prefix of numbered columns. None: the one with a
            usual name ("embeddings", "features", "x", ...), or the only one.
        id: column of ids, one for each row and all different. None: a column such as "id", where it can be.
        labels: column of classes.
        metadata: columns of meta-data.
        views: two columns of features: the two sides of positive pairs.
        pair_id: column that two rows share which are the sides of a positive pair.
        table: a .csv, .tsv or .parquet file that has ids, labels or meta-data; its rows are found by id where
            both have ids, else row by row.
        budget: bytes that may be held at once.
        trust_size: read archives that unpack to very much more than their size.

    Returns:
        ``Embeddings``, for ``measure``, ``compare`` and ``select``.

    Raises:
        InputError: a file is missing, damaged, changed, of an unknown kind, or lacks what was named. One line
            says which file, what was found, and what to do.

    Example:
        >>> import numpy as np
        >>> open(np.eye(4)).shape
        (4, 4)
    """
    if not isinstance(budget, int) or budget < 1 << 20:
        _refuse(
            "budget",
            "be at least 1048576 bytes",
            "blocks of rows are held in memory",
            repr(budget)[:40],
            "Pass for instance budget=2**30",
        )
    _check_names(column=column, id=id, labels=labels, pair_id=pair_id)
    if isinstance(path, Embeddings):
        return path
    if not isinstance(path, (str, os.PathLike, list, tuple)):
        return Embeddings(path if is_stored(path) else ArrayRows(path))
    if views is not None and (column is not None or pair_id is not None):
        _refuse(
            "views",
            "be given without column and pair_id",
            "the two views are the columns",
            f"column {column!r}, pair_id {pair_id!r}",
            "Name the two columns only",
        )
    paths = paths_of(path)
    wanted = Wanted(column if views is None else _two(views)[0], budget, trust_size)
    name = paths[0].name if len(paths) == 1 else _name_of(path)
    stored = joined_shards(name, [_opened(each, wanted) for each in paths])
    num = stored.rows.shape[0]
    if not num:
        _refuse(repr(name), "hold at least one row", "rows are measured", "none", "Check the path")
    other: RowSource | None = None
    seconds: tuple[RegularFile, ...] = ()  # the same files, as the second view reads them
    if views is not None:
        second = replace(wanted, column=_two(views)[1])
        beside = joined_shards(name, [_opened(each, second) for each in paths])
        other, seconds = beside.rows, beside.files
        if other.shape != stored.rows.shape:
            _checks.refuse(
                ShapeError,
                "open",
                "views",
                "have the same shape",
                "row i of one belongs to row i of the other",
                f"{stored.rows.shape} and {other.shape}",
                "Name two views of the same rows",
            )
    ids, columns = _belonging(stored, id, table, num, name, needed=bool(table))
    notes, rows = list(stored.notes), stored.rows
    index: torch.Tensor | None = None
    if pair_id is not None:
        shared = _columns.values_of(columns, pair_id, num, "pair_id", name)
        first, second_rows, single = _columns.pairs_of(shared, pair_id)
        if single:
            notes.append(f"{single} of {num} rows have no partner and are left out.")
        index = torch.tensor(first)
        fix = f"Sort the file by {pair_id!r}, or raise the budget"
        rows, other = picked(rows, index, budget, fix), picked(rows, torch.tensor(second_rows), budget, fix)
    kept = None if index is None else index.tolist()

    def of_kept(values: Any) -> Any:
        if kept is None or values is None:
            return values
        return [values[row] for row in kept]

    def check() -> None:
        for file in (*files, *seconds):
            file.check()

    files = stored.files
    classes = None if labels is None else _columns.values_of(columns, labels, num, "labels", name)
    known = {} if metadata is None else _columns.metadata_of(columns, tuple(metadata), num, name)
    return Embeddings(
        rows,
        other=other,
        ids=None if ids is None else tuple(of_kept(ids)),
        labels=of_kept(classes),
        metadata={key: of_kept(value) for key, value in known.items()} or None,
        files=tuple(file.file() for file in files),
        notes=tuple(notes),
        check=check,
        digest=digests(list(files)),
    )


def paths_of(path: Any) -> list[Path]:
    """The files that a path, a pattern, a directory or a list of them means, in order.

    Raises:
        InputError: there is none, or a directory holds files of several kinds.
    """
    if isinstance(path, (list, tuple)):
        if not path or not all(isinstance(each, (str, os.PathLike)) for each in path):
            _refuse(
                "path", "be a list of files", "each is a shard", repr(path)[:80], "Pass ['a.npy', 'b.npy']"
            )
        return [found for each in path for found in paths_of(each)]
    text = os.path.expanduser(os.fspath(path))
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    place = Path(text)
    if "\0" in text:
        _refuse("path", "be a path", "it is opened", "a text with a zero character", "Check the path")
    if place.is_dir():
        return _directory(place)
    if glob.has_magic(text) and not os.path.lexists(text):
        found = [Path(each) for each in glob.glob(text, recursive=True) if not Path(each).is_dir()]
        if not found:
            _refuse(f"pattern {text!r}", "match a file", "its files are opened", "none", "Check the path")
        return _ordered(found)
    return [place]


def _directory(place: Path) -> list[Path]:
    if (place / "dataset_dict.json").is_file():
        parts = sorted(each.name for each in place.iterdir() if (each / _STATE).is_file())
        _refuse(
            f"directory {str(place)!r}",
            "be one part of a data set",
            "the parts are different sets of rows",
            ", ".join(map(repr, parts[:10])) or "none",
            f"Open {str(place / parts[0]) if parts else 'one'!r}",
        )
    if (place / _STATE).is_file():
        return _data_set(place)
    files = [
        each
        for each in place.iterdir()
        if each.suffix.lower() in FORMATS and not each.name.startswith((".", "_"))
    ]
    kinds = sorted({each.suffix.lower() for each in files})
    if len(kinds) != 1:
        _refuse(
            f"directory {str(place)!r}",
            "hold files of one kind that can be opened",
            "they are parts of one set",
            " and ".join(kinds) or "none",
            "Pass the files, or a pattern such as 'directory/*.parquet'",
        )
    return _ordered(files)


def _data_set(place: Path) -> list[Path]:
    """The arrow files that a Hugging Face data set lists; their names stay inside its directory."""
    state = RegularFile(place / _STATE)
    with state.guarded():
        if state.size > 64 << 20:
            raise ValueError(f"{state.size} bytes are too many for a list of files")
        listed = [each["filename"] for each in json.loads(state.read(0, state.size))["_data_files"]]
        if not listed or any(not isinstance(name, str) or Path(name).name != name for name in listed):
            raise ValueError("its list of files names something that is not beside it")
    if (place / "indices.arrow").exists() or "_indices_files" in json.loads(state.read(0, state.size)):
        indices = json.loads(state.read(0, state.size)).get("_indices_files")
        if indices:
            state.refuse(
                "list its rows in the order of its files",
                "an index over them is not read",
                "an index",
                "Save it again after dataset.flatten_indices()",
            )
    return [place / name for name in listed]


def _ordered(files: list[Path]) -> list[Path]:
    """By name, numbers in it by their value: part-2 before part-10."""
    if len(files) > _MAX_SHARDS:
        _refuse(
            "path", f"mean at most {_MAX_SHARDS} files", "all are looked at", str(len(files)), "Join some"
        )
    return sorted(
        files,
        key=lambda each: [
            (0, int(part), part) if part.isdigit() and part.isascii() else (1, 0, part)
            for part in re.split(r"(\d+)", str(each))
        ],
    )


def _opened(path: Path, wanted: Wanted) -> Stored:
    reader: Callable[[Path, Wanted], Stored] | None = FORMATS.get(path.suffix.lower())
    if reader is None:
        RegularFile(path)  # what is not there says so first
        _refuse(
            f"file {str(path)!r}",
            "have an ending that says how to read it",
            f"known are {', '.join(FORMATS)}",
            repr(path.suffix) if path.suffix else "none",
            "Rename it, or save it again",
        )
    return reader(path, wanted)


def _belonging(
    stored: Stored, id: str | None, table: Any, num: int, name: str, *, needed: bool
) -> tuple[tuple[str, ...] | None, _columns.Columns]:
    """Ids of the rows, and the columns of the file with those of the table beside it, row by row."""
    columns = dict(stored.columns)
    beside = {} if table is None else dict(_columns.table_columns(table))
    if id is None:
        ids = _columns.usual_ids(columns, num)
    elif id in columns:
        ids = _columns.ids_of(_columns.values_of(columns, id, num, "id", name), id)
    elif id in beside:
        ids = None  # the table alone has it: row by row
    else:
        _columns.values_of({**columns, **beside}, id, num, "id", name)
    if not beside:
        return ids, columns
    there = next((each for each in ((id,) if id else _columns.IDS) if each in beside), None)
    if ids is None or there is None:
        if ids is None and there is not None and len(beside[there]()) == num:
            ids = _columns.ids_of(beside[there](), there)
        return ids, {**columns, **beside}
    rows = {text: row for row, text in enumerate(_columns.ids_of(beside[there](), there))}
    absent = [each for each in ids if each not in rows]
    if absent:
        _refuse(
            f"table {str(table)!r}",
            "have a row for every id",
            "its values belong to the rows",
            f"no row for {len(absent)} of {num} ids, for instance {repr(absent[:5])[1:-1]}"[:300],
            "Complete the table",
        )
    order = [rows[each] for each in ids]

    def reordered(read: Callable[[], Any]) -> Callable[[], Any]:
        def values() -> list[Any]:
            all_of = read()
            return [all_of[row] for row in order]

        return values

    return ids, {**columns, **{key: reordered(read) for key, read in beside.items()}}


def _two(views: Any) -> tuple[str, str]:
    if isinstance(views, str) or len(views) != 2 or not all(isinstance(each, str) for each in views):
        _refuse(
            "views",
            "be the names of two columns",
            "a pair has two sides",
            repr(views)[:80],
            "Pass ('a', 'b')",
        )
    return views[0], views[1]


def _check_names(**names: Any) -> None:
    for option, name in names.items():
        if name is not None and not isinstance(name, str):
            _refuse(option, "be the name of a column", "it is looked up", repr(name)[:80], "Pass a text")


def _name_of(path: Any) -> str:
    return Path(path).name if isinstance(path, (str, os.PathLike)) else f"{Path(path[0]).name} and more"


def _refuse(argument: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open", argument, must, because, got, fix)
