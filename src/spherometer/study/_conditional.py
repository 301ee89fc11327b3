"""``run_digits_metadata`` and ``run_diabetes``: studies of what meta-data add to training without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spherometer import _checks
from spherometer.data import load_images
from spherometer.study._conditional_document import conditional_document
from spherometer.study._conditional_grid import ANGLE, DIABETES, PROXY, Name, tasks
from spherometer.study._conditional_words import angle_story, diabetes_story, proxy_story
from spherometer.study._run import Asked, Progress

METADATA: dict[str, Name] = {"proxy": PROXY, "angle": ANGLE}


def run_digits_metadata(
    out: Path | str,
    metadata: str,
    *,
    quick: bool = False,
    seeds: int = 5,
    jobs: int | None = None,
    storage: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on digits with made meta-data: every arm, every bandwidth, every seed that is not trained yet.

    Args:
        out: directory of ``results.json`` and ``encoders/``; made if it is missing.
        metadata: "proxy" (the class plus noise, as a number) or "angle" (digits are turned; what is learned
            of the angle, what is forgotten of the class).
        quick: two bandwidths and little training, to see that all works; its results are kept apart.
        seeds: repetitions, with the seeds 0 ... seeds - 1; intervals are over them.
        jobs, storage, device, progress: as for ``run_digits``.

    Returns:
        The study document that is also written to ``out``/results.json.

    Raises:
        InputError: an argument cannot be used, or the storage is damaged; nothing is written then.
        MissingExtraError: Optuna is not installed.
        KeyboardInterrupt: workers are ended, what is finished stays in the storage.
    """
    _checks.one_of("study digits", "metadata", metadata, tuple(METADATA))
    asked = Asked(METADATA[metadata], Path(out), seeds, jobs, storage, device, progress)
    return _run(asked, METADATA[metadata], quick)


def run_diabetes(
    out: Path | str,
    *,
    quick: bool = False,
    seeds: int = 5,
    jobs: int | None = None,
    storage: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on the 442 patients bundled with scikit-learn, with age, body mass index and blood pressure.

    Args, Returns, Raises: as for ``run_digits_metadata``.
    """
    return _run(Asked(DIABETES, Path(out), seeds, jobs, storage, device, progress), DIABETES, quick)


def _run(asked: Asked, study: Name, quick: bool) -> dict[str, Any]:
    asked.checked()
    work = tasks(study, quick, asked.seeds)
    results, encoders = asked.finish(work)
    shared = work[0].protocol
    if study == DIABETES:
        story = diabetes_story(shared)
    else:
        tell = proxy_story if study == PROXY else angle_story
        story = tell(shared, load_images("digits"))
    found = conditional_document(story, work, results, quick=quick, encoders=encoders)
    asked.write(found)
    return found
