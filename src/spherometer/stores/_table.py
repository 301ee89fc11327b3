"""Tables of text (.csv, .tsv) as columns, read strictly: every line has as many cells as the header.

A table of participants is one: ages and sexes beside the rows of features.
"""

from __future__ import annotations

import csv
import io
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from spherometer import _checks
from spherometer.errors import InputError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_MAX_BYTES = 256 << 20
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
MISSING = frozenset(("", "n/a", "na", "nan", "none", "null"))  # in small letters


def read_table(path: str | Path) -> dict[str, list[str]]:
    """Read a ``.csv`` or ``.tsv`` file whole.

    Args:
        path: a regular file of UTF-8 text; the first line names the columns; cells may be quoted as
            spreadsheets do. Spaces around a cell are left out, and so are empty lines (a missing value in a
            table of one column is written n/a).

    Returns:
        Column -> its cells as text, in the order of the file.

    Raises:
        InputError: the file is missing, no regular file, no text, or has no rows; a column has no name or the
            name of another; a line has more or fewer cells than the first.
    """
    path = Path(path)
    delimiter = _DELIMITERS.get(path.suffix.lower())
    if delimiter is None:
        _refuse(
            path, "end in .csv or .tsv", "the ending says how to read it",
            repr(path.suffix) if path.suffix else "no ending", "Save the table with commas or with tabs",
        )  # fmt: skip
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    columns: list[list[str]] = []
    try:
        for line in reader:
            cells = [cell.strip() for cell in line]
            if cells in ([], [""]):
                continue
            if not header:
                header, columns = cells, [[] for _ in cells]
                _check_names(path, header)
                continue
            if len(cells) != len(header):
                _refuse(
                    path, f"have {len(header)} cells in every line", "the first line names so many columns",
                    f"{len(cells)} cells in line {reader.line_num}", "Correct that line",
                )  # fmt: skip
            for column, cell in zip(columns, cells, strict=True):
                column.append(cell)
    except csv.Error as error:
        _refuse(
            path, "be a table", "its cells are read one by one", f"line {reader.line_num}: {error}"[:160],
            "Save it again",
        )  # fmt: skip
    if not header or not columns[0]:
        _refuse(
            path, "hold a line of names and at least one row", "row i says something about sample i",
            "an empty file" if not header else "names alone", "Check the path",
        )  # fmt: skip
    return dict(zip(header, columns, strict=True))


def column_values(cells: Sequence[str], where: str, *, as_text: bool = False) -> list[float | str | None]:
    """Numbers where all cells that are there are numbers, else texts; missing ones None.

    Missing is what is empty or one of n/a, NA, NaN, none, null (in any case of letters).

    Args:
        cells: as ``read_table`` returns them.
        where: what messages call the column.
        as_text: take numbers as texts: they are names (sites, scanners).

    Raises:
        InputError: at least half of the cells, but not all, are numbers: a few texts among ages are probably
            missing values or slips, and would make categories of all of them.
    """
    present = [cell for cell in cells if cell.lower() not in MISSING]
    odd = [] if as_text else [cell for cell in present if not _NUMBER.fullmatch(cell)]
    if odd and 2 * len(odd) <= len(present):
        _checks.refuse(
            InputError, "read_table", where, "hold numbers alone, or names alone",
            "numbers are compared by their differences, names for equality",
            f"{len(odd)} of {len(present)} cells that are no numbers, the first is {odd[0]!r}"[:160],
            "Correct them, write n/a where a value is missing, or give the column a categorical kernel",
        )  # fmt: skip
    numeric = not as_text and not odd
    return [
        None if cell.lower() in MISSING else float(cell) if numeric else cell
        for cell in cells
    ]  # fmt: skip


def _check_names(path: Path, names: list[str]) -> None:
    if "" in names:
        _refuse(
            path, "name every column in its first line", "columns are chosen by name",
            f"no name for column {names.index('') + 1}", "Name it, or remove it",
        )  # fmt: skip
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        _refuse(
            path, "name every column once", "one would hide the other", f"two columns named {twice[0]!r}",
            "Rename one of them",
        )  # fmt: skip


def _text(path: Path) -> str:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            _refuse(path, "be a regular file", "it is read as a whole", kind, "Pass a .csv or .tsv file")
        if status.st_size > _MAX_BYTES:
            _refuse(
                path, f"have at most {_MAX_BYTES >> 20} MiB", "it is read as a whole",
                f"{status.st_size} bytes", "Keep the columns that are compared",
            )  # fmt: skip
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(path, "be UTF-8 text", "names must be read alike everywhere", str(error)[:120], "Convert it")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        _refuse(path, "exist and be readable", "its rows are used", words.lower(), "Check the path")


def _refuse(path: Path, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "read_table", f"file {str(path)!r}", must, because, got, fix)
