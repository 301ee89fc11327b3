"""What children of the checkpoint tests do: write checkpoints until something kills them."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from spherometer.errors import InputError
from spherometer.training._checkpoints import Checkpoints
from spherometer.training._interrupt import Interruption, on_first_rank

CALLS = ("mkdir", "open", "fsync", "replace", "rename", "unlink", "rmdir", "close")


def contents(step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A function of the step, so that any reader can tell whether all of it is there."""
    generator = torch.Generator().manual_seed(step)
    return {"weights": torch.randn(50, 40, generator=generator)}, {"step": step, "half": step / 2}


def _die_at(call: int, after: bool) -> None:
    """SIGKILL this process before (or after) its ``call``-th call that changes or syncs a file."""
    seen = [0]

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            seen[0] += 1
            if seen[0] == call and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return original(*arguments, **keywords)
            finally:
                if seen[0] == call:
                    os.kill(os.getpid(), signal.SIGKILL)

        return counted

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def save_steps(directory: str, first: int, last: int, call: int = 0, after: bool = False) -> int:
    """Save steps ``first`` ... ``last``, announcing each; die at a call (0: never)."""
    checkpoints = Checkpoints(directory, keep_last=2, keep_best=0)
    checkpoints.newest()
    if call:
        _die_at(call, after)
    for step in range(first, last + 1):
        checkpoints.save(step, *contents(step))
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()
    return 0


def save_limited(directory: str, step: int, num_bytes: int) -> int:
    """Save where files cannot become longer than ``num_bytes``."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        Checkpoints(directory).save(step, *contents(step))
    except InputError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        print(error)
        return 2
    return 0


def hold(directory: str) -> int:
    """Open the checkpoints and stay."""
    Checkpoints(directory)
    kept = Checkpoints(directory)
    print("held", flush=True)
    while kept:
        time.sleep(0.05)
    return 0


def interrupted(workers: int = 0) -> int:
    """Wait for a signal inside ``Interruption``; tell what came."""
    import multiprocessing

    for _ in range(workers):
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True).start()
    with Interruption() as interruption:
        print("ready", *(child.pid for child in multiprocessing.active_children()), flush=True)
        while not interruption.agree():
            time.sleep(0.01)
        print("noticed", flush=True)
        if workers:
            time.sleep(600)
    return interruption.exit_code


def rank(directory: str, number: int, world: int) -> int:
    """One of ``world`` ranks: only the last gets a signal, and only rank 0 can fail to write."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{directory}/store", rank=number, world_size=world
    )
    with Interruption() as interruption:
        steps = 0
        while not interruption.agree(world):
            steps += 1
            if number == world - 1 and steps == 3:
                os.kill(os.getpid(), signal.SIGTERM)
    written = Path(directory) / "written"
    on_first_rank(lambda: written.write_text(str(number)), rank=number, world=world)
    assert written.read_text() == "0"

    def fail() -> None:
        raise InputError("write: the disk is full")

    try:
        on_first_rank(fail, rank=number, world=world)
    except InputError as error:
        print(steps, interruption.exit_code, error)
    torch.distributed.destroy_process_group()
    return interruption.exit_code
