"""One reading of the monitor: what the rows of a reservoir say, as a flat dict of floats.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import pairs, sphere
from spherometer.metrics import _alignment, _spectrum
from spherometer.pairs._tiles import full_precision

NO_ID = torch.iinfo(torch.int64).min  # of a row whose sample is not known
_FEWEST = 4  # rows of a reading
_SAME = 0.01  # share of the mean squared distance below which two rows count as one point
_QUERIES = 256  # rows whose near neighbours are counted
_TILE = 1 << 20
_CONTRASTED = 512  # latest rows of the InfoNCE terms


def read(x: Tensor, y: Tensor, ids: Tensor | None = None, *, temperature: float = 0.5) -> dict[str, float]:
    """The reading of paired rows [N, D], oldest first; what each means is said at ``Monitor``."""
    num = len(x)
    if ids is not None:
        newest = _newest(ids.numpy())
        if len(newest) < num:
            at = torch.from_numpy(newest).to(x.device)
            x, y = x[at], y[at]
    norms = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    others = torch.linalg.vector_norm(y, dim=1, dtype=torch.float64)
    finite = norms.isfinite() & others.isfinite()
    usable = finite & (norms > 0) & (others > 0)
    num_nonfinite = int((~finite).sum())
    if not bool(usable.any()):  # zeros only: one point, the origin
        usable = finite
    num_usable = int(usable.sum())
    if num_usable < len(x):
        x, y, norms = x[usable], y[usable], norms[usable]
    counts = {
        "num_rows": num_usable,
        "dim": x.shape[1],
        "num_nonfinite": num_nonfinite,
        "num_zero": len(finite) - num_nonfinite - num_usable,
    }
    reading = {name: float(value) for name, value in counts.items()}
    if num_usable < _FEWEST:
        return reading
    with full_precision(x.device):
        x, y = sphere.normalize(x), sphere.normalize(y)
        distances = _distances(x, y)
        shape = _shape(x, distances["spread"])
        return reading | _lengths(norms) | distances | shape | _info_nce(x, y, temperature)


def _newest(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows to keep, ascending: the last of every sample, and all without a number."""
    _, last = np.unique(ids[::-1], return_index=True)
    keep = ids == NO_ID
    keep[len(ids) - 1 - last] = True
    return np.flatnonzero(keep)


def _lengths(norms: Tensor) -> dict[str, float]:
    shares = torch.tensor([0.05, 0.5, 0.95], dtype=norms.dtype, device=norms.device)
    low, middle, high = norms.quantile(shares).tolist()
    return {"norm_mean": float(norms.mean()), "norm_p05": low, "norm_median": middle, "norm_p95": high}


def _distances(x: Tensor, y: Tensor) -> dict[str, float]:
    """Alignment, the same of unrelated rows, and uniformity."""
    n, d = x.shape
    alignment = float(_alignment.pair_distances(x, y, 2.0, normalize=False).mean())
    mean_x, mean_y = (z.mean(dim=0, dtype=torch.float64) for z in (x, y))
    variance_x = float((x - mean_x.float()).square().sum(dtype=torch.float64)) / n
    variance_y = float((y - mean_y.float()).square().sum(dtype=torch.float64)) / n
    every = variance_x + variance_y + float((mean_x - mean_y).square().sum())  # over all N^2 pairs
    unrelated = max(0.0, (n * every - alignment) / (n - 1))
    uniformity = min(0.0, float(pairs.gaussian_potential(x, 2.0)))
    expected = sphere.expected_uniformity(d, 2.0)
    return {
        "alignment": alignment,
        "unrelated_alignment": unrelated,
        "pair_gap": 1 - alignment / unrelated if unrelated else 0.0,
        "uniformity": uniformity,
        "expected_uniformity": expected,
        "normalized_uniformity": 1 - uniformity / expected,
        "spread": variance_x * n / (n - 1),
    }


def _shape(x: Tensor, spread: float) -> dict[str, float]:
    """Directions and distinct points."""
    n, d = x.shape
    singular = _spectrum.singular_values(x, centred=False, exponent=0)
    rank = float(_spectrum.effective_rank_of(singular)) if float(singular[0]) else 1.0
    distinct = 1 / (1 / n + (1 - 1 / n) * _near_share(x, 2 * spread))
    cap = cap_share(max(2.0, rank), 2 * _SAME) if d > 1 else 0.5
    expected = 1 / (1 / n + (1 - 1 / n) * cap)
    most = min(n, d)
    return {
        "effective_rank": rank,
        "rank_share": math.log(rank) / math.log(most) if most > 1 else 1.0,
        "distinct_points": distinct,
        "distinct_share": distinct / expected,
    }


def _near_share(x: Tensor, mean_squared: float) -> float:
    """Share of pairs of different rows that are the same point, over evenly spaced rows against all."""
    if mean_squared == 0:
        return 1.0
    n = len(x)
    num = max(1, min(n, _QUERIES, _TILE // n))
    queries = torch.arange(num, device=x.device) * n // num
    scaled = (x - x.mean(dim=0)) * mean_squared**-0.5  # a small cloud looks like a large one
    half = scaled.square().sum(dim=1) / 2
    same = half[queries, None] + half - scaled[queries] @ scaled.T <= _SAME / 2
    same[torch.arange(num, device=x.device), queries] = False
    return int(same.sum()) / (num * (n - 1))


@lru_cache(maxsize=256)
def cap_share(dim: float, squared: float) -> float:
    """Share of the sphere in ``dim`` >= 2 dimensions within a squared distance (below 4) of a point.

    The integral of sin^(dim - 2) up to the angle of the cap, over that up to pi.
    """
    angles = (np.arange(4096) + 0.5) / 4096  # midpoints
    angle = 2 * math.asin(math.sqrt(squared) / 2)
    cap = float((np.sin(angles * angle) ** (dim - 2)).mean()) * angle
    whole = math.sqrt(math.pi) * math.exp(math.lgamma((dim - 1) / 2) - math.lgamma(dim / 2))
    return cap / whole


def _info_nce(x: Tensor, y: Tensor, temperature: float) -> dict[str, float]:
    """The terms of ``losses.InfoNCELoss``, without a gradient and without talking to other processes."""
    x, y = x[-_CONTRASTED:], y[-_CONTRASTED:]
    rows, columns = pairs.masked_logsumexp(x, y, 1 / temperature)
    alignment = -float((x * y).sum(dim=1, dtype=torch.float64).mean()) / temperature
    total = float((rows.mean() + columns.mean()) / 2)
    return {
        "info_nce": total + alignment,
        "info_nce_alignment": alignment,
        "info_nce_uniformity": total - math.log(len(x)),
    }
