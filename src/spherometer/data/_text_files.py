"""Pairs of texts from a table: tab-separated, comma-separated, or one JSON object a line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.data._text import TextPairs, words
from spherometer.errors import InputError

SUFFIXES = (".tsv", ".csv", ".jsonl")
Row = dict[str, Any]


class _BadLineError(ValueError):
    """One line that cannot be read; the message says why."""


def open_text_pairs(
    path: Path | str,
    *,
    left: str | None = None,
    right: str | None = None,
    label: str | None = None,
    skip_bad: int = 0,
    **settings: Any,
) -> TextPairs:
    """Read pairs of texts.

    .tsv and .csv begin with a line of column names (in .csv a field with commas is in double quotes; a .tsv
    has no quotes); .jsonl holds one object a line.

    Args:
        path: a .tsv, .csv or .jsonl file, UTF-8.
        left, right: the columns of the two texts; by default the first two.
        label: a column of classes (numbered in their sorted order), or None.
        skip_bad: so many unusable lines (ragged, empty text) may be left out; with more the file is refused.
        **settings: as for :class:`TextPairs`: vocabulary, seed, word_dropout, max_length.

    Raises:
        InputError: the file cannot be read; the message names the line.
    """
    path = Path(path)
    _checks.whole("open_text_pairs", "skip_bad", skip_bad, at_least=0)
    if path.suffix not in SUFFIXES:
        _refuse("end in .tsv, .csv or .jsonl", f"{path}", "Convert it, for instance to .tsv")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        _refuse("be a file that can be read", f"{path} ({(error.strerror or str(error)).lower()})", _FIX)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        _refuse("be UTF-8", f"{path}, line {line}: byte {error.object[error.start]:#04x}", "Convert it")
    kept: list[tuple[str, str, Any]] = []
    bad: list[str] = []
    columns: tuple[str, str] | None = None
    for line, row in _rows(path, content):
        if isinstance(row, _BadLineError):
            bad.append(f"line {line}: {row}")
        else:
            if columns is None:
                columns = _columns(path, row, left, right, label)
            try:
                kept.append(_pair(row, columns, label))
            except _BadLineError as error:
                bad.append(f"line {line}: {error}")
        if len(bad) > skip_bad:
            more = f" ({len(bad)} such lines, skip_bad={skip_bad})" if skip_bad else ""
            _refuse("hold two texts in every line", f"{path}, {bad[-1]}{more}", "Mend it, or raise skip_bad")
    if not kept:
        _refuse("hold at least one pair", f"{path} without any", _FIX)
    source = f"pairs of texts in {path.name}" + (f", {len(bad)} bad lines left out" if bad else "")
    settings.setdefault("labels", _labels([each[2] for each in kept]) if label else None)
    return TextPairs(
        [each[0] for each in kept], [each[1] for each in kept], name=path.stem, source=source, **settings
    )


_FIX = "Pass another file"


def _refuse(must: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_text_pairs", "path", must, "pairs of texts are read from it", got, fix)


def _rows(path: Path, content: str) -> Iterator[tuple[int, Row | _BadLineError]]:
    """Line numbers, with rows or what is wrong there."""
    if path.suffix == ".jsonl":
        for number, text in enumerate(content.split("\n"), 1):
            if text.strip():
                yield number, _object(text)
        return
    if path.suffix == ".csv":
        reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    else:
        reader = csv.reader(content.split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
    header: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = f"{path}, line {number}: {error}"  # and where the next row begins is not known
            _refuse("hold two texts in every line", what, _FIX)
        if not fields:
            continue
        fields = [field.rstrip("\r") for field in fields]
        if not header:
            header = fields
            if len(set(header)) != len(header) or len(header) < 2:
                _refuse("begin with the names of its columns", f"{path}, line {number}: {header}"[:160], _FIX)
        elif len(fields) != len(header):
            yield number, _BadLineError(f"{len(fields)} fields, but {len(header)} columns")
        else:
            yield number, dict(zip(header, fields, strict=True))


def _object(text: str) -> Row | _BadLineError:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _BadLineError(f"no JSON ({str(error)[:60]})")
    return value if isinstance(value, dict) else _BadLineError("no JSON object")


def _columns(path: Path, row: Row, left: str | None, right: str | None, label: str | None) -> tuple[str, str]:
    names = list(row)
    if (left is None) != (right is None):
        _refuse(
            "be read with both left and right, or neither", f"left {left!r}, right {right!r}", "Pass both"
        )
    found = (left, right) if left is not None and right is not None else tuple(names[:2])
    missing = [name for name in (*found, *([label] if label else [])) if name not in names]
    if missing or len(found) != 2:
        have = ", ".join(repr(name) for name in names)[:120]
        _refuse(
            f"have the column {missing[0] if missing else 'of the second text'!r}", have, "Pass another name"
        )
    return found[0], found[1]


def _pair(row: Row, columns: tuple[str, str], label: str | None) -> tuple[str, str, Any]:
    texts = []
    for name in columns:
        text = row.get(name)
        if not isinstance(text, str):
            raise _BadLineError(f"no text in column {name!r}")
        if not words(text):
            raise _BadLineError(f"a text without words in column {name!r}")
        texts.append(text)
    if label is not None and not isinstance(row.get(label), (str, int)):
        raise _BadLineError(f"no class in column {label!r}")
    return texts[0], texts[1], None if label is None else row[label]


def _labels(values: list[Any]) -> Tensor:
    classes = {value: place for place, value in enumerate(sorted(set(values), key=str))}
    return torch.tensor([classes[value] for value in values], dtype=torch.int64)
