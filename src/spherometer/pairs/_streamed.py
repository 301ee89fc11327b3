r"""All pairs of a set that is not in memory, exactly: panels of units of rows, read as they are needed.

A panel pairs one unit of 4096 rows with another. Units are walked in stripes, as many as the memory holds:
every later unit is read once for each stripe and meets all units of the stripe. Whatever the height of the
stripes, each unit meets its partners in ascending order, and the sums over the later partners and over the
earlier ones are kept apart: so the sums are added in one order, and memory changes no bit.

In a group of processes every unit of a stripe belongs to one process, which takes its panels. What these
add to the later units is exchanged and added by all in the same order: no bit changes there either.

Shapes: N, M rows, D dimensions, P units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer import _checks, sphere
from spherometer.errors import InputError
from spherometer.pairs._gaussian import Widened, exponent_range, refuse_few, widen
from spherometer.pairs._moments import RANGE, GaussianMoments, add_moments
from spherometer.pairs._processes import Group, Processes
from spherometer.pairs._tiles import Walk, full_precision
from spherometer.rows import BUDGET, UNIT, RowSource, units

Progress = Callable[[int, int], None]
_EXCHANGED = 1 << 25  # bytes of column sums that are exchanged at once
_RESERVED = 12 << 20  # bytes for tiles, the GEMM and what is small
_PART = 512  # rows that are scaled and centred at a time


@torch.no_grad()
def streamed_moments(
    source: RowSource,
    t: float,
    *,
    scale: bool = True,
    budget: int = BUDGET,
    progress: Progress | None = None,
    processes: Processes = "auto",
) -> GaussianMoments:
    r"""Row sums, total and sum of squares of exp(-t \|x_i - x_j\|^2) over i != j, read from anywhere.

    Args:
        source: N >= 2 finite rows.
        t: sharpness > 0.
        scale: scale the rows to length 1 first; False: they are taken as they are.
        budget: bytes for the rows and sums that are kept; less of it means more reading, and the same result.
        progress: called with the panels done and all panels (of this process).
        processes: "auto": the processes of the default group share the work, and all return the same; every
            one must call this with the same rows. False: this process alone.

    Returns:
        What ``gaussian_moments`` gives for the same rows in memory, to 1e-12 in float64 and 1e-6 in float32;
        the same to the last bit for any ``budget`` and any number of processes.

    Raises:
        InputError: NaN, infinity or (with ``scale``) a row of zeros; other rows or settings on another
            process; a file that cannot be read or has changed. All processes raise, none waits.

    Cost: N^2 D / 2 time. 16 N bytes and what the budget says; the rows are read once for their mean, and
    about N D size / (2 budget) + 1 times for the pairs.
    """
    if source.shape[0] < 2:
        refuse_few("streamed_moments", source.shape[0])
    walked = _Walk("streamed_moments", [source], float(t), scale, budget, progress, processes)
    later, earlier = walked.sums()
    shift = max(later.shifts + earlier.shifts)
    rows = later.scaled(shift).add_(earlier.scaled(shift))
    squares = later.scaled_squares(shift)
    return GaussianMoments(len(rows), shift, float(rows.sum()), squares, rows)


@torch.no_grad()
def streamed_cross(
    x: RowSource,
    y: RowSource,
    t: float,
    *,
    scale: bool = True,
    budget: int = BUDGET,
    progress: Progress | None = None,
    processes: Processes = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Logs of the sums over j and over i of exp(-t \|x_i - y_j\|^2), partners included.

    Args:
        x: N >= 1 finite rows.
        y: M >= 1 finite rows of the same D.
        t: sharpness > 0.
        scale: scale the rows to length 1 first.
        budget: bytes for the rows and sums that are kept.
        progress: called with the panels done and all panels (of this process).
        processes: as in ``streamed_moments``.

    Returns:
        [N] and [M] float64; their log-sum-exps are equal, and less log(N M) the cross-uniformity. The same to
        the last bit for any ``budget`` and any number of processes. A row whose sum is less than
        e^-600 of the largest one may be lost (-inf): at a ``t`` beyond 75 on the sphere.

    Raises:
        InputError: as ``streamed_moments``.

    Cost: N M D time.
    """
    if not x.shape[0] or not y.shape[0]:
        refuse_few("streamed_cross", 0, 1)
    if x.shape[1] != y.shape[1]:
        _checks.refuse(
            InputError, "streamed_cross", "y", "have as many columns as x", "distances go between them",
            f"{y.shape[1]} columns, x has {x.shape[1]}", "Compare features of one encoder",
        )  # fmt: skip
    walked = _Walk("streamed_cross", [x, y], float(t), scale, budget, progress, processes)
    later, earlier = walked.sums()
    return later.logs(), earlier.logs()


class _Sums:
    """Sums for every row, each unit of rows scaled by the exponential of a shift of its own."""

    def __init__(self, num: int) -> None:
        self.values = torch.zeros(num, dtype=torch.float64)
        self.shifts = [-math.inf for _ in units(num)]
        self.squares = torch.zeros(len(self.shifts), dtype=torch.float64)

    def add(self, unit: int, shift: float, values: Tensor, squares: float = 0.0) -> None:
        """Add the sums of one panel to a unit."""
        if shift == -math.inf:
            return
        kept = self.values[unit * UNIT : (unit + 1) * UNIT]
        if shift > self.shifts[unit]:
            fade = math.exp(self.shifts[unit] - shift)
            kept.mul_(fade)
            self.squares[unit] *= fade * fade
            self.shifts[unit] = shift
        elif shift < self.shifts[unit]:
            fade = math.exp(shift - self.shifts[unit])
            values, squares = values * fade, squares * fade * fade
        kept.add_(values)
        self.squares[unit] += squares

    def _fades(self, shift: float) -> Tensor:
        return (torch.tensor(self.shifts, dtype=torch.float64) - shift).exp()

    def scaled(self, shift: float) -> Tensor:
        """The sums [N], all scaled by exp(-shift)."""
        return self.values * self._fades(shift).repeat_interleave(UNIT)[: len(self.values)]

    def scaled_squares(self, shift: float) -> float:
        """The sum of squares, scaled by exp(-2 shift)."""
        return float((self.squares * self._fades(shift).square()).sum())

    def logs(self) -> Tensor:
        """Log of the sums [N]."""
        shifts = torch.tensor(self.shifts, dtype=torch.float64)
        return self.values.log() + shifts.repeat_interleave(UNIT)[: len(self.values)]


@dataclass(frozen=True, eq=False)
class _Panel:
    """Sums of the panel of two units, scaled by exp(-shift)."""

    one: int
    unit: int
    shift: float
    rows: Tensor
    columns: Tensor
    squares: float


class _Side:
    """A source as units of centred rows in the form the GEMM wants."""

    def __init__(self, function: str, name: str, source: RowSource, scale: bool) -> None:
        self.function, self.name, self.source, self.scale = function, name, source, scale
        self.num, self.dim = source.shape
        self.spans = list(units(self.num))

    def parts(self, unit: int) -> Iterator[tuple[int, Tensor]]:
        """One unit of rows, scaled where asked: the place in the unit and a part of it, again and again."""
        rows = self.source.read(*self.spans[unit])
        for start in range(0, len(rows), _PART):
            part = rows[start : start + _PART]
            yield start, sphere.normalize(part) if self.scale else part

    def survey(self) -> tuple[Tensor, float, float, float]:
        """Sum of the rows [D], largest length, and a number (with its size) that other rows would change."""
        total, longest = torch.zeros(self.dim, dtype=torch.float64), 0.0
        mark = size = 0.0
        ramp = torch.arange(1, self.dim + 1, dtype=torch.float64)
        for unit, (first, _) in enumerate(self.spans):
            for place, part in self.parts(unit):
                rows, start = part.double(), first + place
                lengths = torch.linalg.vector_norm(rows, dim=1)
                if not math.isfinite(float(lengths.sum())) or (self.scale and not float(lengths.min()) > 0):
                    self._refuse(start, lengths)
                total += rows.sum(dim=0)
                longest = max(longest, float(lengths.max()))
                marks = (rows @ ramp) * torch.arange(start + 1, start + len(rows) + 1, dtype=torch.float64)
                mark, size = mark + float(marks.sum()), size + float(marks.abs().sum())
        return total, longest, mark, size

    def _refuse(self, start: int, lengths: Tensor) -> None:
        spoiled = ~torch.isfinite(lengths)
        bad = int((spoiled | (lengths == 0) if self.scale else spoiled).nonzero()[0])
        zero = float(lengths[bad]) == 0
        _checks.refuse(
            InputError, self.function, self.name,
            "have no row of zeros" if zero else "be finite",
            "zeros have no direction" if zero else "NaN or infinity in one row spoils every pair with it",
            f"such a row at {start + bad} of {self.source.name}", "Leave it out",
        )  # fmt: skip


class _Walk:
    """The panels of one set, or of one set with another, and what this process does of them."""

    def __init__(
        self,
        function: str,
        sources: Sequence[RowSource],
        t: float,
        scale: bool,
        budget: int,
        progress: Progress | None,
        processes: Processes,
    ) -> None:
        self.t, self.progress = t, progress
        self.sides = [_Side(function, *given, scale) for given in zip("xy", sources, strict=False)]
        self.symmetric = len(sources) == 1
        self.group = Group(function, processes)
        with self.group.failing_together():
            marks, sizes = self._survey()
        settings = [*(float(n) for side in self.sides for n in side.source.shape), self.t, float(scale)]
        self.group.refuse_other_rows(
            [*settings, float(self.online), float(self.dtype.itemsize)], marks, sizes
        )
        self.height = int(self.group.rows_of([self._height(budget)]).min())

    def _survey(self) -> tuple[list[float], list[float]]:
        """Look at all rows: centre, precision, and marks of the rows with their sizes."""
        surveys = [side.survey() for side in self.sides]
        means = [total / side.num for (total, *_), side in zip(surveys, self.sides, strict=True)]
        self.mean = torch.stack(means).mean(dim=0)
        double = any(side.source.dtype == "float64" for side in self.sides)
        self.dtype = torch.float64 if double else torch.float32
        longest = max(most for _, most, _, _ in surveys)
        far = 4 * self.t * (longest + float(self.mean.norm())) ** 2
        if not far <= RANGE[self.dtype]:  # a bound: look closer
            far = self._range()
            self.dtype = self.dtype if far <= RANGE[self.dtype] else torch.float64
        self.online = not far <= RANGE[self.dtype]
        self.centre = self.mean.to(self.dtype)
        return [mark for *_, mark, _ in surveys], [size for *_, size in surveys]

    def _range(self) -> float:
        """Bound of t d^2 over the pairs."""
        self.centre = self.mean.to(self.dtype)
        (memory,) = self._memory(1)
        most = [
            math.sqrt(
                max(exponent_range(self._widened(side, unit, memory)) for unit in range(len(side.spans)))
            )
            for side in self.sides
        ]  # twice the largest distance from the centre
        return ((most[0] + most[-1]) / 2) ** 2

    def _height(self, budget: int) -> int:
        """Units of a stripe that the budget holds, next to the sums and the unit that is read."""
        read = max(2 * UNIT * side.dim * (8 if side.source.dtype == "float64" else 4) for side in self.sides)
        left = budget - _RESERVED - _EXCHANGED * (self.group.world > 1) - read
        left -= 32 * sum(side.num for side in self.sides)
        size = UNIT * (self.sides[0].dim + 2) * self.dtype.itemsize
        return max(1, min(left // size - 1, len(self.sides[0].spans)))

    def _widened(self, side: _Side, unit: int, memory: Tensor) -> Widened:
        """One unit as factors of the GEMM, in ``memory`` [UNIT, D + 2]."""
        start, stop = side.spans[unit]
        z = memory[: stop - start]
        for place, part in side.parts(unit):
            widen(part.to(self.dtype), self.centre, self.t, out=z[place : place + len(part)])
        return Widened(z, self.t)

    def _memory(self, num: int) -> list[Tensor]:
        """Room for ``num`` units."""
        rows = min(UNIT, max(side.num for side in self.sides))
        return list(torch.empty(num, rows, self.sides[0].dim + 2, dtype=self.dtype))

    def sums(self) -> tuple[_Sums, _Sums]:
        """Sums of every row of the first set over later partners, and of the last set over earlier ones.

        Later: in its own unit or a later one; earlier: in an earlier unit. Where there are two sets, both
        are over all partners.
        """
        left, right = self.sides[0], self.sides[-1]
        later, earlier = _Sums(left.num), _Sums(right.num)
        count, others = len(left.spans), len(right.spans)
        mine = [unit for unit in range(count) if self.group.owner(unit) == self.group.rank]
        self.done, self.total = 0, sum(others - unit * self.symmetric for unit in mine)
        height = self.height * self.group.world
        memory = self._memory(min(self.height, len(mine)) + 1)
        for first in range(0, count, height):
            stripe = range(first, min(first + height, count))
            own = [unit for unit in mine if unit in stripe]
            kept: dict[int, Widened] = {}
            free = list(memory)  # the last one is for the unit that is read
            steps = max(1, _EXCHANGED // (8 * UNIT * len(stripe)))
            begin = first if self.symmetric else 0
            for start in range(begin, others, steps):
                batch = range(start, min(start + steps, others))
                if self.group.world == 1:
                    for panel in self._panels(batch, own, kept, free, later):
                        earlier.add(panel.unit, panel.shift, panel.columns)
                else:
                    self._share(batch, stripe, self._panels(batch, own, kept, free, later), earlier)
        self._collect(later, mine)
        return later, earlier

    def _panels(
        self,
        batch: range,
        own: Sequence[int],
        kept: dict[int, Widened],
        free: list[Tensor],
        later: _Sums,
    ) -> Iterator[_Panel]:
        """Take the own panels with a batch of units; their row sums are added here."""
        left, right = self.sides[0], self.sides[-1]
        for unit in batch:
            partners = [one for one in own if one <= unit or not self.symmetric]
            if not partners:
                continue
            for one in partners:
                if one not in kept:
                    kept[one] = self._widened(left, one, free.pop(0))
            held = kept.get(unit) if self.symmetric else None
            two = held or self._widened(right, unit, free[-1])
            for one in partners:
                diagonal = self.symmetric and one == unit
                panel = self._panel(one, unit, kept[one], two, diagonal)
                twice = 2.0 if self.symmetric and not diagonal else 1.0
                later.add(one, panel.shift, panel.rows, twice * panel.squares)
                self.done += 1
                if self.progress is not None:
                    self.progress(self.done, self.total)
                if not diagonal:
                    yield panel

    def _panel(self, one: int, unit: int, left: Widened, right: Widened, diagonal: bool) -> _Panel:
        rows = torch.zeros(len(left.z), dtype=torch.float64)
        columns = rows if diagonal else torch.zeros(len(right.z), dtype=torch.float64)
        with full_precision(left.z.device):
            walk = Walk(
                left.left,
                right.z,
                len(left.z),
                symmetric=diagonal,
                skip=(0,) if diagonal else (),
                online=self.online,
            )
            squares = add_moments(walk, rows, columns)
        return _Panel(one, unit, walk.shift, rows, columns, squares)

    def _share(self, batch: range, stripe: range, panels: Iterator[_Panel], earlier: _Sums) -> None:
        """Exchange the column sums of a batch and add them in the order in which one process adds them."""
        shared = torch.zeros(len(batch), len(stripe), UNIT + 1, dtype=torch.float64)
        with self.group.failing_together():
            for panel in panels:
                place = shared[panel.unit - batch.start, panel.one - stripe.start]
                place[0] = panel.shift
                place[1 : len(panel.columns) + 1] = panel.columns
        shared = self.group.add_up(shared)
        for unit in batch:
            start, stop = self.sides[-1].spans[unit]
            for one in stripe:
                if one < unit or not self.symmetric:
                    place = shared[unit - batch.start, one - stripe.start]
                    earlier.add(unit, float(place[0]), place[1 : stop - start + 1])

    def _collect(self, later: _Sums, mine: Sequence[int]) -> None:
        """The sums of the units of all processes, on all of them."""
        if self.group.world == 1:
            return
        shifts = torch.zeros(len(later.shifts), dtype=torch.float64)
        shifts[list(mine)] = torch.tensor([later.shifts[unit] for unit in mine], dtype=torch.float64)
        later.shifts = self.group.add_up(shifts).tolist()
        later.values, later.squares = self.group.add_up(later.values), self.group.add_up(later.squares)
