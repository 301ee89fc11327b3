r"""Bandwidths from data.

* median: the median distance of two rows that differ (of at most 2048 rows, evenly spaced over the set);
* scott: s N^(-1 / (K + 4)); silverman: s (N (K + 2) / 4)^(-1 / (K + 4)), s the root mean variance of the K
  columns (N - 1 in the denominator).

Shapes: N rows, K columns.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError

Rule = Literal["median", "scott", "silverman"]
RULES: tuple[Rule, ...] = ("median", "scott", "silverman")
_ROWS = 2048


def bandwidth_by(rule: Rule, values: Tensor, function: str, name: str) -> float:
    """The bandwidth that a rule gives for finite float64 values [N, K]."""
    if len(values) < 2 or bool((values == values[:1]).all()):
        _checks.refuse(
            UndefinedError, function, name, "vary", f"the {rule} rule takes the bandwidth from its spread",
            f"{len(values)} rows with the same value", "Leave it out, or give a bandwidth as a number",
        )  # fmt: skip
    if rule == "median":
        return _median(values)
    num, width = values.shape
    spread = float(values.var(dim=0, correction=1).mean().sqrt())
    factor = num if rule == "scott" else num * (width + 2) / 4
    return float(spread * float(factor) ** (-1 / (width + 4)))


def _median(values: Tensor) -> float:
    num = len(values)
    some = values
    if num > _ROWS:
        some = values[torch.arange(_ROWS, device=values.device) * num // _ROWS]
        if bool((some == some[:1]).all()):  # values so rare that the sample missed them
            some = torch.unique(values, dim=0)[:_ROWS]
    distances = torch.pdist(some - some.mean(dim=0))
    return float(distances[distances > 0].median())
