r"""Mean Gaussian potential of a set too large for all its pairs: from random blocks of pairs.

Every draw takes a + b different rows by chance and means the potential over all pairs of one of the a with
one of the b: an unbiased value, independent of the other draws. Their mean is the estimate, their variance
its error, with Student's quantile. The same blocks tell how far the value over all pairs itself would move
with other rows drawn from the same law.

Shapes: K rows wanted of N, D dimensions, a x b pairs of a draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError
from spherometer.pairs._gaussian import exponent_range, widen
from spherometer.pairs._tiles import LOG2_E, full_precision
from spherometer.rows import BUDGET

DRAWS, ROWS, COLUMNS = 64, 256, 1024
FEWEST = ROWS + COLUMNS  # rows that an estimate is made of
_FEWEST_DRAWS, _FEWEST_ROWS = 16, 16
# Largest range of exponents whose differences float32 still knows to 1e-5.
_RANGE = 80.0


@dataclass(frozen=True, eq=False)
class Plan:
    """Which rows an estimate wants, and which of them meet in each draw.

    Attributes:
        num: number of rows N they are drawn from.
        wanted: [K] int64 numbers of the rows, ascending, all different.
        draws: [num_draws, a + b] int64 places in ``wanted``: the a rows, then the b columns.
        num_rows: a.
    """

    num: int
    wanted: Tensor
    draws: Tensor
    num_rows: int

    @property
    def num_draws(self) -> int:
        """Number of draws."""
        return len(self.draws)

    def within(self, start: int, stop: int) -> tuple[slice, Tensor]:
        """Which of the wanted rows a block start:stop has: ``picked[places] = block[rows]``."""
        low, high = torch.searchsorted(self.wanted, torch.tensor([start, stop])).tolist()
        return slice(low, high), self.wanted[low:high] - start


@dataclass(frozen=True)
class Estimate:
    """An estimated log of a mean over pairs.

    Attributes:
        log_mean: the estimate.
        standard_error: of the estimate, around the value over all pairs of these N rows.
        rows_error: estimated standard error of that value itself, when the N rows are drawn from a law.
        num: N.
        num_draws: number of blocks.
        num_pairs: pairs that were looked at.
    """

    log_mean: float
    standard_error: float
    rows_error: float
    num: int
    num_draws: int
    num_pairs: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the value over all pairs of these rows: the error of drawing pairs alone."""
        return self._around(self.standard_error)

    @property
    def law_interval(self) -> tuple[float, float]:
        """95 % interval of the law that the rows were drawn from: drawing rows and drawing pairs."""
        return self._around(math.hypot(self.standard_error, self.rows_error))

    def _around(self, error: float) -> tuple[float, float]:
        half = student(self.num_draws - 1) * error
        return self.log_mean - half, self.log_mean + half


def student(freedom: int) -> float:
    """97.5 % of Student's t, to 1 % from three degrees of freedom on (Cornish and Fisher's expansion)."""
    z = 1.959963984540054
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**k for k, term in enumerate(terms))


def estimate_plan(
    num: int,
    dim: int,
    *,
    seed: int = 0,
    budget: int = BUDGET // 4,
    num_draws: int = DRAWS,
    sides: int = 1,
    size: int = 4,
) -> Plan:
    """The rows of ``num_draws`` blocks of 256 x 1024 pairs; fewer or smaller blocks where memory is short.

    Args:
        num: number of rows N, at least 1280.
        dim: number of dimensions D.
        seed: of the draws; the rows depend on nothing else than ``num``, the seed and the sizes.
        budget: bytes that the wanted rows may take (fewer draws, then smaller ones, down to 16 of 16 x 64).
        num_draws: most draws.
        sides: sets that rows are wanted of: 2 for an estimate between two sides of pairs.
        size: bytes of a number, 8 for float64.

    Raises:
        UndefinedError: fewer than 1280 rows.
    """
    if num < FEWEST:
        _checks.refuse(
            UndefinedError, "estimate_plan", "num", f"be at least {FEWEST}",
            "a block is made of that many different rows", f"{num}", "Take all pairs",
        )  # fmt: skip
    most = max(1, budget // (sides * dim * size))
    a, b = ROWS, COLUMNS
    while num > most and most // (a + b) < min(_FEWEST_DRAWS, num_draws) and a > _FEWEST_ROWS:
        a, b = a // 2, b // 2
    if num > most:
        num_draws = min(num_draws, max(most // (a + b), _FEWEST_DRAWS))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([_distinct(num, a + b, generator) for _ in range(num_draws)])
    wanted, places = torch.unique(drawn, return_inverse=True)
    return Plan(num, wanted, places, a)


def _distinct(num: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different numbers below ``num`` in random order."""
    if num <= 4 * count:
        return torch.randperm(num, generator=generator)[:count]
    while True:  # once, but for one time in more than the atoms of the universe
        drawn = torch.randint(num, (2 * count,), generator=generator)
        values, inverse = torch.unique(drawn, return_inverse=True)
        if len(values) >= count:
            first = torch.full_like(values, len(drawn))
            first.scatter_reduce_(0, inverse, torch.arange(len(drawn)), "amin")
            return drawn[first.sort().values[:count]]


@torch.no_grad()
def estimate(
    plan: Plan,
    picked: Tensor,
    t: float,
    *,
    cross: Tensor | None = None,
    log_own: float | None = None,
    keep: Tensor | None = None,
    num: int | None = None,
) -> Estimate:
    r"""Log of the mean over i != j of exp(-t \|x_i - x_j\|^2), from the rows of a plan.

    Args:
        plan: what ``estimate_plan`` gave.
        picked: [K, D] float32 or float64, the rows ``plan.wanted``.
        t: sharpness > 0.
        cross: [K, D] the same rows of the other side of pairs: the mean of exp(-t \|x_i - y_j\|^2).
        log_own: with ``cross``, log of the mean of exp(-t \|x_i - y_i\|^2) over all N rows: the estimate is
            then of the mean over all i and j, partners included.
        keep: [K] False for rows that are left out; a draw goes on with its others.
        num: number of rows N that are not left out; None: ``plan.num``.

    Returns:
        An Estimate; for rows far apart at a large ``t`` nothing underflows.

    Raises:
        UndefinedError: fewer than two draws keep two rows on each side.

    Cost: 64 x 256 x 1024 pairs (twice with ``cross``), whatever N.
    """
    num = plan.num if num is None else num
    sums = [one for draw in plan.draws if (one := _block(plan, picked, cross, keep, draw, t)) is not None]
    if len(sums) < 2:
        _checks.refuse(
            UndefinedError, "estimate", "keep", "leave two rows on each side of two draws",
            "the error of the estimate is the variance between draws",
            f"{len(sums)} such draw{'' if len(sums) == 1 else 's'} of {plan.num_draws}",
            "Look at the rows that were left out",
        )  # fmt: skip
    shifts, a, b, total, squares, products = torch.tensor(sums, dtype=torch.float64).T
    shift = float(shifts.max())
    fade = (shifts - shift).exp()
    means = total * fade / (a * b)
    count = len(means)
    mean, error = float(means.mean()), float(means.std()) / math.sqrt(count)
    # the variance of the mean over all pairs, as GaussianMoments.standard_error has it, with the estimates of
    # E k12 k13, E k12^2 and (E k12)^2 that the blocks give
    triples = a * b * (a - 1) + a * b * (b - 1)
    chained = float((products * fade * fade).sum() / triples.sum())
    squared = float((squares * fade * fade).sum() / (a * b).sum())
    product = float((means.sum() ** 2 - means.square().sum()) / (count * (count - 1)))
    ordered = num * (num - 1.0)
    degenerate = 2 * (squared - product) / ordered
    variance = max(4 * (num - 2) * (chained - product) / ordered + degenerate, degenerate, 0.0)
    rows_error = math.sqrt(variance)
    if log_own is not None:
        others = (num - 1) / num
        mean, error, rows_error = mean * others, error * others, rows_error * others
        mean += math.exp(log_own - shift) / num
    return Estimate(
        log_mean=math.log(mean) + shift,
        standard_error=error / mean,
        rows_error=rows_error / mean,
        num=num,
        num_draws=count,
        num_pairs=int((a * b).sum()),
    )


def _block(
    plan: Plan, picked: Tensor, cross: Tensor | None, keep: Tensor | None, draw: Tensor, t: float
) -> tuple[float, ...] | None:
    """Shift, a, b, and of k exp(-shift): sum, sum of squares, sum of products of two with a row in common."""
    one, two = draw[: plan.num_rows], draw[plan.num_rows :]
    if keep is not None:
        one, two = one[keep[one]], two[keep[two]]
    a, b = len(one), len(two)
    if min(a, b) < 2:
        return None
    other = picked if cross is None else cross
    exponents = [_exponents(picked[one], other[two], t)]
    if cross is not None:  # one pair of pairs, both ways round
        exponents.append(_exponents(cross[one], picked[two], t))
    shift = max(float(values.max()) for values in exponents)
    k = exponents[0].sub_(shift).exp2_()
    for more in exponents[1:]:
        k.add_(more.sub_(shift).exp2_()).mul_(0.5)
    flat = k.view(-1)
    squares = float(torch.dot(flat, flat))
    sums = (k.sum(dim=1).double(), k.sum(dim=0).double())
    products = sum(float(side.square().sum()) - squares for side in sums)
    return shift / LOG2_E, a, b, float(sums[0].sum()), squares, products


def _exponents(x: Tensor, y: Tensor, t: float) -> Tensor:
    """-t |x_i - y_j|^2 to the base 2, [a, b]."""
    with full_precision(x.device):
        centre = (x.mean(dim=0) + y.mean(dim=0)) / 2
        one, two = widen(x, centre, t), widen(y, centre, t)
        if x.dtype == torch.float32 and not exponent_range(one, two) <= _RANGE:
            return _exponents(x.double(), y.double(), t)
        return torch.mm(one.left(0, len(x)), two.z.T)
