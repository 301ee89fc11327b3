"""One call that measures a set of features: every number with its interval and its baseline.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._bandwidth_curve import curve_of
from spherometer._checks import Features, NanPolicy
from spherometer._conditional import add_conditional, compared
from spherometer._density import LocalDensity
from spherometer._local_density import NEIGHBORS, add_density, add_neighbors, nearest_neighbors
from spherometer._results import Evaluation, Measurement
from spherometer.errors import InputError
from spherometer.metrics import _jackknife, _spectrum
from spherometer.metrics._alignment import pair_distances
from spherometer.metrics._labels import Labelled, class_codes
from spherometer.metrics._neighbors import class_tolerance

_Z = 1.959963984540054  # 97.5 % of the normal law
_U_STATISTIC = "exact variance of the U-statistic"
_MEAN = "standard error of the mean"
_ROWS = "jackknife over rows"
_JACKKNIFE = f"jackknife over {_jackknife.NUM_GROUPS} groups of rows"


def measure(
    x: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any] | None = None,
    *,
    labels: Any = None,
    metadata: Any = None,
    kernel: Any = None,
    bandwidth_curve: bool = False,
    t: float = 2.0,
    alpha: float = 2.0,
    k: int = 10,
    nan: NanPolicy = "refuse",
    normalize: bool = True,
) -> Evaluation:
    """Measure features: every metric that applies, each with interval, baseline and number of rows.

    Always: uniformity, normalized uniformity, Wasserstein uniformity, RankMe, effective rank,
    participation ratio. With ``y``: alignment and cross-uniformity. With ``metadata``: conditional
    uniformity, and with ``y`` conditional alignment. With ``labels``: relative local density (at temperature
    0.1), Calinski-Harabasz, neighbor purity, hubness and tolerance; ``e.local_density`` has more temperatures
    and numbers of neighbours, and a reading. What is undefined for this input is left out and a note says
    why.

    Args:
        x: [N, D] features, N >= 2. Uniformity, spectrum and labels describe this side.
        y: [N, D] the other side of positive pairs; row i belongs to row i of ``x``.
        labels: [N] classes of the rows; numbers or strings.
        metadata: what is known of the rows, as in ``conditional_alignment``: [N] or [N, K] numbers, or a
            mapping column -> N values.
        kernel: how meta-data are compared; None: ``kernels.kernel_for(metadata)``.
        bandwidth_curve: also repeat the conditional metrics over bandwidths, as ``e.bandwidth_curve``.
        t: sharpness of the Gaussian potential, > 0.
        alpha: power of the distance in alignment, > 0.
        k: number of neighbours of neighbor purity.
        nan: "refuse" rows with NaN or infinity (and missing labels or meta-data), or "drop" them; a note
            counts them.
        normalize: scale rows to length 1 for the metrics of the sphere; False says that they have length 1,
            and that is checked. RankMe, effective rank and participation ratio take rows as they are.

    Returns:
        An Evaluation: ``e["uniformity"].value``, ``.interval``, ``.baseline``; ``print(e)`` for a table.
        Intervals: the exact variance of the U-statistic for uniformity (None for N < 4), the standard error
        for alignment, the influence of each pair for cross-uniformity and of each row for conditional
        alignment, a jackknife over rows for conditional uniformity and neighbor purity, and over 20
        interleaved groups of rows for the rest (None for N < 40, or more than 512 directions; that of
        relative local density is None for N > 2048, where ``local_density(x, labels, interval=True)`` makes
        it). They say how much the value would vary with other rows drawn in the same way.

    Raises:
        InputError: as the metrics raise it.

    Cost: O(N^2 D) time, O(N D) memory; one pass over the pairs of ``x``, one over those of ``x`` and ``y``;
    with labels four more, and for the intervals of up to 2048 rows the work of 54; with meta-data a few more,
    for the curve about a hundred.

    Source: the metrics' own; uniformity's interval is the unbiased variance of a U-statistic of degree 2.

    Example:
        >>> import torch
        >>> z = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
        >>> e = measure(z)
        >>> low, high = e["uniformity"].interval
        >>> low < e["uniformity"].baseline["uniform law"] < high
        True
    """
    t, alpha = _number("t", t), _number("alpha", alpha)
    _checks.whole("measure", "k", k)
    names, values = (("x",), (x,)) if y is None else (("x", "y"), (x, y))
    sides = _checks.feature_set("measure", names, values, min_rows=2, nan=nan)
    first = sides[0]
    if metadata is None and (kernel is not None or bandwidth_curve):
        _checks.refuse(
            InputError, "measure", "metadata", "be given with a kernel or a bandwidth curve",
            "a kernel compares meta-data", "None", "Pass for instance metadata={'age': ages}",
        )  # fmt: skip
    codes = None if labels is None else _codes(first, labels, nan)
    with torch.no_grad():
        units = [
            sphere.unit_rows("measure", name, side, scale=normalize)
            for name, side in zip(names, sides, strict=True)
        ]
        found: dict[str, Measurement] = {}
        notes = _dropped(sides, codes)
        if y is not None:
            _add_alignment(found, notes, sides, alpha, normalize=normalize)
        _add_uniformity(found, units[0], t, normalize=normalize)
        if y is not None:
            _add_cross_uniformity(found, units, t, normalize=normalize)
        curve = None
        if metadata is not None:
            rows = compared("measure", sides, units, metadata, kernel, nan)
            add_conditional(found, notes, rows, alpha=alpha, t=t, normalize=normalize)
            curve = curve_of(rows, alpha=alpha, t=t, normalize=normalize) if bandwidth_curve else None
        _add_spectrum(found, notes, first.rows, units[0], normalize=normalize)
        density = None
        if codes is not None:
            given = _labelled(first, units[0], labels, *codes)
            density = _add_labels(found, notes, given, k, normalize=normalize)
    return Evaluation(found, notes=tuple(notes), bandwidth_curve=curve, local_density=density)


def _number(name: str, value: Any) -> float:
    _checks.positive("measure", name, value)
    return float(value)


def _codes(first: Features, labels: Any, nan: NanPolicy) -> tuple[Tensor, Tensor]:
    """Class codes of the kept rows, and which of them have a label."""
    num = len(first.rows) if first.kept is None else len(first.kept)
    codes, there = class_codes("measure", labels, num, nan)
    if first.kept is not None:
        kept = first.kept.cpu()
        codes, there = codes[kept], there[kept]
    return codes.to(first.rows.device), there.to(first.rows.device)


def _labelled(first: Features, unit_ND: Tensor, labels: Any, codes: Tensor, there: Tensor) -> Labelled:
    """The kept rows that have a label."""
    places = torch.arange(len(unit_ND)) if first.kept is None else first.kept.cpu().nonzero()[:, 0]
    return Labelled.of(unit_ND[there], codes[there], labels, places[there.cpu()])


def _dropped(sides: list[Features], codes: tuple[Tensor, Tensor] | None) -> list[str]:
    notes = []
    if num := sides[0].num_dropped:
        what = "pairs" if len(sides) > 1 else "rows"
        notes.append(f"{num} {what} with NaN or infinity dropped, {len(sides[0].rows)} kept.")
    if codes is not None and not bool(codes[1].all()):
        notes.append(f"{int((~codes[1]).sum())} rows without a label left out of the label metrics.")
    return notes


def _expected_alignment(dim: int, alpha: float) -> float:
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


def _mean_interval(samples: Tensor, low: float, high: float) -> tuple[float, float] | None:
    if len(samples) < 2:
        return None
    half = _Z * float(samples.std()) / math.sqrt(len(samples))
    return max(float(samples.mean()) - half, low), min(float(samples.mean()) + half, high)


def _add_alignment(
    found: dict[str, Measurement], notes: list[str], sides: list[Features], alpha: float, *, normalize: bool
) -> None:
    samples = pair_distances(sides[0].rows, sides[1].rows, alpha, normalize=normalize)
    value, unrelated = float(samples.mean()), _expected_alignment(sides[0].rows.shape[1], alpha)
    if not math.isfinite(value * value) or not math.isfinite(unrelated):
        notes.append(f"alignment left out: distances to the power {alpha:g} exceed the floating-point range.")
        return
    found["alignment"] = Measurement(
        name="alignment",
        value=value,
        interval=_mean_interval(samples, 0.0, math.inf),
        baseline={"unrelated pairs": unrelated, "identical pairs": 0.0},
        num=len(samples),
        settings={"alpha": alpha, "normalize": normalize, "interval": _MEAN},
        better="lower",
        label=f"Alignment (alpha = {alpha:g})",
    )


def _add_uniformity(found: dict[str, Measurement], unit_ND: Tensor, t: float, *, normalize: bool) -> None:
    num, dim = unit_ND.shape
    moments = pairs.gaussian_moments(unit_ND, t)
    value, expected = moments.log_mean, sphere.expected_uniformity(dim, t)
    interval = None
    if num >= 4:
        half = _Z * moments.standard_error
        interval = (max(value - half, min(value, -4 * t)), min(value + half, max(value, 0.0)))
    exact = dim <= 2 or num <= dim + 1 or num == 2 * dim
    settings = {
        "t": t,
        "estimator": "u",
        "normalize": normalize,
        "interval": _U_STATISTIC if interval else None,
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


def _add_cross_uniformity(
    found: dict[str, Measurement], units: list[Tensor], t: float, *, normalize: bool
) -> None:
    # two more columns turn the inner product into -|x - y|^2 / 2, so row and column sums come from one pass
    x, y = (unit.to(torch.float64) for unit in units)
    x_half, y_half = (-0.5 * side.square().sum(dim=1, keepdim=True) for side in (x, y))
    left = torch.cat([x, x_half, torch.ones_like(x_half)], dim=1).to(units[0].dtype)
    right = torch.cat([y, torch.ones_like(y_half), y_half], dim=1).to(units[0].dtype)
    rows, columns = pairs.masked_logsumexp(left, right, 2 * t, ())
    num = len(rows)
    log_total = float(torch.logsumexp(rows, 0))
    value = min(log_total - 2 * math.log(num), 0.0)
    # share of a row's and its partner's pairs in the total, against the average share
    shares = num * ((rows - log_total).exp() + (columns - log_total).exp())
    half = _Z * float(shares.std()) / math.sqrt(num)
    found["cross_uniformity"] = Measurement(
        name="cross_uniformity",
        value=value,
        interval=(max(value - half, min(value, -4 * t)), min(value + half, 0.0)) if num >= 4 else None,
        baseline={"uniform law": sphere.expected_uniformity(units[0].shape[1], t)},
        num=num,
        settings={"t": t, "normalize": normalize, "interval": "influence of each pair on the mean"},
        better=None,
        label=f"Cross-uniformity (t = {t:g})",
    )


def _add_spectrum(
    found: dict[str, Measurement], notes: list[str], rows_ND: Tensor, unit_ND: Tensor, *, normalize: bool
) -> None:
    num, dim = rows_ND.shape
    rest = num - num // _jackknife.NUM_GROUPS
    directions = float(min(num, dim))

    def spectra(rows: Tensor, exponent: int, *, centred: bool) -> tuple[Tensor, list[Tensor] | None]:
        """Singular values of all rows, and without each group."""
        left_out = _jackknife.left_out_singular_values(rows, centred=centred, exponent=exponent)
        return _spectrum.singular_values(rows, centred=centred, exponent=exponent), left_out

    def wasserstein(singular_K: Tensor, num_rows: float = rest) -> Tensor:
        return _spectrum.wasserstein_of(singular_K, num_rows, dim)

    scale = _spectrum.exponent_of(rows_ND)
    whole, left_out = spectra(unit_ND, 0, centred=True)
    value = float(wasserstein(whole, num))
    found["wasserstein_uniformity"] = Measurement(
        name="wasserstein_uniformity",
        value=value,
        interval=_jackknife_interval(wasserstein, value, left_out, num, high=math.sqrt(2)),
        baseline={"uniform law, this n": _expected_wasserstein(num, dim), "one point": math.sqrt(2)},
        num=num,
        settings={"normalize": normalize, "interval": _JACKKNIFE if left_out else None},
        better="lower",
        label="Wasserstein uniformity",
    )
    plain = spectra(rows_ND, scale, centred=False)
    centred = spectra(rows_ND, scale, centred=True)
    for name, label, function, (whole, left_out), most in (
        ("rankme", "RankMe", _spectrum.rankme_of, plain, directions),
        ("effective_rank", "Effective rank", _spectrum.effective_rank_of, plain, directions),
        (
            "participation_ratio",
            "Participation ratio",
            _spectrum.participation_ratio_of,
            centred,
            min(num - 1.0, directions),
        ),
    ):
        if float(whole[0]) == 0:
            notes.append(f"{name} left out: all rows are identical, there is no variance to share.")
            continue
        value = float(function(whole))
        found[name] = Measurement(
            name=name,
            value=value,
            interval=_jackknife_interval(function, value, left_out, num, low=1.0, high=most),
            baseline={"all directions": most},
            num=num,
            settings={"normalize": False, "interval": _JACKKNIFE if left_out else None},
            better="higher",
            label=label,
        )


def _jackknife_interval(
    function: Callable[[Tensor], Tensor],
    value: float,
    left_out: list[Tensor] | None,
    num: int,
    *,
    low: float = 0.0,
    high: float,
) -> tuple[float, float] | None:
    if left_out is None:
        return None
    values = [float(function(each)) for each in left_out]
    return _jackknife.interval(value, values, num, low=low, high=high)


def _add_labels(
    found: dict[str, Measurement], notes: list[str], given: Labelled, k: int, *, normalize: bool
) -> LocalDensity | None:
    """Measurements of classes; returns how densely they lie."""
    neighbors = nearest_neighbors("measure", given, sorted({k, *NEIGHBORS}))
    density = add_density(found, notes, given, neighbors, normalize=normalize)
    add_neighbors(found, notes, given, neighbors, k, normalize=normalize)
    rows, codes, num = given.rows, given.codes, len(given)
    if not num or max(given.sizes()) < 2:
        notes.append("tolerance left out: no class has two rows.")
        return density
    value = float(class_tolerance(rows, codes))
    interval = None
    if num >= 2 * _jackknife.NUM_GROUPS:
        group = _jackknife.group_of_rows(num).to(rows.device)
        kept = [group != left for left in range(_jackknife.NUM_GROUPS)]
        values = [float(class_tolerance(rows[each], codes[each])) for each in kept]
        interval = _jackknife.interval(value, values, num, low=-1.0, high=1.0)
    everyone = float(class_tolerance(rows, torch.zeros_like(codes)))
    found["tolerance"] = Measurement(
        name="tolerance",
        value=value,
        interval=interval,
        baseline={"unrelated labels": everyone},
        num=num,
        settings={"normalize": normalize, "interval": _JACKKNIFE if interval else None},
        better=None,
        label="Tolerance",
    )
    return density
