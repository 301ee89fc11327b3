"""Files of embeddings as ``spherometer measure`` sees them: rows, pairs, classes, ids, of any size."""

from __future__ import annotations

import glob
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherometer.cli._files import Columns, load, named_in, refuse, usual_labels

if TYPE_CHECKING:
    from spherometer.rows import Embeddings

_ARRAYS = (".npy", ".npz")
_TABLES = (".csv", ".tsv")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def memory_of(text: str, command: str = "measure") -> int:
    """Bytes of "1GiB", "512 MB", "2g" or a number: powers of 1024."""
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?\s*", text, re.IGNORECASE)
    size = 0 if found is None else int(float(found[1]) * _UNITS[found[2].lower()])
    if size < 1 << 20:
        refuse(
            "--memory must be a size of at least 1MiB", "blocks of rows are held in it",
            repr(text)[:40], "Pass for instance --memory 1GiB", command,
        )  # fmt: skip
    return size


@dataclass(frozen=True)
class Sides:
    """Which columns are the two sides of pairs: two names, or ids that two rows share."""

    views: tuple[str, str] | None = None
    pair_id: str | None = None

    @property
    def given(self) -> bool:
        """Whether either was asked for."""
        return self.views is not None or self.pair_id is not None


def embeddings_of(path: Path, columns: Columns, sides: Sides, known: str | None, budget: int) -> Embeddings:
    """A file, a directory or a pattern of shards, as rows with what belongs to them.

    ``known``: columns of meta-data of the file itself, with commas between them.

    Raises:
        InputError: it cannot be read, or what was asked for is not in it.
    """
    kind = path.suffix.lower()
    plain = not sides.given and known is None
    small = path.is_file() and path.stat().st_size <= budget // 8
    pattern = glob.has_magic(str(path)) and not path.exists()
    if kind in _ARRAYS and plain and (small or not path.is_file()) and not pattern:
        return _arrays(path, columns)
    from spherometer import stores

    place = path if path.exists() or kind in _ARRAYS else str(path)
    if kind == ".npz" or (path.is_dir() and all(each.suffix == ".npz" for each in stores.paths_of(path))):
        columns, sides = _usual(place, columns, sides)
    found = stores.open(
        place,
        column=columns.column,
        id=columns.id,
        labels=None if _is_array(columns.labels) else columns.labels,
        metadata=None if known is None else [name.strip() for name in known.split(",")],
        views=sides.views,
        pair_id=sides.pair_id,
        budget=budget,
        trust_size=columns.trust_size,
    )
    if columns.labels is not None and _is_array(columns.labels):
        found = replace(found, labels=stores.read_npy(columns.labels))
    if columns.pairs is not None:
        found = _paired(found, columns.pairs, columns, budget)
    return found


def _usual(place: Path | str, columns: Columns, sides: Sides) -> tuple[Columns, Sides]:
    """What an archive that is read in blocks calls by its usual name, as for one that is read whole."""
    from spherometer import stores

    path = stores.paths_of(place)[0]  # of shards the first; what the others lack, they say
    with stores.Archive(path, trust_size=columns.trust_size) as archive:
        names = archive.names
    if sides.given:
        return replace(columns, labels=columns.labels or usual_labels(names, columns)), sides
    named = named_in(path, names, columns)
    found = replace(columns, labels=columns.labels or named.labels, id=named.ids or columns.id)
    if named.second is None:
        return replace(found, column=named.first), sides
    return replace(found, column=None, pairs=None), Sides((named.first, named.second))


def _is_array(name: str | None) -> bool:
    return name is not None and Path(name).suffix.lower() == ".npy"


def _paired(found: Embeddings, pairs: str, columns: Columns, budget: int) -> Embeddings:
    from spherometer import stores

    other = stores.open(pairs, budget=budget, trust_size=columns.trust_size)

    def check() -> None:
        found.check()
        other.check()

    return replace(
        found, other=other.rows, files=(*found.files, *other.files), check=check,
        digest=lambda: (*found.digest(), *other.digest()),
    )  # fmt: skip


def _arrays(path: Path, columns: Columns) -> Embeddings:
    """Arrays of a .npy or .npz file that fits into memory, by their usual names."""
    arrays = load(path, columns)
    from spherometer import _checks
    from spherometer.rows import ArrayRows, Embeddings
    from spherometer.stores._regular import RegularFile, digests

    for name, side in (("x", arrays.x), ("y", arrays.y)):
        if side is not None and side.dtype != "int8":
            _checks.as_matrix("measure", name, side)
    places = [path, *(Path(name) for name in (columns.pairs, columns.labels) if name and _is_array(name))]
    files = [RegularFile(each) for each in dict.fromkeys(places)]

    def check() -> None:
        for file in files:
            file.check()

    return Embeddings(
        ArrayRows(arrays.x, "x"),
        other=None if arrays.y is None else ArrayRows(arrays.y, "y"),
        ids=arrays.ids,
        labels=arrays.labels,
        files=tuple(file.file() for file in files),
        check=check,
        digest=digests(files),
    )


def splits_metadata(given: str | None) -> tuple[Path | None, str | None]:
    """``--metadata`` as a table beside the file, or as columns of the file itself."""
    if given is None:
        return None, None
    if Path(given).suffix.lower() in _TABLES or Path(given).exists():
        return Path(given), None
    return None, given


def command() -> str | None:
    """The command line, where this process is the command."""
    name = Path(sys.argv[0]).name
    if name in ("spherometer", "__main__.py"):
        return shlex.join(["spherometer", *sys.argv[1:]])
    return None


def with_command(provenance: Any) -> Any:
    """Provenance with the command line in it."""
    words = command()
    return provenance if provenance is None or words is None else {**provenance, "command": words}


@contextmanager
def processes() -> Iterator[bool]:
    """Join the processes that torchrun started; yields whether this one speaks for all."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield True
        return
    import torch.distributed as dist

    from spherometer import pairs

    if dist.is_initialized():
        yield dist.get_rank() == 0
        return
    dist.init_process_group("gloo")
    pairs.start_watch()  # before the files are opened: a process that dies then is named too
    try:
        yield dist.get_rank() == 0
    except SystemExit:
        pairs.told_to_end("measure")
        raise
    finally:
        dist.destroy_process_group()
