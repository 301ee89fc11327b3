"""Which arrays of a file are the two sides, the labels and the ids."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from spherometer.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIRST = ("x", "z1", "z", "features", "embeddings")
_SECOND = {"x": "y", "z1": "z2"}
_LABELS = ("labels", "label", "targets")
IDS = ("ids", "id", "participant_id", "subject_id", "sample_id")


@dataclass(frozen=True)
class Columns:
    """What the user named; None is found by its usual name."""

    column: str | None
    pairs: str | None
    labels: str | None
    trust_size: bool
    id: str | None = None
    with_ids: bool = False  # whether ids are looked for: meta-data are matched by them


@dataclass(frozen=True)
class Sides:
    """Features, the other side of the pairs, labels, and ids as text."""

    x: NDArray[Any]
    y: NDArray[Any] | None
    labels: NDArray[Any] | None
    ids: list[str] | None = None

    @property
    def num(self) -> int:
        """Number of rows."""
        return int(self.x.shape[0]) if self.x.ndim else 0


def refuse(must: str, because: str, got: str, fix: str, command: str = "measure") -> NoReturn:
    """Raise InputError in the house grammar, without importing torch."""
    raise InputError(" ".join(f"{command}: {must}, because {because}. Got {got}. {fix}.".split()))


def nearest(name: str, names: list[str]) -> str:
    """The fix that a message ends with: the name that was probably meant."""
    close = difflib.get_close_matches(name, names, 1)
    return f"Did you mean {close[0]!r}" if close else "Name one of them"


def _key(path: Path, option: str, name: str, names: list[str]) -> str:
    if name not in names:
        refuse(
            f"{option} must name an array of {str(path)!r}",
            "that array is measured",
            f"{name!r}, while the file holds {', '.join(map(repr, names[:20])) or 'nothing'}",
            nearest(name, names),
        )
    return name


def _first_of(path: Path, names: list[str]) -> str:
    for name in _FIRST:
        if name in names:
            return name
    others = [name for name in names if name not in (*_LABELS, *IDS)]
    if len(others) != 1:
        refuse(
            f"--column must say which array of {str(path)!r} to measure",
            "none has a usual name (x, z1, z, features, embeddings)",
            f"{', '.join(map(repr, names[:20])) or 'an archive without arrays'}",
            "Pass for instance --column NAME",
        )
    return others[0]


@dataclass(frozen=True)
class Named:
    """Arrays of an archive by what they are; None is not in it."""

    first: str
    second: str | None
    labels: str | None
    ids: str | None


def named_in(path: Path, names: list[str], columns: Columns) -> Named:
    """Which of the arrays ``names`` of an archive are meant: what the user named, else the usual names.

    Raises:
        InputError: the features are not among them, or several are and none has a usual name.
    """
    column = columns.column
    first = _first_of(path, names) if column is None else _key(path, "--column", column, names)
    second: str | None = None
    if columns.pairs is not None and columns.pairs in names:
        second = columns.pairs
    elif columns.pairs is None and column is None and _SECOND.get(first) in names:
        second = _SECOND[first]
    return Named(first, second, usual_labels(names, columns, first), _ids_name(columns, names))


def usual_labels(names: list[str], columns: Columns, first: str | None = None) -> str | None:
    """The array of classes: the one that --labels names, else the first with a usual name."""
    if columns.labels is not None:
        return columns.labels if columns.labels in names else None
    return next((name for name in _LABELS if name in names and name != first), None)


def _from_archive(path: Path, columns: Columns) -> Sides:
    from spherometer.stores import Archive

    with Archive(path, trust_size=columns.trust_size) as archive:
        names = archive.names
        named = named_in(path, names, columns)
        second, label = named.second, named.labels
        x = archive[named.first]
        sides = Sides(
            x,
            None if second is None else archive[second],
            None if label is None else archive[label],
            None if named.ids is None else _ids(path, named.ids, archive[named.ids], x.shape[:1]),
        )
    return Sides(
        sides.x,
        _other(path, "--pairs", columns.pairs, names) if columns.pairs and second is None else sides.y,
        _other(path, "--labels", columns.labels, names) if columns.labels and label is None else sides.labels,
        sides.ids,
    )


def _ids_name(columns: Columns, names: list[str]) -> str | None:
    """The array of ids: the one that --id names, else the first with a usual name."""
    if not columns.with_ids:
        return None
    wanted = (columns.id, *IDS) if columns.id else IDS
    return next((name for name in wanted if name in names), None)


def _ids(path: Path, name: str, values: NDArray[Any], shape: tuple[int, ...]) -> list[str]:
    if values.shape != shape or values.dtype.kind not in "iuUS":
        refuse(
            f"ids {name!r} of {str(path)!r} must be texts or whole numbers, one for each row",
            "each names the row of the table that belongs to a row of features",
            f"shape {values.shape}, dtype {values.dtype}",
            f"Save {shape[0] if shape else 'some'} of them",
        )
    texts = [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in values.tolist()
    ]
    return [text.strip() for text in texts]


def _other(path: Path, option: str, name: str, names: list[str]) -> NDArray[Any]:
    """An option that names no array of the archive must name a .npy file."""
    from spherometer.stores import read_npy

    if Path(name).suffix.lower() != ".npy":
        _key(path, option, name, names)
    return read_npy(name)


def load(path: Path, columns: Columns) -> Sides:
    """Read the sides and labels from a ``.npy`` or ``.npz`` file.

    Raises:
        InputError: the file cannot be read, or an array that was asked for is not there.
    """
    from spherometer.stores import read_npy

    kind = path.suffix.lower()
    if kind == ".npz":
        return _from_archive(path, columns)
    if kind != ".npy":
        refuse(
            f"FILE must end in .npy or .npz, not {str(path)!r}",
            "the ending says how to read it",
            repr(path.suffix) if path.suffix else "no ending",
            "Save the features with np.save or np.savez",
        )
    if columns.column is not None:
        refuse(
            "--column must be left out for a .npy file",
            "it holds a single array without a name",
            repr(columns.column),
            "Use a .npz file, or leave it out",
        )
    y = None if columns.pairs is None else _other(path, "--pairs", columns.pairs, [])
    labels = None if columns.labels is None else _other(path, "--labels", columns.labels, [])
    return Sides(read_npy(path), y, labels)
