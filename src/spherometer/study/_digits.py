"""``run_digits``: the study of this package on handwritten digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spherometer.data import load_images
from spherometer.study._document import document
from spherometer.study._grid import tasks
from spherometer.study._run import Asked, Progress


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
    asked = Asked("digits", Path(out), seeds, jobs, storage, device, progress).checked()
    images = load_images("digits")
    work = tasks(quick, seeds)
    results, encoders = asked.finish(work)
    found = document(work, results, images, quick=quick, encoders=encoders)
    asked.write(found)
    return found
