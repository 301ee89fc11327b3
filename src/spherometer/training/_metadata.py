"""Meta-data of a run: which there are, the kernel that compares them, and which samples have them.

Shapes: N samples, B of them in a batch, K columns of encoded meta-data.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.kernels import Categorical, Kernel, Product, kernel_for, kernel_from_text
from spherometer.training._recipe import Recipe

Table = dict[str, list[Any]]


class MissingMetadataWarning(UserWarning):
    """Samples are left out because an entry of their meta-data is missing."""


@dataclass(frozen=True)
class Conditioning:
    """What conditional methods and metrics compare.

    Args:
        kernel: fitted on the samples that are trained on, once.
        table: their encoded meta-data [N, K].
        names: the columns that it compares.
    """

    kernel: Kernel
    table: Tensor
    names: tuple[str, ...]

    def rows_of(self, views: Any, index: Tensor) -> Table | None:
        """The compared columns of the samples ``index`` of other views; None where they lack one."""
        columns = getattr(views, "metadata", None)
        if columns is None or any(name not in columns for name in self.names):
            return None
        return {name: [columns[name][row] for row in index.tolist()] for name in self.names}

    def to_dict(self) -> dict[str, Any]:
        """For results."""
        return {"columns": list(self.names), "kernel": self.kernel.to_dict(), "words": str(self.kernel)}


def condition(recipe: Recipe, views: Any) -> Conditioning | None:
    """Fit the kernel of a recipe on the samples that are trained on; None for a recipe without meta-data.

    Where the loss compares nothing the kernel only measures, and samples with gaps are left out of that.

    Raises:
        InputError: no such columns, missing entries that may not be, a column that tells no samples apart.
    """
    if recipe.data.metadata is None:
        return None
    method = recipe.method
    columns = columns_of(recipe, views)
    names = method.compared or recipe.data.metadata
    table = {name: columns[name] for name in names}
    missing: Any = method.missing or ("refuse" if method.conditional else "drop")
    if missing == "refuse":
        _refuse_gaps(table, getattr(views, "groups", None))
    for name, values in table.items():
        _refuse_constant(name, values)
    if method.kernel is None:
        kernel = kernel_for(table, missing=missing)
    else:
        kinds = dict(kernel_from_text(each) for each in method.kernel)
        kernel = Product(kinds, missing=missing).fit(table)
    return Conditioning(kernel, kernel.encode(table, "train"), tuple(names))


def columns_of(recipe: Recipe, samples: Any, what: str = "") -> Table:
    """The columns that a recipe names, of views or of a part of the data.

    Raises:
        InputError: there are none of that name.
    """
    wanted = recipe.data.metadata or ()
    columns = getattr(samples, "metadata", None)
    if not isinstance(columns, Mapping):
        _checks.refuse(
            InputError,
            "train",
            f"data {recipe.data.name!r}{what}",
            "have meta-data",
            f"data.metadata names {', '.join(wanted)}",
            "samples without any",
            "Leave data.metadata out, pass data.metadata_file, or volumes with a table",
        )
    for name in wanted:
        if name not in columns:
            _checks.refuse(
                InputError,
                "train",
                f"data {recipe.data.name!r}{what}",
                f"have the column {name!r}",
                "data.metadata names it",
                f"columns {', '.join(map(repr, list(columns)[:8]))}",
                "Name one of them",
            )
    return {name: list(columns[name]) for name in wanted}


def with_metadata(recipe: Recipe, views: Any) -> Any:
    """The views, without the samples whose meta-data have gaps if the recipe drops them.

    Raises:
        InputError: no such columns.
    """
    if recipe.data.metadata is None:
        return views
    columns = columns_of(recipe, views)
    if recipe.method.missing != "drop":
        return views
    names = recipe.method.compared or recipe.data.metadata
    gaps = [any(is_missing(columns[name][row]) for name in names) for row in range(len(views))]
    if not any(gaps):
        return views
    rows = torch.tensor([row for row, gap in enumerate(gaps) if not gap], dtype=torch.int64)
    warnings.warn(
        f"{sum(gaps)} of {len(views)} samples left out because {' or '.join(names)} is missing, the first is "
        f"{named(views, gaps.index(True))}",
        MissingMetadataWarning,
        stacklevel=2,
    )
    return SomeViews(views, rows)


def is_missing(value: Any) -> bool:
    """None and NaN."""
    return value is None or value != value


def is_number(values: Sequence[Any]) -> bool:
    """Whether the entries that are there are numbers (and not true or false)."""
    there = [value for value in values if not is_missing(value)]
    return bool(there) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in there
    )


def kinds_of(recipe: Recipe, columns: Table) -> dict[str, str]:
    """column -> "number" or "class": what probes predict; the recipe's kernel may call numbers categories."""
    kernels = dict(kernel_from_text(each) for each in recipe.method.kernel or ())
    return {
        name: "number" if is_number(values) and not isinstance(kernels.get(name), Categorical) else "class"
        for name, values in columns.items()
    }


def named(samples: Any, row: int) -> str:
    """The subject of a sample, or its number."""
    groups = getattr(samples, "groups", None)
    return f"row {row}" if groups is None else str(groups[row])


def _refuse_gaps(table: Table, groups: Sequence[str] | None) -> None:
    for name, values in table.items():
        gaps = [row for row, value in enumerate(values) if is_missing(value)]
        if gaps:
            who = list(dict.fromkeys(str(row if groups is None else groups[row]) for row in gaps))
            first = ", ".join(who[:5]) + (", ..." if len(who) > 5 else "")
            _checks.refuse(
                InputError,
                "train",
                f"data.metadata {name!r}",
                "be there for every sample",
                "missing values have no similarity",
                f"{len(gaps)} of {len(values)} missing ({first})",
                'Complete the table, or pass method.missing = "drop" or "neutral"',
            )


def _refuse_constant(name: str, values: Sequence[Any]) -> None:
    there = [value for value in values if not is_missing(value)]
    if len(set(there)) < 2:
        got = f"{len(there)} samples, all {there[0]!r}"[:80] if there else "no entry at all"
        _checks.refuse(
            InputError,
            "train",
            f"data.metadata {name!r}",
            "vary",
            "a constant tells no samples apart",
            got,
            "Leave that column out",
        )


@dataclass(frozen=True)
class SomeViews:
    """Paired views of some samples of others.

    Args:
        of: all of them.
        rows: which, int64.
        columns: meta-data of all of them; None: they bring it.
        subjects: of all of them; None: they say it.
    """

    of: Any
    rows: Tensor
    columns: Table | None = None
    subjects: Sequence[str] | None = None

    @property
    def name(self) -> str:
        """Name of the set."""
        return str(getattr(self.of, "name", "data"))

    @property
    def labels(self) -> Tensor | None:
        """Classes, or None."""
        labels: Tensor | None = getattr(self.of, "labels", None)
        return None if labels is None else labels[self.rows]

    @property
    def metadata(self) -> Table:
        """column -> values."""
        columns = self.of.metadata if self.columns is None else self.columns
        return {name: self._some(values) for name, values in columns.items()}

    @property
    def groups(self) -> list[str] | None:
        """The subject of each sample, or None."""
        groups = getattr(self.of, "groups", None) if self.subjects is None else self.subjects
        return None if groups is None else self._some(groups)

    def _some(self, values: Sequence[Any]) -> list[Any]:
        return [values[row] for row in self.rows.tolist()]

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of the samples ``index`` [B]."""
        return self.views(self.load(index), epoch, index)

    def load(self, index: Tensor) -> Any:
        """What is stored of the samples ``index`` [B]."""
        return self.of.load(self.rows[index.cpu()])

    def views(self, loaded: Any, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of what was loaded."""
        x, y = self.of.views(loaded, epoch, self.rows.to(index.device)[index])
        return x, y

    def images(self, index: Tensor) -> Tensor:
        """The samples ``index`` [B] without random changes, in the size and normalisation of the views."""
        found: Tensor = self.of.still(self.load(index))
        return found

    def fingerprint(self) -> str:
        """Of the set, the row numbers, and columns that it did not bring."""
        parts = [self.of.fingerprint(), self.rows.tolist(), self.columns, self.subjects]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
