"""Sums over pairs of the Gaussian kernel, and the exact variance of their mean."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError
from spherometer.pairs._gaussian import exponent_range, refuse_few, widen
from spherometer.pairs._tiles import Block, full_precision, walk

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
        blocks = walk(
            widened.left,
            widened.z,
            len(points),
            symmetric=True,
            skip=(0,),
            tile=tile,
            exponentiate=not online,
        )
        shift, squares = add_blocks(blocks, rows, rows, online=online)
    return GaussianMoments(len(points), shift, float(rows.sum()), squares, rows)


def add_blocks(
    blocks: Iterable[Block], rows: Tensor, columns: Tensor, *, online: bool
) -> tuple[float, float]:
    """Add the sums of k over the columns to ``rows`` [N] and over the rows to ``columns`` [M], both float64.

    Args:
        blocks: tiles of k, or (``online``) of its exponents.
        rows: zeros.
        columns: zeros; the same tensor where the blocks are of a symmetric walk, whose mirror images then
            count too.
        online: keep everything scaled by the largest value met so far.

    Returns:
        The log of that scale, and the sum of squares over all pairs.
    """
    squares = rows.new_zeros(())
    shift = -math.inf if online else 0.0
    for block in blocks:
        k = block.values
        if online:
            top = float(k.max())
            if top == -math.inf:
                continue
            if not top <= shift:
                fade = math.exp(shift - top) if math.isfinite(shift) else 0.0
                for sums in (rows, columns) if columns is not rows else (rows,):
                    sums.mul_(fade)
                squares.mul_(fade * fade)
                shift = top
            k.sub_(shift).exp_()
        rows[block.a : block.b] += k.sum(dim=1)
        flat = k.view(-1)
        square = torch.dot(flat, flat)
        if block.mirrored or columns is not rows:
            columns[block.c : block.d] += k.sum(dim=0)
        squares += square * 2 if block.mirrored else square
    return shift, float(squares)


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
            here, there = rows[block.a : block.b], rows[block.c : block.d]
            k = block.values
            if plain:
                here += k.sum(dim=1)
                if block.mirrored:
                    there += k.sum(dim=0)
            else:
                torch.logaddexp(here, torch.logsumexp(k, dim=1), out=here)
                if block.mirrored:
                    torch.logaddexp(there, torch.logsumexp(k, dim=0), out=there)
    if plain:
        rows.log_()
    if estimator == "v":
        return torch.logaddexp(rows, torch.zeros_like(rows)) - math.log(n)
    if n < 2:
        refuse_few("gaussian_log_rows", n)
    return rows - math.log(n - 1)
