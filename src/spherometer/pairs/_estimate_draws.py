r"""Means over pairs of sets too large for all of them: from random subsets of the rows.

Every draw takes different rows by chance and adds up all pairs among them, through the same exact walk that
the whole set would take. Each pair of the set is as likely as any other to be looked at, so the sums of the
draws over their weights estimate the weighted mean over all pairs; the draws are independent given the rows,
so a jackknife over draws tells the error of the ratio, and of any smooth function of it.

Shapes: N rows, m rows of a draw, B draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer.pairs._estimate import _distinct as distinct
from spherometer.pairs._estimate import student

Sums = tuple[float | Tensor, float | Tensor]  # log of a weighted sum over pairs, log of the weights' sum


@dataclass(frozen=True)
class Estimated:
    """An estimate with the error of having looked at some of the pairs.

    Attributes:
        value: the estimate.
        standard_error: around the value over all pairs of these rows.
        interval: 95 % interval of that value.
        num_pairs: ordered pairs that were looked at.
    """

    value: float
    standard_error: float
    interval: tuple[float, float]
    num_pairs: int


def subsets(num: int, size: int, num_draws: int, generator: torch.Generator) -> Iterator[Tensor]:
    """``num_draws`` times ``size`` different numbers below ``num``, ascending, int64 on the CPU."""
    for _ in range(num_draws):
        yield distinct(num, size, generator).sort().values


@torch.no_grad()
def ratio_of_logs(
    sums: Sequence[Sums], function: Callable[[Tensor], Tensor], num_pairs: int
) -> Estimated | None:
    """A function of log( sum of all draws / sum of their weights ).

    Args:
        sums: of each draw, B >= 4 of them.
        function: of the log ratio, elementwise.
        num_pairs: for the result.

    Returns:
        None where too few draws have a pair with a weight to tell the error.
    """
    tops, bottoms = (
        torch.tensor([float(each[side]) for each in sums], dtype=torch.float64) for side in (0, 1)
    )
    if int((tops > -math.inf).sum()) < 2:
        return None
    shift, scale = tops.max(), bottoms.max()
    above, below = (tops - shift).exp(), (bottoms - scale).exp()
    return jackknife(above, below, lambda ratio: function(ratio.log() + (shift - scale)), num_pairs)


@torch.no_grad()
def jackknife(
    above: Tensor, below: Tensor, function: Callable[[Tensor], Tensor], num_pairs: int
) -> Estimated:
    """A function of sum(above) / sum(below), float64 [B] each: the error from leaving out each draw."""
    num = len(above)
    value = float(function(above.sum() / below.sum()))
    without = function((above.sum() - above) / (below.sum() - below))
    error = float(((without - without.mean()).square().sum() * (num - 1) / num).sqrt())
    half = student(num - 1) * error
    return Estimated(value, error, (value - half, value + half), num_pairs)
