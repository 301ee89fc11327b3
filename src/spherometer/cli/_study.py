"""``spherometer study``: train, measure, probe, relate, and write the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spherometer.cli._progress import Progress
from spherometer.errors import InputError


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The study: digits or text.")],
    out: Annotated[
        Path | None, typer.Option(help="Directory of report, results and encoders [default: runs/NAME].")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few short trainings, to see how it works.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat every configuration so many times.")] = 1,
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

    A second run skips what is finished; Ctrl-C keeps it.
    """
    if name not in ("digits", "text"):
        raise InputError(
            "study: NAME must be 'digits' or 'text', because these are the studies there are. "
            f"Got {name[:80]!r}. Run: spherometer study digits."
        )
    from spherometer.study import run_digits, run_text

    run = run_digits if name == "digits" else run_text
    where = out if out is not None else Path("runs") / name
    try:
        with Progress(f"study {name}") as progress:
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
