"""The training loop.

Shapes: N images, B pairs in a batch, D output coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.data import permutation
from spherometer.errors import InputError
from spherometer.training._recipe import Recipe


class PairedViews(Protocol):
    """Anything that gives two views of the images ``index`` [B] in an epoch."""

    @property
    def num_images(self) -> int:
        """N."""
        ...

    def __call__(self, epoch: int, index: Tensor, /) -> tuple[Tensor, Tensor]:
        """Views x and y, each [B, C, H, W]."""
        ...


@dataclass(frozen=True)
class TrainingLog:
    """What happened: mean loss of every finished epoch, steps done, and why training stopped early."""

    losses: tuple[float, ...]
    num_steps: int
    stopped: str | None = None


def batches(num: int, batch_size: int, *, seed: int, epoch: int) -> list[Tensor]:
    """Row numbers of the batches of one epoch: a function of (seed, epoch) alone.

    There are max(1, num // batch_size) batches whose sizes differ by at most one, so every row is used once,
    the remainder is spread over all batches, and no batch is smaller than ``batch_size`` (if ``num`` is not).
    """
    count = max(1, num // batch_size)
    return list(permutation(num, seed=seed, epoch=epoch).tensor_split(count))


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay
        )
    return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def train(
    encoder: nn.Module,
    views: PairedViews,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    recipe: Recipe,
    *,
    parameters: list[nn.Parameter] | None = None,
    after_step: Callable[[int], None] | None = None,
) -> TrainingLog:
    """Train ``encoder`` in place.

    Both views go through the encoder in one pass, so that normalisation layers see one joint batch.

    Args:
        encoder: images [2B, C, H, W] -> features [2B, D].
        views: the images, as pairs of views.
        loss: called as ``loss(x, y, index)`` with features [B, D] of both views and the row numbers [B].
        recipe: all numbers.
        parameters: what is trained; by default the encoder's parameters (a supervised loss adds its head's).
        after_step: called with the number of steps done, for instance to record a trajectory.

    Returns:
        The log. A loss that is not finite stops training before it touches the weights, and the log says so.

    Raises:
        InputError: fewer than two images, so that there is no batch.
    """
    if views.num_images < 2:
        _checks.refuse(
            InputError,
            "train",
            "views",
            "hold at least 2 images",
            "losses compare images, and batch normalisation needs two",
            f"{views.num_images}",
            "Pass more images",
        )
    trained = list(encoder.parameters()) if parameters is None else parameters
    optimizer = _optimizer(trained, recipe)
    per_epoch = max(1, views.num_images // recipe.batch_size)
    step = 0
    losses: list[float] = []
    encoder.train()
    for epoch in range(recipe.epochs):
        total = 0.0
        for index in batches(views.num_images, recipe.batch_size, seed=recipe.seed, epoch=epoch):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step, recipe.epochs * per_epoch)
            x, y = encoder(torch.cat(views(epoch, index))).tensor_split(2)
            value = loss(x, y, index)
            number = float(value.detach())
            if not math.isfinite(number):
                reason = f"the loss became {number} in step {step + 1} (epoch {epoch + 1})"
                return TrainingLog(tuple(losses), step, reason)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            total += number
            if after_step is not None:
                after_step(step)
        losses.append(total / per_epoch)
    return TrainingLog(tuple(losses), step)
