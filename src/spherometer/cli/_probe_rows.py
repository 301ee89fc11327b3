"""What ``spherometer probe`` fits to and tests on: rows of a file, their classes and targets, the two sides.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from spherometer.cli._files import Columns, named_in, usual_labels
from spherometer.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from spherometer.rows import Embeddings

    Array = np.ndarray[Any, Any]

MOST_ROWS = 20_000  # of more a random subset is probed
_TABLES = (".csv", ".tsv", ".parquet")
_SIDES = {"train": 0, "training": 0, "test": 1, "testing": 1}


@dataclass(frozen=True)
class Given:
    """What the user named: columns (or a .npy file of labels), and a table beside the features."""

    column: str | None = None
    id: str | None = None
    labels: str | None = None
    target: str | None = None
    split: str | None = None
    table: Path | None = None
    trust_size: bool = False


@dataclass(frozen=True)
class Rows:
    """Rows at hand.

    Attributes:
        x: [N, D] float64 features.
        labels: [N] classes; None where there are none.
        target: [N] numbers; None where there are none.
        is_test: [N] which rows are tested on; None where no column says it.
        num_total: rows of the file.
        notes: what a reader must know.
    """

    x: Array
    labels: Array | None
    target: Array | None
    is_test: Array | None
    num_total: int
    notes: list[str] = field(default_factory=list)


def refuse(must: str, because: str, got: str, fix: str) -> NoReturn:
    """Raise InputError in the house grammar."""
    raise InputError(" ".join(f"probe: {must}, because {because}. Got {got}. {fix}.".split()))


def opened(path: Path, given: Given, budget: int) -> Embeddings:
    """The file with its labels, target and split as columns."""
    from dataclasses import replace

    from spherometer import stores

    labels, column = given.labels, given.column
    if labels is not None and Path(labels).suffix.lower() in _TABLES:
        refuse(
            "--labels must be a column or a .npy file", "a table has several columns", repr(labels)[:80],
            f"Pass --table {labels} --labels COLUMN",
        )  # fmt: skip
    beside = labels is not None and Path(labels).suffix.lower() == ".npy"
    if path.suffix.lower() == ".npz" and path.is_file():  # by the usual names, as measure finds them
        with stores.Archive(path, trust_size=given.trust_size) as archive:
            names = archive.names
        columns = Columns(column, None, labels, given.trust_size)
        column = named_in(path, names, columns).first
        labels = labels or (None if given.target else usual_labels(names, columns, column))
    if labels is None and given.target is None:
        refuse(
            "--labels must say which classes the rows have (or --target which numbers)",
            "a probe tells how well they can be read from the features", "neither",
            "Pass for instance --labels COLUMN, --labels labels.npy, or --table labels.csv --labels COLUMN",
        )  # fmt: skip
    more = [name for name in (given.target, given.split) if name is not None]
    found = stores.open(
        path if path.exists() else str(path), column=column, id=given.id, labels=None if beside else labels,
        metadata=more or None, table=given.table, budget=budget, trust_size=given.trust_size,
    )  # fmt: skip
    if not beside or labels is None:
        return found
    values = stores.read_npy(labels)
    if values.shape != (len(found),):
        refuse(
            f"labels {labels!r} must have one entry for each row", "entry i is the class of row i",
            f"shape {values.shape} for {len(found)} rows", "Save as many labels as there are rows",
        )  # fmt: skip
    return replace(found, labels=values)


def read(stored: Embeddings, given: Given, *, nan: str, seed: int, budget: int) -> Rows:
    """Rows that have what is needed, a seeded random subset of many.

    Raises:
        InputError: values that are missing (``nan="refuse"``), a split of other words than train and test.
    """
    import numpy as np
    import torch

    from spherometer._told import chosen_rows
    from spherometer.rows import unit_blocks

    num, dim = stored.shape
    known = dict(stored.metadata or {})
    labels = None if stored.labels is None else _texts(stored.labels)
    target = None if given.target is None else _numbers(known[given.target], given.target)
    is_test = None if given.split is None else _sides(known[given.split], given.split)
    stays = np.ones(num, dtype=bool)
    notes: list[str] = []
    if labels is not None:
        _leave_out(stays, labels == "", "a label", nan, notes)
    if target is not None:
        _leave_out(stays, ~np.isfinite(target), "a target", nan, notes)
    places = np.flatnonzero(stays)
    most = max(2, min(MOST_ROWS, budget // (32 * dim)))
    if len(places) > most:
        notes.append(
            f"Of {len(places)} rows a random subset of {most} is probed (seed {seed})"
            + (": more do not fit into the memory." if most < MOST_ROWS else ".")
        )
        places = places[chosen_rows(len(places), most, seed).numpy()]
    x, finite = np.empty((len(places), dim)), np.ones(num, dtype=bool)
    wanted = torch.from_numpy(places)
    for start, block in unit_blocks(stored.rows, budget // 4):
        finite[start : start + len(block)] = torch.isfinite(block).all(dim=1).numpy()
        low, high = np.searchsorted(places, [start, start + len(block)])
        x[low:high] = block[wanted[low:high] - start].double().numpy()
    stored.check()
    bad = stays & ~finite
    if bad.any() and nan == "refuse":
        refuse(
            "features must be finite", "NaN or infinity in one row spoils the fit",
            f"{int(bad.sum())} of {num} rows with NaN or infinity, the first is row {int(bad.argmax())}",
            "Remove them, or pass --nan drop to leave them out",
        )  # fmt: skip
    if bad.any():
        notes.append(f"{int(bad.sum())} rows with NaN or infinity dropped.")
    keep = finite[places]
    belonging = [None if values is None else values[places][keep] for values in (labels, target, is_test)]
    return Rows(x[keep], belonging[0], belonging[1], belonging[2], num, notes)


def _texts(labels: Any) -> Array:
    """Classes as texts, "" where one is missing; whole numbers without a point."""
    import numpy as np

    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    texts = []
    for value in values:
        if value is None or value != value:
            texts.append("")
            continue
        whole = isinstance(value, float) and value.is_integer()
        texts.append(str(int(value)) if whole else str(value).strip())
    return np.array(texts)


def _numbers(values: Any, name: str) -> Array:
    import numpy as np

    if not isinstance(values, np.ndarray):
        shown = next((value for value in values if value is not None), None)
        refuse(
            f"--target must name a column of numbers, not {name!r}", "a regression predicts numbers",
            f"{str(shown)[:40]!r}", f"Pass --labels {name} for classes",
        )  # fmt: skip
    return values.astype(np.float64)


def _sides(values: Any, name: str) -> Array:
    """Which rows are tested on."""
    import numpy as np

    words = ["" if value is None or value != value else str(value).strip().lower() for value in values]
    odd = [row for row, word in enumerate(words) if word not in _SIDES]
    if odd:
        refuse(
            f"--split must name a column that says train or test in every row, not {name!r}",
            "each row is fitted to or tested on",
            f"{len(odd)} of {len(words)} rows with something else, the first is row {odd[0]} with "
            f"{str(values[odd[0]])[:40]!r}",
            "Write train or test; validation rows are set apart from the training rows anyway",
        )  # fmt: skip
    return np.array([_SIDES[word] == 1 for word in words])


def _leave_out(stays: Array, missing: Array, what: str, nan: str, notes: list[str]) -> None:
    if not missing.any():
        return
    if nan == "refuse":
        refuse(
            f"every row must have {what}", "nothing can be fitted or tested without",
            f"{int(missing.sum())} of {len(missing)} rows without, the first is row {int(missing.argmax())}",
            "Complete them, or pass --nan drop to leave those rows out",
        )  # fmt: skip
    notes.append(f"{int(missing.sum())} rows without {what} left out.")
    stays &= ~missing
