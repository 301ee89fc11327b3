"""Dense alignment and uniformity as measurements: with intervals over images, and baselines.

Cells of one image are no independent samples, so images are: alignment has the standard error of the means of
images, uniformity is taken again without each image in turn (the jackknife), from sums of rows.

Shapes: N images, C cells that are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spherometer import sphere
from spherometer._results import Measurement
from spherometer.metrics._dense_alignment import Geometry, image_means, matched_powers
from spherometer.metrics._dense_maps import checked_maps
from spherometer.metrics._dense_uniformity import POPULATIONS, Pairs, group_logs, population_rows
from spherometer.pairs import partners, population_log_rows

_FEWEST = 4  # images of an interval
_MEAN = "standard error of the means of images"
_JACKKNIFE = "jackknife over images"


@torch.no_grad()
def dense_numbers(
    x: Any,
    y: Any,
    *,
    matching: Any = "index",
    geometry: Geometry | None = None,
    match_features: tuple[Any, Any] | None = None,
    max_distance: float | None = None,
    alpha: float = 2.0,
    t: float = 2.0,
    pairs: Pairs = "cross_image",
    mask: Any = None,
    num_cells: int | None = None,
    normalize: bool = True,
    generator: torch.Generator | None = None,
    function: str = "dense_numbers",
) -> dict[str, Measurement]:
    """``dense_alignment`` of both maps and ``dense_uniformity`` of ``x``, each with interval and baselines.

    Args:
        x: maps [N, D, ...], as for the metrics; so are all the others.
        y: maps of the other view; None: uniformity alone.
        matching: rule.
        geometry: for "geometric".
        match_features: for "similarity".
        max_distance: for "geometric".
        alpha: of alignment.
        t: of uniformity.
        pairs: population of uniformity.
        mask: of x, or of both.
        num_cells: of uniformity; ``num`` of the measurement is the number used.
        normalize: scale cells first.
        generator: of "random" matching and of ``num_cells``.
        function: that messages name.

    Returns:
        "dense_alignment" (``num`` pairs; settings say how many images have any) and "dense_uniformity".
    """
    names, values = (("x",), (x,)) if y is None else (("x", "y"), (x, y))
    sides = checked_maps(function, names, values, mask, normalize=normalize, nan="refuse")
    dim = sides[0].cells.shape[1]
    found = {}
    if y is not None:
        matches, powers = matched_powers(
            function, sides, alpha, matching, geometry=geometry, match_features=match_features,
            max_distance=max_distance, normalize=normalize, nan="refuse", generator=generator,
        )  # fmt: skip
        means = image_means(matches, powers)[matches.counts() > 0]
        baseline = {"identical cells": 0.0}
        unrelated = _unrelated(dim, alpha)
        if math.isfinite(unrelated):
            baseline = {"unrelated cells": unrelated, **baseline}
        interval = _of_means(means, 2.0**alpha)
        found["dense_alignment"] = Measurement(
            name="dense_alignment",
            value=float(means.mean()),
            interval=interval,
            baseline=baseline,
            num=len(powers),
            settings={
                "alpha": alpha,
                "matching": matching if isinstance(matching, str) else type(matching).__name__,
                **({} if max_distance is None else {"max_distance": max_distance}),
                "images": len(means),
                "normalize": normalize,
                "interval": _MEAN if interval else None,
            },
            better="lower",
            label=f"Dense alignment (alpha = {alpha:g})",
        )
    rows, image, _ = population_rows(
        function, sides[0], pairs, num_cells, normalize=normalize, generator=generator
    )
    value, interval = _uniformity(rows, image, t, pairs)
    found["dense_uniformity"] = Measurement(
        name="dense_uniformity",
        value=value,
        interval=interval,
        baseline={"uniform law": sphere.expected_uniformity(dim, t), "one point": 0.0},
        num=len(rows),
        settings={
            "t": t,
            "pairs": pairs,
            "images": int((torch.bincount(image) > 0).sum()),
            "cells": int(sides[0].keep.sum()),
            "normalize": normalize,
            "interval": _JACKKNIFE if interval else None,
        },
        better=None if pairs == "within_image" else "lower",
        label=f"Dense uniformity (t = {t:g}, {_WORDS[pairs]})",
    )
    return found


_WORDS: Mapping[str, str] = {
    "cross_image": "across images",
    "within_image": "within images",
    "all": "all cells",
}


def _unrelated(dim: int, alpha: float) -> float:
    r"""Expected \|u - v\|^alpha of independent uniform points (a Beta integral), or infinity."""
    logs = (
        (dim + alpha - 2) * math.log(2),
        math.lgamma(dim / 2),
        math.lgamma((dim + alpha - 1) / 2),
        -math.log(math.pi) / 2,
        -math.lgamma(dim + alpha / 2 - 1),
    )
    total = math.fsum(logs)
    return math.exp(total) if total < 700 else math.inf


def _of_means(means: Tensor, high: float) -> tuple[float, float] | None:
    if len(means) < _FEWEST:
        return None
    half = student(len(means) - 1) * float(means.std()) / math.sqrt(len(means))
    value = float(means.mean())
    return max(0.0, value - half), min(value + half, max(high, value))


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


def _uniformity(
    rows: Tensor, image: Tensor, t: float, pairs: Pairs
) -> tuple[float, tuple[float, float] | None]:
    """The value, and an interval from the values without each image."""
    population = POPULATIONS[pairs]
    _, image = torch.unique(image, return_inverse=True)
    num = int(image.max()) + 1
    logs, counts = population_log_rows(rows, t, image, population), partners(image, population)
    by_image = group_logs(logs, image, num)
    shift = float(by_image.max())
    sums = (by_image - shift).exp()
    pairs_of = torch.zeros(num, dtype=torch.int64, device=image.device).index_add_(0, image, counts)
    value = math.log(float(sums.sum())) + shift - math.log(int(pairs_of.sum()))
    if num < _FEWEST:
        return value, None
    # pairs between an image and the others are counted on both sides, those within it once
    if pairs == "within_image":
        lost, pairs_lost = sums, pairs_of
    elif pairs == "cross_image":
        lost, pairs_lost = 2 * sums, 2 * pairs_of
    else:
        within = (group_logs(population_log_rows(rows, t, image, "within"), image, num) - shift).exp()
        inner = partners(image, "within")
        pairs_within = torch.zeros_like(pairs_of).index_add_(0, image, inner)
        lost, pairs_lost = 2 * sums - within, 2 * pairs_of - pairs_within
    left, pairs_left = float(sums.sum()) - lost, int(pairs_of.sum()) - pairs_lost
    if bool((pairs_left <= 0).any()) or bool((left <= 0).any()):
        return value, None
    without = (left / pairs_left).log()
    spread = (without - without.mean()).square().sum()
    half = student(num - 1) * math.sqrt((num - 1) / num * float(spread))
    if not math.isfinite(half):
        return value, None
    return value, (max(value - half, min(value, -4 * t)), min(value + half, max(value, 0.0)))
