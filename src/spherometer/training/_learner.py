"""One training step, and everything that changes while training, in one place.

Shapes: B samples of this process in a batch, V views, D output coordinates.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer.training._machine import Machine
from spherometer.training._methods import Batch, Method, at_least_single
from spherometer.training._optimizers import build_optimizer
from spherometer.training._recipe import Recipe


class LossNotFinite(Exception):
    """The loss became NaN or infinite; the weights are still those before the step."""

    def __init__(self, value: float, terms: dict[str, float]) -> None:
        super().__init__(value)
        self.value = value
        self.terms = terms


@dataclass(frozen=True)
class Outcome:
    """What one step found: the loss, its parts, and detached features [B, D] of both views."""

    loss: float
    terms: dict[str, Tensor]
    sides: tuple[Tensor, Tensor]

    def numbers(self) -> dict[str, float]:
        """The parts of the loss as numbers."""
        return {name: float(value) for name, value in self.terms.items()}


@contextmanager
def seeded(device: torch.device, *numbers: int) -> Iterator[None]:
    """Dropout and the like draw as a function of ``numbers`` inside; the global generators are put back."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    state = int.from_bytes(digest[:7], "little")
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(state)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(state)
        yield


class ChunkStatisticsWarning(UserWarning):
    """A cached batch passes through BatchNorm in parts, which see their own statistics."""


class Learner:
    """A method, its optimiser, and the number of steps done.

    What dropout draws is a function of (seed, step, process, part of the batch), so no state of a generator
    needs to be kept.
    """

    def __init__(self, method: Method, recipe: Recipe, machine: Machine) -> None:
        self.method = method.to(machine.device)
        self.machine = machine
        self.steps = 0
        self._run = recipe.run
        if recipe.run.cached_batch is not None:
            _warn_of_batch_norm(method.network)
        self._clip = recipe.optimizer.clip
        self._trained = method.trained()
        self.network, self.optimizer = machine.wrap(
            method.network, build_optimizer(self._trained, recipe.optimizer)
        )

    def update(self, batch: Batch, rate: float) -> Outcome:
        """One step on this process's part of a batch.

        Raises:
            LossNotFinite: before the weights are touched.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        chunks = [batch] if self._run.cached_batch is None else self._chunks(batch, self._run.cached_batch)
        with self._seeded(-1):
            self.method.begin(chunks)
        outcome = self._whole(batch) if len(chunks) == 1 else self._cached(batch, chunks)
        self.method.end()
        if self._clip is not None:
            self.machine.clip(self._trained, self._clip)
        self.optimizer.step()
        self.method.moved()
        self.steps += 1
        return outcome

    def fill(self, batch: Batch) -> None:
        """Take a batch into what later ones are compared with; no weight changes."""
        size = self._run.cached_batch
        with self._seeded(-2):
            self.method.begin([batch] if size is None else self._chunks(batch, size))
        self.method.end()

    def _whole(self, batch: Batch) -> Outcome:
        inputs = self.method.inputs(batch)
        with self._seeded(0):
            features = self._pass(self.network, inputs)
        value = self.method.compare(features, batch)
        outcome = self._checked(value, features)
        self.optimizer.zero_grad(set_to_none=True)
        self.machine.backward(value)
        return outcome

    def _cached(self, batch: Batch, chunks: list[Batch]) -> Outcome:
        """The same gradient with one part of the batch in memory at a time.

        First the features of all parts without a graph; then the gradient of the loss with respect to them;
        then each part again with a graph, to carry its rows of that gradient on to the weights.
        """
        buffers = [buffer.clone() for buffer in self.method.network.buffers()]
        parts = []
        with torch.no_grad(), self.machine.autocast():
            for number, chunk in enumerate(chunks):
                with self._seeded(number):
                    parts.append(self._pass(self.method.network, self.method.inputs(chunk)))
            for buffer, before in zip(self.method.network.buffers(), buffers, strict=True):
                buffer.copy_(before)  # running statistics move in the second pass only
        features = [at_least_single(torch.cat(side)).requires_grad_() for side in zip(*parts, strict=True)]
        value = self.method.compare(features, batch)
        outcome = self._checked(value, features)
        gradients = torch.autograd.grad(value, features)
        split = zip(*(gradient.tensor_split(len(chunks)) for gradient in gradients), strict=True)
        self.optimizer.zero_grad(set_to_none=True)
        for number, (chunk, rows) in enumerate(zip(chunks, split, strict=True)):
            last = number == len(chunks) - 1
            if last:
                self._carry(number, chunk, rows)
            else:
                with self.machine.without_exchange(self.network):
                    self._carry(number, chunk, rows)
        return outcome

    def _carry(self, number: int, chunk: Batch, gradients: tuple[Tensor, ...]) -> None:
        inputs = self.method.inputs(chunk)
        with self._seeded(number):
            features = self.network(torch.cat(inputs) if len(inputs) > 1 else inputs[0])
        self.machine.backward(features, torch.cat(gradients).to(features.dtype))

    def _chunks(self, batch: Batch, size: int) -> list[Batch]:
        """Parts of at most ``size`` samples; every process has as many, because they wait for each other."""
        largest = -(-len(batch.index) // size)
        (count,) = self.machine.largest(float(largest))
        return batch.chunks(int(count))

    @staticmethod
    def _pass(network: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Features of every view, from one pass, so that normalisation layers see one joint batch."""
        if len(inputs) == 1:
            return (network(inputs[0]),)
        rows: Tensor = network(torch.cat(inputs))
        return rows.tensor_split(len(inputs))

    def _checked(self, value: Tensor, features: Any) -> Outcome:
        number = float(value.detach())
        outcome = Outcome(number, self.method.terms, self.method.sides(features))
        if not math.isfinite(number):
            raise LossNotFinite(number, outcome.numbers())
        return outcome

    def _seeded(self, part: int) -> Any:
        return seeded(self.machine.device, self._run.seed, self.steps, self.machine.rank, part)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        scaler = self.machine.scaler
        return {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "steps": self.steps,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.machine.scaler is not None and state["scaler"] is not None:
            self.machine.scaler.load_state_dict(state["scaler"])
        self.steps = int(state["steps"])


def _warn_of_batch_norm(network: torch.nn.Module) -> None:
    kind = torch.nn.modules.batchnorm._BatchNorm
    if any(isinstance(module, kind) for module in network.modules()):
        warnings.warn(
            "a cached batch is the whole batch for the loss, but BatchNorm sees one part of it at a time; "
            "with an encoder of norm 'group' or 'none' the gradient is that of the whole batch",
            ChunkStatisticsWarning,
            stacklevel=3,
        )
