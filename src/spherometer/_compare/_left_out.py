"""Spectra without one group of rows, and without two: what the variance of a smooth function of them needs.

The jackknife counts the part of the variance that comes from pairs of rows twice (Efron and Stein 1981); for
a function that is flat at the law of the rows, as every measure of evenness is for even rows, that is all of
it. Leaving out two groups at a time tells this part apart; L = 3 G of the G (G - 1) / 2 pairs of groups, each
group in six of them, are enough to estimate it.

Shapes: N rows, D dimensions, K = min(N, D), G = 20 groups, L = 60 pairs of groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer.metrics._jackknife import NUM_GROUPS, group_grams


@dataclass(frozen=True)
class LeftOut:
    """Singular values [G, K] without each group and [L, K] without each pair, with the rows that stay."""

    one: Tensor
    two: Tensor
    rest_one: int
    rest_two: int


def left_out(rows_ND: Tensor, *, centred: bool, exponent: int) -> LeftOut | None:
    """Spectra of rows times 2^-exponent without groups of them; None for few or very wide rows."""
    grams = group_grams(rows_ND, centred=centred, exponent=exponent)
    if grams is None:
        return None
    one, rest_one = grams.without(torch.arange(NUM_GROUPS))
    two, rest_two = grams.without(*_pairs_of_groups())
    return LeftOut(one, two, rest_one, rest_two)


def _pairs_of_groups() -> tuple[Tensor, Tensor]:
    """Every group with the next three, around the circle: first and second [L]."""
    first = torch.arange(NUM_GROUPS).repeat(3)
    return first, (first + torch.arange(1, 4).repeat_interleave(NUM_GROUPS)) % NUM_GROUPS


def variance(whole: float, one_G: Tensor, two_L: Tensor, num: int) -> float:
    """Variance of a statistic from its values without groups, what the jackknife counts twice taken off.

    V_J - V_2, not below V_J / 2: V_J is the jackknife's variance, V_2 the sum over all pairs of groups of the
    squared second differences whole - one_g - one_h + two_gh around their mean, estimated from L of them.
    Half of V_J is what is left where pairs of rows are all there is.
    """
    size = num // NUM_GROUPS
    factor = (num - size) / (size * NUM_GROUPS)
    plain = factor * float((one_G - one_G.mean()).square().sum())
    first, second = _pairs_of_groups()
    mixed = whole - one_G[first] - one_G[second] + two_L
    every = NUM_GROUPS * (NUM_GROUPS - 1) / 2
    return max(plain - every * float((mixed - mixed.mean()).square().mean()), plain / 2)
