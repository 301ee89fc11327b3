"""Candidates of a directory, what their names say about runs and steps, and results by name."""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

from spherometer import _checks
from spherometer.errors import InputError

FEATURES = (
    ".npy", ".npz", ".parquet", ".arrow", ".feather", ".safetensors", ".csv", ".tsv", ".jsonl",
    ".ndjson", ".pt", ".pth", ".faiss", ".index",
)  # fmt: skip
_WORDS = "global_step|global-step|steps|step|iterations|iteration|iters|iter|checkpoint|ckpt|epochs|epoch|ep"
_STEP = re.compile(rf"(?:(?<=[^a-z0-9])|^)({_WORDS})[=_-]?(\d+(?:\.\d+)?)(?![a-z0-9]|\.\d)", re.IGNORECASE)
_FINEST = ("global_step", "global-step", "step", "iter", "checkpoint", "ckpt", "ep")
_MOST_BYTES = 64 << 20  # of a table of results


def run_and_step(name: str) -> tuple[str | None, float | None]:
    """``run/step=100`` is step 100 of run ``run``; None for what a name does not say.

    Words such as step, iter, ckpt, checkpoint and epoch with a number count (the finest unit of several), and
    a part of a path that is a number.
    """
    found = list(_STEP.finditer(name))
    if found:
        best = min(found, key=lambda match: _fineness(match.group(1).lower()))
        rest = name
        for match in reversed(found):
            rest = rest[: match.start()] + rest[match.end() :]
        return _tidy(rest), float(best.group(2))
    parts = name.split("/")
    numbers = [place for place, part in enumerate(parts) if re.fullmatch(r"\d+", part)]
    if len(numbers) != 1:
        return None, None
    return _tidy("/".join(parts[: numbers[0]] + parts[numbers[0] + 1 :])), float(parts[numbers[0]])


def _fineness(word: str) -> int:
    return next(place for place, unit in enumerate(_FINEST) if word.startswith(unit))


def _tidy(rest: str) -> str | None:
    parts = [part.strip("-_=. ") for part in rest.split("/")]
    return "/".join(part for part in parts if part) or None


def candidates_of(directory: Path, performance: Any = None) -> tuple[dict[str, Path], list[str]]:
    """Files of a directory and of those below it, by name; data sets saved as a directory count as one file.

    Evaluations (.json) where there are no features. The table of results is none of them.
    """
    table = Path(performance).resolve() if isinstance(performance, (str, PathLike)) else None
    found: dict[str, Path] = {}
    others: dict[str, Path] = {}
    notes = []
    for path in sorted(_walk(directory)):
        kind = path.suffix.lower()
        if path.resolve() == table or (path.is_file() and kind not in (*FEATURES, ".json")):
            continue
        name = path.relative_to(directory).as_posix()
        name = name if path.is_dir() else name[: -len(path.suffix)]
        target = others if kind == ".json" else found
        if name in target:
            _checks.refuse(
                InputError, "select", "candidates", "have different names",
                "each is called by its file name without its ending",
                f"{target[name].name!r} and {path.name!r}", "Rename one, or pass a mapping name -> file",
            )  # fmt: skip
        target[name] = path
    if found and others:
        notes.append(f"{len(others)} .json files left out: the directory holds features.")
    if not found and not others:
        _checks.refuse(
            InputError, "select", "candidates", "be a directory that holds features or evaluations",
            "each of its files is a candidate", f"{str(directory)!r}, where there are none",
            f"Save one file for each encoder ({', '.join(FEATURES[:5])}, ...)",
        )  # fmt: skip
    return found or others, notes


def _walk(directory: Path) -> Iterable[Path]:
    for path in directory.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_file() or (path.is_dir() and (path / "state.json").is_file()):
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def performances(given: Any, names: list[str]) -> dict[str, float]:
    """Results by the names of candidates, from a mapping or a table (.csv, .tsv)."""
    if isinstance(given, (str, PathLike)):
        given = _table(Path(given))
    if not isinstance(given, Mapping):
        _checks.refuse(
            InputError, "select", "performance", "be a mapping name -> number, or a .csv or .tsv file",
            "it says how well each candidate did", type(given).__name__,
            "Pass for instance {'a': 0.81, 'b': 0.79}",
        )  # fmt: skip
    found = {}
    for name, value in given.items():
        if str(name) not in names:
            nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)[0]
            _checks.refuse(
                InputError, "select", "performance", "name the candidates",
                "each result belongs to one of them", repr(name)[:80], f"Did you mean {nearest!r}",
            )  # fmt: skip
        number = _as_number(value)
        if number is None:
            _checks.refuse(
                InputError, "select", "performance", "hold finite numbers, higher is better",
                "candidates are compared by them", f"{value!r:.60} for {str(name)!r:.60}",
                "Leave candidates without a result out",
            )  # fmt: skip
        found[str(name)] = number
    return found


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _table(path: Path) -> dict[str, str]:
    """Name (the first column) and result ("performance", or else the second); empty ones are left out."""
    if not path.is_file():
        _table_must(path, "be a regular file that can be read", "no such file, or no regular one")
    if path.stat().st_size > _MOST_BYTES:
        _table_must(path, "be a small table", f"{path.stat().st_size} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        _table_must(path, "be a text in UTF-8", f"{type(error).__name__}")
    try:
        rows = list(csv.reader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    except csv.Error as error:
        _table_must(path, "be a table", f"csv.Error ({error})")
    rows = [row for row in rows if row]
    if len(rows) < 2 or len(rows[0]) < 2:
        _table_must(path, "have a header and two columns", f"{len(rows)} lines")
    head = [cell.strip() for cell in rows[0]]
    column = head.index("performance") if "performance" in head[1:] else 1
    found: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) <= column:
            _table_must(path, f"have {column + 1} cells in every line", f"{len(row)} in line {number}")
        name = row[0].strip()
        if name in found:
            _table_must(path, "name every candidate once", f"{name!r:.60} again in line {number}")
        if row[column].strip():
            found[name] = row[column].strip()
    return found


def _table_must(path: Path, must: str, got: str) -> NoReturn:
    _checks.refuse(
        InputError, "select", "performance", f"{must} where it is a file",
        "its first column names the candidates, the other is their result", f"{got} for {str(path)!r}",
        "Write for instance name,performance and one line for each candidate",
    )  # fmt: skip
