"""Pairs of cells, as three lists of numbers.

Shapes: N images, P pairs, S cells of a map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Matches:
    """Positive pairs of dense maps: cell ``first`` of image x[image] with cell ``second`` of y[image].

    Attributes:
        image: [P] int64, ascending.
        first: [P] flat cell of x (the last axis counts fastest).
        second: [P] flat cell of y.
        num_images: N.
    """

    image: Tensor
    first: Tensor
    second: Tensor
    num_images: int

    @classmethod
    def of_cells(cls, second: Tensor) -> Matches:
        """From the partner [N, S] of every cell of x, -1 where there is none."""
        image, first = (second >= 0).nonzero().unbind(dim=1)
        return cls(image, first, second[image, first], len(second))

    def __len__(self) -> int:
        return len(self.image)

    def kept(self, keep: Tensor) -> Matches:
        """The pairs where ``keep`` [P] is True."""
        return Matches(self.image[keep], self.first[keep], self.second[keep], self.num_images)

    def counts(self) -> Tensor:
        """Pairs [N] of each image."""
        return torch.bincount(self.image, minlength=self.num_images)

    def to(self, device: torch.device) -> Matches:
        """The same on another device."""
        image, first, second = (part.to(device) for part in (self.image, self.first, self.second))
        return Matches(image, first, second, self.num_images)


def all_matched(second: Tensor) -> Matches:
    """As ``Matches.of_cells`` where every cell of x has a partner: pair p begins with the p-th cell."""
    num, size = second.shape
    image = torch.arange(num, device=second.device).repeat_interleave(size)
    return Matches(image, torch.arange(size, device=second.device).repeat(num), second.flatten(), num)
