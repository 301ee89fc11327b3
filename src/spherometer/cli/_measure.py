"""``spherometer measure``: files in, every number with its interval and baseline out."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherometer.cli import _conditions
from spherometer.cli._files import Columns, refuse
from spherometer.cli._measure_encoder import EncoderOptions
from spherometer.cli._measure_files import (
    Sides,
    embeddings_of,
    memory_of,
    processes,
    splits_metadata,
    with_command,
)
from spherometer.cli._progress import Progress
from spherometer.errors import InputError

if TYPE_CHECKING:
    from spherometer._results import Evaluation
    from spherometer.cli._metadata import Table

_ABOUT_VALUES = tuple(f"measure: {name} must " for name in ("x", "y", "labels", "metadata"))  # of the file


class Nan(enum.StrEnum):
    """What to do with rows that hold NaN or infinity."""

    drop = "drop"
    refuse = "refuse"


class Missing(enum.StrEnum):
    """What to do with missing meta-data."""

    drop = "drop"
    neutral = "neutral"
    refuse = "refuse"


def measure(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Files of features: .npy .npz .parquet .arrow .feather .safetensors .csv .tsv .jsonl .pt "
            ".faiss; a directory or 'pattern' of shards; with --encoder, data sets.",
        ),
    ],
    column: Annotated[
        str | None, typer.Option(help="Array or column of the features, or the prefix of numbered columns.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(metavar="KEY_OR_FILE", help="Other side of positive pairs: array or file."),
    ] = None,
    views: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two columns that are the sides of positive pairs."),
    ] = None,
    pair_id: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Two rows that share its value are a positive pair.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="KEY_OR_FILE", help="Classes of the rows: array, column, or .npy file."),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE|COLUMNS",
            help="Meta-data of the rows: a .csv or .tsv file (see --kernel), or columns of FILE: age,sex.",
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Columns of the table, for instance age,sex.")
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="How a column is compared: age:gaussian:5, sex:categorical, hour:periodic:2:24. Repeatable.",
        ),
    ] = None,
    missing: Annotated[
        Missing | None, typer.Option(help="Rows or entries without meta-data [default: refuse].")
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option("--id", metavar="NAME", help="Ids, in the file and in the table; else by position."),
    ] = None,
    bandwidth_curve: Annotated[
        bool, typer.Option("--bandwidth-curve", help="Repeat the conditional measures over bandwidths.")
    ] = False,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Measure what this encoder makes of images, cell by cell, too: encoder.safetensors, "
            "efficientnet:lite0, timm:NAME, ... FILEs are data sets as for train.",
        ),
    ] = None,
    augment: Annotated[
        str | None, typer.Option(metavar="PRESET", help="With --encoder: how its two views are made.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="With --encoder: side of the views in pixels.")] = None,
    matching: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="With --encoder: geometric, similarity, index, random."),
    ] = None,
    t: Annotated[float, typer.Option("--t", help="Sharpness of the Gaussian potential of uniformity.")] = 2.0,
    alpha: Annotated[float, typer.Option(help="Power of the distance in alignment.")] = 2.0,
    normalize: Annotated[
        bool,
        typer.Option("--normalize/--no-normalize", help="Scale rows to length 1; or check that they are."),
    ] = True,
    nan: Annotated[Nan, typer.Option(help="Rows with NaN or infinity.")] = Nan.refuse,
    exact: Annotated[
        bool, typer.Option("--exact", help="All pairs of more than 20 000 rows, instead of an estimate.")
    ] = False,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory for rows.")] = "1GiB",
    seed: Annotated[int, typer.Option(min=0, help="Of the rows that an estimate draws.")] = 0,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION", help="Exit with 1 if it holds, for instance 'uniformity>-2'. Repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the result as JSON: a file, or a directory for several files.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="PAGE.html", help="Write one page: summary, figures, tables, origin."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    trust_size: Annotated[
        bool,
        typer.Option("--trust-size", help="Read archives that unpack to very much more than their size."),
    ] = False,
) -> int:
    """Measure features: alignment, uniformity, ranks, each with interval and baseline.

    An .npz with arrays x and y (or z1 and z2) gives positive pairs, one named labels gives classes, one named
    ids the rows of the --metadata table. Classes are also said to be locally dense, globally dense, both or
    neither. With --encoder: two views of the images of a data set.
    """
    conditions = _conditions.parse(fail_if or [])
    targets = _targets(files, out)
    asked = EncoderOptions(encoder, augment, size, matching)
    asked.check()
    beside, inside = splits_metadata(metadata)
    given = beside is not None or inside is not None
    table = _table(beside, columns, kernel or [], id_column, missing, bandwidth_curve, given)
    arrays = Columns(column, pairs, labels, trust_size, id_column, beside is not None or report is not None)
    sides = Sides(views, pair_id)
    if encoder is not None and sides.given:
        refuse(
            "--views and --pair-id must be left out with --encoder", "the two views are made of the images",
            "one of them", "Say with --augment how they are made",
        )  # fmt: skip
    budget = memory_of(memory)
    evaluations = []
    with processes() as speaks, Progress("measure") as progress:
        for path in files:
            if encoder is not None:
                evaluations.append(asked.measure(path))
                continue
            stored = embeddings_of(path, arrays, sides, inside, budget)
            from spherometer._measure import measure as measured  # after the file: its faults show at once

            try:
                ids = None if stored.ids is None else list(stored.ids)
                values, notes = (None, []) if table is None else table.rows(path, len(stored), ids)
                evaluation = measured(
                    stored, metadata=values, kernel=None if table is None else table.kernel(),
                    bandwidth_curve=bandwidth_curve, t=t, alpha=alpha, nan=nan.value, normalize=normalize,
                    exact=exact, budget=budget, seed=seed, portrait=report is not None,
                    progress=progress if speaks else None,
                )  # fmt: skip
                evaluation.notes += tuple(notes)
                evaluation.provenance = with_command(evaluation.provenance)
            except InputError as error:
                if len(files) == 1:
                    if path.name in str(error) or not str(error).startswith(_ABOUT_VALUES):
                        raise
                    raise type(error)(f"{error} File: {str(path)!r}.") from error
                raise type(error)(f"{str(path)!r}: {error}") from error  # which of them
            evaluations.append(evaluation)
    failed = [
        (path, condition)
        for path, evaluation in zip(files, evaluations, strict=True)
        for condition in conditions
        if condition.holds(evaluation)
    ]
    if not speaks:
        return 1 if failed else 0
    _save(targets, evaluations)
    if report is not None:
        from spherometer.report import write_evaluations

        named = [(path.stem, one) for path, one in zip(files, evaluations, strict=True)]
        typer.echo(f"page: {write_evaluations(named, report)}", err=True)
    _show(files, evaluations, as_json)
    for path, condition in failed:
        typer.echo(f"spherometer: check failed: {condition.text} for {str(path)!r}", err=True)
    return 1 if failed else 0


def _table(
    path: Path | None,
    columns: str | None,
    kernels: list[str],
    id_column: str | None,
    missing: Missing | None,
    curve: bool,
    inside: bool,
) -> Table | None:
    """The table of meta-data, or None; options that need it are refused without it."""
    if path is None:
        given = {
            "--columns": columns is not None,
            "--kernel": bool(kernels),
            "--missing": missing is not None,
            "--bandwidth-curve": curve and not inside,
        }
        for option in (name for name, there in given.items() if there):
            refuse(
                f"--metadata must be given with {option}",
                "it says something about the table",
                "no table",
                "Pass for instance --metadata participants.tsv",
            )
        return None
    from spherometer.cli._metadata import open_table

    return open_table(
        path, columns=columns, kernels=kernels, id_column=id_column, missing=(missing or Missing.refuse).value
    )


def _targets(files: list[Path], out: Path | None) -> list[Path]:
    """Where each result goes; nothing when there is no --out."""
    if out is None:
        return []
    if len(files) == 1 and not out.is_dir():
        return [out]
    names = [f"{path.stem}.json" for path in files]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        refuse(
            "FILEs must have different names when --out is given",
            "each result gets the name of its file",
            f"two results named {twice!r}",
            "Measure them one by one",
        )
    return [out / name for name in names]


def _save(targets: list[Path], evaluations: list[Evaluation]) -> None:
    if targets:
        from spherometer.stores import write_file

        for path, evaluation in zip(targets, evaluations, strict=True):
            write_file(path, (evaluation.to_json() + "\n").encode("utf-8"))


def _show(files: list[Path], evaluations: list[Evaluation], as_json: bool) -> None:
    if as_json and len(files) == 1:
        typer.echo(evaluations[0].to_json())
        return
    if as_json:
        import json

        named = [{"file": str(path), **one.to_dict()} for path, one in zip(files, evaluations, strict=True)]
        typer.echo(json.dumps(named, indent=2, allow_nan=False))
        return
    for index, (path, evaluation) in enumerate(zip(files, evaluations, strict=True)):
        if len(files) > 1:
            typer.echo(f"{'' if index == 0 else chr(10)}{path}")
        typer.echo(str(evaluation))
