"""Spectra without one group of rows, and without two: what the variance of a smooth function of them needs.

The jackknife counts the part of the variance that comes from pairs of rows twice (Efron and Stein 1981); for
a function that is flat at the law of the rows, as every measure of evenness is for even rows, that is all of
it. Leaving out two groups at a time tells this part apart.

Shapes: N rows, D dimensions, K = min(N, D), G = 20 groups, L = G (G - 1) / 2 pairs of groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer.metrics._jackknife import MAX_DIRECTIONS, NUM_GROUPS, group_of_rows
from spherometer.metrics._spectrum import row_ranges, scaled_rows

_PART = 1 << 22  # numbers in one batch of matrices


@dataclass(frozen=True)
class LeftOut:
    """Singular values [G, K] without each group and [L, K] without each pair, with the rows that stay."""

    one: Tensor
    two: Tensor
    rest_one: int
    rest_two: int


def left_out(rows_ND: Tensor, *, centred: bool, exponent: int) -> LeftOut | None:
    """Spectra of rows times 2^-exponent without groups of them; None for few or very wide rows."""
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
    size = num // NUM_GROUPS
    whole, total = grams.sum(dim=0), sums.sum(dim=0)
    first, second = torch.triu_indices(NUM_GROUPS, NUM_GROUPS, 1)

    def spectra(groups: list[Tensor], rest: int) -> Tensor:
        found = []
        step = max(1, _PART // (width * width))
        for start in range(0, len(groups[0]), step):
            left, mean = whole, total
            for each in groups:
                left, mean = left - grams[each[start : start + step]], mean - sums[each[start : start + step]]
            if centred:
                left = left - mean[:, :, None] * mean[:, None, :] / rest
            found.append(torch.linalg.eigvalsh(left).clamp(min=0).sqrt())
        return torch.cat(found)

    rests = num - size, num - 2 * size
    return LeftOut(spectra([torch.arange(NUM_GROUPS)], rests[0]), spectra([first, second], rests[1]), *rests)


def variance(whole: float, one_G: Tensor, two_L: Tensor, num: int) -> float:
    """Variance of a statistic from its values without groups, what the jackknife counts twice taken off.

    V_J - V_2, not below V_J / 2: V_J is the jackknife's variance, V_2 the sum over pairs of groups of the
    squared second differences whole - one_g - one_h + two_gh around their mean. Half of V_J is what is left
    where pairs of rows are all there is.
    """
    size = num // NUM_GROUPS
    factor = (num - size) / (size * NUM_GROUPS)
    plain = factor * float((one_G - one_G.mean()).square().sum())
    first, second = torch.triu_indices(NUM_GROUPS, NUM_GROUPS, 1)
    mixed = whole - one_G[first] - one_G[second] + two_L
    return max(plain - float((mixed - mixed.mean()).square().sum()), plain / 2)
