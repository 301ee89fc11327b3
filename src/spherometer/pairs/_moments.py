"""Sums over pairs of the Gaussian kernel, and the exact variance of their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError


@dataclass(frozen=True, eq=False)
class GaussianMoments:
    """Sums of k_ij = exp(-t d_ij^2) over the pairs of one set, scaled by exp(-log_scale).

    ``rows`` is r_i = sum over j != i of k_ij (float64 [N]), ``total`` S1 = sum r_i, ``squares``
    S2 = sum over i != j of k_ij^2, scaled by exp(-2 log_scale).
    """

    num: int
    log_scale: float
    total: float
    squares: float
    rows: Tensor

    @property
    def log_mean(self) -> float:
        """Log of the mean over i != j."""
        return math.log(self.total) - math.log(self.num * (self.num - 1)) + self.log_scale

    @property
    def log_mean_v(self) -> float:
        """Log of the mean over all pairs, each row with itself included."""
        own = math.log(self.num)
        others = math.log(self.total) + self.log_scale
        top = max(own, others)
        return top + math.log(math.exp(own - top) + math.exp(others - top)) - 2 * math.log(self.num)

    @property
    def standard_error(self) -> float:
        """Standard error of ``log_mean``: the exact, unbiased variance of a U-statistic of degree 2.

        With A, B, C the unbiased estimates of E k12 k13, E k12^2 and (E k12)^2 from the same sums:
        Var = (4 (n - 2) (A - C) + 2 (B - C)) / (n (n - 1)), not below 2 (B - C) / (n (n - 1)).
        """
        n = self.num
        if n < 4:
            _checks.refuse(
                UndefinedError,
                "standard_error",
                "z",
                "have at least 4 rows",
                "the variance of a mean over pairs needs two pairs without a row in common",
                f"{n} rows",
                "Pass more rows",
            )
        pairs = n * (n - 1)
        row_squares = float((self.rows / self.total).square().sum())  # relative to S1 = 1
        squares = self.squares / self.total / self.total
        a = (row_squares - squares) / (pairs * (n - 2))
        b = squares / pairs
        c = (1 - 4 * row_squares + 2 * squares) / (pairs * (n - 2) * (n - 3))
        degenerate = 2 * (b - c) / pairs
        variance = max(4 * (n - 2) * (a - c) / pairs + degenerate, degenerate, 0.0)
        return math.sqrt(variance) * pairs
