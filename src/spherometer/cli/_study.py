"""``spherometer study``: train, measure, probe, relate, and write the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from spherometer.cli._progress import Progress
from spherometer.errors import InputError

STUDIES = ("digits", "text", "diabetes", "brain", "local-density", "dense")
_DATA = ("digits", "mnist", "fashion-mnist")
_SCENES = ("multi", "single", "multi,single", "single,multi")


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The study: " + ", ".join(STUDIES) + ".")],
    metadata: Annotated[
        str | None, typer.Option(metavar="KIND", help="Of digits: proxy or angle, a study of meta-data.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SET", help="Of local-density: digits, mnist, fashion-mnist; of dense: multi,single."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of report, results and encoders [default: runs/NAME].")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few short trainings, to see how it works.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Repeat configurations so many times [default: 1; meta-data 5, local-density, dense 3].",
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at a time [default: the cores].")] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Shared database of trials [default: a file in --out].")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, mps.")] = "cpu",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON, the path on stderr.")
    ] = False,
) -> int:
    """Train a grid of encoders without labels, measure them, and write one HTML page with what was found.

    digits: handwritten digits, bundled. text: WordNet's definitions and examples (apt install wordnet-base).

    What meta-data add: digits --metadata proxy (a noisy number that goes with the class), digits --metadata
    angle (what is forgotten of the class while the angle is learned), diabetes (442 patients, bundled), brain
    (made volumes, no patients).

    local-density: are classes dense near by or as wholes, and what does a graph classifier make of it?

    dense: encoders trained on cells of their maps or on whole images; --data multi,single for both scenes.

    A second run skips what is finished; Ctrl-C keeps it.
    """
    run, label = _chosen(name, metadata, data)
    if seeds is None:
        seeds = 1 if name in ("digits", "text") and metadata is None else _seeds(name, quick)
    where = out if out is not None else Path("runs") / label
    try:
        with Progress(f"study {label}") as progress:
            document = run(
                where, quick=quick, seeds=seeds, jobs=jobs, storage=storage, device=device, progress=progress
            )
    except KeyboardInterrupt:
        typer.echo("spherometer: what is finished is kept; the same command goes on from there", err=True)
        raise
    from spherometer.report import write_study

    page = write_study(document, where)
    if as_json:
        typer.echo(json.dumps(document, indent=2, sort_keys=True, allow_nan=False))
        typer.echo(str(page), err=True)
    else:
        for finding in document.get("findings", ()):
            typer.echo(f"{finding['verdict']:>9}: {finding['claim']}")
        typer.echo(str(page))
    return 0


def _chosen(name: str, metadata: str | None, data: str | None) -> tuple[Callable[..., dict[str, Any]], str]:
    """The function that runs the study, and the name of its directory."""
    if name not in STUDIES:
        listed = ", ".join(repr(each) for each in STUDIES[:-1])
        raise InputError(
            f"study: NAME must be {listed} or {STUDIES[-1]!r}, because these are the studies there are. "
            f"Got {name[:80]!r}. Run: spherometer study digits."
        )
    if metadata is not None and name != "digits":
        raise InputError(
            "study: --metadata must be left out, because only digits has a choice of meta-data. "
            f"Got {metadata[:80]!r} with {name!r}. Run: spherometer study {name}."
        )
    if metadata is not None and metadata not in ("proxy", "angle"):
        raise InputError(
            "study: --metadata must be 'proxy' or 'angle', because these are made for the digits. "
            f"Got {metadata[:80]!r}. Run: spherometer study digits --metadata angle."
        )
    if data is not None and name not in ("local-density", "dense"):
        raise InputError(
            "study: --data must be left out, because only local-density and dense have a choice of data. "
            f"Got {data[:80]!r} with {name[:80]!r}. Run: spherometer study {name}."
        )
    if data is not None and name == "dense" and data not in _SCENES:
        raise InputError(
            "study: --data must be 'multi', 'single' or 'multi,single', because these scenes are what the "
            f"settings are made for. Got {data[:80]!r}. Run: spherometer study dense --data multi,single."
        )
    if data is not None and name == "local-density" and data not in _DATA:
        raise InputError(
            "study: --data must be 'digits', 'mnist' or 'fashion-mnist', because the settings are made for "
            f"these. Got {data[:80]!r}. Run: spherometer study local-density --data digits."
        )
    from spherometer import study as studies

    if name == "local-density":
        label = name if data in (None, "digits") else f"{name}-{data}"
        return partial(studies.run_local_density, data=data or "digits"), label
    if name == "dense":
        return partial(studies.run_dense, data=data or "multi"), name
    if metadata is not None:
        return partial(studies.run_digits_metadata, metadata=metadata), f"digits-{metadata}"
    runs: dict[str, Callable[..., dict[str, Any]]] = {
        "digits": studies.run_digits,
        "text": studies.run_text,
        "diabetes": studies.run_diabetes,
        "brain": studies.run_brain,
    }
    return runs[name], name


def _seeds(name: str, quick: bool) -> int:
    """Of a study of meta-data, if nobody says: its intervals are over seeds."""
    if name in ("local-density", "dense"):
        return 1 if quick else 3
    if not quick:
        return 5
    return 1 if name == "brain" else 2
