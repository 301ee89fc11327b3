"""The toy sets of the local-density study, with relative local density and Calinski-Harabasz beside each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from spherometer import metrics
from spherometer.data import toy_sets

_DRAWN = 600  # points of each set that the figure shows
TEMPERATURES = (1.0, 0.5, 0.1, 0.05)
# read off the published figure at temperature .05 (one draw)
PAPER: dict[str, dict[str, float]] = {
    "uniform": {"rld": 0.0, "ch": 0.69},
    "circles": {"rld": 0.75, "ch": 0.57},
    "star": {"rld": 0.74, "ch": 0.24},
    "small clusters": {"rld": 0.70, "ch": 11.21},
    "segments": {"rld": 0.67, "ch": 13744.87},
    "gaussians": {"rld": 0.79, "ch": 11789.85},
}


def toys(seeds: Sequence[int], num_per_class: int = 300) -> list[dict[str, Any]]:
    """Each set as drawn with the first seed, and its numbers as means over all seeds.

    Returns:
        name, words, points [[x, y], ...] and labels of at most 600 points, ``rld`` (temperature -> mean),
        ``rld_sd`` (deviation over seeds, None for one), ``calinski_harabasz``, ``num``, and what the paper's
        figure shows.
    """
    drawn = [toy_sets(num_per_class, seed) for seed in seeds]
    found = []
    for name, first in drawn[0].items():
        sets = [each[name] for each in drawn]
        density = np.array(
            [
                metrics.relative_local_density(
                    each.points, each.labels, temperature=TEMPERATURES, normalize=False
                )
                for each in sets
            ]
        )
        spread = density.std(axis=0, ddof=1) if len(sets) > 1 else None
        harabasz = [metrics.calinski_harabasz(each.points, each.labels, normalize=False) for each in sets]
        chosen = torch.randperm(len(first.points), generator=torch.Generator().manual_seed(0))[
            :_DRAWN
        ].numpy()
        keys = [f"{each:g}" for each in TEMPERATURES]
        found.append(
            {
                "name": name,
                "words": first.words,
                "points": np.round(first.points[chosen], 4).tolist(),
                "labels": first.labels[chosen].tolist(),
                "num": len(first.points),
                "rld": dict(zip(keys, density.mean(axis=0).tolist(), strict=True)),
                "rld_sd": None if spread is None else dict(zip(keys, spread.tolist(), strict=True)),
                "calinski_harabasz": float(np.mean(harabasz)),
                "paper": PAPER[name],
            }
        )
    return found
