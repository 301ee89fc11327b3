"""What rows of the uniform law on the sphere look like: distances, variance by direction, and their spread.

D dimensions; all of it deterministic, in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from spherometer import sphere

_Z = 1.959963984540054  # 97.5 % of the normal law
_NODES = 16  # of the Gauss-Legendre rule within a bin
Array = npt.NDArray[np.float64]


def distance_shares(dim: int, edges: Array) -> Array:
    r"""Share of pairs of uniform rows whose distance lies in each bin between ``edges`` in [0, 2].

    The angle a between two uniform rows has a density proportional to sin(a)^(D-2), and their distance is
    2 sin(a / 2). D = 1: distance 0 or 2, each half the time.
    """
    if dim == 1:
        shares = np.zeros(len(edges) - 1)
        shares[0] += 0.5
        shares[-1] += 0.5
        return shares
    angles = 2 * np.arcsin(np.clip(edges / 2, 0.0, 1.0))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(angles)[:, None] / 2
    at = angles[:-1, None] + half * (1 + nodes)
    log_density = _log_density(dim, at)
    mass: Array = (half * weights * np.exp(log_density)).sum(axis=1)
    return mass


def _log_density(dim: int, angle: Array) -> Array:
    """Log density of the angle between two uniform rows, D >= 2."""
    log_beta = 0.5 * math.log(math.pi) + math.lgamma((dim - 1) / 2) - math.lgamma(dim / 2)
    found: Array = (dim - 2) * np.log(np.sin(angle)) - log_beta
    return found


def variance_shares(num: int, dim: int) -> Array:
    """Shares of the variance of ``num`` uniform rows along their principal directions, largest first.

    Quantiles of the Marchenko-Pastur law at D / (num - 1), scaled to sum 1; min(num - 1, D) of them.
    """
    count = max(1, min(num - 1, dim))
    ratio = min(dim / max(1, num - 1), max(1, num - 1) / dim)
    angle = (np.arange(8192) + 0.5) * (math.pi / 8192)  # eigenvalues from the largest to the smallest
    eigenvalue = np.maximum(1 + ratio + 2 * math.sqrt(ratio) * np.cos(angle), 1e-300)
    mass = np.sin(angle) ** 2 / eigenvalue
    below = np.cumsum(mass) - mass / 2
    wanted = (np.arange(count) + 0.5) / count
    shares: Array = np.interp(wanted, below / mass.sum(), eigenvalue)
    shares /= shares.sum()
    return shares


def uniformity_band(num: int, dim: int, t: float) -> tuple[float, float]:
    """Where uniformity of 95 % of sets of ``num`` uniform rows lies, by the variance of the U-statistic."""
    expected = sphere.expected_uniformity(dim, t)
    relative = max(math.exp(sphere.expected_uniformity(dim, 2 * t) - 2 * expected) - 1, 0.0)
    half = _Z * math.sqrt(2 * relative / (num * (num - 1)))
    return max(expected - half, -4 * t), min(expected + half, 0.0)


def alignment_band(num: int, dim: int, alpha: float) -> tuple[float, float]:
    """Where alignment of 95 % of sets of ``num`` unrelated pairs of uniform rows lies."""
    if dim == 1:
        mean, square = 2**alpha / 2, 4**alpha / 2
    else:
        angle = np.linspace(0, math.pi, 4097)
        angle = (angle[:-1] + angle[1:]) / 2
        density = np.exp(_log_density(dim, angle))
        distance = 2 * np.sin(angle / 2)
        mean, square = (
            float((density * distance**power).sum() / density.sum()) for power in (alpha, 2 * alpha)
        )
    half = _Z * math.sqrt(max(square - mean * mean, 0.0) / num)
    return max(mean - half, 0.0), min(mean + half, 2.0**alpha)


def projected_radius(dim: int, share: float = 0.95) -> float | None:
    """Radius within which so many uniform rows lie when seen along all but two directions; None for D < 3."""
    if dim < 3:
        return None
    return math.sqrt(-math.expm1(2 / (dim - 2) * math.log1p(-share)))


def plain(values: Any) -> list[float]:
    """Numbers of an array as a list."""
    return [float(value) for value in values]
