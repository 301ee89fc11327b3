"""What an image set is, and the one fixed way in which it is split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer.data._draws import Draws

_SPLIT_SEED = 20  # part of the protocol: changing it changes every number of every study


@dataclass(frozen=True)
class Split:
    """Row numbers of the three disjoint parts, each sorted, int64."""

    train: Tensor
    validation: Tensor
    test: Tensor


@dataclass(frozen=True)
class ImageSet:
    """Images [N, C, H, W] float32 in [0, 1], labels [N] int64 in 0 ... num_classes - 1, and their split."""

    name: str
    source: str
    images: Tensor
    labels: Tensor
    split: Split

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1

    @property
    def chance(self) -> float:
        """Accuracy of always answering the class that is most frequent in the training part."""
        counts = torch.bincount(self.labels[self.split.train], minlength=self.num_classes)
        most = int(counts.argmax())
        return float((self.labels[self.split.test] == most).double().mean())


def stratified_split(labels: Tensor, *, validation: float, test: float) -> Split:
    """Split rows class by class, by a fixed hash of the row number: no seed, no library version changes it.

    Args:
        labels: [N] int64.
        validation, test: shares of every class that go there (rounded to whole rows); the rest trains.
    """
    order = Draws(_SPLIT_SEED).uniform(torch.arange(len(labels)), 1)[:, 0]
    parts: list[list[Tensor]] = [[], [], []]
    for label in torch.unique(labels):
        rows = (labels == label).nonzero().flatten()
        rows = rows[torch.argsort(order[rows], stable=True)]
        num_validation, num_test = round(len(rows) * validation), round(len(rows) * test)
        parts[1].append(rows[:num_validation])
        parts[2].append(rows[num_validation : num_validation + num_test])
        parts[0].append(rows[num_validation + num_test :])
    train, held_out, tested = (torch.cat(part).sort().values for part in parts)
    return Split(train, held_out, tested)
