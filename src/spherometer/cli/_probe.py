"""``spherometer probe``: features and labels in, how well the labels can be read from them out."""

from __future__ import annotations

import enum
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherometer.cli import _conditions
from spherometer.cli._measure_files import memory_of, with_command
from spherometer.cli._probe_rows import Given, Rows, opened, read, refuse

if TYPE_CHECKING:
    from spherometer._results import Measurement
    from spherometer.rows import Embeddings

CHECK_FAILED = 1


class Probe(enum.StrEnum):
    """What is fitted to the features."""

    linear = "linear"
    knn = "knn"
    gcn = "gcn"
    ridge = "ridge"


_NAMES = {Probe.ridge: ("ridge_r2", "ridge_mae")}  # of the others the name is the value


class Nan(enum.StrEnum):
    """What to do with rows that lack a number or a label."""

    drop = "drop"
    refuse = "refuse"


def probe(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Features: .npy .npz .parquet .arrow .feather .safetensors .csv .tsv .jsonl .pt .faiss; "
            "a directory or 'pattern' of shards.",
        ),
    ],
    labels: Annotated[
        str | None, typer.Option(metavar="COL|FILE.npy", help="Classes of the rows: column, array or file.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COL", help="Numbers to predict, such as an age (for ridge).")
    ] = None,
    probes: Annotated[
        list[Probe] | None,
        typer.Option("--probe", help="Repeatable [default: linear and knn; ridge with --target]."),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Array or column that holds the features.")] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COL", help="Ids of the rows, in FILE and in the table.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="A .csv, .tsv or .parquet with labels, target or split of the rows.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Column that says train or test [default: split by chance]."),
    ] = None,
    test_fraction: Annotated[
        float, typer.Option("--test-fraction", help="Share of the rows that is tested on, without --split.")
    ] = 0.2,
    few_labels: Annotated[
        int | None,
        typer.Option("--few-labels", min=1, metavar="N", help="Fit to N of the training labels only."),
    ] = None,
    nan: Annotated[Nan, typer.Option(help="Rows with NaN, or without a label.")] = Nan.refuse,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory for rows.")] = "1GiB",
    seed: Annotated[int, typer.Option(min=0, help="Of the split and of random subsets.")] = 0,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION", help="Exit with 1 if it holds, for instance 'linear<0.9'. Repeatable."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the result as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    trust_size: Annotated[
        bool,
        typer.Option("--trust-size", help="Read archives that unpack to very much more than their size."),
    ] = False,
) -> int:
    """How well can labels be read from the features? Accuracy of probes on rows they were not fitted to.

    Each comes with its 95 % interval and with what guessing gives. Settings of the probes (penalty, number of
    neighbours) are chosen on a part of the training rows, never on test rows. Of more than 20 000 rows a
    random subset is probed.
    """
    conditions = _conditions.parse(fail_if or [], "probe", "linear<0.9")
    budget = memory_of(memory, "probe")
    if not 0 < test_fraction < 1:
        refuse(
            "--test-fraction must lie between 0 and 1", "both sides need rows", f"{test_fraction:g}",
            "Pass for instance --test-fraction 0.2",
        )  # fmt: skip
    given = Given(column, id_column, labels, target, split, table, trust_size)
    stored = opened(file, given, budget)
    asked = _asked(probes, has_labels=stored.labels is not None, has_target=target is not None)
    from spherometer._results import Evaluation, Measurement

    names = [name for one in asked for name in _NAMES.get(one, (one.value,))]
    for condition in conditions:
        condition.holds({name: Measurement(name, 0.0) for name in names})  # a wrong name says so at once
    rows = read(stored, given, nan=nan.value, seed=seed, budget=budget)
    measured, notes = _measured(rows, asked, test_fraction, split, few_labels, seed)
    settings = {"labels": labels, "target": target, "split": split, "seed": seed, "nan": nan.value}
    evaluation = Evaluation(measured, notes=(*stored.notes, *notes), provenance=_provenance(stored, settings))
    failed = [condition for condition in conditions if condition.holds(evaluation)]
    if out is not None:
        from spherometer.stores import write_file

        write_file(out, (evaluation.to_json() + "\n").encode("utf-8"))
    typer.echo(evaluation.to_json() if as_json else str(evaluation))
    for condition in failed:
        typer.echo(f"spherometer: check failed: {condition.text} for {str(file)!r}", err=True)
    return CHECK_FAILED if failed else 0


def _asked(probes: list[Probe] | None, *, has_labels: bool, has_target: bool) -> list[Probe]:
    """The probes, each once; what they need must be there."""
    if not probes:
        classes = [Probe.linear, Probe.knn] if has_labels else []
        return [*classes, *([Probe.ridge] if has_target else [])]
    if Probe.ridge in probes and not has_target:
        refuse(
            "--target must be given with --probe ridge", "it predicts numbers", "none",
            "Pass for instance --target age",
        )  # fmt: skip
    classifier = next((one for one in probes if one != Probe.ridge), None)
    if classifier is not None and not has_labels:
        refuse(
            f"--labels must be given with --probe {classifier.value}", "it predicts classes", "none",
            "Pass for instance --labels class",
        )  # fmt: skip
    return list(dict.fromkeys(probes))


def _measured(
    rows: Rows, asked: list[Probe], fraction: float, split: str | None, few: int | None, seed: int
) -> tuple[dict[str, Measurement], list[str]]:
    """Measurements of each probe, and notes that say how they were made."""
    classes = rows.labels is not None and any(one != Probe.ridge for one in asked)
    if classes:
        _check_classes(rows)
    import numpy as np

    from spherometer.cli import _probe_fits as fits

    train, test = fits.split_of(rows, fraction, seed)
    known = train if few is None else fits.few_of(rows, train, few, seed)
    how = f"column {split!r}" if split else f"{fraction:g} set apart, stratified, seed {seed}"
    of = "" if few is None else f" of {len(train)}"
    notes = [*rows.notes, f"Fitted to {len(known)}{of} rows, tested on {len(test)} others ({how})."]
    if classes and rows.labels is not None:
        there = set(rows.labels[known].tolist())
        if len(there) < 2:
            refuse(
                "the training rows must hold at least 2 classes", "a probe tells them apart",
                f"{', '.join(map(repr, sorted(there)))} alone", "Look at --split and --labels",
            )  # fmt: skip
        if unseen := sorted(set(rows.labels[test].tolist()) - there):
            shown = ", ".join(map(repr, unseen[:5]))
            notes.append(f"{len(unseen)} classes have no training row and count as wrong, e.g. {shown}.")
    found: dict[str, Measurement] = {}
    for one in asked:
        if one == Probe.ridge:
            found |= fits.regressed(rows, known, test, seed)
            name = "ridge_r2"
        else:
            name = one.value
            found[name] = fits.classified(name, rows, known, np.setdiff1d(train, known), test, seed)
        notes.append(_words(one, found[name].settings))
    return found, notes


def _check_classes(rows: Rows) -> None:
    assert rows.labels is not None
    counts = Counter(rows.labels.tolist())
    if len(counts) < 2:
        refuse(
            "labels must hold at least 2 classes", "a probe tells them apart",
            f"{len(counts)} in {len(rows.labels)} rows" + "".join(f" ({name!r})" for name in counts),
            "Name another column",
        )  # fmt: skip
    if max(counts.values()) < 2:
        refuse(
            "labels must name classes that rows share",
            "a class is learned from some rows, tested on others",
            f"{len(counts)} rows, all with different labels", "Pass another column, or numbers as --target",
        )  # fmt: skip


def _words(probe: Probe, settings: Any) -> str:
    """How the settings of a probe came about."""
    names = {"linear": "strength", "knn": "k", "gcn": "temperature", "ridge": "strength"}
    name = names[probe.value]
    return f"{probe.value}: {name} {settings[name]:g}, {settings['chosen']}."


def _provenance(stored: Embeddings, settings: dict[str, Any]) -> Any:
    files = stored.digest()
    stored.check()
    return with_command(
        {
            "files": [{"name": one.name, "num_bytes": one.num_bytes, "sha256": one.sha256} for one in files],
            "rows": stored.shape[0],
            "dimensions": stored.shape[1],
            "stored as": stored.dtype,
            "settings": settings,
        }
    )
