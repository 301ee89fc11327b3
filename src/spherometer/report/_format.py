"""How numbers are written on a page: fixed digits, a real minus sign, a dash for what is not defined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "\N{EN DASH}"
_MINUS, _THIN = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"


def number(value: Any, digits: int = 3) -> str:
    """Write a number with so many decimals; very large or small ones with a power of ten."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    small = value != 0 and abs(value) < 0.5 * 10**-digits
    text = f"{value:.1e}" if small or abs(value) >= 1e6 else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", _MINUS)


def count(value: Any) -> str:
    """Write a whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", _THIN) if isinstance(value, int) else DASH


def percent(value: Any, digits: int = 1) -> str:
    """Write a share as a percentage."""
    text = number(100 * value if isinstance(value, (int, float)) else None, digits)
    return text if text == DASH else f"{text}{_THIN}%"


def interval(values: Sequence[Any] | None, digits: int = 3, scale: float = 1.0) -> str:
    """Write an interval as ``[low, high]``; nothing when there is none."""
    if values is None or len(values) != 2 or not all(isinstance(v, (int, float)) for v in values):
        return ""
    return "[" + ", ".join(number(scale * v, digits) for v in values) + "]"


def cell(
    measurement: Mapping[str, Any] | None, digits: int = 3, *, share: bool = False, unit: bool = True
) -> dict[str, str]:
    """Text of a table cell: the value and below it the interval."""
    if not measurement:
        return {"value": DASH, "interval": ""}
    value, ends = measurement.get("value"), measurement.get("interval")
    if share:
        text = percent(value) if unit else number(100 * value if isinstance(value, (int, float)) else None, 1)
        return {"value": text, "interval": interval(ends, 1, 100.0)}
    return {"value": number(value, digits), "interval": interval(ends, digits)}
