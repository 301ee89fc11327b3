"""Sums over pairs of the Gaussian kernel, and the exact variance of their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError
from spherometer.pairs._gaussian import exponent_range, refuse_few, widen
from spherometer.pairs._tiles import Walk, full_precision, walk

# Largest range of exponents without a shift; half of what single sums bear, because squares are summed too.
RANGE = {torch.float32: 40.0, torch.float64: 300.0}


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
        """Standard error of ``log_mean``: the root of the first of ``variances``, not below the second."""
        return math.sqrt(max(*self.variances, 0.0))

    @property
    def variances(self) -> tuple[float, float]:
        """Of ``log_mean``: the exact, unbiased variance of a U-statistic of degree 2, and its part of pairs.

        With A, B, C the unbiased estimates of E k12 k13, E k12^2 and (E k12)^2 from the same sums:
        Var = (4 (n - 2) (A - C) + 2 (B - C)) / (n (n - 1)); the part of pairs is 2 (B - C) / (n (n - 1)),
        all there is for the uniform law. The first is an estimate that may fall below it, and below 0.
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
        scale = float(pairs) ** 2
        return (4 * (n - 2) * (a - c) / pairs + degenerate) * scale, degenerate * scale


@torch.no_grad()
def gaussian_moments(x: Tensor, t: float | Tensor, *, tile: tuple[int, int] | None = None) -> GaussianMoments:
    """Row sums, total and sum of squares of k_ij over i != j, in one pass, without gradient.

    Args:
        x: [N, D] float32 or float64 rows, N >= 2.
        t: sharpness > 0.
        tile: rows and columns of a tile; None: by the device.
    """
    if len(x) < 2:
        refuse_few("gaussian_moments", len(x))
    t, points = float(t), x.detach()
    points = points if points.dtype in RANGE else points.float()
    with full_precision(points.device):
        widened = widen(points, points.mean(dim=0), t)
        span = exponent_range(widened)
        if span > RANGE[points.dtype] and points.dtype == torch.float32:
            points = points.double()
            widened = widen(points, points.mean(dim=0), t)
            span = exponent_range(widened)
        online = not span <= RANGE[points.dtype]
        rows = points.new_zeros(len(points), dtype=torch.float64)
        walk = Walk(widened.left, widened.z, len(points), symmetric=True, skip=(0,), tile=tile, online=online)
        squares = add_moments(walk, rows, rows)
    return GaussianMoments(len(points), walk.shift, float(rows.sum()), squares, rows)


def add_moments(walk: Walk, rows: Tensor, columns: Tensor) -> float:
    """The sum of squares of k over all pairs; the sums of k are added to ``rows`` [N] and ``columns`` [M].

    Both are float64 zeros, and the same tensor for a symmetric walk. All in the scale of the walk.
    """
    squares = walk.total(power=2)
    walk.keep(rows, columns)
    for block in walk:
        block.add_sums(rows, columns)
        flat = block.values.view(-1)
        squares.add(block, torch.dot(flat, flat))
    return float(squares.value())


@torch.no_grad()
def gaussian_log_rows(
    x: Tensor, t: float | Tensor, *, estimator: str = "u", tile: tuple[int, int] | None = None
) -> Tensor:
    """Log of the mean Gaussian potential of each row against the others, without gradient.

    Args:
        x: [N, D] float32 or float64 rows.
        t: sharpness > 0.
        estimator: "u": mean over j != i; "v": over all j.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        [N] float64. Every row has its own shift, so that none is lost at a large ``t``.
    """
    t, points = float(t), x.detach()
    points = points if points.dtype in RANGE else points.float()
    n = len(points)
    with full_precision(points.device):
        widened = widen(points, points.mean(dim=0), t)
        if exponent_range(widened) > RANGE[points.dtype]:
            points = points.double()
            widened = widen(points, points.mean(dim=0), t)
        plain = exponent_range(widened) <= RANGE[points.dtype]
        rows = points.new_full((n,), 0.0 if plain else -math.inf, dtype=torch.float64)
        for block in walk(
            widened.left, widened.z, n, symmetric=True, skip=(0,), tile=tile, exponentiate=plain
        ):
            if plain:
                block.add_sums(rows, rows)
            else:
                block.add_log_sums(rows, rows)
    if plain:
        rows.log_()
    if estimator == "v":
        return torch.logaddexp(rows, torch.zeros_like(rows)) - math.log(n)
    if n < 2:
        refuse_few("gaussian_log_rows", n)
    return rows - math.log(n - 1)
