"""Processes that share one walk: who takes which unit, and how what they found comes together on all.

The default process group of torch.distributed, with any backend. A process that raises tells the others
at the next exchange, so that they raise too instead of waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, distributed

from spherometer import _checks
from spherometer.errors import InputError, LostProcessError
from spherometer.pairs._watch import exchanging

Processes = Literal["auto", False]


class Group:
    """The processes of the default group; a single one where there is none or ``processes`` is False.

    Args:
        function: whose name messages carry.
        processes: "auto" or False.

    Attributes:
        world: number of processes.
        rank: number of this one.
    """

    def __init__(self, function: str, processes: Processes) -> None:
        if processes is not False and processes != "auto":
            _checks.refuse(
                InputError, function, "processes", 'be "auto" or False',
                "the work is shared by all processes of the group, or done by this one alone",
                repr(processes)[:80], "Pass False in a call that only some processes make",
            )  # fmt: skip
        self.function, self.world, self.rank = function, 1, 0
        if processes == "auto" and distributed.is_available() and distributed.is_initialized():
            self.world, self.rank = distributed.get_world_size(), distributed.get_rank()
            nccl = distributed.get_backend() == "nccl"
            self._device = torch.device("cuda") if nccl else torch.device("cpu")

    def owner(self, unit: int) -> int:
        """Which process takes a unit: 0 1 2 2 1 0 0 1 2 ..., for units that have ever fewer partners."""
        lap, place = divmod(unit, self.world)
        return self.world - 1 - place if lap % 2 else place

    def add_up(self, values: Tensor) -> Tensor:
        """Sums over the processes. Exact, and the same on all, where all but one have zeros."""
        if self.world == 1:
            return values
        total = values.to(self._device)
        with exchanging(self.function):
            distributed.all_reduce(total)
        return total.to(values.device)

    def rows_of(self, values: Sequence[float]) -> Tensor:
        """The same number of values of every process [W, n]."""
        table = torch.zeros(self.world, len(values), dtype=torch.float64)
        table[self.rank] = torch.tensor(values, dtype=torch.float64)
        return self.add_up(table)

    def send(self, values: Tensor, give: Sequence[int], take: Sequence[int]) -> Tensor:
        """Give parts of the rows of ``values`` to processes 0, 1, ...; returns what these give, in order."""
        return self.begin_send(values, give, take)()

    def begin_send(self, values: Tensor, give: Sequence[int], take: Sequence[int]) -> Callable[[], Tensor]:
        """``send`` that returns at once, with a function that waits for the result.

        ``values`` must not be changed until then.
        """
        given = values.to(self._device).contiguous()
        taken = given.new_empty(sum(take), *given.shape[1:])
        with exchanging(self.function):
            work = distributed.all_to_all_single(taken, given, list(take), list(give), async_op=True)

        def received(kept: Tensor = given) -> Tensor:
            with exchanging(self.function):
                work.wait()
            return taken.to(values.device)

        return received

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Leave this block together: an exception on one process becomes an InputError on the others."""
        try:
            yield
        except LostProcessError:
            raise  # nobody could be told
        except Exception:
            if self.world > 1:
                self.rows_of([1.0])
            raise
        if self.world == 1:
            return
        failed = self.rows_of([0.0])[:, 0].nonzero()[:, 0].tolist()
        if failed:
            _checks.refuse(
                InputError, self.function, "x", "be readable on every process",
                "each takes a share of the pairs",
                f"a failure on process {', '.join(map(str, failed))}, whose message says why",
                "Correct it there",
            )  # fmt: skip

    def refuse_other_rows(
        self, settings: Sequence[float], marks: Sequence[float], sizes: list[float]
    ) -> None:
        """Refuse other settings or other rows on another process.

        Args:
            settings: numbers that must be equal.
            marks: sums that rows in another order, or other rows, would change.
            sizes: of the addends of the marks, to tell rounding from change.
        """
        if self.world == 1:
            return
        table = self.rows_of([*settings, *marks, *sizes])
        given, found = len(settings), len(settings) + len(marks)
        apart = (table[:, :given] != table[0, :given]).any(dim=1)
        change = (table[:, given:found] - table[0, given:found]).abs()
        apart |= (change > 1e-9 * table[:, found:]).any(dim=1)
        if bool(apart.any()):
            _checks.refuse(
                InputError, self.function, "x", "be the same rows on every process, with the same settings",
                "each takes a share of the pairs of one set",
                f"something else on process {', '.join(map(str, apart.nonzero()[:, 0].tolist()))} than on 0",
                "Open the same files on all, or pass processes=False",
            )  # fmt: skip


@contextmanager
def failing_together(function: str) -> Iterator[int]:
    """``Group.failing_together`` of the default group; yields the number of its processes."""
    group = Group(function, "auto")
    with group.failing_together():
        yield group.world
