"""How much is drawn, and what a quantity answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import pairs
from spherometer.pairs import Estimated

NAME = "estimate"
ROWS, ANCHORS = 1024, 64  # of a draw by default: where rows meet each other, and where they meet all


@dataclass(frozen=True)
class Sampling:
    """How much is drawn.

    Attributes:
        num_draws: B.
        num_rows: m, or None for the default of the quantity.
        generator: of the rows.
    """

    num_draws: int
    num_rows: int | None
    generator: torch.Generator

    def size(self, num: int) -> int | None:
        """Rows of a draw from ``num``; None where all pairs are no more than those of all draws."""
        size = self.num_rows or ROWS
        return None if size >= num or self.num_draws * size * (size - 1) >= num * (num - 1) else size

    def anchors(self, num: int) -> int | None:
        """Rows that meet all others; None where they would be all rows."""
        size = self.num_draws * (self.num_rows or ANCHORS)
        return None if size >= num else size

    def subsets(self, num: int, size: int) -> Iterator[Tensor]:
        """The rows of each draw."""
        return pairs.subsets(num, size, self.num_draws, self.generator)


@dataclass(frozen=True)
class Answer:
    """What a quantity says: its estimate, and how many rows it is about.

    Attributes:
        found: the estimate; None: all pairs cost no more, ask the exact function.
        num: rows.
        rows_of_draw: m, or n where rows meet all others.
        bounds: the range of the quantity.
        baseline: what to compare it with.
        settings: those that define it.
        num_pairs: ordered pairs that the exact function looks at; None: num (num - 1).
    """

    found: Estimated | None
    num: int
    rows_of_draw: int = 0
    bounds: tuple[float, float] = (-math.inf, math.inf)
    baseline: dict[str, float] | None = None
    settings: dict[str, Any] | None = None
    num_pairs: int | None = None
