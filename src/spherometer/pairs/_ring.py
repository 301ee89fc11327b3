r"""All pairs of a set whose rows lie on many processes: blocks of rows travel around half of a ring.

Rows are dealt into blocks of equal length first (and gradients given back last), so that all processes have
the same work whatever they hold. A block then visits the processes after its own, halfway round, and every
two blocks meet once; with an even number of processes the two opposite blocks meet at both places, for half
of their pairs each. A visitor carries the sums of its rows with it, and they are sent home in the end: value
and gradient take one pass, and the backward has nothing to exchange.

Blocks are anchored to global row numbers: how the rows were held changes no bit.

Shapes: N rows of all processes, n own ones, D dimensions, W processes, P width of the GEMM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from spherometer.pairs._processes import Group


@dataclass(frozen=True)
class Met:
    """Sums over the pairs of two blocks, all scaled by exp(-shift)."""

    shift: float  # -inf: nothing was added
    numbers: Sequence[float]  # sums over the pairs; scaled by exp(-shift) to the first, second, ... power
    here: Tensor | None  # [width, n] for the rows of the own block
    there: Tensor | None  # [width, m] for those of the visitor; None: the two are one block


Meeting = Callable[[Tensor, Tensor, bool], Met]


class Load:
    """Sums [width, n] for the rows of a block and their shift, in one piece of memory that is sent."""

    def __init__(self, width: int, num: int, like: Tensor) -> None:
        self.width, self.num = width, num
        self.flat = like.new_zeros(width * num + 1)
        self.flat[-1] = -math.inf

    @property
    def values(self) -> Tensor:
        """The sums [width, n], scaled by exp(-shift)."""
        return self.flat[:-1].view(self.width, self.num)

    @property
    def shift(self) -> float:
        """Log of the scale; -inf where nothing was added."""
        return float(self.flat[-1])

    def add(self, shift: float, values: Tensor, rows: slice = slice(None)) -> None:
        """Add sums that are scaled by exp(-shift), for some of the rows."""
        if shift == -math.inf:
            return
        kept = self.shift
        if not shift <= kept:
            if kept != -math.inf:
                self.flat[:-1].mul_(math.exp(kept - shift))
            self.flat[-1] = shift
        fade = math.exp(shift - self.shift)
        self.values[:, rows].add_(values, alpha=fade)


class Totals:
    """Sums over pairs, of blocks with shifts of their own."""

    def __init__(self, num: int) -> None:
        self.shift, self.numbers = -math.inf, [0.0] * num

    def add(self, shift: float, numbers: Sequence[float], times: float = 1.0) -> None:
        """Add sums that are scaled by exp(-shift) to the first, second, ... power."""
        if shift == -math.inf:
            return
        if not shift <= self.shift:
            self._fade(self.shift - shift)
            self.shift = shift
        for power, number in enumerate(numbers, 1):
            self.numbers[power - 1] += times * number * math.exp(power * (shift - self.shift))

    def _fade(self, by: float) -> None:
        self.numbers = [n * math.exp(power * by) if n else 0.0 for power, n in enumerate(self.numbers, 1)]


class Ring:
    """The processes of a group around which blocks of rows travel.

    Args:
        group: two processes or more.
        counts: rows that each holds.
    """

    def __init__(self, group: Group, counts: Sequence[int]) -> None:
        self.group, self.counts = group, list(counts)
        self.world, self.rank, self.num = group.world, group.rank, sum(counts)
        self.even = [len(range(*span)) for span in self._even_spans()]
        self.steps = self.world // 2

    def _even_spans(self) -> list[tuple[int, int]]:
        return [(self.num * k // self.world, self.num * (k + 1) // self.world) for k in range(self.world)]

    def _moved(self) -> tuple[list[int], list[int]]:
        """Rows that this process gives to each other one, and takes from each, to have its block."""
        starts = [sum(self.counts[:k]) for k in range(self.world)]
        held = [(start, start + count) for start, count in zip(starts, self.counts, strict=True)]
        blocks = self._even_spans()
        give = [_overlap(held[self.rank], block) for block in blocks]
        return give, [_overlap(blocks[self.rank], rows) for rows in held]

    def deal(self, rows: Tensor) -> Tensor:
        """This process's block of the rows [n, D] of all; the rows themselves where blocks are even."""
        if self.counts == self.even:
            return rows
        give, take = self._moved()
        return self.group.send(rows, give, take)

    def give_back(self, rows: Tensor) -> Tensor:
        """The reverse of ``deal``: what belongs to the rows that this process holds."""
        if self.counts == self.even:
            return rows
        give, take = self._moved()
        return self.group.send(rows, take, give)

    def go_round(
        self,
        block: Tensor,
        meet: Meeting,
        num_totals: int,
        width: int = 0,
        like: Tensor | None = None,
        kept: type[Load] = Load,
    ) -> tuple[Totals, Load]:
        """Let every two rows meet once, with themselves too where a meeting counts that.

        Args:
            block: the own block [n, P].
            meet: what to add up over the pairs of two blocks, the own one and a visitor; ``True``: of the
                own one with itself, whose sums are over ordered pairs.
            num_totals: how many sums over pairs a meeting gives.
            width: how many sums for each row it gives; 0: none.
            like: the kind of number of these.
            kept: how they are kept and added.

        Returns:
            Sums over all ordered pairs of the own meetings, and the sums for the rows of the own block.
        """
        totals = Totals(num_totals)
        kind = block if like is None else like
        here = kept(width, len(block), kind)
        if len(block):
            met = meet(block, block, True)
            totals.add(met.shift, met.numbers)
            if met.here is not None:
                here.add(met.shift, met.here)
        visitor, coming = block, self._pass_on(block, 1)
        carried: Load | None = None
        for step in range(1, self.steps + 1):
            visitor, length = coming(), self.even[(self.rank - step) % self.world]
            if step < self.steps:  # while these two meet
                coming = self._pass_on(visitor, step + 1)
            if carried is None:
                carried = kept(width, length, kind)
            elif width:
                carried.flat = self._pass_on(carried.flat, step, width)()
                carried.num = length
            own, theirs = self._part(step, len(block), length)
            if len(block[own]) and len(visitor[theirs]):
                met = meet(block[own], visitor[theirs], False)
                totals.add(met.shift, met.numbers, 2.0)
                if met.here is not None and met.there is not None:
                    here.add(met.shift, met.here, own)
                    carried.add(met.shift, met.there, theirs)
        if carried is not None and width:
            give, take = [0] * self.world, [0] * self.world
            give[(self.rank - self.steps) % self.world] = len(carried.flat)
            take[(self.rank + self.steps) % self.world] = len(here.flat)
            home = kept(width, 0, kind)
            home.flat, home.num = self.group.send(carried.flat, give, take), len(block)
            here.add(home.shift, home.values)
        return totals, here

    def _part(self, step: int, num: int, length: int) -> tuple[slice, slice]:
        """Rows of the own block and of the visitor that meet; opposite blocks share their pairs."""
        if 2 * step < self.world:
            return slice(0, num), slice(0, length)
        if self.rank < step:  # the visitor's process takes the first half of the rows from here
            return slice(num // 2, num), slice(0, length)
        return slice(0, num), slice(0, length // 2)

    def _pass_on(self, values: Tensor, step: int, width: int = 0) -> Callable[[], Tensor]:
        """Send a visitor, or the sums it carries, to the next process; begin to receive that of a step."""
        coming = self.even[(self.rank - step) % self.world]
        give, take = [0] * self.world, [0] * self.world
        give[(self.rank + 1) % self.world] = len(values)
        take[(self.rank - 1) % self.world] = width * coming + 1 if width else coming
        return self.group.begin_send(values, give, take)


def _overlap(one: tuple[int, int], two: tuple[int, int]) -> int:
    return max(0, min(one[1], two[1]) - max(one[0], two[0]))
