"""Strict JSON, as results are written and read again: no NaN, no infinity, nothing that was not asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from spherometer import _checks
from spherometer.errors import InputError

_SHOWN = 200  # letters of what was found, in a message


@dataclass(frozen=True)
class Reader:
    """Reads one kind of result, and says what is wrong with a document that is not one.

    Attributes:
        result: the class whose name messages carry.
        again: how to make the result anew.
    """

    result: str
    again: str = "measure again"

    def parsed(self, text: str | bytes) -> Any:
        """The value of strict JSON text."""
        try:
            return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        except (ValueError, TypeError, RecursionError) as error:
            self.bad("be strict JSON", f"{type(error).__name__} ({error})")

    def schema(self, document: Any, *known: str) -> str:
        """The document's schema, one of the ``known``."""
        found = document.get("schema") if isinstance(document, Mapping) else type(document).__name__
        if not isinstance(document, Mapping) or found not in known:
            self.bad(f"be an object whose schema is {known[0]!r}", repr(found))
        return str(found)

    def keys(self, what: str, document: Any, keys: tuple[str, ...]) -> None:
        """Refuse anything but an object with exactly these keys."""
        if not isinstance(document, Mapping) or set(document) != set(keys):
            found = sorted(map(str, document)) if isinstance(document, Mapping) else type(document).__name__
            self.bad(f"hold {what} with the keys {', '.join(keys)}", str(found))

    def bad(self, must: str, got: str) -> NoReturn:
        """Refuse the document."""
        _checks.refuse(
            InputError, self.result, "document", must, "only results written by this package can be read",
            got[:_SHOWN], f"Write it with to_json(), or {self.again}",
        )  # fmt: skip


def written(document: Mapping[str, Any], path: str | Path | None = None) -> str:
    """Strict JSON text of plain values; also written to ``path`` when one is given."""
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    if path is not None:
        Path(path).write_text(text + "\n", encoding="utf-8")
    return text


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**1000
    return isinstance(value, float) and math.isfinite(value)


def is_interval(value: Any) -> bool:
    """Whether a value is a list of two numbers."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
