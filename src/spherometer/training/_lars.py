"""LARS: every layer's step is proportional to the length of its weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    r"""Layer-wise adaptive rate scaling with momentum, for very large batches.

    For weights w with gradient g, weight decay b and momentum m:

        v <- m v + ratio (g + b w),   w <- w - lr v,   ratio = trust \|w\| / (\|g\| + b \|w\|)

    Biases and the scales of normalisation layers (parameters with at most one axis) have ratio 1 and b = 0.
    The ratio is 1 too where w or g is zero.

    Args:
        parameters: what is trained.
        lr: learning rate.
        momentum: in [0, 1).
        weight_decay: b.
        trust: size of a step relative to the weights, at lr 1.

    Source: You, Gitman & Ginsburg 2017, algorithm 1. Deviations: the learning rate is outside the velocity,
    as in torch's SGD; biases and normalisation layers are left out, as SimCLR does.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move all parameters that have a gradient."""
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._move(weights, weights.grad, group)

    def _move(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if weights.ndim > 1:
            decay = group["weight_decay"]
            length, slope = torch.linalg.vector_norm(weights), torch.linalg.vector_norm(gradient)
            ratio = group["trust"] * length / (slope + decay * length)
            ratio = torch.where((length > 0) & (slope > 0), ratio, torch.ones_like(ratio))
            gradient = ratio * (gradient + decay * weights)
        state = self.state[weights]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weights)
        velocity = state["velocity"].mul_(group["momentum"]).add_(gradient)
        weights.sub_(group["lr"] * velocity)
