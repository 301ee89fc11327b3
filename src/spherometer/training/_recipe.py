"""Every number of a training run, in one frozen record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from spherometer import _checks
from spherometer.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How to train; all fields are checked when it is made.

    Args:
        epochs: passes over the images.
        batch_size: fewest pairs per step (see ``batches`` for the rule).
        learning_rate: the largest one, reached after the warm-up.
        optimizer: "adamw" or "sgd" (momentum .9).
        weight_decay: 0 or more.
        warmup: share of all steps over which the rate rises linearly; it then falls to 0 along a cosine.
        seed: of the order of the images.
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 3e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 1e-4
    warmup: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.whole("Recipe", "epochs", self.epochs, at_least=0)
        _checks.whole("Recipe", "batch_size", self.batch_size, at_least=2)
        _checks.positive("Recipe", "learning_rate", self.learning_rate)
        _checks.one_of("Recipe", "optimizer", self.optimizer, ("adamw", "sgd"))
        _checks.whole("Recipe", "seed", self.seed, at_least=0)
        for name, value, top in (
            ("weight_decay", self.weight_decay, math.inf),
            ("warmup", self.warmup, 1.0),
        ):
            if not (isinstance(value, (int, float)) and 0 <= value <= top and math.isfinite(value)):
                _checks.refuse(
                    InputError,
                    "Recipe",
                    name,
                    "be a finite number of at least 0" if math.isinf(top) else "lie in [0, 1]",
                    "it shrinks the weights" if math.isinf(top) else "it is a share of the steps",
                    repr(value)[:80],
                    f"Pass for instance {name}=0",
                )

    def rate(self, step: int, num_steps: int) -> float:
        """Learning rate of ``step`` (0, 1, ...) out of ``num_steps``."""
        rise = self.warmup * num_steps
        if step < rise:
            return self.learning_rate * (step + 1) / (rise + 1)
        share = (step - rise) / max(1.0, num_steps - rise)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
