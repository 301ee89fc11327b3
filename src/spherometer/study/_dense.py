"""``run_dense``: encoders trained on cells and on whole images, what their numbers foretell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.study._dense_document import dense_document
from spherometer.study._dense_grid import DATA, Data, tasks
from spherometer.study._run import Asked, Progress

NAME = "dense"


def run_dense(
    out: Path | str,
    data: str | Sequence[str] = "multi",
    *,
    quick: bool = False,
    seeds: int = 3,
    jobs: int | None = None,
    storage: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train every encoder of the grid that is not trained yet, measure, segment, classify, relate.

    Dense and instance losses, how cells find their partners, temperatures and weights, beside an untrained
    encoder and raw pixels.

    Args:
        out: directory of ``results.json`` and ``encoders/``; made if it is missing.
        data: "multi" (scenes of 2 to 4 digits), "single" (of one), or both, also as "multi,single".
        quick: little training; its results are kept apart.
        seeds: repetitions of the five arms that differ in nothing but their partners; the other
            configurations are trained once, with seed 0.
        jobs, storage, device, progress: as for ``run_digits``.

    Returns:
        The study document that is also written to ``out``/results.json.

    Raises:
        InputError: an argument cannot be used, or the storage is damaged. Nothing is written then.
        MissingExtraError: Optuna is not installed.
        KeyboardInterrupt: workers are ended, what is finished stays in the storage.
    """
    names = checked_data(data)
    asked = Asked(NAME, Path(out), seeds, jobs, storage, device, progress).checked()
    work = tasks(names, quick, seeds)
    results, _ = asked.finish(work)
    found = dense_document(work, results, quick=quick)
    asked.write(found)
    return found


def checked_data(data: str | Sequence[str]) -> list[Data]:
    """The data sets that are asked for, each once, in the order of ``DATA``."""
    given = data.split(",") if isinstance(data, str) else list(data)
    if not given or not set(given) <= set(DATA):
        wrong = [each for each in given if each not in DATA]
        _checks.refuse(
            InputError, f"study {NAME}", "data", "be 'multi', 'single' or both",
            "these scenes are what the settings are made for",
            repr(wrong[0] if wrong else data)[:80], "Pass for instance data='multi,single'",
        )  # fmt: skip
    return [name for name in DATA if name in given]
