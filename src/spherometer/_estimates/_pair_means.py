"""Means over pairs: what one draw of rows adds, for each quantity.

Every function takes the arguments of the exact one of the same name and checks them the same way. An answer
without an estimate says that all pairs cost no more: the exact function is then called instead.

Shapes: N, M rows, D dimensions, m rows of a draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._checks import Features, NanPolicy
from spherometer._estimates._sampling import NAME, ROWS, Answer, Sampling
from spherometer.errors import UndefinedError
from spherometer.metrics import _conditional, _dense_uniformity
from spherometer.pairs import Estimated, partners, population_log_sum


def _unit(name: str, side: Features, *, normalize: bool) -> Tensor:
    return sphere.unit_rows(NAME, name, side, scale=normalize)


def _ratio(
    sampling: Sampling,
    sums: Sequence[tuple[float | Tensor, float | Tensor]],
    function: Callable[[Tensor], Tensor],
    num_pairs: int,
    weights: str = "",
) -> Estimated:
    found = pairs.ratio_of_logs(sums, function, num_pairs)
    if found is None:
        _checks.refuse(
            UndefinedError, NAME, weights or "t", "leave some pairs that count",
            "the error is taken from the draws that have one",
            f"fewer than two of {sampling.num_draws} draws with such a pair",
            "Pass more draws or more rows of a draw, or call the exact function",
        )  # fmt: skip
    return found


def _potentials(
    sampling: Sampling, unit: Tensor, t: float, estimator: str, scale: Callable[[Tensor], Tensor]
) -> tuple[Estimated | None, int]:
    num, size = len(unit), sampling.size(len(unit))
    if size is None:
        return None, 0

    def function(log_mean: Tensor) -> Tensor:  # "v": the N self pairs of potential 1 are known
        if estimator == "v":
            own = torch.full_like(log_mean, -math.log(num))
            log_mean = torch.logaddexp(log_mean + math.log1p(-1 / num), own)
        return scale(log_mean)

    sums = [
        (pairs.gaussian_potential(unit[drawn.to(unit.device)], t), 0.0)
        for drawn in sampling.subsets(num, size)
    ]
    return _ratio(sampling, sums, function, sampling.num_draws * size * (size - 1)), size


def uniformity(
    sampling: Sampling, z: Any, *, t: Any = 2.0, estimator: Any = "u", normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Answer:  # fmt: skip
    """Log of the mean potential of the draws."""
    unit, t = _uniform_rows(z, t, estimator, normalize, nan)
    found, size = _potentials(sampling, unit, t, estimator, lambda value: value)
    baseline = {"uniform law": sphere.expected_uniformity(unit.shape[1], t)}
    return Answer(found, len(unit), size, (-4 * t, 0.0), baseline, {"t": t, "estimator": estimator})


def normalized_uniformity(
    sampling: Sampling, z: Any, *, t: Any = 2.0, estimator: Any = "u", normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Answer:  # fmt: skip
    """The same on the scale from the uniform law to one point."""
    unit, t = _uniform_rows(z, t, estimator, normalize, nan)
    law = sphere.expected_uniformity(unit.shape[1], t)
    found, size = _potentials(sampling, unit, t, estimator, lambda value: 1 - value / law)
    bounds, baseline = (-math.inf, 1.0), {"uniform law": 0.0}
    return Answer(found, len(unit), size, bounds, baseline, {"t": t, "estimator": estimator})


def _uniform_rows(z: Any, t: Any, estimator: Any, normalize: bool, nan: NanPolicy) -> tuple[Tensor, float]:
    _checks.positive(NAME, "t", t)
    _checks.one_of(NAME, "estimator", estimator, ("u", "v"))
    checked = _checks.features(NAME, "z", z, min_rows=2, nan=nan)
    return _unit("z", checked, normalize=normalize), float(t)


def cross_uniformity(
    sampling: Sampling, x: Any, y: Any, *, t: Any = 2.0, normalize: bool = True, nan: NanPolicy = "refuse"
) -> Answer:
    """Log of the mean potential between the rows drawn of each side."""
    _checks.positive(NAME, "t", t)
    t = float(t)
    sides = _checks.feature_set(NAME, ("x", "y"), (x, y), nan=nan, paired=False)
    one, two = (_unit(name, side, normalize=normalize) for name, side in zip("xy", sides, strict=True))
    size = sampling.num_rows or ROWS
    a, b = min(size, len(one)), min(size, len(two))
    num_pairs, settings = sampling.num_draws * a * b, {"t": t}
    baseline = {"uniform law": sphere.expected_uniformity(one.shape[1], t)}
    if num_pairs >= len(one) * len(two):
        every = len(one) * len(two)
        return Answer(None, len(one), 0, baseline=baseline, settings=settings, num_pairs=every)
    drawn = zip(sampling.subsets(len(one), a), sampling.subsets(len(two), b), strict=True)
    sums: list[Any] = [
        (pairs.cross_gaussian_potential(one[i.to(one.device)], two[j.to(two.device)], t), 0.0)
        for i, j in drawn
    ]
    found = _ratio(sampling, sums, lambda value: value, num_pairs)
    return Answer(found, len(one), size, (-4 * t, 0.0), baseline, settings)


def hyperspherical_energy(
    sampling: Sampling, z: Any, *, power: Any = 1.0, normalize: bool = True, nan: NanPolicy = "refuse"
) -> Answer:
    """Mean energy of the draws."""
    _checks.exponent(NAME, "power", power)
    power = float(power)
    checked = _checks.features(NAME, "z", z, min_rows=2, nan=nan)
    unit = _unit("z", checked, normalize=normalize)
    num, dim = unit.shape
    size, settings = sampling.size(num), {"power": power}
    law = sphere.expected_energy(dim, power)
    baseline = {"uniform law": law} if math.isfinite(law) else {}
    if size is None:
        return Answer(None, num, 0, baseline=baseline, settings=settings)
    energies = []
    for drawn in sampling.subsets(num, size):
        rows = checked.rows[drawn.to(unit.device)].double()
        energies.append(float(pairs.riesz_energy(sphere.normalize(rows) if normalize else rows, power)))
    values = torch.tensor(energies, dtype=torch.float64)
    if not bool(values.isfinite().all()):
        _checks.refuse(
            UndefinedError, NAME, "z", "have rows with different directions",
            "two rows in the same place repel each other infinitely",
            f"an infinite energy in {int((~values.isfinite()).sum())} of {sampling.num_draws} draws",
            "Remove duplicates, or use uniformity, which bears them",
        )  # fmt: skip
    num_pairs = sampling.num_draws * size * (size - 1)
    found = pairs.jackknife(values, torch.ones_like(values), lambda mean: mean, num_pairs)
    bounds = (2**-power if power else -math.log(2), math.inf)
    return Answer(found, num, size, bounds, baseline, settings)


def conditional_uniformity(
    sampling: Sampling, z: Any, metadata: Any, *, kernel: Any = None, t: Any = 2.0, form: Any = "normalized",
    threshold: Any = None, normalize: bool = True, nan: NanPolicy = "refuse",
) -> Answer:  # fmt: skip
    """Log of the ratio of two means over pairs; the kernel is fitted to the meta-data of all rows."""
    _checks.positive(NAME, "t", t)
    t, limit = float(t), _conditional.checked_form(NAME, form, threshold)
    checked = _checks.features(NAME, "z", z, min_rows=2, nan=nan)
    unit = _unit("z", checked, normalize=normalize)
    stays, encoded, fitted = _conditional.with_metadata(NAME, [checked], metadata, kernel, nan)
    unit = unit if stays is None else unit[stays]
    _checks.enough_rows(NAME, "z", len(unit), 2, " with meta-data")
    num, size = len(unit), sampling.size(len(unit))
    settings = {"t": t, "form": form, "kernel": str(fitted)}
    baseline = {"uniform law": sphere.expected_uniformity(unit.shape[1], t)}
    if size is None:
        return Answer(None, num, 0, baseline=baseline, settings=settings)
    every = _conditional.similarity_of(fitted, encoded, unit.dtype).rows
    sums: list[Any] = []
    for drawn in sampling.subsets(num, size):
        some = drawn.to(unit.device)
        found, weight = pairs.conditional_potential(
            unit[some], t, pairs.Similarity(fitted, every[some]), threshold=limit
        )
        sums.append((found, math.log(size * (size - 1)) if form == "mean" else weight))
    result = _ratio(sampling, sums, lambda value: value, sampling.num_draws * size * (size - 1), "metadata")
    bounds = (-math.inf if form == "mean" else -4 * t, 0.0)
    return Answer(result, num, size, bounds, baseline, settings)


def dense_uniformity(
    sampling: Sampling, z: Any, *, t: Any = 2.0, pairs: Any = "cross_image", mask: Any = None,
    normalize: bool = True, nan: NanPolicy = "refuse",
) -> Answer:  # fmt: skip
    """Log of the ratio of two means over pairs of cells: of the potential and of being asked for."""
    maps = _dense_uniformity._checked_population(NAME, z, t, pairs, mask, None, normalize=normalize, nan=nan)
    rows, image, _ = _dense_uniformity.population_rows(
        NAME, maps, pairs, None, normalize=normalize, generator=None
    )
    t, population = float(t), _dense_uniformity.POPULATIONS[pairs]
    num, size = len(rows), sampling.size(len(rows))
    settings = {"t": t, "pairs": pairs}
    baseline = {"uniform law": sphere.expected_uniformity(rows.shape[1], t)}
    if size is None or pairs == "within_image":  # whose pairs are few
        every = int(partners(image, population).sum())
        return Answer(None, num, 0, baseline=baseline, settings=settings, num_pairs=every)
    sums: list[Any] = []
    for drawn in sampling.subsets(num, size):
        some = drawn.to(rows.device)
        count = int(partners(image[some], population).sum())
        total = population_log_sum(rows[some], t, image[some], population)
        sums.append((total, math.log(count) if count else -math.inf))
    found = _ratio(sampling, sums, lambda value: value, sampling.num_draws * size * (size - 1), "pairs")
    return Answer(found, num, size, (-4 * t, 0.0), baseline, settings)
