"""Differences of metrics between two sets of features, with their standard errors.

Paired: row i of one set is the same sample as row i of the other. Unpaired: two independent samples.

Shapes: N, M rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from spherometer import pairs, sphere
from spherometer._compare._left_out import left_out, variance
from spherometer._compare._verdicts import Difference
from spherometer.metrics import _jackknife, _spectrum, _spectrum_slopes
from spherometer.metrics._alignment import pair_distances

GROUPS = _jackknife.NUM_GROUPS
LEAST = 4  # rows for an error of uniformity
_NONE = "no interval of the difference is known"
_LONGEST = 8.0  # times the mean squared length: beyond, few rows decide the spectrum
_FEW = 500  # rows below which our null trials found too many false alarms of spectra
_TOO_FEW = f"not tested: with fewer than {_FEW} rows its intervals were too short in our trials"
_UNEVEN = "not tested: a few rows are much longer than the others, and intervals would be too short"


@dataclass(frozen=True)
class Side:
    """One set: rows as they are, on the sphere, and the other side of positive pairs on the sphere."""

    rows: Tensor
    unit: Tensor
    other: Tensor | None

    @property
    def dim(self) -> int:
        """D."""
        return self.unit.shape[1]

    def at(self, places: Tensor) -> Side:
        """The same of some rows."""
        other = None if self.other is None else self.other[places]
        return Side(self.rows[places], self.unit[places], other)


def uniformity_differences(
    a: Side, b: Side, logs: tuple[float, float], t: float, *, paired: bool
) -> dict[str, Difference]:
    """Uniformity (its error only where the dimensions are equal) and normalized uniformity.

    Args:
        a: one set, of at least 2 rows.
        b: the other; with ``paired`` of the same samples.
        logs: uniformity of each.
        t: sharpness.
        paired: whether rows correspond.
    """
    laws = tuple(sphere.expected_uniformity(side.dim, t) for side in (a, b))
    weights = (1.0, 1.0) if laws[0] == laws[1] else (1 / laws[0], 1 / laws[1])
    error: float | None = None
    if min(len(a.unit), len(b.unit)) >= LEAST:
        if paired:
            error = pairs.paired_standard_error(a.unit, b.unit, t, logs, weights)
        else:
            parts = [
                [weight * weight * part for part in pairs.gaussian_moments(side.unit, t).variances]
                for side, weight in zip((a, b), weights, strict=True)
            ]  # both noisy estimates are added before the sum is bounded from below
            error = math.sqrt(max(*map(sum, zip(*parts, strict=True)), 0.0))
        error = error if math.isfinite(error) else None
    way = "paired: exact variance of the U-statistic of the differences of pairs"
    way = way if paired else "independent samples: exact variances of both U-statistics"
    found = {}
    same = a.dim == b.dim
    shown = error if same else None
    found["uniformity"] = Difference(
        logs, shown, math.inf, way if same else "raw values of different dimensions are not compared"
    )
    scaled = (1 - logs[0] / laws[0], 1 - logs[1] / laws[1])
    if error is not None and same:
        error = error / abs(laws[0])
    found["normalized_uniformity"] = Difference(scaled, error, math.inf, way)
    return found


def alignment_difference(a: Side, b: Side, alpha: float, *, paired: bool) -> Difference | None:
    """Alignment, where both have positive pairs."""
    if a.other is None or b.other is None:
        return None
    one, two = (
        pair_distances(side.unit.double(), side.other.double(), alpha, normalize=False)  # type: ignore[union-attr]
        for side in (a, b)
    )
    values = (float(one.mean()), float(two.mean()))
    if min(len(one), len(two)) < 2 or not all(map(math.isfinite, values)):
        return Difference(values, None, math.inf, _NONE)
    if paired:
        error = float((two - one).std()) / math.sqrt(len(one))
        return Difference(values, error, len(one) - 1.0, "paired: standard error of the mean difference")
    parts = [float(each.var()) / len(each) for each in (one, two)]
    freedom = _freedom(parts, [len(one) - 1, len(two) - 1])
    return Difference(values, math.sqrt(sum(parts)), freedom, "independent samples: Welch's standard error")


def spectrum_differences(a: Side, b: Side, *, paired: bool) -> dict[str, Difference]:
    """The spectrum family for sets of as many rows and dimensions; empty for others: their biases differ."""
    if a.rows.shape != b.rows.shape:
        return {}
    found, first, second = {}, _values(a), _values(b)
    num = len(a.rows)
    uneven = any(_is_uneven(side.rows) for side in (a, b))
    for name in sorted(first.keys() & second.keys()):
        one, two = first[name], second[name]
        values = one.whole, two.whole
        if one.without is None or two.without is None:
            found[name] = Difference(values, None, math.inf, _NONE)
            continue
        if name != "wasserstein_uniformity" and (uneven or num < _FEW):
            found[name] = Difference(values, None, math.inf, _TOO_FEW if num < _FEW else _UNEVEN)
            continue
        if paired:
            singles, doubles = (y - x for x, y in zip(one.without, two.without, strict=True))
            parts = [variance(two.whole - one.whole, singles, doubles, num)]
            way = f"paired: corrected jackknife of the difference over {GROUPS} groups of rows"
        else:
            parts = [variance(each.whole, *each.without, num) for each in (one, two) if each.without]
            way = f"independent samples: corrected jackknife over {GROUPS} groups of rows of each"
        freedom = _freedom(parts, [GROUPS - 1] * len(parts))
        found[name] = Difference(values, math.sqrt(sum(parts)), freedom, way)
    return found


def _is_uneven(rows: Tensor) -> bool:
    """Whether the longest row, from the mean, is far longer than rows are."""
    wide = _spectrum.scaled_rows(rows, _spectrum.exponent_of(rows))
    lengths = (wide - wide.mean(dim=0)).square().sum(dim=1)
    return bool(lengths.max() > _LONGEST * lengths.mean())


@dataclass(frozen=True)
class _Value:
    """A value of all rows; without each group [G] and each pair of groups [L]."""

    whole: float
    without: tuple[Tensor, Tensor] | None


def _freedom(parts: list[float], each: list[int]) -> float:
    """Welch's and Satterthwaite's degrees of freedom of a sum of variances."""
    total = sum(parts)
    if total == 0:
        return float(sum(each))
    return 1 / sum((part / total) ** 2 / freedom for part, freedom in zip(parts, each, strict=True))


def _values(side: Side) -> dict[str, _Value]:
    """The spectrum family of one set."""
    num, dim = side.rows.shape
    scale = _spectrum.exponent_of(side.rows)
    wanted: list[tuple[Tensor, bool, int, dict[str, Callable[..., Tensor]]]] = [
        (side.unit, True, 0, {"wasserstein_uniformity": lambda s, n: _spectrum.wasserstein_of(s, n, dim)}),
        (
            side.rows, False, scale,
            {
                "rankme": lambda s, n: _spectrum.rankme_of(s),
                "effective_rank": lambda s, n: _spectrum.effective_rank_of(s),
            },
        ),
        (
            side.rows, True, scale,
            {
                "participation_ratio": lambda s, n: _spectrum.participation_ratio_of(s),
                "isoscore": lambda s, n: _spectrum_slopes.isoscore_of(s, dim).clamp(0, 1),
            },
        ),
    ]  # fmt: skip
    found: dict[str, _Value] = {}
    for rows, centred, exponent, functions in wanted:
        whole = _spectrum.singular_values(rows, centred=centred, exponent=exponent)
        parts = left_out(rows, centred=centred, exponent=exponent)
        for name, function in functions.items():
            flat = name != "wasserstein_uniformity" and float(whole.max()) == 0
            if flat or (name == "isoscore" and dim < 2):
                continue
            without = None
            varied = parts is not None and bool((parts.two.amax(dim=1) > 0).all())
            if parts is not None and (varied or name == "wasserstein_uniformity"):
                without = (
                    torch.vmap(partial(function, n=parts.rest_one))(parts.one),
                    torch.vmap(partial(function, n=parts.rest_two))(parts.two),
                )
            found[name] = _Value(float(function(whole, num)), without)
    return found
