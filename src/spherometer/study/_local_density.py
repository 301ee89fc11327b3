"""``run_local_density``: locally or globally dense, and what a graph classifier reads from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from spherometer import _checks
from spherometer.study._density_data import load_sample
from spherometer.study._density_document import density_document
from spherometer.study._density_grid import DATA, Data, protocol, tasks
from spherometer.study._run import Asked, Progress

NAME = "local-density"


def run_local_density(
    out: Path | str,
    data: str = "digits",
    *,
    quick: bool = False,
    seeds: int = 3,
    jobs: int | None = None,
    storage: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    data_dir: Path | str | None = None,
) -> dict[str, Any]:
    """Train every arm with every seed that is not trained yet, measure and probe along the training.

    Supervised, contrastive, align + uniform encoders and one with a low contrastive loss and a low
    Calinski-Harabasz, as ConvNets and as ViTs, beside untrained ones and raw pixels.

    Args:
        out: directory of ``results.json`` and ``encoders/``; made if it is missing.
        data: "digits" (bundled); "mnist" or "fashion-mnist": 8000 training and 2000 test images of them,
            whose files must lie where ``open_data`` finds them.
        quick: little training, ConvNets alone; its results are kept apart.
        seeds: repetitions, with the seeds 0 ... seeds - 1; intervals are over them.
        jobs, storage, device, progress: as for ``run_digits``.
        data_dir: directory of data sets; by default SPHEROMETER_DATA, else the user's cache.

    Returns:
        The study document that is also written to ``out``/results.json.

    Raises:
        InputError: an argument cannot be used, images are not there or damaged, or the storage is damaged.
            Nothing is written then.
        MissingExtraError: Optuna is not installed.
        KeyboardInterrupt: workers are ended, what is finished stays in the storage.
    """
    _checks.one_of(f"study {NAME}", "data", data, DATA)
    asked = Asked(NAME, Path(out), seeds, jobs, storage, device, progress).checked()
    sample = load_sample(protocol(cast(Data, data), quick), data_dir)
    work = tasks(cast(Data, data), quick, seeds, sample.fingerprint())
    place = "" if data_dir is None else str(Path(data_dir).expanduser().absolute())
    results, _ = asked.finish(work, place)
    found = density_document(work, results, sample, quick=quick)
    asked.write(found)
    return found
