"""``spherometer train``: one encoder, from a recipe or options, into a directory."""

from __future__ import annotations

import enum
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherometer.cli._progress import Progress

if TYPE_CHECKING:
    from spherometer.training import Recipe


class Precision(enum.StrEnum):
    """Of the encoder's arithmetic."""

    no = "no"
    bf16 = "bf16"
    fp16 = "fp16"


def train(
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings; options go before it.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="What to train on [default: digits].")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="align_uniform, info_nce, nt_xent, sup_con, decoupled_uniformity, hyperspherical_energy, "
            "y-aware, conditional-align-uniform, dense-info-nce, dense-align-uniform, supervised "
            "[default: align_uniform].",
        ),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(metavar="COLUMNS", help="Meta-data to compare and to probe, such as age,sex."),
    ] = None,
    metadata_file: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Table of meta-data, for images.")
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN:KIND[:BANDWIDTH]",
            help="How a column is compared, such as age:gaussian:5. Repeatable [default: by the column].",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="conv, small_alexnet, resnet18, ... [default: by the data]."),
    ] = None,
    dim: Annotated[int | None, typer.Option(help="Output coordinates [default: 128].")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data [default: 100].")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, instead of epochs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall time, alone or as a bound.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pairs per step, over all processes [default: 256].")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The largest one [default: 0.003].")] = None,
    optimizer: Annotated[str | None, typer.Option(metavar="NAME", help="adamw, sgd, lars.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the contrastive losses [default: 0.5].")
    ] = None,
    align_weight: Annotated[float | None, typer.Option(help="Of the alignment term [default: 1].")] = None,
    uniform_weight: Annotated[
        float | None, typer.Option(help="Of uniformity or energy [default: 1].")
    ] = None,
    t: Annotated[float | None, typer.Option("--t", help="Of uniformity [default: 2].")] = None,
    alpha: Annotated[float | None, typer.Option(help="Power of the alignment [default: 2].")] = None,
    matching: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Of the dense losses: geometric, similarity, index, random."),
    ] = None,
    dense_weight: Annotated[
        float | None, typer.Option(help="Share of the cells in a dense loss [default: 0.5].")
    ] = None,
    queue: Annotated[int | None, typer.Option(help="Keys of a momentum encoder that are kept.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of the momentum encoder, such as 0.99.")] = None,
    cached_batch: Annotated[
        int | None, typer.Option(help="Samples in memory at a time; same gradient.")
    ] = None,
    views: Annotated[
        str | None, typer.Option(metavar="PRESET", help="Augmentations [default: by the data].")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the views in pixels.")] = None,
    voxel_size: Annotated[float | None, typer.Option(help="Edge of the voxels of volumes, mm.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and views [default: 0].")] = None,
    precision: Annotated[Precision | None, typer.Option(help="Mixed precision.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read samples.")] = None,
    tracker: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="tensorboard, wandb, mlflow, ... Repeatable.")
    ] = None,
    skip_bad: Annotated[int | None, typer.Option(help="Unreadable samples that are left out.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets are.")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch a public data set that is missing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Directory of this run [default: runs/DATA-LOSS].")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto: a GPU if there is one.")] = "auto",
    probe: Annotated[
        bool, typer.Option("--probe", help="Probe the encoder, the untrained one, and raw pixels or voxels.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> int:
    """Train an encoder: measured, watched, saved, and the same command goes on where it stopped.

    Several processes: torchrun --nproc-per-node 2 -m spherometer train ...
    """  # fmt: skip
    given = {
        ("data", "name"): data,
        ("data", "views"): views,
        ("data", "size"): size,
        ("data", "voxel_size"): voxel_size,
        ("data", "metadata"): None if metadata is None else [each.strip() for each in metadata.split(",")],
        ("data", "skip_bad"): skip_bad,
        ("data", "data_dir"): None if data_dir is None else str(data_dir),
        ("data", "metadata_file"): None if metadata_file is None else str(metadata_file),
        ("encoder", "name"): encoder,
        ("encoder", "dim"): dim,
        ("method", "name"): None if loss is None else loss.replace("-", "_"),
        ("method", "kernel"): kernel or None,
        ("method", "temperature"): temperature,
        ("method", "align_weight"): align_weight,
        ("method", "uniform_weight"): uniform_weight,
        ("method", "t"): t,
        ("method", "alpha"): alpha,
        ("method", "matching"): matching,
        ("method", "dense_weight"): dense_weight,
        ("method", "queue"): queue,
        ("method", "momentum"): momentum,
        ("optimizer", "name"): optimizer,
        ("optimizer", "learning_rate"): learning_rate,
        ("run", "epochs"): epochs,
        ("run", "steps"): steps,
        ("run", "minutes"): minutes,
        ("run", "batch_size"): batch_size,
        ("run", "seed"): seed,
        ("run", "precision"): None if precision is None else precision.value,
        ("run", "workers"): workers,
        ("run", "cached_batch"): cached_batch,
        ("log", "trackers"): tracker or None,
    }
    settings = _settings(recipe, {key: value for key, value in given.items() if value is not None})
    where = out if out is not None else Path("runs") / _name(settings)
    return _run(settings, where, as_json, device=device, probe=probe, download=download)


def _settings(file: Path | None, given: dict[tuple[str, str], Any]) -> Recipe:
    """The recipe of the file with the options put in; how long a run is comes from one of them as a whole."""
    from spherometer.training import read_recipe, recipe_from_dict

    content = {} if file is None else read_recipe(file)
    lengths = ("epochs", "steps", "minutes")
    if any(("run", name) in given for name in lengths) and isinstance(content.get("run"), dict):
        content["run"] = {key: value for key, value in content["run"].items() if key not in lengths}
    for (section, key), value in given.items():
        content.setdefault(section, {})
        if isinstance(content[section], dict):
            content[section][key] = value
    return recipe_from_dict(content)


def _name(settings: Recipe) -> str:
    """Of a run whose directory was not named."""
    data = "".join(
        letter if letter.isalnum() or letter in "._-" else "-" for letter in Path(settings.data.name).name
    )
    return f"{data[:60].strip('.') or 'data'}-{settings.method.name}"


def _run(settings: Recipe, out: Path, as_json: bool, **how: Any) -> int:
    from spherometer.training import ProcessLost, TrainingFailed, run_training

    talks = os.environ.get("RANK", "0") == "0"
    command = shlex.join(["spherometer", *sys.argv[1:]])

    def say(words: str) -> None:
        if talks:
            typer.echo(f"train: {words}", err=True)

    try:
        if talks:
            with Progress("train") as progress, _warnings_as_lines(say):
                ending = run_training(settings, out, **how, progress=progress, say=say)
        else:
            with _warnings_as_lines(say):
                ending = run_training(settings, out, **how)
    except TrainingFailed as error:
        if talks or isinstance(error, ProcessLost):
            typer.echo(str(error), err=True)
        raise SystemExit(1) from None
    except (KeyboardInterrupt, SystemExit):  # before the first step, or after the last one
        say(f"interrupted; what is saved stays, and the same command goes on: {command}")
        raise
    if not talks:
        return ending.exit_code
    if ending.exit_code:
        say(f"interrupted after step {ending.steps}, which is saved; the same command goes on: {command}")
        raise SystemExit(ending.exit_code)
    assert ending.results is not None
    if ending.already:
        say(f"the run in {out} is finished: {ending.steps} steps")
    if as_json:
        typer.echo(json.dumps(ending.results, indent=2, sort_keys=True, allow_nan=False))
    else:
        _show(ending.results, out)
    return 0


@contextmanager
def _warnings_as_lines(say: Callable[[str], None]) -> Iterator[None]:
    """Our own warnings as lines for people; those of others as they are."""
    with warnings.catch_warnings():
        shown = warnings.showwarning
        said: set[str] = set()

        def show(message: Warning | str, category: type[Warning], *more: Any, **others: Any) -> None:
            if category.__module__.startswith("spherometer."):
                if str(message) not in said:
                    say(str(message))
                said.add(str(message))
            else:
                shown(message, category, *more, **others)

        warnings.showwarning = show
        yield


def _with_interval(score: dict[str, Any], key: str = "value") -> str:
    interval = score["interval"]
    return f"{score[key]:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def _show(results: dict[str, Any], out: Path) -> None:
    curve = results["curve"]
    last = f", loss {curve[-1][1]:.4f}" if curve else ""
    typer.echo(f"{results['steps']} steps, {results['seconds']:.0f} s{last}")
    plain = ("alignment", "uniformity", "dense_alignment", "dense_uniformity")
    shown = (*plain, "conditional_alignment", "conditional_uniformity")
    for name in (*shown, "normalized_uniformity", "effective_rank"):
        if name in results["metrics"]["values"]:
            typer.echo(f"{name:>22} {results['metrics']['values'][name]['value']:.4f}")
    for name, found in results.get("probes", {}).items():
        for feature, scores in found.get("features", {}).items():
            words = ", ".join(
                f"{kind} {_with_interval(scores[kind], 'accuracy')}" for kind in ("linear", "knn")
            )
            typer.echo(f"{name:>12} {feature:<12} {words}")
        for column, probed in found.get("metadata", {}).get("columns", {}).items():
            for feature, scores in probed["features"].items():
                if probed["kind"] == "number":
                    ridge = scores["ridge"]
                    words = f"R2 {_with_interval(ridge['r2'])}, MAE {_with_interval(ridge['mae'])}"
                else:
                    words = f"linear {_with_interval(scores['linear'], 'accuracy')}"
                typer.echo(f"{name:>12} {feature:<12} {column}: {words}")
    for alarm in results["alarms"]:
        typer.echo(f"{'alarm':>12} step {alarm['step']}: {alarm['kind']}")
    typer.echo(str(out / "results.json"))
