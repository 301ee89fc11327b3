"""Two sets of features over the same pairs at once, and two samples against random regroupings of their rows.

Shapes: N, M rows, D dimensions, P regroupings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer.pairs._gaussian import widen
from spherometer.pairs._tiles import LOG2_E, Walk, full_precision

MOST = 80.0  # |log mean| up to which the squares of k / mean stay far inside float64


@torch.no_grad()
def paired_standard_error(
    first: Tensor,
    second: Tensor,
    t: float,
    log_means: Sequence[float],
    weights: Sequence[float] = (1.0, 1.0),
) -> float:
    r"""Standard error of w_A log U_A - w_B log U_B: mean Gaussian potentials of two sets of the same rows.

    By the exact, unbiased variance of the U-statistic of h_ij = w_A k^A_ij / U_A - w_B k^B_ij / U_B: with
    r_i = sum over j of h_ij, S1 = sum r_i, S2 = sum over i != j of h_ij^2,

    A = (sum r_i^2 - S2) / (n(n-1)(n-2)), B = S2 / (n(n-1)),
    C = (S1^2 - 4 sum r_i^2 + 2 S2) / (n(n-1)(n-2)(n-3)),
    Var = (4 (n-2) (A - C) + 2 (B - C)) / (n (n-1)), not below 2 (B - C) / (n (n-1)).

    Both kernels are there in the same tile and h is summed, so nothing cancels where the sets are alike.

    Args:
        first: [N, D] rows, N >= 4.
        second: [N, E] rows; row i is the same sample.
        t: sharpness > 0.
        log_means: log U of each, of at most 80 in size.
        weights: w_A and w_B.

    Returns:
        The standard error; NaN where a log mean is larger, so that squares would leave the floats.

    Cost: N^2 / 2 pairs of each, in float64; O(N (D + E)) memory.
    """
    n = len(first)
    if max(map(abs, log_means)) > MOST:
        return math.nan
    with full_precision(first.device):
        walks = []
        for points, log_mean in zip((first, second), log_means, strict=True):
            wide = points.detach().double()
            widened = widen(wide, wide.mean(dim=0), t)
            # the log of the mean goes into the exponent, through the column of ones
            widened.z[:, -1] -= log_mean * LOG2_E / 2
            walks.append(Walk(widened.left, widened.z, n, symmetric=True, skip=(0,)))
            # left holds -t|x|^2 - log_mean / 2 too
        rows, squares = first.new_zeros(n, dtype=torch.float64), walks[0].total()
        for a, b in zip(*walks, strict=True):
            h = a.values.mul_(weights[0]).sub_(b.values, alpha=weights[1])
            a.add_sums(rows, rows)
            squares.add(a, torch.dot(h.view(-1), h.view(-1)))
    row_squares, total, pairs = float(rows.square().sum()), float(rows.sum()), n * (n - 1)
    square_sum = float(squares.value())
    alike = (row_squares - square_sum) / (pairs * (n - 2))
    same = square_sum / pairs
    apart = (total * total - 4 * row_squares + 2 * square_sum) / (pairs * (n - 2) * (n - 3))
    degenerate = 2 * (same - apart) / pairs
    return math.sqrt(max(4 * (n - 2) * (alike - apart) / pairs + degenerate, degenerate, 0.0))


@dataclass(frozen=True, eq=False)
class Discrepancy:
    """Squared maximum mean discrepancy of two samples, and of random regroupings of their rows."""

    value: float
    regrouped: Tensor  # [P]


@torch.no_grad()
def discrepancy(rows: Tensor, num_first: int, members: Tensor, t: float) -> Discrepancy:
    r"""Unbiased squared MMD: mean potential in the one sample + in the other - 2 times that across.

    Args:
        rows: [N + M, D] rows of both samples, those of the first one first.
        num_first: N, at least 2, as M.
        members: [P, N + M] regroupings: True for the N rows that count as the first sample.
        t: sharpness > 0.

    Cost: (N + M)^2 (D + P); O((N + M) (D + P)) memory.
    """
    points = rows.detach().double()
    num = len(points)
    other = num - num_first
    own = torch.zeros(1, num, dtype=torch.bool, device=points.device)
    own[:, :num_first] = True
    picked = torch.cat([own, members]).to(torch.float64)  # [1 + P, N + M]
    sums, degree = torch.zeros_like(picked), points.new_zeros(num)
    with full_precision(points.device):
        widened = widen(points, points.mean(dim=0), t)
        for block in Walk(widened.left, widened.z, num, symmetric=True, skip=(0,)):
            block.add_sums(degree, degree)
            block.add_products(picked, picked, sums, sums)
    within = (picked * sums).sum(dim=1)
    from_first = picked @ degree
    across = from_first - within
    rest = degree.sum() - within - 2 * across
    values = within / (num_first * (num_first - 1)) + rest / (other * (other - 1))
    values -= 2 * across / (num_first * other)
    return Discrepancy(float(values[0]), values[1:])
