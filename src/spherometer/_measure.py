"""One call that measures a set of features: every number with its interval and its baseline.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, _measurements, pairs, sphere
from spherometer._bandwidth_curve import curve_of
from spherometer._checks import Features, NanPolicy
from spherometer._conditional import add_conditional, compared
from spherometer._curve import BandwidthCurve
from spherometer._density import LocalDensity
from spherometer._local_density import NEIGHBORS, add_density, add_neighbors, nearest_neighbors
from spherometer._measure_rows import check_sides, held, measure_rows
from spherometer._results import Evaluation, Measurement
from spherometer._told import Asked, Progress, Told, all_of, provenance_of, stored_of
from spherometer.errors import InputError
from spherometer.metrics import _jackknife
from spherometer.metrics._alignment import pair_distances
from spherometer.metrics._labels import Labelled, class_codes
from spherometer.metrics._neighbors import class_tolerance
from spherometer.rows import BUDGET, Embeddings, RowSource, is_stored


def measure(
    x: Tensor | NDArray[Any] | str | PathLike[str] | RowSource | Embeddings,
    y: Tensor | NDArray[Any] | str | PathLike[str] | RowSource | Embeddings | None = None,
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
    exact: bool = False,
    budget: int = BUDGET,
    seed: int = 0,
    progress: Progress | None = None,
    portrait: bool = False,
) -> Evaluation:
    """Measure features: every metric that applies, each with interval, baseline and number of rows.

    Always: uniformity, normalized uniformity, Wasserstein uniformity, RankMe, effective rank,
    participation ratio, alpha-ReQ, IsoScore. With ``y``: alignment, cross-uniformity and LiDAR (the two sides
    as views, without interval). With ``metadata``: conditional
    uniformity, and with ``y`` conditional alignment. With ``labels``: relative local density (at temperature
    0.1), Calinski-Harabasz, neighbor purity, hubness and tolerance; ``e.local_density`` has more temperatures
    and numbers of neighbours, and a reading. What is undefined for this input is left out and a note says
    why.

    Args:
        x: [N, D] features, N >= 2: an array, a path, or what ``spherometer.open`` returned (with its other
            side, labels and meta-data). Uniformity, spectrum and labels describe this side.
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
            and that is checked. RankMe, effective rank, participation ratio, alpha-ReQ, IsoScore and LiDAR
            take rows as they are.
        exact: for files of more than 20 000 rows: all pairs for uniformity and cross-uniformity, read as
            they are needed, instead of an estimate. In a process group the processes share the pairs.
        budget: bytes for rows in memory. The same numbers for any budget, but where it is too small for the
            rows of the estimate or for a spectrum (fewer draws, or left out with a note).
        seed: of the estimate's random pairs and of the random subset.
        progress: called with (done, all, what) while a large file is read.
        portrait: also say what the rows look like, as ``e.portrait``: what a page draws.

    Files of more than 20 000 rows are read once. Alignment and spectra are those of all rows. Uniformity and
    cross-uniformity are estimated from 64 random blocks of 256 x 1024 pairs; their intervals hold the error
    of drawing pairs and of drawing rows, the settings the first alone. What needs neighbours, groups or both
    sides of pairs at once (labels, meta-data, LiDAR, portrait) is of a random subset of 20 000 rows (fewer
    where they do not fit), which the settings say. The numbers are the same for any format of the file.

    Returns:
        An Evaluation: ``e["uniformity"].value``, ``.interval``, ``.baseline``; ``print(e)`` for a table.
        Intervals: the exact variance of the U-statistic for uniformity (None for N < 4), the standard error
        for alignment, the influence of each pair for cross-uniformity and of each row for conditional
        alignment, a jackknife over rows for conditional uniformity and neighbor purity, and over 20
        interleaved groups of rows for the rest (None for N < 40, or more than 768 directions; that of
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
    asked = Asked(
        _number("t", t), _number("alpha", alpha), nan, normalize, exact, budget, seed, progress,
        labels is not None or metadata is not None or y is not None or portrait,
    )  # fmt: skip
    _checks.whole("measure", "k", k)
    _checks.whole("measure", "budget", budget, at_least=1 << 20)
    _checks.whole("measure", "seed", seed, at_least=0)
    stored = stored_of(x, y, labels, metadata) if is_stored(x) or is_stored(y) else None
    if stored is not None:
        labels, metadata = stored.labels, stored.metadata
        asked = replace(asked, subset=asked.subset or not (labels is None is metadata is stored.other))
    if metadata is None and (kernel is not None or bandwidth_curve):
        _checks.refuse(
            InputError, "measure", "metadata", "be given with a kernel or a bandwidth curve",
            "a kernel compares meta-data", "None", "Pass for instance metadata={'age': ages}",
        )  # fmt: skip
    with torch.no_grad():
        told = _in_memory(x, y, asked) if stored is None else _from_store(stored, asked)
        labels, metadata, ids = (
            told.at(name, values)
            for name, values in (
                ("labels", labels), ("metadata", metadata), ("ids", stored and stored.ids),
            )
        )  # fmt: skip
        sides, found = told.sides, told.found
        codes = None if labels is None else _codes(sides[0], labels, nan)
        notes = [*_dropped(told, codes), *told.notes]
        curve: BandwidthCurve | None = None
        density: LocalDensity | None = None
        whole = set(found) | set(told.spectra)
        if metadata is not None:
            rows = compared("measure", sides, told.units, metadata, kernel, nan)
            add_conditional(found, notes, rows, alpha=asked.alpha, t=asked.t, normalize=normalize)
            curve = (
                curve_of(rows, alpha=asked.alpha, t=asked.t, normalize=normalize) if bandwidth_curve else None
            )
        found.update(told.spectra)
        notes += told.spectrum_notes
        if len(sides) > 1:
            _measurements.add_lidar(found, notes, sides[0].rows, sides[1].rows)
        if codes is not None:
            given = _labelled(sides[0], told.units[0], labels, *codes)
            density = _add_labels(found, notes, given, k, normalize=normalize)
        told.say_subset(set(found) - whole, asked.seed)
        drawn = told.portrait(ids, labels, metadata, asked) if portrait else None
    provenance = None
    if stored is not None:
        notes += stored.notes
        provenance = provenance_of(stored, asked)
    return Evaluation(
        found, notes=tuple(notes), bandwidth_curve=curve, local_density=density, portrait=drawn,
        provenance=provenance,
    )  # fmt: skip


def _in_memory(x: Any, y: Any, asked: Asked) -> Told:
    """All numbers of all rows of arrays, but those of classes and meta-data."""
    names, values = (("x",), (x,)) if y is None else (("x", "y"), (x, y))
    sides = _checks.feature_set("measure", names, values, min_rows=2, nan=asked.nan)
    return _all_rows(names, sides, asked)


def _from_store(stored: Embeddings, asked: Asked) -> Told:
    """The same of rows that are read: of all at once where they are few, else of those that pass by."""
    sources = [stored.rows] if stored.other is None else [stored.rows, stored.other]
    check_sides(sources)
    if not held(sources, asked.budget):
        # before the rows are read: a label may be missing outside the random subset
        there = None if stored.labels is None else _labels_of(stored, asked.nan)
        told = measure_rows(sources, asked)
        if there is not None and told.kept is not None:
            told.unlabelled = int((told.kept & ~there).sum())
        return told
    names = [source.name for source in sources]
    sides = _checks.feature_set("measure", names, all_of(sources), min_rows=2, nan=asked.nan)
    sides = [
        replace(side, dtype=getattr(torch, source.dtype)) for side, source in zip(sides, sources, strict=True)
    ]
    return _all_rows(names, sides, asked)


def _labels_of(stored: Embeddings, nan: NanPolicy) -> Tensor:
    """Which of all rows have a label."""
    return class_codes("measure", stored.labels, len(stored), nan)[1]


def _all_rows(names: Sequence[str], sides: list[Features], asked: Asked) -> Told:
    units = [
        sphere.unit_rows("measure", name, side, scale=asked.normalize)
        for name, side in zip(names, sides, strict=True)
    ]
    num, dim = sides[0].rows.shape
    told = Told(num + sides[0].num_dropped, num, sides, units)
    if len(sides) > 1:
        _add_alignment(told.found, told.notes, sides, asked.alpha, normalize=asked.normalize)
    _add_uniformity(told.found, units[0], asked.t, normalize=asked.normalize)
    if len(sides) > 1:
        _add_cross_uniformity(told.found, units, asked.t, normalize=asked.normalize)
    spectra = _measurements.spectra_of(sides[0].rows, units[0])
    _measurements.add_spectrum(
        told.spectra, told.spectrum_notes, spectra, num, dim, normalize=asked.normalize
    )
    return told


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


def _dropped(told: Told, codes: tuple[Tensor, Tensor] | None) -> list[str]:
    notes = []
    if num := told.num_before - told.num:
        what = "pairs" if len(told.sides) > 1 else "rows"
        notes.append(f"{num} {what} with NaN or infinity dropped, {told.num} kept.")
    if codes is not None:
        missing = int((~codes[1]).sum()) if told.unlabelled is None else told.unlabelled
        if missing:
            notes.append(f"{missing} rows without a label left out of the label metrics.")
    return notes


def _add_alignment(
    found: dict[str, Measurement], notes: list[str], sides: list[Features], alpha: float, *, normalize: bool
) -> None:
    samples = pair_distances(sides[0].rows, sides[1].rows, alpha, normalize=normalize)
    deviation = float(samples.std()) if len(samples) > 1 else 0.0
    mean, dim = float(samples.mean()), sides[0].rows.shape[1]
    _measurements.add_alignment(found, notes, mean, deviation, len(samples), dim, alpha, normalize=normalize)


def _add_uniformity(found: dict[str, Measurement], unit_ND: Tensor, t: float, *, normalize: bool) -> None:
    moments, num = pairs.gaussian_moments(unit_ND, t), len(unit_ND)
    half = _measurements.Z * moments.standard_error if num >= 4 else None
    _measurements.add_uniformity(found, moments.log_mean, half, num, unit_ND.shape[1], t, normalize=normalize)


def _add_cross_uniformity(
    found: dict[str, Measurement], units: list[Tensor], t: float, *, normalize: bool
) -> None:
    # two more columns turn the inner product into -|x - y|^2 / 2, so row and column sums come from one pass
    x, y = (unit.to(torch.float64) for unit in units)
    x_half, y_half = (-0.5 * side.square().sum(dim=1, keepdim=True) for side in (x, y))
    left = torch.cat([x, x_half, torch.ones_like(x_half)], dim=1).to(units[0].dtype)
    right = torch.cat([y, torch.ones_like(y_half), y_half], dim=1).to(units[0].dtype)
    value, half = _measurements.influence(*pairs.masked_logsumexp(left, right, 2 * t, ()))
    num, dim = units[0].shape
    _measurements.add_cross_uniformity(found, value, half, num, dim, t, normalize=normalize)


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
        settings={"normalize": normalize, "interval": _measurements.JACKKNIFE if interval else None},
        better=None,
        label="Tolerance",
    )
    return density
