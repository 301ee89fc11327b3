"""A whole run in a directory: data, encoder, method, the loop, checkpoints, log, and results.

The directory holds ``recipe.toml``, ``log.jsonl``, ``checkpoints/``, and when the run is over
``encoder.safetensors`` and ``results.json``. The same call goes on from the newest checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spherometer import _checks
from spherometer.errors import InputError, LostProcessError, SpherometerError
from spherometer.stores import sweep_temporaries, write_file
from spherometer.training._begin import Probed, check_places, open_probed, open_views, start_encoder
from spherometer.training._checkpoints import Checkpoints
from spherometer.training._encoder import Encoder
from spherometer.training._files import save_encoder
from spherometer.training._finish import measured, probed, versions
from spherometer.training._interrupt import Interruption, on_first_rank
from spherometer.training._learner import Learner, LossNotFinite
from spherometer.training._logging import RunLog
from spherometer.training._loop import Clock, PairedViews, Step, steps
from spherometer.training._machine import Machine, open_machine
from spherometer.training._metadata import Conditioning, condition
from spherometer.training._methods import build_method
from spherometer.training._recipe import Recipe
from spherometer.training._state import pack, unpack
from spherometer.training._toml import differences, recipe_to_dict, write_recipe
from spherometer.training._watch import Watch

SCHEMA = "spherometer.train/1"
_LOST = ("gloo", "NCCL", "onnection", "imed out")  # what exchanges with the dead say


class TrainingFailed(SpherometerError):
    """The loss became NaN or infinite; the last checkpoint is from before."""


class ProcessLost(TrainingFailed):
    """Another process of the run ended or no longer answers."""


@dataclass(frozen=True)
class Ending:
    """How a run ended: its results (in the main process), or after which signal it stopped."""

    results: dict[str, Any] | None
    steps: int
    exit_code: int = 0
    already: bool = False  # it had been finished before


@dataclass
class _Run:
    """What a run has and does, in one process."""

    recipe: Recipe
    out: Path
    machine: Machine
    views: PairedViews
    learner: Learner
    clock: Clock
    store: Checkpoints
    watch: Watch | None
    say: Callable[[str], None]
    conditions: Conditioning | None = None
    log: RunLog | None = None
    saved: int = -1
    losses: list[float] = field(default_factory=list)  # since the last checkpoint that was due

    def resume(self) -> None:
        """Take the state of the newest checkpoint, if there is one."""
        found = self.store.newest()
        state = None if found is None else unpack(found.tensors, found.state)
        start = -1.0 if state is None else float(state["learner"]["steps"])
        if self.machine.largest(start, -start) != [start, -start]:
            _refuse("out", "be one directory for all processes", "all go on from one checkpoint",
                    f"different ones in {str(self.out)!r}", "Use a file system that all share")  # fmt: skip
        if state is not None:
            self._check(state)
            self.learner.load_state(state["learner"])
            self.clock = Clock(len(self.views), self.recipe.run, state["seconds"])
            if self.watch is not None and state["watch"] is not None:
                self.watch.load_state(state["watch"])
            self.saved, self.losses = self.learner.steps, state["losses"]
            if self.machine.is_main:
                self.say(f"going on after step {self.saved}")
        on_first_rank(
            self._open, rank=self.machine.rank, world=self.machine.world, device=self.machine.device
        )

    def _open(self) -> None:
        write_file(self.out / "recipe.toml", write_recipe(self.recipe).encode())
        self.log = RunLog(self.out / "log.jsonl", self.learner.steps)

    def _check(self, state: dict[str, Any]) -> None:
        changed = differences(state["recipe"], recipe_to_dict(self.recipe))
        if state["data"] != self.views.fingerprint():
            changed.append(f"the data were {state['data'][:12]} and are {self.views.fingerprint()[:12]}")
        if state["world"] != self.machine.world:
            changed.append(f"the number of processes was {state['world']} and is {self.machine.world}")
        if changed:
            refuse_other(self.out, changed)

    def save(self, *, due: bool = True) -> None:
        """Write a checkpoint; the processes wait for each other.

        One that an interruption asks for is not ``due``: it keeps the losses so far and has no score.
        """
        if self.saved == self.learner.steps:
            return
        score = sum(self.losses) / len(self.losses) if self.losses and due else None
        self.losses = [] if due else self.losses
        machine = self.machine
        on_first_rank(
            lambda: self._write(score), rank=machine.rank, world=machine.world, device=machine.device
        )
        self.saved = self.learner.steps

    def _write(self, score: float | None) -> None:
        state = {
            "learner": self.learner.state(),
            "recipe": recipe_to_dict(self.recipe),
            "data": self.views.fingerprint(),
            "world": self.machine.world,
            "seconds": self.clock.seconds,
            "losses": self.losses,
            "watch": None if self.watch is None else self.watch.state(),
        }
        self.store.save(self.learner.steps, *pack(state), score=score)

    def note(self, step: Step) -> None:
        """Monitor, log and trackers."""
        self.losses.append(step.outcome.loss)
        readings = {} if self.watch is None else self.watch.read(step)
        last = self.clock.num_steps == step.done
        if not (last or readings or step.done % self.recipe.log.every == 0) or self.log is None:
            return
        line: dict[str, Any] = {
            "step": step.done,
            "epoch": step.epoch,
            "loss": step.outcome.loss,
            "rate": step.rate,
            "seconds": round(step.seconds, 3),
            "terms": step.outcome.numbers(),
        }
        if readings:
            line["monitor"] = readings
        self.log.write(line)
        numbers = {"loss": step.outcome.loss, "rate": step.rate, **line["terms"], **line.get("monitor", {})}
        self.machine.track(numbers, step.done)


def run_training(
    recipe: Recipe,
    out: Path | str,
    *,
    device: str = "auto",
    probe: bool = False,
    download: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, words: None,
    say: Callable[[str], None] = lambda words: None,
) -> Ending:
    """Train as the recipe says, into the directory ``out``; go on from what is there.

    Args:
        recipe: all numbers.
        out: directory of this run alone.
        device: "auto", "cpu", "cuda", ...
        probe: also probe the encoder, the untrained one, and the raw pixels or voxels; data without parts are
            refused.
        download: fetch the data if they are missing and public.
        progress: called with (done, total, words): steps, or seconds when only minutes bound the run.
        say: called with a line for people.

    Returns:
        The results, or that the run was interrupted.

    Raises:
        InputError: unusable data, settings, or a directory with a different run.
        TrainingFailed: the loss became NaN or infinite, before any weight changed by it; or (ProcessLost)
            another process is gone.
    """
    out = Path(out)
    ended = finished(out, recipe, probe)
    if ended is not None:
        _check_same_data(out, recipe, ended)
        return ended
    views = open_views(recipe, download=download)
    check_places(recipe, views)
    conditions = condition(recipe, views)
    parts = open_probed(recipe, views, download=download) if probe else None
    machine = open_machine(
        device, recipe.run.precision, trackers=recipe.log.trackers, directory=out / "trackers"
    )
    try:
        encoder, ending, run = _train(recipe, out, machine, views, conditions, progress, say)
    finally:
        machine.close()
    if ending.exit_code or not machine.is_main:
        return ending
    results = _results(run, encoder, parts, say, download)
    content = json.dumps(results, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
    write_file(out / "results.json", content)
    return Ending(results, ending.steps)


def _train(
    recipe: Recipe,
    out: Path,
    machine: Machine,
    views: PairedViews,
    conditions: Conditioning | None,
    progress: Callable[[int, int, str], None],
    say: Callable[[str], None],
) -> tuple[Encoder, Ending, _Run]:
    encoder = start_encoder(recipe, views)
    method = build_method(
        recipe.method,
        encoder,
        dim=recipe.encoder.dim,
        labels=views.labels,
        seed=recipe.run.seed,
        world=machine.world,
        autocast=machine.autocast,
        conditions=conditions,
    )
    learner = Learner(method, recipe, machine)
    clock = Clock(len(views), recipe.run)
    keep = recipe.checkpoints
    opened: list[Checkpoints] = []

    def open_store() -> None:
        sweep_temporaries(out)
        opened.append(Checkpoints(out / "checkpoints", keep_last=keep.keep_last, keep_best=keep.keep_best))

    on_first_rank(open_store, rank=machine.rank, world=machine.world, device=machine.device)
    store = opened[0] if opened else Checkpoints(out / "checkpoints", writer=False)
    watch = Watch(recipe, encoder, say) if recipe.monitor.every and machine.is_main else None
    run = _Run(recipe, out, machine, views, learner, clock, store, watch, say, conditions)
    run.resume()
    machine.start_trackers(_flat(recipe_to_dict(recipe)))
    every = keep.every_steps or run.clock.per_epoch
    with Interruption() as interruption:
        try:
            if run.saved < 0:
                run.save()  # so that there is always one
            for step in steps(learner, views, recipe, run.clock, interruption=interruption):
                run.note(step)
                progress(*_how_far(run.clock, step))
                if step.done % every == 0:
                    run.save()
            run.save(due=interruption.signal is None)
        except LossNotFinite as error:
            raise TrainingFailed(_words(error, run)) from None
        except RuntimeError as error:
            lost = isinstance(error, LostProcessError) or any(word in str(error) for word in _LOST)
            if machine.world == 1 or not lost:
                raise
            raise ProcessLost(_lost(error, run)) from error
    code = interruption.exit_code
    return encoder, Ending(None, learner.steps, code), run


def _how_far(clock: Clock, step: Step) -> tuple[int, int, str]:
    words = f"loss {step.outcome.loss:.4f}"
    if clock.num_steps is not None:
        return step.done, clock.num_steps, f"steps, {words}"
    assert clock.run.minutes is not None
    total = round(60 * clock.run.minutes)
    return min(total, int(step.seconds)), total, f"seconds, step {step.done}, {words}"


def _words(error: LossNotFinite, run: _Run) -> str:
    terms = ", ".join(f"{name} {value:g}" for name, value in error.terms.items())
    return (
        f"train: the loss must stay finite, because the weights follow it. Got {error.value} in step "
        f"{run.learner.steps + 1}{f' ({terms})' if terms else ''}; the checkpoint of step {run.saved} is "
        "kept. Lower the learning rate, or clip the gradient."
    )


def _lost(error: RuntimeError, run: _Run) -> str:
    machine = run.machine
    other = f"rank {1 - machine.rank}" if machine.world == 2 else f"one of the {machine.world} processes"
    return (
        "train: every process must stay alive, because all exchange numbers in every step. Got no answer "
        f"from {other} in step {run.learner.steps + 1} ({' '.join(str(error).split())[-160:]}); "
        f"the checkpoint of step {run.saved} is kept. See what that process said, and start all "
        "with the same command."
    )


def _results(
    run: _Run, encoder: Encoder, parts: Probed | None, say: Callable[[str], None], download: bool
) -> dict[str, Any]:
    recipe, device = run.recipe, run.machine.device
    encoder.eval()
    notes = {"recipe": recipe_to_dict(recipe), "steps": run.learner.steps}
    save_encoder(encoder, run.out / "encoder.safetensors", notes=notes)
    say("measuring")
    results = {
        "schema": SCHEMA,
        "recipe": recipe_to_dict(recipe),
        "data": {
            "name": getattr(run.views, "name", recipe.data.name),
            "num": len(run.views),
            "fingerprint": run.views.fingerprint(),
        },
        "encoder": {"kind": encoder.kind, "parameters": sum(each.numel() for each in encoder.parameters())},
        "versions": versions(),
        "processes": run.machine.processes,
        "device": device.type,
        "steps": run.learner.steps,
        "epochs": round(run.learner.steps / run.clock.per_epoch, 3),
        "seconds": round(run.clock.seconds, 3),
        "curve": [[line["step"], line["loss"]] for line in (run.log.lines if run.log else [])],
        "metrics": measured(encoder, recipe, run.views, device, download=download, conditions=run.conditions),
        "alarms": [] if run.watch is None else run.watch.alarms,
    }
    if run.conditions is not None:
        results["metadata"] = run.conditions.to_dict()
    if parts is not None:
        say("probing the encoder, the untrained one, and the raw values")
        results["probes"] = probed(encoder, start_encoder(recipe, run.views), parts, device)
    return results


def finished(out: Path, recipe: Recipe, probe: bool) -> Ending | None:
    """The ending of a run that was finished before, None when there is something left to do.

    Raises:
        InputError: the directory holds the results of another recipe.
    """
    try:
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
        before = results["recipe"]
        whole = results["schema"] == SCHEMA
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _refuse("out", "hold results that can be read", "a finished run is not trained again",
                f"{type(error).__name__} in {str(out / 'results.json')!r}", "Remove that file")  # fmt: skip
    if not whole:
        _refuse("out", f"hold results of {SCHEMA}", "it belongs to one run",
                f"{str(results['schema'])[:40]!r} in {str(out)!r}", "Choose another directory")  # fmt: skip
    changed = differences(before, recipe_to_dict(recipe))
    if changed:
        refuse_other(out, changed)
    if probe and "probes" not in results:
        return None  # the loop has nothing to do, and the probing follows
    return Ending(results, results["steps"], already=True)


def _check_same_data(out: Path, recipe: Recipe, ended: Ending) -> None:
    """Refuse results of other data under the same name; data that are gone leave the results as they are."""
    assert ended.results is not None
    before = str(ended.results["data"]["fingerprint"])
    try:
        now = open_views(recipe).fingerprint()
    except InputError:
        return
    if now != before:
        refuse_other(out, [f"the data were {before[:12]} and are {now[:12]}"])


def refuse_other(out: Path, changed: list[str]) -> None:
    """Refuse to go on with a different run."""
    _refuse("out", "hold the same run, or nothing", "a run goes on exactly or not at all",
            f"{str(out)!r}, where {'; '.join(changed[:6])}", "Use the same settings, or another")  # fmt: skip


def _refuse(argument: str, must: str, because: str, got: str, fix: str) -> Any:
    _checks.refuse(InputError, "train", argument, must, because, got, fix)


def _flat(recipe: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Settings as trackers take them."""
    return {
        f"{section}.{key}": value if isinstance(value, (int, float, str, bool)) else str(value)
        for section, values in recipe.items()
        for key, value in values.items()
    }
