"""``run_brain``: the study of age as meta-data on made brain volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spherometer.study._brain_grid import protocol, tasks
from spherometer.study._brain_parts import corpus, keep_brains, open_brains
from spherometer.study._brain_story import brain_story
from spherometer.study._conditional_document import conditional_document
from spherometer.study._run import Asked, Progress


def run_brain(
    out: Path | str,
    *,
    quick: bool = False,
    seeds: int = 5,
    jobs: int | None = None,
    storage: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the arms of the brain study that are not trained yet, probe them, and compare them over seeds.

    The volumes are made, not patient data: see ``spherometer.data.make_brains``. They are kept in
    ``out``/brains.npz.

    Args:
        out, quick, seeds, jobs, storage, device, progress: as for ``run_digits``.

    Returns:
        The study document that is also written to ``out``/results.json.

    Raises:
        InputError: an argument cannot be used, or the storage is damaged; nothing is written then.
        MissingExtraError: Optuna or nilearn is not installed.
        KeyboardInterrupt: workers are ended, what is finished stays in the storage.
    """
    asked = Asked("brain", Path(out), seeds, jobs, storage, device, progress).checked()
    shared = protocol(quick, corpus(protocol(quick).num_subjects))
    work = tasks(seeds, shared)
    data = keep_brains(Path(out), shared)
    results, encoders = asked.finish(work, str(data.absolute()))
    story = brain_story(shared, open_brains(data, shared).to_dict())
    found = conditional_document(story, work, results, quick=quick, encoders=encoders)
    asked.write(found)
    return found
