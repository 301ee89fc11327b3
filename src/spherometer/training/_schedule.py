"""The learning rate as a function of how far a run is."""

from __future__ import annotations

import math

from spherometer.training._recipe import OptimizerRecipe


def rate(recipe: OptimizerRecipe, position: float, total: float, largest: float | None = None) -> float:
    """Learning rate at ``position`` (0 <= position < total, in steps or parts of the time) of a run.

    It rises linearly over ``warmup * total`` to ``largest`` (by default the recipe's rate), then follows the
    schedule: a half cosine to 0, drops by ``gamma`` at the milestones, or nothing.
    """
    largest = recipe.learning_rate if largest is None else largest
    rise = recipe.warmup * total
    if position < rise:
        return largest * (position + 1) / (rise + 1)
    if recipe.schedule == "constant":
        return largest
    if recipe.schedule == "step":
        passed = sum(position >= share * total for share in recipe.milestones)
        return largest * recipe.gamma**passed
    share = (position - rise) / max(1.0, total - rise)
    return largest * 0.5 * (1 + math.cos(math.pi * share))
