"""The table of meta-data beside a file of features: its columns, their kernels, whose row is whose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherometer.cli._files import IDS, nearest, refuse

if TYPE_CHECKING:
    from spherometer.kernels import Kernel

Values = dict[str, list[float | str | None]]


@dataclass(frozen=True)
class Table:
    """Chosen columns of a table, their kernels, and the ids of its rows."""

    path: Path
    values: Values
    kernels: dict[str, Any]  # column -> kernel, for the columns that were given one
    id: str | None  # name of the column of ids that was asked for
    ids: list[str] | None
    missing: str

    def kernel(self) -> Kernel:
        """One kernel for each column, multiplied: the given ones, else by what the column holds."""
        from spherometer.kernels import Categorical, Gaussian, Product

        named = {
            name: self.kernels.get(name)
            or (Categorical() if any(isinstance(cell, str) for cell in cells) else Gaussian("median"))
            for name, cells in self.values.items()
        }
        return Product(named, missing=self.missing)  # type: ignore[arg-type]

    def rows(self, file: Path, num: int, ids: list[str] | None) -> tuple[Values, list[str]]:
        """The values of every row of a file, and what a reader must know.

        By ids where the file has some: never by position then. A row of the table may serve several rows of
        the file (sessions of one subject).
        """
        if ids is None:
            self._check_position(file, num)
            return self.values, []
        if self.ids is None:
            refuse(
                f"--metadata {str(self.path)!r} must have a column of ids",
                f"{str(file)!r} has ids, and rows are matched by them", "no column of a usual name "
                f"({', '.join(IDS)})", "Name the column with --id",
            )  # fmt: skip
        place = {name: row for row, name in enumerate(self.ids)}
        if len(place) < len(self.ids):
            twice = [name for name in place if self.ids.count(name) > 1]
            refuse(
                f"--metadata {str(self.path)!r} must name every id once", "one row would hide the other",
                f"{len(twice)} ids in several rows, {_five(twice)}", "Keep one row for each",
            )  # fmt: skip
        absent = [name for name in dict.fromkeys(ids) if name not in place]
        if absent:
            refuse(
                f"--metadata {str(self.path)!r} must have a row for every id of {str(file)!r}",
                "a row of features without meta-data is similar to nothing",
                f"{len(absent)} of {len(set(ids))} ids without a row, {_five(absent)}",
                "Add them to the table (n/a where a value is missing), or leave those rows out",
            )  # fmt: skip
        picked = [place[name] for name in ids]
        spare = len(place) - len(set(picked))
        notes = [f"{spare} rows of {self.path.name} belong to no row of {file.name}."] if spare else []
        return {name: [cells[row] for row in picked] for name, cells in self.values.items()}, notes

    def _check_position(self, file: Path, num: int) -> None:
        if self.id is not None:
            refuse(
                f"--id {self.id!r} must name ids in {str(file)!r} too", "rows are matched by them",
                "a file without ids", "Save them beside the features with np.savez(..., ids=ids), "
                "or leave --id out: then row i of the table belongs to row i",
            )  # fmt: skip
        length = len(next(iter(self.values.values())))
        if length != num:
            refuse(
                f"--metadata {str(self.path)!r} must have one row for each row of {str(file)!r}",
                "without ids row i of the table belongs to row i of the file", f"{length} rows for {num}",
                "Pass the table of these rows, or save ids beside the features and pass --id",
            )  # fmt: skip


def _five(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:5])
    return f"{'the first five' if len(names) > 5 else 'namely'} {shown}"


def open_table(
    path: Path, *, columns: str | None, kernels: Sequence[str], id_column: str | None, missing: str
) -> Table:
    """Read the table and what is to be compared by which kernel.

    Raises:
        InputError: the table cannot be read, a column or a kernel is not there.
    """
    from spherometer.stores import column_values, read_table

    given = _kernels(kernels)
    table = read_table(path)
    names = list(table)
    if id_column is not None:
        _present(path, "--id", [id_column], names)
    ids = id_column or next((name for name in IDS if name in table), None)
    if columns is not None:
        wanted = list(dict.fromkeys(name.strip() for name in columns.split(",")))
        _present(path, "--columns", wanted, names)
        other = [name for name in given if name not in wanted]
        if other:
            refuse(
                "--kernel must be for a column that --columns names", "others are not compared",
                repr(other[0]), "Name it there, or leave --columns out",
            )  # fmt: skip
    else:
        _present(path, "--kernel", list(given), names)
        wanted = list(given) or [name for name in names if name != ids]
    if not wanted:
        refuse(
            f"--metadata {str(path)!r} must have a column besides the ids", "its values are compared",
            "none", "Add one, for instance age",
        )  # fmt: skip
    values: Values = {
        name: column_values(
            table[name], f"column {name!r} of {str(path)!r}",
            as_text=name in given and given[name].categorical,
        )
        for name in wanted
    }  # fmt: skip
    return Table(path, values, given, id_column, None if ids is None else table[ids], missing)


def _kernels(texts: Sequence[str]) -> dict[str, Any]:
    if not texts:
        return {}
    from spherometer.kernels import kernel_from_text

    pairs = [kernel_from_text(text) for text in texts]
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name in found if [pair[0] for pair in pairs].count(name) > 1)
        refuse(
            "--kernel must be given once for each column", "a column is compared in one way",
            f"two for {twice!r}", "Leave one out",
        )  # fmt: skip
    return found


def _present(path: Path, option: str, wanted: Sequence[str], names: list[str]) -> None:
    for name in wanted:
        if name not in names:
            refuse(
                f"{option} must name columns of {str(path)!r}", "their values are compared",
                f"{name!r}, while the table has {', '.join(map(repr, names[:20]))}", nearest(name, names),
            )  # fmt: skip
