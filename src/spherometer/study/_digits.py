"""``run_digits``: the study of this package on handwritten digits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

from spherometer import _checks
from spherometer.data import load_images
from spherometer.errors import InputError
from spherometer.stores import sweep_temporaries, write_file
from spherometer.study._document import document
from spherometer.study._grid import tasks
from spherometer.study._pool import run_all
from spherometer.study._queue import PATIENCE, Queue
from spherometer.study._storage import check_storage, open_storage
from spherometer.study._worker import Order

Progress = Callable[[int, int, str], None]
_FUNCTION = "study digits"


def run_digits(
    out: Path | str,
    *,
    quick: bool = False,
    seeds: int = 1,
    jobs: int | None = None,
    storage: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the grid of encoders that is not trained yet, measure, probe, relate.

    Args:
        out: directory of ``results.json`` and ``encoders/``; made if it is missing.
        quick: a small grid with little training, to see that all works; its results are kept apart.
        seeds: runs of every configuration, with the seeds 0 ... seeds - 1.
        jobs: worker processes, each with one thread; by default one per core.
        storage: path of a journal file, or address of a database shared with other machines; by default
            ``out``/study.journal. What is finished there is not trained again.
        device: where encoders are trained and measured, for instance "cpu" or "cuda".
        progress: called in this process as ``progress(done, total, name of what was finished)``.

    Returns:
        The study document that is also written to ``out``/results.json. The same on every run on the same
        machine and versions, whatever ``jobs`` is.

    Raises:
        InputError: an argument cannot be used, or the storage is damaged; nothing is written then.
        MissingExtraError: Optuna is not installed.
        KeyboardInterrupt: workers are ended, what is finished stays in the storage.
    """
    return _run(
        Path(out), quick=quick, seeds=seeds, jobs=jobs, storage=storage, device=device, progress=progress
    )


def _run(
    out: Path,
    *,
    quick: bool,
    seeds: int,
    jobs: int | None,
    storage: str | None,
    device: str,
    progress: Progress | None,
    patience: float = PATIENCE,
) -> dict[str, Any]:
    _checks.whole(_FUNCTION, "seeds", seeds)
    jobs = _num_cores() if jobs is None else jobs
    _checks.whole(_FUNCTION, "jobs", jobs)
    _check_device(device)
    _check_out(out)
    address = str(out / "study.journal") if storage is None else storage
    check_storage(address)
    images = load_images("digits")
    work = tasks(quick, seeds)
    try:
        (out / "encoders").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse_out(out, str(error))
    sweep_temporaries(out / "encoders")
    order = Order(work, address, "", patience, str(out.absolute()), images.name, device)
    queue = Queue(open_storage(address), work, "parent", patience=patience)
    queue.enqueue()
    run_all(queue, order, jobs, progress)
    encoders = {path.name for path in (out / "encoders").glob("*.safetensors")}
    found = document(work, queue.finished(), images, quick=quick, encoders=encoders)
    text = json.dumps(found, sort_keys=True, indent=1, allow_nan=False) + "\n"
    write_file(out / "results.json", text.encode())
    return found


def _num_cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
        return
    except (RuntimeError, AssertionError, TypeError) as error:
        why = (str(error).strip().splitlines() or [""])[0][:160]
    _checks.refuse(
        InputError,
        _FUNCTION,
        "device",
        "be a device that this machine has",
        "encoders are trained there",
        f"{device!r} ({why})",
        "Pass for instance device='cpu'",
    )


def _check_out(out: Path) -> None:
    """Refuse a place that cannot be written to, without writing there."""
    place = out.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        _refuse_out(out, f"{place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        _refuse_out(out, f"{place} cannot be written to")


def _refuse_out(out: Path, why: str) -> NoReturn:
    _checks.refuse(
        InputError,
        _FUNCTION,
        "out",
        "be a directory that can be written to",
        "results and encoders are kept there",
        f"{out} ({why})",
        "Pass another directory",
    )
