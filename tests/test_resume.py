"""A run that was interrupted and resumed ends with the bits of one that was not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spherometer.data import Draws
from spherometer.training import (
    LossRecipe,
    MethodRecipe,
    OptimizerRecipe,
    Recipe,
    RunRecipe,
)
from spherometer.training._checkpoints import Checkpoints
from spherometer.training._learner import Learner
from spherometer.training._loop import Clock, Step, steps
from spherometer.training._machine import Machine
from spherometer.training._methods import build_method
from spherometer.training._state import pack, unpack
from training_run import INT, TERM, Setting, differing, left, temporaries
from zygote import shared

NUM, BATCH, STEPS = 21, 5, 10  # four batches an epoch, of 6, 5, 5 and 5 samples: two and a half epochs


class NoisyRows:
    """Rows with noise that is a function of (epoch, index, view)."""

    def __init__(self) -> None:
        self.rows = torch.randn(NUM, 6, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(NUM) % 3

    def __len__(self) -> int:
        return NUM

    def load(self, index: Tensor) -> Tensor:
        return self.rows[index]

    def views(self, loaded: Tensor, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        x, y = (loaded + Draws(0, epoch, view).uniform(index, 6).float() for view in (0, 1))
        return x, y

    def __call__(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.views(self.load(index), epoch, index)


def encoder() -> nn.Module:
    """With all that keeps a state or draws: batch normalisation, dropout, weights that are tied."""
    made = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 8)
    )
    with torch.no_grad():
        for number, value in enumerate(made.parameters()):
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(number)) / 3)
    made[5].weight = made[4].weight
    return made


def recipe(method: dict[str, Any], optimizer: dict[str, Any] | None = None, **run: Any) -> Recipe:
    return Recipe(
        method=MethodRecipe(**method),
        optimizer=OptimizerRecipe(**(optimizer or {"warmup": 0.3})),
        run=RunRecipe(steps=STEPS, batch_size=BATCH, **run),
    )


PARTS = (LossRecipe("info_nce", weight=0.5), LossRecipe("align_uniform", weight=2.0))
RECIPES = {
    "align_uniform": recipe({}),
    "queue": recipe({"queue": 17, "momentum": 0.9}, {"name": "sgd", "learning_rate": 0.1, "clip": 0.5}),
    "info_nce-queue": recipe(
        {"name": "info_nce", "queue": 8, "momentum": 0.5}, {"name": "lars", "learning_rate": 1.0}
    ),
    "supervised": recipe({"name": "supervised"}, {"schedule": "step", "milestones": (0.2, 0.7)}),
    "sup_con": recipe({"name": "sup_con"}, {"name": "lars", "learning_rate": 1.0}, seed=3),
    "cached_batch": recipe({"name": "nt_xent"}, cached_batch=2),
    "cached-queue": recipe({"queue": 9, "momentum": 0.9}, cached_batch=4),
    "combined": recipe({"name": "combined", "parts": PARTS}),
    "decoupled": recipe({"name": "decoupled_uniformity"}, {"schedule": "constant"}),
}
RECIPES["workers"] = replace(RECIPES["queue"], run=replace(RECIPES["queue"].run, workers=2))


class Run:
    """A learner with its data, which may start from a checkpoint."""

    def __init__(self, made: Recipe, checkpoints: Checkpoints | None = None) -> None:
        self.recipe, self.views, machine = made, NoisyRows(), Machine()
        method = build_method(
            made.method, encoder(), dim=8, labels=self.views.labels, autocast=machine.autocast
        )
        method.train()
        self.learner = Learner(method, made, machine)
        found = None if checkpoints is None else checkpoints.newest()
        if found is not None:
            self.learner.load_state(unpack(found.tensors, found.state))

    def go(self) -> Iterator[Step]:
        return steps(self.learner, self.views, self.recipe, Clock(NUM, self.recipe.run))

    def save(self, checkpoints: Checkpoints) -> None:
        checkpoints.save(self.learner.steps, *pack(self.learner.state()))


def result(step: Step) -> tuple[Any, ...]:
    sides = [bytes(side.contiguous().view(torch.uint8).flatten().tolist()) for side in step.outcome.sides]
    numbers = step.outcome.numbers()
    return step.done, step.epoch, step.rate, step.outcome.loss, tuple(numbers.items()), *sides


def bits(run: Run, directory: Path) -> bytes:
    """The state at the end, as the bytes of a checkpoint."""
    checkpoints = Checkpoints(directory)
    run.save(checkpoints)
    path = directory / f"step_{run.learner.steps:08d}"
    return (path / "tensors.safetensors").read_bytes() + (path / "state.json").read_bytes()


@pytest.mark.filterwarnings("ignore:a cached batch is the whole batch for the loss, but BatchNorm")
class TestEveryStep:
    @pytest.mark.parametrize("name", [name for name in RECIPES if name != "workers"])
    def test_resumed_at_any_step(self, tmp_path, name):
        whole = Run(RECIPES[name])
        wanted = [result(step) for step in whole.go()]
        assert len(wanted) == STEPS
        assert len({row[3] for row in wanted}) == STEPS  # something happens in every step
        final = bits(whole, tmp_path / "whole")
        some = (1, 4, 6)  # within an epoch, at its end, in the next one
        for first in range(STEPS + 1) if name in ("align_uniform", "queue", "cached-queue") else some:
            directory = tmp_path / str(first)
            begun = Run(RECIPES[name])
            found = [result(step) for step in itertools.islice(begun.go(), first)]
            begun.save(Checkpoints(directory))
            torch.rand(first)  # whatever others draw from the global generator does not matter
            resumed = Run(RECIPES[name], Checkpoints(directory))
            assert resumed.learner.steps == first
            found += [result(step) for step in resumed.go()]
            assert found == wanted, f"interrupted after {first}"
            assert bits(resumed, tmp_path / f"end-{first}") == final, f"interrupted after {first}"

    def test_resumed_twice_and_after_every_step(self, tmp_path):
        wanted = [result(step) for step in Run(RECIPES["queue"]).go()]
        found = []
        for first in range(STEPS):
            run = Run(RECIPES["queue"], Checkpoints(tmp_path))
            assert run.learner.steps == first
            found += [result(step) for step in itertools.islice(run.go(), 1)]
            run.save(Checkpoints(tmp_path))
        assert found == wanted

    def test_workers_change_nothing(self, tmp_path):
        wanted = [result(step) for step in Run(RECIPES["queue"]).go()]
        assert [result(step) for step in Run(RECIPES["workers"]).go()] == wanted
        begun = Run(RECIPES["workers"])
        found = [result(step) for step in itertools.islice(begun.go(), 5)]
        begun.save(Checkpoints(tmp_path))
        found += [result(step) for step in Run(RECIPES["workers"], Checkpoints(tmp_path)).go()]
        assert found == wanted

    @pytest.mark.parametrize("forgotten", ["optimizer", "method"])
    def test_this_test_would_notice_what_is_forgotten(self, tmp_path, forgotten):
        whole = Run(RECIPES["queue"])
        wanted = [result(step) for step in whole.go()]
        begun = Run(RECIPES["queue"])
        list(itertools.islice(begun.go(), 5))
        state = begun.learner.state()
        state[forgotten] = Run(RECIPES["queue"]).learner.state()[forgotten]
        resumed = Run(RECIPES["queue"])
        resumed.learner.load_state(state)
        assert [result(step) for step in resumed.go()] != wanted[5:]


@pytest.fixture(scope="module")
def zygote():
    return shared()


QUEUE = "[method]\nqueue = 700\nmomentum = 0.9\n"


class TestCommand:
    """`spherometer train`, ended by signals and started again, leaves what one undisturbed run leaves."""

    def compare(self, setting: Setting, *interruptions: list[Any], **options: Any) -> None:
        """Each interruption: the step after which a signal comes, the signal, and the rank that gets it."""
        whole, cut = setting.directory / "whole", setting.directory / "cut"
        setting.run(whole, **options)
        for step, number, *only in interruptions:
            rank = only[0] if only else None
            children = setting.run(cut, stops=[[step, number]], only=rank, expect=128 + number, **options)
            assert f"interrupted after step {step}, which is saved" in children[0].err
            assert not (cut / "results.json").exists()
        setting.run(cut, **options)
        assert not differing(left(whole), left(cut))
        assert not temporaries(cut)

    def test_dropout_at_the_end_of_an_epoch_and_in_the_next_step(self, tmp_path, zygote):
        setting = Setting(zygote, tmp_path, "[run]\nseed = 3\n")
        self.compare(setting, [5, INT], [6, TERM], dropout=True)

    def test_a_queue_with_workers(self, tmp_path, zygote):
        self.compare(Setting(zygote, tmp_path, QUEUE + "[run]\nworkers = 2\n"), [3, TERM])

    def test_two_processes_of_which_one_gets_the_signal(self, tmp_path, zygote):
        setting = Setting(zygote, tmp_path, QUEUE, world=2, steps=9)
        self.compare(setting, [4, TERM, 1], dropout=True)

    def test_two_processes_supervised_with_workers(self, tmp_path, zygote):
        more = '[method]\nname = "supervised"\n[run]\nworkers = 1\n'
        self.compare(Setting(zygote, tmp_path, more, world=2, steps=8), [5, TERM])

    def test_a_cached_batch(self, tmp_path, zygote):
        more = '[method]\nname = "nt_xent"\n[run]\ncached_batch = 130\n[optimizer]\nname = "lars"\n'
        self.compare(Setting(zygote, tmp_path, more, steps=7), [2, TERM], dropout=True)
