"""``spherometer select``: a directory of encoders' features in, a ranked table out."""

from __future__ import annotations

import enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from spherometer.errors import InputError


class Criterion(enum.StrEnum):
    """What candidates are ranked by."""

    sum = "sum"
    info_nce = "info_nce"
    alignment = "alignment"
    uniformity = "uniformity"
    rankme = "rankme"
    alpha_req = "alpha_req"
    lidar = "lidar"


class Nan(enum.StrEnum):
    """What to do with rows that hold NaN or infinity."""

    drop = "drop"
    refuse = "refuse"


def select(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR", help="Directory of feature files (or of evaluations), or several such files."
        ),
    ],
    performance: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Known results: .csv or .tsv, name and result; judges criteria."),
    ] = None,
    criterion: Annotated[
        Criterion | None,
        typer.Option(help="Rank by this [default: sum with positive pairs, else rankme]."),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Array or column that holds the features.")] = None,
    views: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="Two columns: sides of positive pairs.")
    ] = None,
    pair_id: Annotated[
        str | None, typer.Option("--pair-id", metavar="COL", help="Rows that share it are a positive pair.")
    ] = None,
    labels: Annotated[str | None, typer.Option(metavar="COL", help="Classes of the rows.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", metavar="COL", help="Ids of the rows.")] = None,
    temperature: Annotated[float, typer.Option(help="Of the InfoNCE loss.")] = 0.2,
    t: Annotated[float, typer.Option("--t", help="Sharpness of the Gaussian potential of uniformity.")] = 2.0,
    alpha: Annotated[float, typer.Option(help="Power of the distance in alignment.")] = 2.0,
    nan: Annotated[Nan, typer.Option(help="Rows with NaN or infinity.")] = Nan.refuse,
    seed: Annotated[int, typer.Option(help="Of random subsets and bootstraps.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the result as JSON.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="PAGE.html", help="Write one page that shows the result.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    trust_size: Annotated[
        bool,
        typer.Option("--trust-size", help="Read archives that unpack to very much more than their size."),
    ] = False,
) -> int:
    """Rank encoders without labels: which checkpoint, which model?

    Every file is a candidate; an .npz with arrays x and y (or z1 and z2) holds positive pairs. Names such as
    run/step=100 or epoch_03 give trajectories. With --performance the table also says how good every
    criterion would have been.
    """
    options: dict[str, Any] = {
        "column": column,
        "id": id_column,
        "labels": labels,
        "views": views,
        "pair_id": pair_id,
    }
    if trust_size:
        options["trust_size"] = True
    candidates = _candidates(places, options, performance)
    from spherometer._select import select as ranked
    from spherometer.cli._progress import Progress

    with Progress("select") as progress:
        found = ranked(
            candidates,
            performance=performance,
            criterion=None if criterion is None else criterion.value,
            temperature=temperature,
            t=t,
            alpha=alpha,
            nan=nan.value,
            seed=seed,
            progress=progress,
        )
    if out is not None:
        from spherometer.stores import write_file

        write_file(out, (found.to_json() + "\n").encode("utf-8"))
    if report is not None:
        from spherometer.report import write_selection

        write_selection(found, report)
    typer.echo(found.to_json() if as_json else str(found))
    return 0


def _candidates(places: list[Path], options: dict[str, Any], performance: Path | None) -> dict[str, Any]:
    """Name -> how it is opened; nothing is read before its turn."""
    from spherometer._select._names import candidates_of

    if len(places) == 1 and not places[0].is_dir():
        raise InputError(
            "select: DIR must be a directory, or several files, because several candidates are compared. "
            f"Got the single path {str(places[0])!r}. Put one file for each encoder into a directory."
        )
    if len(places) == 1:
        paths, _ = candidates_of(places[0], performance)
    else:
        paths = {path.with_suffix("").as_posix(): path for path in places}
        if len(paths) < len(places):
            raise InputError(
                "select: DIR must be files of different names, because each candidate is called by its file "
                f"name without its ending. Got {len(places)} files, {len(paths)} names. Rename one."
            )
    given = {name: value for name, value in options.items() if value is not None}
    return {
        name: path if path.suffix.lower() == ".json" else partial(_opened, path, given)
        for name, path in paths.items()
    }


def _opened(path: Path, options: dict[str, Any]) -> Any:
    from spherometer import stores

    if not {"views", "pair_id", "column"} & set(options):
        views = stores.usual_views(path, trust_size=options.get("trust_size", False))
        options = options if views is None else {**options, "views": views}
    return stores.open(path, **options)
