"""Means over rows that need all others: what each row that is drawn says, for each quantity.

Shapes: N rows, V views, n rows drawn.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._checks import NanPolicy
from spherometer._estimates._sampling import NAME, Answer, Sampling
from spherometer.errors import ShapeError, UndefinedError
from spherometer.losses import _info_nce as contrastive
from spherometer.losses import _views
from spherometer.metrics import _conditional
from spherometer.metrics._labels import labelled_rows


def conditional_alignment(
    sampling: Sampling, x: Any, y: Any, metadata: Any, *, kernel: Any = None, alpha: Any = 2.0,
    normalize: bool = True, nan: NanPolicy = "refuse",
) -> Answer:  # fmt: skip
    """Mean of what the anchors drawn say; the kernel is fitted to the meta-data of all rows."""
    _checks.positive(NAME, "alpha", alpha)
    sides = _checks.feature_set(NAME, ("x", "y"), (x, y), nan=nan)
    units = [
        sphere.unit_rows(NAME, name, side, scale=normalize) for name, side in zip("xy", sides, strict=True)
    ]
    stays, encoded, fitted = _conditional.with_metadata(NAME, sides, metadata, kernel, nan)
    units = units if stays is None else [rows[stays] for rows in units]
    num = len(units[0])
    _checks.enough_rows(NAME, "x", num, 1, " with meta-data")
    size = sampling.anchors(num)
    settings = {"alpha": float(alpha), "kernel": str(fitted)}
    if size is None:
        return Answer(None, num, 0, settings=settings, num_pairs=num * num)
    order = pairs.chosen_first(num, size, sampling.generator).to(units[0].device)
    similarity = _conditional.similarity_of(fitted, encoded[order], units[0].dtype)
    values = pairs.anchor_distances(
        units[0][order[:size]], units[1][order], similarity, float(alpha), own=(0, size)
    )
    found = pairs.mean_of_rows(values, num, size * num)
    return Answer(found, num, size, (0.0, 2.0 ** float(alpha)), settings=settings)


def neighbor_purity(
    sampling: Sampling, z: Any, labels: Any, *, k: Any = 10, normalize: bool = True, nan: NanPolicy = "refuse"
) -> Answer:
    """Mean share among the neighbours of the rows drawn."""
    _checks.whole(NAME, "k", k)
    _, rows, (codes,) = labelled_rows(NAME, z, {"labels": labels}, normalize=normalize, nan=nan)
    num = len(rows)
    if k >= num:
        _checks.refuse(
            UndefinedError, NAME, "k", "be smaller than the number of rows",
            "a row has only N - 1 neighbours",
            f"k = {k} for {num} rows", f"Pass k={num - 1} or less",
        )  # fmt: skip
    counts = torch.bincount(codes).double()
    unrelated = float((counts * (counts - 1)).sum()) / (num * (num - 1))
    size, baseline = sampling.anchors(num), {"unrelated labels": unrelated}
    if size is None:
        return Answer(None, num, 0, baseline=baseline, settings={"k": int(k)})
    drawn = pairs.chosen_first(num, size, sampling.generator)[:size].to(rows.device)
    nearest = pairs.nearest_of(rows, drawn, int(k))
    shares = (codes[nearest] == codes[drawn, None]).double().mean(dim=1)
    found = pairs.share_of_rows(shares, num, size * (num - 1))
    return Answer(found, num, size, (0.0, 1.0), baseline, {"k": int(k)})


def info_nce_loss(
    sampling: Sampling, z1: Any, z2: Any = None, *, temperature: Any = 0.5, term: str = "loss",
    nan: NanPolicy = "refuse",
) -> Answer:  # fmt: skip
    """Mean loss of the samples drawn, over pairs of views and both directions."""
    scale = _scale(temperature, term)
    every, size = _views_of(sampling, z1, z2, nan)
    own, num = every[:, :size], every.shape[1]
    losses, positives = [], []
    for v, w in itertools.combinations(range(len(every)), 2):
        positive = contrastive._cosines(own[v], own[w]) * scale
        for one, other in ((v, w), (w, v)):
            rest, _ = pairs.masked_logsumexp(own[one], every[other], scale, skip=(0,), longest=1.0)
            losses.append(-contrastive._log_likelihoods(rest, positive))
            positives.append(positive)
    return _contrasted(
        torch.stack(losses).mean(0), torch.stack(positives).mean(0), num, num, temperature, term
    )


def nt_xent_loss(
    sampling: Sampling, z1: Any, z2: Any = None, *, temperature: Any = 0.5, term: str = "loss",
    nan: NanPolicy = "refuse",
) -> Answer:  # fmt: skip
    """Mean loss of the samples drawn, over their views and positives."""
    scale = _scale(temperature, term)
    every, size = _views_of(sampling, z1, z2, nan)
    own, num, views = every[:, :size], every.shape[1], len(every)
    candidates, skip = every.flatten(0, 1), tuple(range(0, views * num, num))
    rest = torch.stack(
        [pairs.masked_logsumexp(rows, candidates, scale, skip=skip, longest=1.0)[0] for rows in own]
    )
    positives = contrastive._all_positives(own.unbind()) * scale
    losses = -contrastive._log_likelihoods(contrastive._without_each(rest, positives), positives)
    means = [each.mean(dim=(0, 2)) for each in (losses, positives)]
    return _contrasted(means[0], means[1], num, views * num - 1, temperature, term)


def _scale(temperature: Any, term: Any) -> float:
    _views.check_number(NAME, "temperature", temperature)
    _checks.one_of(NAME, "term", term, ("loss", "uniformity"))
    return 1 / float(temperature)


def _views_of(sampling: Sampling, z1: Any, z2: Any, nan: NanPolicy) -> tuple[Tensor, int]:
    """All views on the sphere [V, N, D], the n samples drawn first, and n."""
    names, values = ("z1", "z2"), (z1, z2)
    if z2 is None:
        shape = tuple(getattr(z1, "shape", ()))
        if len(shape) != 3 or shape[1] < 2:
            _checks.refuse(
                ShapeError, NAME, "z1", "have shape [N, V, D] with V >= 2 when z2 is not given",
                "a positive pair is two views of one sample", f"shape {shape}",
                "Pass z1 and z2 of shape [N, D] each",
            )  # fmt: skip
        names, values = ("z1",) * shape[1], tuple(z1[:, view] for view in range(shape[1]))
    sides = _checks.feature_set(NAME, names, values, min_rows=2, nan=nan)
    num = len(sides[0].rows)
    size = sampling.anchors(num) or num
    order = pairs.chosen_first(num, size, sampling.generator).to(sides[0].rows.device)
    return _views.on_sphere([side.rows[order] for side in sides]), size


def _contrasted(
    losses: Tensor, positives: Tensor, num: int, num_candidates: int, temperature: Any, term: str
) -> Answer:
    log_candidates = math.log(num_candidates)
    values = losses if term == "loss" else losses + positives - log_candidates
    found = pairs.mean_of_rows(values, num, len(values) * num_candidates)
    bounds = (0.0 if term == "loss" else -math.inf, math.inf)
    baseline = {"collapsed": log_candidates if term == "loss" else 1 / float(temperature)}
    return Answer(
        found, num, len(values), bounds, baseline, {"temperature": float(temperature), "term": term}
    )
