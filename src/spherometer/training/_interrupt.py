"""What the ranks of a run agree on: to stop (Ctrl-C, SIGTERM) at one step, and whether a write failed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import torch

from spherometer.errors import InputError

_Handler = Callable[[int, FrameType | None], Any] | int | None


class Interruption:
    """While the context is open, SIGINT and SIGTERM are remembered instead of ending the process.

    The handlers only set ``signal``; whoever runs the loop looks at it between two steps. A second Ctrl-C
    ends the process at once, with code 130 and without its worker processes. Outside the main thread, where
    Python allows no handlers, the context does nothing; a signal that was ignored before (nohup) stays so.

    Attributes:
        signal: number of the first signal that came (on any rank, once ``agree`` was called), or None.

    Example:
        >>> with Interruption() as interruption:
        ...     for step in range(3):
        ...         if interruption.agree():
        ...             break
        >>> interruption.exit_code
        0
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._presses = 0
        self._before: dict[int, _Handler] = {}

    @property
    def exit_code(self) -> int:
        """What the process should end with: 0, or 130 and 143 after SIGINT and SIGTERM."""
        return 0 if self.signal is None else 128 + self.signal

    def agree(self, world: int = 1, *, device: torch.device | str = "cpu") -> bool:
        """Whether a signal came on any of ``world`` ranks; every rank gets the same answer.

        A collective call when ``world`` is more than 1: all ranks must make it, for instance every step.

        Args:
            world: number of ranks.
            device: where the number is exchanged (NCCL needs a GPU).
        """
        if world > 1:
            number = torch.tensor(self.signal or 0, dtype=torch.int64, device=device)
            torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
            if not int(number):
                return False  # a signal that came meanwhile waits for the next call, where all see it
            self.signal = int(number)
        return self.signal is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._presses += number == signal.SIGINT
        if self._presses > 1:
            signal.signal(
                signal.SIGCHLD, signal.SIG_DFL
            )  # torch's handler raises when a loader's worker dies
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(128 + number)
        if self.signal is None:
            self.signal = int(number)

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}


def on_first_rank(
    write: Callable[[], object], *, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"
) -> None:
    """Call ``write`` on rank 0 alone; all ranks return when it is done, and all raise when it failed.

    A collective call when ``world`` is more than 1. (A barrier after a write that may fail would hang.)

    Raises:
        InputError: on the other ranks, with the message of rank 0; there, whatever ``write`` raised.
    """
    if world == 1:
        write()
        return
    failure: BaseException | None = None
    words = b""
    if rank == 0:
        try:
            write()
        except BaseException as error:
            failure = error
            words = (str(error) or type(error).__name__).encode("utf-8", "backslashreplace")[:4096]
    length = torch.tensor(len(words), dtype=torch.int64, device=device)
    torch.distributed.broadcast(length, src=0)
    if not int(length):
        return
    content = torch.zeros(int(length), dtype=torch.uint8, device=device)
    if rank == 0:
        content = torch.tensor(list(words), dtype=torch.uint8, device=device)
    torch.distributed.broadcast(content, src=0)
    if failure is not None:
        raise failure
    raise InputError(f"rank 0: {bytes(content.tolist()).decode('utf-8', 'replace')}")
