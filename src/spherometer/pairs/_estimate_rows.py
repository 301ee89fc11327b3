r"""Means over rows that need all other rows: from some rows by chance, each against all.

The rows are drawn without replacement, so the error of their mean carries the finite-population correction
sqrt(1 - n / N): none is left when all rows are drawn.

Shapes: N rows, n rows drawn, k neighbours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spherometer.pairs._estimate import _distinct as distinct
from spherometer.pairs._estimate import student
from spherometer.pairs._estimate_draws import Estimated
from spherometer.pairs._nearest import _scaled as scaled
from spherometer.pairs._nearest import _Search as Search


def chosen_first(num: int, size: int, generator: torch.Generator) -> Tensor:
    """All numbers below ``num``: ``size`` by chance first, ascending, then the others, ascending."""
    chosen = distinct(num, size, generator).sort().values
    others = torch.ones(num, dtype=torch.bool)
    others[chosen] = False
    return torch.cat([chosen, others.nonzero()[:, 0]])


@torch.no_grad()
def nearest_of(x: Tensor, rows: Tensor, k: int) -> Tensor:
    """The k nearest other rows [n, k] of the rows numbered ``rows`` [n], as ``nearest`` finds them."""
    search = Search(scaled(x.detach()), k)
    return torch.cat([search.nearest(part) for part in torch.split(rows.to(x.device), search.block)])


def mean_of_rows(values: Tensor, num: int, num_pairs: int) -> Estimated:
    """The mean over ``num`` rows from the values [n] of some of them."""
    size = len(values)
    wide = values.double()
    value = float(wide.mean())
    error = float(wide.std()) / math.sqrt(size) * math.sqrt(1 - size / num)
    half = student(size - 1) * error
    return Estimated(value, error, (value - half, value + half), num_pairs)


def share_of_rows(values: Tensor, num: int, num_pairs: int) -> Estimated:
    """The same of values in [0, 1]: Wilson's interval, which does not close where all rows drawn agree.

    The number of rows it counts is the one that would give a share of yes and no the error that was seen;
    where all values are 0, or all 1, it is n / (1 - n / N).
    """
    plain, size = mean_of_rows(values, num, num_pairs), len(values)
    mean, error = plain.value, plain.standard_error
    if size == num:
        return plain
    spread = mean * (1 - mean)
    count = spread / error**2 if error > 0 and spread > 0 else size / (1 - size / num)
    q = student(size - 1) ** 2 / count
    centre, half = (mean + q / 2) / (1 + q), math.sqrt(q * spread + q * q / 4) / (1 + q)
    low, high = min(max(centre - half, 0.0), mean), max(min(centre + half, 1.0), mean)  # rounding at the ends
    return Estimated(mean, error, (low, high), num_pairs)
