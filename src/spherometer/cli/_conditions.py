"""Checks such as ``uniformity>-2`` that turn a measurement into an exit code."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from spherometer.errors import InputError

if TYPE_CHECKING:
    from spherometer._results import Measurement

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_PATTERN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """A bound that a value must not pass; ``text`` is how the user wrote it."""

    name: str
    symbol: str
    bound: float
    text: str
    command: str = "measure"

    def holds(self, measurements: Mapping[str, Measurement]) -> bool:
        """Whether the measured value passes the bound.

        Raises:
            InputError: there is no measurement of this name.
        """
        if self.name not in measurements:
            names = list(measurements)
            close = difflib.get_close_matches(self.name, names, 1)
            hint = f"Did you mean {close[0]!r}" if close else "Use one of these"
            raise InputError(
                f"{self.command}: --fail-if must name something that was measured, because its value is "
                f"compared. Got {self.name!r}, while there are {', '.join(names)}. {hint}."
            )
        return _OPERATORS[self.symbol](measurements[self.name].value, self.bound)


def parse(texts: Sequence[str], command: str = "measure", example: str = "uniformity>-2") -> list[Condition]:
    """Read conditions such as ``uniformity>-2`` or ``rankme<=10``; messages begin with ``command``."""
    conditions = []
    for text in texts:
        match = _PATTERN.fullmatch(text)
        try:
            bound = math.nan if match is None else float(match[3])
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            _refuse(text, command, example)
        conditions.append(Condition(match[1], match[2], bound, text, command))
    return conditions


def _refuse(text: str, command: str, example: str) -> NoReturn:
    raise InputError(
        f"{command}: --fail-if must be a name, one of > < >= <=, and a number, because the two are compared. "
        f"Got {text[:80]!r}. Pass for instance --fail-if '{example}'."
    )
