"""Optimisers by name."""

from __future__ import annotations

import torch
from torch import nn

from spherometer.training._lars import LARS
from spherometer.training._recipe import OptimizerRecipe


def build_optimizer(parameters: list[nn.Parameter], recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe; its rate is set before every step."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=recipe.momentum, weight_decay=decay)
    if recipe.name == "lars":
        return LARS(parameters, rate, momentum=recipe.momentum, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
