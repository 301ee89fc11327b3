"""Checks of single fields of a recipe; every message says which section and key."""

from __future__ import annotations

import difflib
import math
from typing import Any, NoReturn

from spherometer import _checks
from spherometer.errors import InputError


def refuse(name: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    """Refuse a field, in the words of the house."""
    _checks.refuse(InputError, "Recipe", name, must, because, got, fix)


def number(name: str, value: Any, *, most: float = math.inf, below: bool = False) -> None:
    """Check a finite number from 0 to ``most``; ``below``: ``most`` itself is refused."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (usable and 0 <= value <= most and not (below and value == most)):
        bounded = f"lie in [0, {most:g}{')' if below else ']'}"
        must = "be a finite number of at least 0" if math.isinf(most) else bounded
        refuse(
            name, must, "nothing else has a meaning here", repr(value)[:80], f"Pass for instance {name} = 0"
        )


def optional(name: str, value: Any, *, at_least: int = 1) -> None:
    """Check a whole number, or None."""
    if value is not None:
        _checks.whole("Recipe", name, value, at_least=at_least)


def flag(name: str, value: Any) -> None:
    """Check true or false."""
    if not isinstance(value, bool):
        refuse(name, "be true or false", "it is a switch", repr(value)[:80], f"Pass {name} = true")


def text(name: str, value: Any, *, optional: bool = False) -> None:
    """Check text that is not empty; ``optional``: or None."""
    if not (isinstance(value, str) and value) and not (optional and value is None):
        refuse(
            name,
            "be text that is not empty",
            "it names something",
            repr(value)[:80],
            f'Pass for instance {name} = "digits"',
        )


def names(name: str, values: tuple[Any, ...] | None, *, example: str) -> None:
    """Check texts of which no two are the same, or None."""
    if values is None:
        return
    for value in values:
        text(name, value)
    if not values or len(set(values)) < len(values):
        got = ", ".join(map(repr, values))[:80] or "none"
        refuse(name, "name at least one, each once", "each of them is compared", got, f"Pass {example}")


def among(name: str, value: str, known: tuple[str, ...], because: str) -> None:
    """Refuse a name that is not known, with the nearest one."""
    if value not in known:
        near = difflib.get_close_matches(value, known, 1)
        fix = f"Did you mean {near[0]!r}" if near else f"Pass for instance {known[0]!r}"
        refuse(name, f"be among {', '.join(map(repr, known))}", because, repr(value)[:80], fix)


def only_for(section: str, method: str, given: dict[str, Any], methods: tuple[str, ...]) -> None:
    """Refuse fields that are set and mean nothing for the method."""
    for name, value in given.items():
        if value is not None and method not in methods:
            refuse(
                f"{section}.{name}", f"be left out for {method}", f"it is part of {' and '.join(methods)}",
                repr(value)[:80], "Leave it out, or choose that method",
            )  # fmt: skip
