"""What running any study means: check what was asked, finish every task, write the document."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.stores import sweep_temporaries, write_file
from spherometer.study._pool import run_all
from spherometer.study._queue import PATIENCE, Queue
from spherometer.study._storage import check_storage, open_storage
from spherometer.study._worker import Order

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Asked:
    """What a caller asked of the study ``name``; nothing is written by :meth:`checked`."""

    name: str
    out: Path
    seeds: int
    jobs: int | None
    storage: str | None
    device: str
    progress: Progress | None
    patience: float = PATIENCE

    @property
    def address(self) -> str:
        """Of the storage."""
        return str(self.out / "study.journal") if self.storage is None else self.storage

    def checked(self) -> Asked:
        """Refuse what cannot be used, before anything is written."""
        function = f"study {self.name}"
        _checks.whole(function, "seeds", self.seeds)
        if self.jobs is not None:
            _checks.whole(function, "jobs", self.jobs)
        _check_device(function, self.device)
        _check_out(function, self.out)
        check_storage(self.address, self.name)
        return self

    def finish(self, work: Sequence[Any], data: str = "") -> tuple[dict[str, Any], set[str]]:
        """Finish every task; their results by key, and the names of the encoder files that exist."""
        try:
            (self.out / "encoders").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _refuse_out(f"study {self.name}", self.out, str(error))
        sweep_temporaries(self.out / "encoders")
        out = str(self.out.absolute())
        order = Order(work, self.address, "", self.patience, out, self.name, self.device, data)
        queue = Queue(open_storage(self.address, self.name), work, "parent", patience=self.patience)
        queue.enqueue()
        run_all(queue, order, _num_cores() if self.jobs is None else self.jobs, self.progress)
        return queue.finished(), {path.name for path in (self.out / "encoders").glob("*.safetensors")}

    def write(self, document: dict[str, Any]) -> None:
        """Write results.json."""
        text = json.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n"
        write_file(self.out / "results.json", text.encode())


def _num_cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def _check_device(function: str, device: str) -> None:
    try:
        torch.empty(1, device=device)
        return
    except (RuntimeError, AssertionError, TypeError) as error:
        why = (str(error).strip().splitlines() or [""])[0][:160]
    _checks.refuse(
        InputError,
        function,
        "device",
        "be a device that this machine has",
        "encoders are trained there",
        f"{device!r} ({why})",
        "Pass for instance device='cpu'",
    )


def _check_out(function: str, out: Path) -> None:
    """Refuse a place that cannot be written to, without writing there."""
    place = out.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        _refuse_out(function, out, f"{place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        _refuse_out(function, out, f"{place} cannot be written to")


def _refuse_out(function: str, out: Path, why: str) -> NoReturn:
    _checks.refuse(
        InputError,
        function,
        "out",
        "be a directory that can be written to",
        "results and encoders are kept there",
        f"{out} ({why})",
        "Pass another directory",
    )
