"""``run_text``: the study of sentence encoders on WordNet's definitions and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spherometer.data import load_wordnet
from spherometer.data._wordnet import find_wordnet
from spherometer.study._run import Asked, Progress
from spherometer.study._text_document import text_document
from spherometer.study._text_grid import tasks
from spherometer.study._text_work import Parts, minilm_is_here


def run_text(
    out: Path | str,
    *,
    quick: bool = False,
    seeds: int = 1,
    jobs: int | None = None,
    storage: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    wordnet: Path | str | None = None,
) -> dict[str, Any]:
    """Train the grid of sentence encoders that is not trained yet, measure, probe, relate.

    Args:
        out, quick, seeds, jobs, storage, device, progress: as for ``run_digits``.
        wordnet: directory of WordNet's files; by default below SPHEROMETER_DATA, else the system's.

    Returns:
        The study document that is also written to ``out``/results.json.

    Raises:
        InputError: an argument cannot be used, WordNet is not there or damaged, or the storage is damaged.
            Nothing is written then.
        MissingExtraError: Optuna is not installed.
        KeyboardInterrupt: workers are ended, what is finished stays in the storage.
    """
    place = find_wordnet(wordnet)
    asked = Asked("text", Path(out), seeds, jobs, storage, device, progress).checked()
    texts = load_wordnet(place)
    work = tasks(quick, seeds, texts.fingerprint(), minilm=minilm_is_here())
    parts = Parts(texts, work[0].protocol, "cpu")
    results, encoders = asked.finish(work, str(place.absolute()))
    found = text_document(work, results, parts, quick=quick, encoders=encoders)
    asked.write(found)
    return found
