"""Meta-data from a table beside images that bring none.

A fifth of the subjects is set apart for testing, as in volumes without parts.

Shapes: N samples.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.kernels import Categorical, kernel_from_text
from spherometer.probes import group_split
from spherometer.stores import column_values, read_table
from spherometer.training._metadata import SomeViews, Table
from spherometer.training._recipe import Recipe

_FILE = "file"
_SUBJECTS = ("participant_id", "subject_id", "subject", "participant")
_SHARE = 0.2  # of the subjects, tested


def described(recipe: Recipe, views: Any, part: str) -> SomeViews:
    """The samples of a part with the columns of the recipe's table.

    Args:
        recipe: names the table and its columns.
        views: all samples.
        part: "train", "test" (a fifth of the subjects), or "all".

    Raises:
        InputError: the table cannot be read, is about other samples, or lacks a column.
    """
    path = Path(recipe.data.metadata_file or "").expanduser()
    if not hasattr(views, "still"):
        _refuse(path, "be left out for texts", "its columns are about images", repr(recipe.data.name)[:80],
                "Leave it out")  # fmt: skip
    cells = read_table(path)
    order = _order(path, cells, views, by_name=Path(recipe.data.name).expanduser().is_dir())
    categories = {
        name
        for name, kernel in map(kernel_from_text, recipe.method.kernel or ())
        if isinstance(kernel, Categorical)
    }
    columns: Table = {}
    for name in recipe.data.metadata or ():
        if name not in cells:
            near = difflib.get_close_matches(name, cells, 1)
            _refuse(
                path, f"have the column {name!r}", "data.metadata names it",
                f"columns {', '.join(map(repr, list(cells)[:8]))}",
                f"Did you mean {near[0]!r}" if near else "Name one of them",
            )  # fmt: skip
        values = [cells[name][row] for row in order]
        columns[name] = column_values(values, f"column {name!r} of {path}", as_text=name in categories)
    key = next((name for name in _SUBJECTS if name in cells), None)
    subjects = [f"row {row}" if key is None else cells[key][row] for row in order]
    return SomeViews(views, _rows(subjects, part, recipe.data.split_seed or 0), columns, subjects)


def _order(path: Path, cells: dict[str, list[str]], views: Any, *, by_name: bool) -> list[int]:
    """The row of the table that each sample has."""
    num = len(next(iter(cells.values())))
    if not by_name:
        if num != len(views):
            _refuse(path, "have one row for each sample", "row i is about sample i",
                    f"{num} rows for {len(views)} samples", "Correct the table")  # fmt: skip
        return list(range(num))
    names: Sequence[str] = views.images.of.names
    if _FILE not in cells:
        _refuse(path, f"have a column {_FILE!r}", "it says which image each row is about",
                f"columns {', '.join(map(repr, list(cells)[:8]))}",
                f"Add it, with names such as {names[0]!r}")  # fmt: skip
    place = {file: row for row, file in enumerate(cells[_FILE])}
    lost = [name for name in names if name not in place]
    if lost or len(place) < num:
        got = (
            f"{len(lost)} of {len(names)} images without one ({', '.join(lost[:5])})" if lost else "one twice"
        )
        _refuse(
            path, "have one row for each image", "it says what is known about it", got, "Complete the table"
        )
    return [place[name] for name in names]


def _rows(subjects: list[str], part: str, split_seed: int) -> Tensor:
    every = sorted(set(subjects))
    if part == "all" or len(every) < 2:
        return torch.arange(len(subjects))
    _, tested = group_split(every, _SHARE, split_seed)
    apart = {every[place] for place in tested.tolist()}
    rows = [row for row, subject in enumerate(subjects) if (subject in apart) == (part == "test")]
    return torch.tensor(rows, dtype=torch.int64)


@dataclass(frozen=True)
class AsStored:
    """Samples of views without size and normalisation: in [0, 1]."""

    of: SomeViews

    @property
    def labels(self) -> Tensor | None:
        """Classes, or None."""
        return self.of.labels

    @property
    def metadata(self) -> Table:
        """column -> values."""
        return self.of.metadata

    @property
    def groups(self) -> list[str] | None:
        """The subject of each sample."""
        return self.of.groups

    def __len__(self) -> int:
        return len(self.of)

    def images(self, index: Tensor) -> Tensor:
        """The samples ``index`` [B]."""
        stored: Tensor = self.of.load(index)
        return stored.float() / 255 if stored.dtype == torch.uint8 else stored.float()


def _refuse(path: Path, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "train", f"data.metadata_file {str(path)!r}", must, because, got, fix)
