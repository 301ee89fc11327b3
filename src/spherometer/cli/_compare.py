"""``spherometer compare``: two files of features in, differences with verdicts out."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from spherometer.errors import InputError

CHECK_FAILED = 1


class Nan(enum.StrEnum):
    """What to do with rows that hold NaN or infinity."""

    drop = "drop"
    refuse = "refuse"


class Missing(enum.StrEnum):
    """What to do with ids that one file lacks."""

    drop = "drop"
    refuse = "refuse"


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Features of the old model.")],
    b: Annotated[
        Path, typer.Argument(metavar="B", help="Features of the new model; verdicts are of this one.")
    ],
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COL", help="Ids of the rows; they are joined by it.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Array or column that holds the features.")] = None,
    views: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="Two columns: sides of positive pairs.")
    ] = None,
    pair_id: Annotated[
        str | None, typer.Option("--pair-id", metavar="COL", help="Rows that share it are a positive pair.")
    ] = None,
    labels: Annotated[str | None, typer.Option(metavar="COL", help="Classes of the rows.")] = None,
    paired: Annotated[
        bool | None,
        typer.Option("--paired/--unpaired", help="Same samples, or independent ones [default: by the ids]."),
    ] = None,
    drift: Annotated[
        bool | None,
        typer.Option(
            "--drift/--no-drift", help="Whether both come from the same law [default: if unpaired]."
        ),
    ] = None,
    missing: Annotated[Missing, typer.Option(help="Ids that one file lacks.")] = Missing.refuse,
    t: Annotated[float, typer.Option("--t", help="Sharpness of the Gaussian potential of uniformity.")] = 2.0,
    alpha: Annotated[float, typer.Option(help="Power of the distance in alignment.")] = 2.0,
    nan: Annotated[Nan, typer.Option(help="Rows with NaN or infinity.")] = Nan.refuse,
    seed: Annotated[int, typer.Option(help="Of random subsets and regroupings.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the result as JSON.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="PAGE.html", help="Write one page that shows the result.")
    ] = None,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Exit 1 where B is worse, or better only on one axis.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Is the new model better? Differences with 95 % intervals, a verdict for each metric, and drift.

    Rows are joined by id where both files have ids; they are then the same samples, and compared as such.
    """
    given = {"column": column, "id": id_column, "labels": labels, "views": views, "pair_id": pair_id}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    from spherometer import stores
    from spherometer._compare import compare as compared
    from spherometer.cli._progress import Progress

    sides = [stores.open(path, **options) for path in (a, b)]
    names = (a.name, b.name) if a.name != b.name else (str(a), str(b))
    with Progress("compare") as progress:
        try:
            found = compared(
                *sides,
                names=names,
                paired="auto" if paired is None else paired,
                drift="auto" if drift is None else drift,
                missing=missing.value,
                t=t,
                alpha=alpha,
                nan=nan.value,
                seed=seed,
                progress=progress,
            )
        except InputError as error:
            for name, path in (("a", a), ("b", b)):
                if str(error).startswith(f"compare: {name} must ") and path.name not in str(error):
                    raise type(error)(f"{error} File: {str(path)!r}.") from error
            raise
    if out is not None:
        stores.write_file(out, (found.to_json() + "\n").encode("utf-8"))
    if report is not None:
        from spherometer.report import write_comparison

        write_comparison(found, report)
    typer.echo(found.to_json() if as_json else str(found))
    return CHECK_FAILED if fail_if_worse and found.verdict in ("worse", "mixed") else 0
