"""The training loop, to be read from top to bottom.

Shapes: N samples, B of them in a global batch, D output coordinates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from spherometer import _checks
from spherometer.data import permutation
from spherometer.errors import InputError
from spherometer.training._feed import Feed
from spherometer.training._interrupt import Interruption
from spherometer.training._learner import Learner, LossNotFinite, Outcome
from spherometer.training._machine import Machine
from spherometer.training._methods import Direct, Method
from spherometer.training._recipe import Recipe, RunRecipe
from spherometer.training._schedule import rate

_PARTS_OF_TIME = 10_000  # how finely the rate follows the clock when only minutes bound a run


class PairedViews(Protocol):
    """Two views of samples by row number. ``load`` and ``views`` split the call, so that workers may read.

    Only the length and the call are needed where no worker processes read.
    """

    @property
    def labels(self) -> Tensor | None:
        """[N] int64 in 0 ... C - 1, or None."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def __call__(self, epoch: int, index: Tensor, /) -> tuple[Tensor, Tensor]:
        """Views x and y of the rows ``index``: ``views(load(index), epoch, index)``."""
        ...

    def load(self, index: Tensor, /) -> Any:
        """The rows ``index`` as they are stored; may run in worker processes."""
        ...

    def views(self, loaded: Any, epoch: int, index: Tensor, /) -> tuple[Tensor, Tensor]:
        """Both views of what was loaded, on its device: a function of (seed, epoch, index) alone."""
        ...

    def fingerprint(self) -> str:
        """Hex digest of what the data and the settings of the views are."""
        ...


@dataclass(frozen=True)
class TrainingLog:
    """What happened: mean loss of every finished epoch, steps done, and why training stopped early."""

    losses: tuple[float, ...]
    num_steps: int
    stopped: str | None = None


@dataclass(frozen=True)
class Step:
    """One finished step: how many are done, the epoch it belongs to, its learning rate, and what it found."""

    done: int
    epoch: int
    rate: float
    seconds: float
    index: Tensor  # rows of this process
    outcome: Outcome


def batches(num: int, batch_size: int, *, seed: int, epoch: int) -> list[Tensor]:
    """Row numbers of the batches of one epoch: a function of (seed, epoch) alone.

    There are max(1, num // batch_size) batches whose sizes differ by at most one, so every row is used once,
    the remainder is spread over all batches, and no batch is smaller than ``batch_size`` (if ``num`` is not).
    """
    count = max(1, num // batch_size)
    return list(permutation(num, seed=seed, epoch=epoch).tensor_split(count))


@dataclass
class Clock:
    """How far a run is, in steps and in time.

    Args:
        num: N.
        run: how long it is to be.
        seconds: that earlier parts of the run took.
    """

    num: int
    run: RunRecipe
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.per_epoch = max(1, self.num // self.run.batch_size)
        epochs = self.run.epochs
        self.num_steps = self.run.steps if epochs is None else epochs * self.per_epoch
        self._before, self._start = self.seconds, time.monotonic()

    def order(self, first: int) -> Iterator[tuple[int, Tensor]]:
        """Epoch and row numbers of the global batches from step ``first`` on, without end."""
        epoch, skipped = divmod(first, self.per_epoch)
        while True:
            for index in batches(self.num, self.run.batch_size, seed=self.run.seed, epoch=epoch)[skipped:]:
                yield epoch, index
            epoch, skipped = epoch + 1, 0

    def position(self, step: int, machine: Machine) -> tuple[float, float]:
        """Where ``step`` is, and where the end: in steps, or in parts of the time if that is further."""
        self.seconds = self._before + time.monotonic() - self._start
        total = float(_PARTS_OF_TIME if self.num_steps is None else self.num_steps)
        if self.run.minutes is None:
            return float(step), total
        (share,) = machine.largest(self.seconds / (60 * self.run.minutes))
        reached = share * total
        return (reached if self.num_steps is None else max(float(step), reached)), total


def steps(
    learner: Learner,
    views: PairedViews,
    recipe: Recipe,
    clock: Clock,
    *,
    interruption: Interruption | None = None,
) -> Iterator[Step]:
    """Train, one step for each item; between two items everything is consistent and may be saved.

    It ends when the run is as long as it should be, or at a step boundary after an interruption.

    Raises:
        LossNotFinite: before that step's weights are touched.
    """
    machine = learner.machine
    largest = recipe.optimizer.learning_rate * (
        recipe.run.batch_size / 256 if recipe.optimizer.scale_rate else 1
    )
    learner.method.train()
    if learner.steps == 0:
        _fill(learner, views, clock)
    feed = Feed(
        views,
        machine,
        workers=recipe.run.workers,
        seed=recipe.run.seed,
        metadata=learner.method.metadata,
        geometric=learner.method.geometric,
    )
    for epoch, batch in feed(clock.order(learner.steps)):
        position, end = clock.position(learner.steps, machine)
        if position >= end or (
            interruption is not None and interruption.agree(machine.world, device=machine.device)
        ):
            return
        now = rate(recipe.optimizer, position, end, largest)
        outcome = learner.update(batch, now)
        yield Step(learner.steps, epoch, now, clock.seconds, batch.index, outcome)


def _fill(learner: Learner, views: PairedViews, clock: Clock) -> None:
    """Batches before the first step, for methods that compare with earlier ones."""
    method = learner.method
    feed = Feed(views, learner.machine, metadata=method.metadata, geometric=method.geometric)
    if not learner.method.ready():
        for _, batch in feed(clock.order(-clock.per_epoch * 2**20)):  # epochs that are never trained on
            learner.fill(batch)
            if learner.method.ready():
                return


def train(
    encoder: nn.Module,
    views: PairedViews,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    recipe: Recipe,
    *,
    parameters: list[nn.Parameter] | None = None,
    after_step: Callable[[int], None] | None = None,
) -> TrainingLog:
    """Train ``encoder`` in place, in this process, where its weights are.

    Both views go through the encoder in one pass, so that normalisation layers see one joint batch.

    Args:
        encoder: views [2B, ...] -> features [2B, D].
        views: the samples, as pairs of views.
        loss: called as ``loss(x, y, index)`` with features [B, D] of both views and the row numbers [B].
        recipe: its sections ``optimizer`` and ``run``; the others are not looked at.
        parameters: what is trained; by default the encoder's parameters (a supervised loss adds its head's).
        after_step: called with the number of steps done, for instance to record a trajectory.

    Returns:
        The log. A loss that is not finite stops training before it touches the weights, and the log says so.

    Raises:
        InputError: fewer than two samples, so that there is no batch.
    """
    check_enough(views)
    return train_method(Direct(encoder, loss, parameters), views, recipe, after_step=after_step)


def train_method(
    method: Method,
    views: PairedViews,
    recipe: Recipe,
    *,
    after_step: Callable[[int], None] | None = None,
) -> TrainingLog:
    """As :func:`train`, for a method at hand, such as one that compares cells: it brings its own loss."""
    check_enough(views)
    first = next(iter(method.parameters()), None)
    machine = Machine("cpu" if first is None else first.device)
    learner = Learner(method, recipe, machine)
    clock = Clock(len(views), recipe.run)
    losses: list[float] = []
    total = 0.0
    method.train()
    try:
        for step in steps(learner, views, recipe, clock):
            total += step.outcome.loss
            if step.done % clock.per_epoch == 0:
                losses.append(total / clock.per_epoch)
                total = 0.0
            if after_step is not None:
                after_step(step.done)
    except LossNotFinite as error:
        where = f"step {learner.steps + 1} (epoch {learner.steps // clock.per_epoch + 1})"
        return TrainingLog(tuple(losses), learner.steps, f"the loss became {error.value} in {where}")
    return TrainingLog(tuple(losses), learner.steps)


def check_enough(views: PairedViews) -> None:
    """Refuse data without a pair of samples."""
    if len(views) < 2:
        _checks.refuse(
            InputError,
            "train",
            "views",
            "hold at least 2 images",
            "losses compare images, and batch normalisation needs two",
            f"{len(views)}",
            "Pass more images",
        )
