"""Rows that are too many to hold: one pass over them gives every number but those of classes and groups.

The pass goes unit by unit, and what it adds up is added in the order of the units: neither the budget nor the
kind of file changes a bit of the numbers.

Shapes: N rows, D dimensions, S rows of the random subset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from spherometer import _checks, _measurements, pairs, sphere
from spherometer._checks import Features, NanPolicy
from spherometer._told import Asked, Told, chosen_rows, size_of
from spherometer.errors import InputError, NotOnSphereError, ShapeError
from spherometer.metrics._alignment import pair_distances
from spherometer.metrics._spectrum_slopes import directions_above
from spherometer.metrics._streamed_spectrum import Grams, matrices_of
from spherometer.rows import BUDGET, UNIT, RowSource, unit_blocks

EXACT_ROWS = 20_000  # up to here rows are measured as arrays are, and as many make a random subset
_WANTED = BUDGET // 4  # bytes of the rows that an estimate wants, where the budget does not ask for less
_PAIRS = "blocks of random pairs: Student's t on their variance, and the variance of drawing the rows"


def check_sides(sources: Sequence[RowSource]) -> None:
    """Refuse sides of pairs that do not match."""
    first, *others = sources
    _checks.enough_rows("measure", first.name, first.shape[0], 2)
    for other in others:
        if other.shape != first.shape:
            _checks.refuse(
                ShapeError, "measure", other.name, f"have the same shape as {first.name}",
                "row i of one belongs to row i of the other", f"{first.shape} and {other.shape}",
                "Pass two sides of the same pairs",
            )  # fmt: skip


def held(sources: Sequence[RowSource], budget: int) -> bool:
    """Whether rows are few enough to be measured as arrays, and fit: as read, on the sphere, and in work."""
    num, dim = sources[0].shape
    return num <= EXACT_ROWS and 4 * len(sources) * num * dim * size_of(sources) <= budget


class _Mean:
    """Mean and sum of squared deviations of numbers that come in parts."""

    def __init__(self) -> None:
        self.num, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: Tensor) -> None:
        if not len(values):
            return
        num, mean = len(values), float(values.mean())
        apart, total = mean - self.mean, self.num + num
        self.squares += float((values - mean).square().sum()) + apart * apart * self.num * num / total
        self.mean += apart * num / total
        self.num = total

    @property
    def deviation(self) -> float:
        return math.sqrt(self.squares / (self.num - 1)) if self.num > 1 else 0.0


class _Faults:
    """Rows that cannot be measured, counted over the whole set before they are refused together."""

    def __init__(self, name: str, num: int) -> None:
        self.name, self.num = name, num
        self.counts = {"nan": 0, "zero": 0}
        self.first = {"nan": 0, "zero": 0}
        self.worst, self.worst_row = 0.0, 0

    def count(self, kind: str, start: int, bad: Tensor) -> None:
        if number := int(bad.sum()):
            if not self.counts[kind]:
                self.first[kind] = start + int(bad.nonzero()[0])
            self.counts[kind] += number

    def refuse(self, nan: NanPolicy, dtype: torch.dtype) -> None:
        if nan == "refuse" and self.counts["nan"]:
            _checks.refuse(
                InputError, "measure", self.name, "be finite",
                "NaN or infinity in one row spoils every pair with it",
                f"{self.counts['nan']} of {self.num} rows with NaN or infinity, the first is row "
                f"{self.first['nan']}",
                'Remove them, or pass nan="drop" to leave them out',
            )  # fmt: skip
        if self.counts["zero"]:
            _checks.refuse(
                NotOnSphereError, "measure", self.name, "have no rows of zeros",
                "a zero vector has no direction on the sphere",
                f"{self.counts['zero']} of {self.num} rows of zeros, the first is row {self.first['zero']}",
                "Remove them, or look for dead units in the encoder",
            )  # fmt: skip
        if abs(self.worst) > (1e-2 if dtype in (torch.float16, torch.bfloat16) else 1e-4):
            _checks.refuse(
                NotOnSphereError, "measure", self.name, "have rows of length 1",
                "normalize=False says that they already lie on the unit sphere",
                f"length {1 + self.worst:.6g} in row {self.worst_row} (the worst of {self.num})",
                "Pass normalize=True, or normalise the rows first",
            )  # fmt: skip


class _Pass:
    """What is added up while the rows go by."""

    def __init__(self, sources: Sequence[RowSource], asked: Asked) -> None:
        self.sources, self.asked = sources, asked
        self.num, self.dim = sources[0].shape
        self.size = size_of(sources)
        self.dtype = torch.float64 if self.size == 8 else torch.float32
        self.faults = [_Faults(source.name, self.num) for source in sources]
        self.alignment, self.own = _Mean(), _Mean()
        self.kept = torch.ones(self.num, dtype=torch.bool)
        self.grams: list[Grams] | None = None
        share = asked.budget // 4
        self.with_spectra = 2 * matrices_of(self.num, self.dim) * self.dim**2 * 8 <= share
        self.plan: pairs.Plan | None = None
        if not asked.exact and self.num >= 1280:
            sides = len(sources)
            self.plan = pairs.estimate_plan(
                self.num, self.dim, seed=asked.seed, budget=min(_WANTED, share), sides=sides, size=self.size
            )
        wanted = 0 if self.plan is None else len(self.plan.wanted)
        self.picked = [torch.empty(wanted, self.dim, dtype=self.dtype) for _ in sources]
        most = min(EXACT_ROWS, max(2, share // (2 * len(sources) * self.dim * self.size)))
        self.positions = chosen_rows(self.num, most if asked.subset else 0, asked.seed)
        self.chosen = [torch.empty(len(self.positions), self.dim, dtype=self.dtype) for _ in sources]

    def run(self) -> None:
        blocks = [
            unit_blocks(source, self.asked.budget // (8 * len(self.sources))) for source in self.sources
        ]
        for parts in zip(*blocks, strict=True):
            start, rows = parts[0][0], [part[1].to(self.dtype) for part in parts]
            self._unit(start, rows)
            if self.asked.progress is not None:
                self.asked.progress(min(start + UNIT, self.num), self.num, "rows read")
        for source, faults in zip(self.sources, self.faults, strict=True):
            faults.refuse(self.asked.nan, getattr(torch, source.dtype))

    def _unit(self, start: int, rows: list[Tensor]) -> None:
        stop, asked = start + len(rows[0]), self.asked
        finite = [torch.isfinite(side).all(dim=1) for side in rows]
        for faults, mask in zip(self.faults, finite, strict=True):
            faults.count("nan", start, ~mask)
        keep = torch.stack(finite).all(dim=0)
        whole = bool(keep.all())
        if not whole:
            self.kept[start:stop] = keep
            rows = [torch.where(keep[:, None], side, 1.0) for side in rows]  # any direction: never looked at
        units = [sphere.normalize(side) for side in rows] if asked.normalize else rows
        for faults, side in zip(self.faults, rows, strict=True):
            if asked.normalize:
                faults.count("zero", start, (side == 0).all(dim=1))
                continue
            off = torch.linalg.vector_norm(side, dim=1, dtype=torch.float64) - 1
            off = torch.where(keep, off, 0.0)
            place = int(off.abs().argmax())
            if abs(float(off[place])) > abs(faults.worst):
                faults.worst, faults.worst_row = float(off[place]), start + place
        if len(rows) > 1:
            one, two = (side if whole else side[keep] for side in rows)
            self.alignment.add(pair_distances(one, two, asked.alpha, normalize=asked.normalize))
            squared = pair_distances(one, two, 2.0, normalize=asked.normalize)
            self.own.add((-asked.t * squared).exp())
        if self.with_spectra:
            if self.grams is None:
                self.grams = [Grams(self.num, side[keep].double().sum(dim=0) / max(int(keep.sum()), 1))
                              for side in (units[0], rows[0])]  # fmt: skip
            for grams, side in zip(self.grams, (units[0], rows[0]), strict=True):
                grams.add(start, side, None if whole else keep)
        if self.plan is not None:
            places, taken = self.plan.within(start, stop)
            for picked, side in zip(self.picked, units, strict=True):
                picked[places] = side[taken]
        low, high = torch.searchsorted(self.positions, torch.tensor([start, stop])).tolist()
        for chosen, side in zip(self.chosen, rows, strict=True):
            chosen[low:high] = side[self.positions[low:high] - start]


class _KeptRows:
    """The rows of a source that are not left out."""

    def __init__(self, source: RowSource, kept: Tensor) -> None:
        self._source, self._places = source, kept.nonzero()[:, 0]
        self.name, self.dtype = source.name, source.dtype
        self.shape = (len(self._places), source.shape[1])

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start:stop of those that stay."""
        places = self._places[start:stop]
        first = int(places[0])
        return self._source.read(first, int(places[-1]) + 1)[places - first]


def measure_rows(sources: Sequence[RowSource], asked: Asked) -> Told:
    """One pass over the rows of one side, or of both sides of pairs.

    Raises:
        InputError: rows that cannot be measured, with their number in the whole set.
    """
    passing = _Pass(sources, asked)
    passing.run()
    num, dim = int(passing.kept.sum()), passing.dim
    dropped = passing.num - num
    note = f" after {dropped} rows with NaN or infinity were dropped" if dropped else ""
    _checks.enough_rows("measure", sources[0].name, num, 2, note)
    told = Told(passing.num, num, kept=passing.kept)
    if len(sources) > 1:
        _measurements.add_alignment(
            told.found, told.notes, passing.alignment.mean, passing.alignment.deviation, num, dim,
            asked.alpha, normalize=asked.normalize,
        )  # fmt: skip
    if passing.plan is None:
        _add_exact(told, passing, asked)
    else:
        _add_estimates(told, passing, passing.plan, asked)
    _add_spectra(told, passing, asked)
    stays = passing.kept[passing.positions]
    told.positions = passing.positions[stays]
    told.sides = [
        Features(rows[stays], None, False, getattr(torch, source.dtype))
        for source, rows in zip(sources, passing.chosen, strict=True)
    ]
    told.units = [sphere.normalize(side.rows) if asked.normalize else side.rows for side in told.sides]
    return told


def _add_estimates(told: Told, passing: _Pass, plan: pairs.Plan, asked: Asked) -> None:
    keep, num, dim = passing.kept[plan.wanted], told.num, passing.dim

    def add(cross: Tensor | None, log_own: float | None) -> None:
        made = pairs.estimate(
            plan, passing.picked[0], asked.t, cross=cross, log_own=log_own, keep=keep, num=num
        )
        half = made.law_interval[1] - made.log_mean
        low, high = made.interval
        more = {
            "estimated": True,
            "num_draws": made.num_draws,
            "num_pairs": made.num_pairs,
            "seed": asked.seed,
            "error of the pairs alone": [low, high],
        }
        if cross is None:
            _measurements.add_uniformity(
                told.found, made.log_mean, half, num, dim, asked.t, normalize=asked.normalize,
                method=_PAIRS, more=more,
            )  # fmt: skip
        else:
            _measurements.add_cross_uniformity(
                told.found, min(made.log_mean, 0.0), half, num, dim, asked.t, normalize=asked.normalize,
                method=_PAIRS, more=more,
            )  # fmt: skip

    add(None, None)
    if len(passing.sources) > 1:
        add(passing.picked[1], math.log(passing.own.mean) if passing.own.mean > 0 else None)


def _add_exact(told: Told, passing: _Pass, asked: Asked) -> None:
    """All pairs, read from the files as they are needed."""
    sources: list[RowSource] = list(passing.sources)
    passing.picked = []
    if told.num < passing.num:
        sources = [_KeptRows(source, passing.kept) for source in sources]
    num, dim, show = told.num, passing.dim, asked.progress

    def progress(done: int, total: int) -> None:
        if show is not None:
            show(done, total, "blocks of pairs")

    share = asked.budget // 2
    moments = pairs.streamed_moments(
        sources[0], asked.t, scale=asked.normalize, budget=share, progress=progress
    )
    half = _measurements.Z * moments.standard_error if num >= 4 else None
    _measurements.add_uniformity(
        told.found, moments.log_mean, half, num, dim, asked.t, normalize=asked.normalize
    )
    if len(sources) > 1:
        logs = pairs.streamed_cross(
            sources[0], sources[1], asked.t, scale=asked.normalize, budget=share, progress=progress
        )
        value, half = _measurements.influence(*logs)
        _measurements.add_cross_uniformity(
            told.found, value, half, num, dim, asked.t, normalize=asked.normalize
        )


def _add_spectra(told: Told, passing: _Pass, asked: Asked) -> None:
    if passing.grams is None:
        told.spectrum_notes.append(
            f"Spectra left out: {passing.dim} x {passing.dim} matrices do not fit a quarter of the budget of "
            f"{asked.budget / 2**20:.0f} MiB."
        )
        return
    unit, rows = passing.grams
    norm = rows.norm()
    if not math.isfinite(norm):
        told.spectrum_notes.append(
            "Spectra left out: squares of the numbers exceed the floating-point range."
        )
        return
    centred = rows.singular_values(centred=True)
    spectra = _measurements.Spectra(
        unit.singular_values(centred=True),
        rows.singular_values(centred=False),
        centred,
        directions_above(centred[0], norm, told.num, torch.float32),
        rows.rests(),
    )
    _measurements.add_spectrum(
        told.spectra, told.spectrum_notes, spectra, told.num, passing.dim, normalize=asked.normalize
    )
