"""Which arrays of a file are the two sides and the labels."""

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


@dataclass(frozen=True)
class Columns:
    """What the user named; None is found by its usual name."""

    column: str | None
    pairs: str | None
    labels: str | None
    trust_size: bool


@dataclass(frozen=True)
class Sides:
    """Features, the other side of the pairs, and labels."""

    x: NDArray[Any]
    y: NDArray[Any] | None
    labels: NDArray[Any] | None


def refuse(must: str, because: str, got: str, fix: str) -> NoReturn:
    """Raise InputError in the house grammar, without importing torch."""
    raise InputError(" ".join(f"measure: {must}, because {because}. Got {got}. {fix}.".split()))


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f"Did you mean {close[0]!r}" if close else "Name one of them"


def _key(path: Path, option: str, name: str, names: list[str]) -> str:
    if name not in names:
        refuse(
            f"{option} must name an array of {str(path)!r}",
            "that array is measured",
            f"{name!r}, while the file holds {', '.join(map(repr, names[:20])) or 'nothing'}",
            _nearest(name, names),
        )
    return name


def _first_of(path: Path, names: list[str]) -> str:
    for name in _FIRST:
        if name in names:
            return name
    others = [name for name in names if name not in _LABELS]
    if len(others) != 1:
        refuse(
            f"--column must say which array of {str(path)!r} to measure",
            "none has a usual name (x, z1, z, features, embeddings)",
            f"{', '.join(map(repr, names[:20])) or 'an archive without arrays'}",
            "Pass for instance --column NAME",
        )
    return others[0]


def _from_archive(path: Path, columns: Columns) -> Sides:
    from spherometer.stores import Archive

    with Archive(path, trust_size=columns.trust_size) as archive:
        names = archive.names
        column = columns.column
        first = _first_of(path, names) if column is None else _key(path, "--column", column, names)
        second: str | None = None
        if columns.pairs is not None and columns.pairs in names:
            second = columns.pairs
        elif columns.pairs is None and column is None and _SECOND.get(first) in names:
            second = _SECOND[first]
        label: str | None = None
        if columns.labels is not None and columns.labels in names:
            label = columns.labels
        elif columns.labels is None:
            label = next((name for name in _LABELS if name in names and name != first), None)
        sides = Sides(
            archive[first],
            None if second is None else archive[second],
            None if label is None else archive[label],
        )
    return Sides(
        sides.x,
        _other(path, "--pairs", columns.pairs, names) if columns.pairs and second is None else sides.y,
        _other(path, "--labels", columns.labels, names) if columns.labels and label is None else sides.labels,
    )


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
