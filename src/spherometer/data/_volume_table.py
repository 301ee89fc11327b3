"""What is known about volumes: participants.tsv and sessions.tsv of a BIDS tree, or a table beside an array.

Shapes: N volumes.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.stores import column_values, read_table
from spherometer.stores._table import MISSING

SUBJECTS = ("participant_id", "subject_id", "subject", "participant")
SESSIONS = ("session_id", "session")
Cells = dict[str, list[str]]  # column -> cells
Columns = dict[str, list[Any]]  # column -> numbers, texts, None where missing
_Key = tuple[str, str | None]  # subject and session


class Scan(NamedTuple):
    """Whose a volume is: "sub-..." and "ses-..." (or None)."""

    subject: str
    session: str | None


def five(names: Sequence[str]) -> str:
    """The first five names."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _refuse(what: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", what, must, because, got, fix)


def chosen(
    cells: Mapping[str, Sequence[str]], wanted: Sequence[str], where: str, texts: Collection[str] = ()
) -> Columns:
    """Columns of cells as numbers or texts.

    Args:
        cells: the columns there are.
        wanted: the columns that are asked for.
        where: what messages call the table.
        texts: columns of names that may look like numbers.

    Raises:
        InputError: there is no such column; or most of its cells, but not all, are numbers.
    """
    found: Columns = {}
    for name in wanted:
        if name not in cells:
            near = difflib.get_close_matches(name, cells, 1)
            there = ", ".join(map(repr, list(cells)[:12]))
            _refuse(
                f"metadata {name!r}",
                f"name a column of {where}",
                "it is read from there",
                f"a table with the columns {there}" if cells else "a table without others",
                f"The nearest is {near[0]!r}" if near else "Name one of them",
            )
        found[name] = column_values(cells[name], f"column {name!r} of {where}", as_text=name in texts)
    return found


class _Table(NamedTuple):
    """Cells, and the row of each (subject, session)."""

    path: Path
    cells: Cells
    rows: dict[_Key, int]


def _prefixed(text: str, prefix: str) -> str:
    return text if text.startswith(prefix) else prefix + text


def _keyed(path: Path, subject: str | None = None) -> _Table:
    """A table of subjects, or of the sessions of one ``subject``, without the columns that name them."""
    cells = read_table(path)
    sessions = next((name for name in SESSIONS if name in cells), None)
    subjects = next((name for name in SUBJECTS if name in cells), None)
    if (subjects is None and subject is None) or (sessions is None and subject is not None):
        name = SUBJECTS[0] if subject is None else SESSIONS[0]
        got = f"the columns {', '.join(map(repr, list(cells)[:12]))}"
        _refuse(
            f"table {str(path)!r}", f"have a column {name}", "it says whose each row is", got,
            "Add that column",
        )  # fmt: skip
    num = len(next(iter(cells.values())))
    who = cells.pop(subjects) if subjects is not None else [str(subject)] * num
    when = cells.pop(sessions) if sessions is not None else [""] * num
    rows: dict[_Key, int] = {}
    for row, (each, at) in enumerate(zip(who, when, strict=True)):
        key = (_prefixed(each, "sub-"), None if at.lower() in MISSING else _prefixed(at, "ses-"))
        if key in rows:
            named = f"{key[0]} {key[1]}" if key[1] else key[0]
            _refuse(
                f"table {str(path)!r}",
                "name every subject (or session) once",
                "one row would hide the other",
                f"two rows of {named}",
                "Remove one of them",
            )
        rows[key] = row
    return _Table(path, cells, rows)


class Participants:
    """The tables of a BIDS tree: participants.tsv, and sessions.tsv of the tree or of its subjects.

    Args:
        roots: directories that may hold them; of each table the first that is there is read.
        subjects: whose own ``sub-..._sessions.tsv`` are looked for.

    Raises:
        InputError: a table is damaged, or does not say whose its rows are.
    """

    def __init__(self, roots: Sequence[Path], subjects: Iterable[str]) -> None:
        self._tables: list[_Table] = []  # what stands in an earlier one counts
        self.texts: set[str] = set()
        self._subjects: list[str] = []  # of participants.tsv
        for subject in sorted(set(subjects)):
            path = _first(roots, f"{subject}/{subject}_sessions.tsv")
            if path is not None:
                self._tables.append(_keyed(path, subject))
        for name in ("sessions", "participants"):
            path = _first(roots, f"{name}.tsv")
            if path is not None:
                self._tables.append(_keyed(path))
                self.texts |= _named_levels(path.with_suffix(".json"))
                if name == "participants":
                    self._subjects = list(dict.fromkeys(subject for subject, _ in self._tables[-1].rows))

    def __bool__(self) -> bool:
        return bool(self._tables)

    @property
    def where(self) -> str:
        """What messages call the tables."""
        stems = {table.path.stem.rsplit("_", 1)[-1] for table in self._tables}
        return " and ".join(f"{stem}.tsv" for stem in sorted(stems))

    @property
    def columns(self) -> list[str]:
        """All there are."""
        return list(dict.fromkeys(name for table in reversed(self._tables) for name in table.cells))

    def without_files(self, scans: Iterable[Scan]) -> list[str]:
        """Subjects of participants.tsv who have none of the ``scans``."""
        there = {scan.subject for scan in scans}
        return [subject for subject in self._subjects if subject not in there]

    def knows(self, scan: Scan) -> bool:
        """Whether any table has a row for it."""
        return any(_row(table, scan) is not None for table in self._tables)

    def cells(self, scans: Sequence[Scan], wanted: Sequence[str]) -> Cells:
        """The ``wanted`` columns that there are, of every scan: of its session where it says something."""
        return {
            name: [self._cell(scan, name) for scan in scans] for name in self.columns if name in wanted
        } | {name: [] for name in self.columns if name not in wanted}

    def _cell(self, scan: Scan, column: str) -> str:
        for table in self._tables:
            row = _row(table, scan)
            if row is not None and column in table.cells:
                cell = table.cells[column][row]
                if cell.lower() not in MISSING:
                    return cell
        return ""


def _row(table: _Table, scan: Scan) -> int | None:
    """The row of the session, else of the subject (all its sessions share it)."""
    row = table.rows.get((scan.subject, scan.session))
    return table.rows.get((scan.subject, None)) if row is None else row


def _first(roots: Sequence[Path], name: str) -> Path | None:
    return next((root / name for root in roots if (root / name).is_file()), None)


def _named_levels(path: Path) -> set[str]:
    """Columns whose values the description beside a table names: categories, whatever they look like."""
    if not path.is_file():
        return set()
    try:
        described = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        _refuse(
            f"file {str(path)!r}", "be JSON", "it says what the columns are", str(error)[:100],
            "Mend or remove it",
        )  # fmt: skip
    if not isinstance(described, dict):
        return set()
    return {name for name, said in described.items() if isinstance(said, dict) and said.get("Levels")}
