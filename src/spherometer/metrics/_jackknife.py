"""Intervals of spectrum metrics: leave out one group of rows at a time.

The groups interleave (row i is in group i mod G), so that sorted files do not put a class into one group;
they are equally long, because spectra depend on the number of rows: the last N mod G rows are in no group.
Gram matrices of the groups are computed once; each left-out spectrum is a difference of sums.

Shapes: N rows, D dimensions, K = min(N, D), G groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer.metrics._spectrum import row_ranges, scaled_rows

NUM_GROUPS = 20
MAX_DIRECTIONS = 768  # 20 eigenvalue problems of this size take about two seconds
_PART = 1 << 22  # numbers in one batch of matrices
_T_QUANTILE = 2.093  # 97.5 % of Student's t with 19 degrees of freedom


@dataclass(frozen=True)
class GroupGrams:
    """Gram matrices [G + 1, D, D] and sums [G + 1, D] of the groups; the last ones of rows in no group."""

    grams: Tensor
    sums: Tensor
    num: int
    centred: bool

    def without(self, *groups: Tensor) -> tuple[Tensor, int]:
        """Singular values [L, D] without groups[0][l], groups[1][l], ..., and how many rows stay."""
        rest = self.num - len(groups) * (self.num // NUM_GROUPS)
        whole, total = self.grams.sum(dim=0), self.sums.sum(dim=0)
        found = []
        step = max(1, _PART // whole.numel())
        for start in range(0, len(groups[0]), step):
            left, mean = whole, total
            for each in groups:
                left, mean = (
                    left - self.grams[each[start : start + step]],
                    mean - self.sums[each[start : start + step]],
                )
            if self.centred:
                left = left - mean[:, :, None] * mean[:, None, :] / rest
            found.append(torch.linalg.eigvalsh(left).clamp(min=0).sqrt())
        return torch.cat(found), rest


def group_grams(rows_ND: Tensor, *, centred: bool, exponent: int) -> GroupGrams | None:
    """Of rows times 2^-exponent; None for few or very wide rows. Fewer rows than D: D is their number."""
    num = len(rows_ND)
    if num < 2 * NUM_GROUPS or min(rows_ND.shape) > MAX_DIRECTIONS:
        return None
    if num <= rows_ND.shape[1]:  # the same inner products in fewer columns
        wide = scaled_rows(rows_ND, exponent)
        rows_ND, exponent = torch.linalg.qr(wide.T, mode="r").R.T, 0
    width = rows_ND.shape[1]
    shift = rows_ND.new_zeros(1, width, dtype=torch.float64)
    if centred:
        for start, stop in row_ranges(rows_ND):
            shift += scaled_rows(rows_ND[start:stop], exponent).sum(dim=0, keepdim=True) / num
    member = group_of_rows(num).to(rows_ND.device)
    grams = shift.new_zeros(NUM_GROUPS + 1, width, width)
    sums = shift.new_zeros(NUM_GROUPS + 1, width)
    for group in range(-1, NUM_GROUPS):
        members = rows_ND[member == group]
        for start, stop in row_ranges(members):
            block = scaled_rows(members[start:stop], exponent) - shift
            grams[group] += block.T @ block
            sums[group] += block.sum(dim=0)
    return GroupGrams(grams, sums, num, centred)


def left_out_singular_values(rows_ND: Tensor, *, centred: bool, exponent: int) -> list[Tensor] | None:
    """Singular values [K] without each group, of rows times 2^-exponent; None for few or very wide rows."""
    grams = group_grams(rows_ND, centred=centred, exponent=exponent)
    return None if grams is None else list(grams.without(torch.arange(NUM_GROUPS))[0])


def group_of_rows(num: int) -> Tensor:
    """Group of every row [N]; -1 for the last rows, which are never left out."""
    row = torch.arange(num)
    return torch.where(row < num // NUM_GROUPS * NUM_GROUPS, row % NUM_GROUPS, -1)


def interval(
    value: float, left_out: Sequence[float], num: int, *, low: float, high: float
) -> tuple[float, float] | None:
    """95 % interval around ``value`` from the values without each group, cut to what is possible."""
    size, mean = num // NUM_GROUPS, math.fsum(left_out) / len(left_out)
    squares = math.fsum((each - mean) ** 2 for each in left_out)
    half = _T_QUANTILE * math.sqrt((num - size) / (size * NUM_GROUPS) * squares)
    if not math.isfinite(half):
        return None
    return max(value - half, min(low, value)), min(value + half, max(high, value))
