"""Measurements from the numbers they are made of: one place says labels, baselines and intervals.

Rows in memory and rows on disk come here with the same numbers, however they were added up.

Shapes: N rows, D dimensions, K = min(N, D).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import sphere
from spherometer._results import Measurement
from spherometer.metrics import _jackknife, _lidar, _spectrum, _spectrum_slopes

Z = 1.959963984540054  # 97.5 % of the normal law
U_STATISTIC = "exact variance of the U-statistic"
JACKKNIFE = f"jackknife over {_jackknife.NUM_GROUPS} groups of rows"
_MEAN = "standard error of the mean"
_INFLUENCE = "influence of each pair on the mean"
_WIDEST = 2048  # dimensions up to which LiDAR is taken: it inverts a matrix of that size
_SMALLEST = 1e-6  # of the largest singular value: below, a spectrum made from inner products is rounding
Spectrum = tuple[Tensor, list[Tensor] | None]  # of all rows [K], and without each group


def expected_alignment(dim: int, alpha: float) -> float:
    """E |u - v|^alpha of independent uniform points; infinite where it exceeds the floats."""
    log_value = (dim + alpha - 2) * math.log(2) + math.lgamma(dim / 2) + math.lgamma((dim + alpha - 1) / 2)
    log_value -= 0.5 * math.log(math.pi) + math.lgamma(dim + alpha / 2 - 1)
    return math.exp(log_value) if log_value < 700 else math.inf


def _expected_wasserstein(num: int, dim: int) -> float:
    """Wasserstein uniformity of many uniform points at this N / D, by the Marchenko-Pastur law."""
    ratio = dim / (num - 1)
    angle = (torch.arange(2048, dtype=torch.float64) + 0.5) * (math.pi / 2048)
    eigenvalue = (1 + ratio + 2 * math.sqrt(ratio) * angle.cos()).clamp(min=1e-300)
    return math.sqrt(max(0.0, 2 - 4 * float((angle.sin().square() / eigenvalue.sqrt()).mean())))


def add_alignment(
    found: dict[str, Measurement],
    notes: list[str],
    mean: float,
    deviation: float,
    num: int,
    dim: int,
    alpha: float,
    *,
    normalize: bool,
) -> None:
    """Alignment from the mean and the standard deviation of the pairs' distances to the power alpha."""
    unrelated = expected_alignment(dim, alpha)
    if not math.isfinite(mean * mean) or not math.isfinite(unrelated):
        notes.append(f"alignment left out: distances to the power {alpha:g} exceed the floating-point range.")
        return
    half = Z * deviation / math.sqrt(num)
    found["alignment"] = Measurement(
        name="alignment",
        value=mean,
        interval=(max(mean - half, 0.0), min(mean + half, math.inf)) if num >= 2 else None,
        baseline={"unrelated pairs": unrelated, "identical pairs": 0.0},
        num=num,
        settings={"alpha": alpha, "normalize": normalize, "interval": _MEAN},
        better="lower",
        label=f"Alignment (alpha = {alpha:g})",
    )


def add_uniformity(
    found: dict[str, Measurement],
    value: float,
    half: float | None,
    num: int,
    dim: int,
    t: float,
    *,
    normalize: bool,
    method: str = U_STATISTIC,
    more: dict[str, Any] | None = None,
) -> None:
    """Uniformity and normalized uniformity; ``half``: half of the interval, None where it is unknown."""
    expected = sphere.expected_uniformity(dim, t)
    interval = None
    if half is not None:
        interval = (max(value - half, min(value, -4 * t)), min(value + half, max(value, 0.0)))
    exact = dim <= 2 or num <= dim + 1 or num == 2 * dim
    settings: dict[str, Any] = {
        "t": t,
        "estimator": "u",
        "normalize": normalize,
        "interval": method if interval else None,
        **(more or {}),
    }
    found["uniformity"] = Measurement(
        name="uniformity",
        value=value,
        interval=interval,
        baseline={
            "uniform law": expected,
            "lower bound for this n": sphere.minimum_uniformity(num, dim, t),
            "one point": 0.0,
        },
        num=num,
        settings={**settings, "minimum": "exact" if exact else "lower bound"},
        better="lower",
        label=f"Uniformity (t = {t:g})",
    )
    found["normalized_uniformity"] = Measurement(
        name="normalized_uniformity",
        value=1 - value / expected,
        interval=interval and (1 - interval[0] / expected, 1 - interval[1] / expected),
        baseline={"uniform law": 0.0, "one point": 1.0},
        num=num,
        settings=settings,
        better="lower",
        label=f"Normalized uniformity (t = {t:g})",
    )


def influence(rows_N: Tensor, columns_N: Tensor) -> tuple[float, float]:
    """Cross-uniformity and half of its interval, from the logs of the sums of rows and of columns."""
    num = len(rows_N)
    log_total = float(torch.logsumexp(rows_N, 0))
    value = min(log_total - 2 * math.log(num), 0.0)
    # share of a row's and its partner's pairs in the total, against the average share
    shares = num * ((rows_N - log_total).exp() + (columns_N - log_total).exp())
    return value, Z * float(shares.std()) / math.sqrt(num)


def add_cross_uniformity(
    found: dict[str, Measurement],
    value: float,
    half: float,
    num: int,
    dim: int,
    t: float,
    *,
    normalize: bool,
    method: str = _INFLUENCE,
    more: dict[str, Any] | None = None,
) -> None:
    """Cross-uniformity with its interval (None for fewer than four pairs)."""
    found["cross_uniformity"] = Measurement(
        name="cross_uniformity",
        value=value,
        interval=(max(value - half, min(value, -4 * t)), min(value + half, 0.0)) if num >= 4 else None,
        baseline={"uniform law": sphere.expected_uniformity(dim, t)},
        num=num,
        settings={"t": t, "normalize": normalize, "interval": method, **(more or {})},
        better=None,
        label=f"Cross-uniformity (t = {t:g})",
    )


@dataclass(frozen=True, eq=False)
class Spectra:
    """Singular values of all rows and without each group: of centred unit rows, of rows, of centred rows.

    Attributes:
        directions: how many of the centred rows' are more than rounding.
        rests: number of rows that stay without each group.
    """

    sphere: Spectrum
    plain: Spectrum
    centred: Spectrum
    directions: int
    rests: list[int]


def spectra_of(rows_ND: Tensor, unit_ND: Tensor) -> Spectra:
    """The spectra of rows in memory."""

    def both(rows: Tensor, exponent: int, *, centred: bool) -> Spectrum:
        left_out = _jackknife.left_out_singular_values(rows, centred=centred, exponent=exponent)
        return _spectrum.singular_values(rows, centred=centred, exponent=exponent), left_out

    scale, num = _spectrum.exponent_of(rows_ND), len(rows_ND)
    centred = both(rows_ND, scale, centred=True)
    return Spectra(
        both(unit_ND, 0, centred=True),
        both(rows_ND, scale, centred=False),
        centred,
        _spectrum_slopes.num_directions(centred[0], rows_ND, scale),
        [num - num // _jackknife.NUM_GROUPS] * _jackknife.NUM_GROUPS,
    )


def add_spectrum(
    found: dict[str, Measurement],
    notes: list[str],
    spectra: Spectra,
    num: int,
    dim: int,
    *,
    normalize: bool,
) -> None:
    """Everything that singular values say."""
    directions = float(min(num, dim))
    whole, left_out = spectra.sphere
    value = float(_spectrum.wasserstein_of(whole, num, dim))
    values = None
    if left_out is not None:
        pairs = zip(left_out, spectra.rests, strict=True)
        values = [float(_spectrum.wasserstein_of(each, rest, dim)) for each, rest in pairs]
    found["wasserstein_uniformity"] = Measurement(
        name="wasserstein_uniformity",
        value=value,
        interval=None
        if values is None
        else _jackknife.interval(value, values, num, low=0.0, high=math.sqrt(2)),
        baseline={"uniform law, this n": _expected_wasserstein(num, dim), "one point": math.sqrt(2)},
        num=num,
        settings={"normalize": normalize, "interval": JACKKNIFE if left_out else None},
        better="lower",
        label="Wasserstein uniformity",
    )
    most = min(num - 1.0, directions)
    for name, label, function, (whole, left_out), baseline, better, low in (
        ("rankme", "RankMe", _spectrum.rankme_of, spectra.plain, directions, "higher", 1.0),
        (
            "effective_rank", "Effective rank", _spectrum.effective_rank_of, spectra.plain,
            directions, "higher", 1.0,
        ),
        (
            "participation_ratio", "Participation ratio", _spectrum.participation_ratio_of,
            spectra.centred, most, "higher", 1.0,
        ),
    ):  # fmt: skip
        if float(whole.max()) == 0:
            notes.append(f"{name} left out: all rows are identical, there is no variance to share.")
            continue
        shown = {"all directions": baseline}
        _add(found, name, label, function, whole, left_out, num, low, baseline, better, shown)
    _add_slopes(found, notes, spectra, num, dim)


def _add_slopes(
    found: dict[str, Measurement], notes: list[str], spectra: Spectra, num: int, dim: int
) -> None:
    whole, left_out = spectra.centred
    first, last = _spectrum_slopes.RANKS
    if spectra.directions <= first:
        notes.append("alpha_req left out: the rows vary in fewer than two directions.")
    else:
        used = min(spectra.directions, min(spectra.rests, default=num) - 1)
        ordered = whole.sort(descending=True).values
        sound = used > first and float(ordered[min(last, used) - 1]) > _SMALLEST * float(ordered[0])
        value = float(_spectrum_slopes.alpha_req_of(whole, spectra.directions))
        values = None
        if left_out is not None and sound:
            values = [float(_spectrum_slopes.alpha_req_of(each, used)) for each in left_out]
        interval = None
        if values is not None:
            interval = _jackknife.interval(value, values, num, low=0.0, high=math.inf)
        found["alpha_req"] = Measurement(
            name="alpha_req",
            value=value,
            interval=interval,
            baseline={"variance as 1 / rank": 1.0, "the same in every direction": 0.0},
            num=num,
            settings={
                "normalize": False,
                "ranks": list(_spectrum_slopes.RANKS),
                "interval": JACKKNIFE if interval else None,
            },
            better=None,
            label="alpha-ReQ",
        )
    if dim < 2:
        notes.append("isoscore left out: one direction cannot be uneven.")
    elif float(whole.max()) == 0:
        notes.append("isoscore left out: all rows are identical, there is no variance to share.")
    else:
        baseline = {"the same in every direction": 1.0, "one direction": 0.0}

        def isoscore(singular_K: Tensor) -> Tensor:
            return _spectrum_slopes.isoscore_of(singular_K, dim).clamp(0, 1)

        _add(found, "isoscore", "IsoScore", isoscore, whole, left_out, num, 0.0, 1.0, "higher", baseline)


def _add(
    found: dict[str, Measurement],
    name: str,
    label: str,
    function: Callable[[Tensor], Tensor],
    whole: Tensor,
    left_out: list[Tensor] | None,
    num: int,
    low: float,
    high: float,
    better: Any,
    baseline: dict[str, float],
) -> None:
    value = float(function(whole))
    values = None if left_out is None else [float(function(each)) for each in left_out]
    found[name] = Measurement(
        name=name,
        value=value,
        interval=None if values is None else _jackknife.interval(value, values, num, low=low, high=high),
        baseline=baseline,
        num=num,
        settings={"normalize": False, "interval": JACKKNIFE if left_out else None},
        better=better,
        label=label,
    )


def add_lidar(found: dict[str, Measurement], notes: list[str], x_ND: Tensor, y_ND: Tensor) -> None:
    """LiDAR of two views of each sample."""
    num, dim = x_ND.shape
    if dim > _WIDEST:
        notes.append(f"lidar left out: more than {_WIDEST} dimensions; call lidar(...) for it.")
        return
    value = _lidar.lidar_of(torch.stack([x_ND, y_ND], dim=1), _lidar.DELTA)
    if value is None:
        notes.append("lidar left out: the means of the pairs do not differ.")
        return
    found["lidar"] = Measurement(
        name="lidar",
        value=value,
        baseline={"all directions": min(num - 1.0, float(dim))},
        num=num,
        settings={"normalize": False, "delta": _lidar.DELTA, "views": 2, "interval": None},
        better="higher",
        label="LiDAR",
    )
