"""The scenes of the study of dense representations: one or several handwritten digits, with masks.

Shapes: N scenes of C x S x S pixels, K classes with the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from spherometer.data import ImageViews, make_scenes
from spherometer.data._augment import Augmentation
from spherometer.data._segmented import SegmentedPart
from spherometer.study._dense_grid import Data, DenseProtocol

# crops as in the papers' presets; digits are not mirrored (that makes other signs), and there is no colour
CHANGES = Augmentation("scenes", scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.0, 0.0))
PARTS: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Scenes:
    """The scenes of one data set: those that train, that encoders are measured on, that score the tasks."""

    name: Data
    train: SegmentedPart
    held_out: SegmentedPart
    test: SegmentedPart
    num_fitted: int

    @property
    def num_classes(self) -> int:
        """K, with the background."""
        return self.train.of.num_classes

    @property
    def score(self) -> str:
        """Of the classification: one object has a class ("accuracy"), several have some ("map")."""
        return "accuracy" if self.name == "single" else "map"

    @cached_property
    def fitted(self) -> Probed:
        """What the probes are fitted on: the first training scenes."""
        return Probed.of(self.train, self.num_fitted)

    @cached_property
    def tested(self) -> Probed:
        """What they are scored on."""
        return Probed.of(self.test, len(self.test))

    def views(self, part: str, seed: int) -> ImageViews:
        """Two views of every scene of a part, which know where they lie."""
        return ImageViews(self.train if part == "train" else self.held_out, CHANGES, seed)


@dataclass(frozen=True)
class Probed:
    """Scenes as they are, and what is asked about them.

    Args:
        images: [N, C, S, S] in [0, 1].
        masks: [N, S, S] int64.
        shown: [N, K - 1], which classes each shows, 0 or 1.
        labels: [N], the class that covers the most pixels.
    """

    images: Tensor
    masks: Tensor
    shown: Tensor
    labels: Tensor

    @classmethod
    def of(cls, part: SegmentedPart, num: int) -> Probed:
        """The first ``num`` scenes of a part."""
        index = torch.arange(num)
        shown = part.image_labels(index)
        largest = part.of.counts[:num, 1:].argmax(dim=1)
        return cls(part.images(index), part.masks(index), shown, largest)


def load_scenes(name: Data, shared: DenseProtocol) -> Scenes:
    """The scenes of a protocol: a function of its numbers alone."""
    numbers = {"train": shared.num_train, "validation": shared.num_held_out, "test": shared.num_test}
    train, validation, test = (
        SegmentedPart(
            make_scenes(num=numbers[part], size=shared.size, objects=name, part=part, seed=shared.scenes_seed)
        )
        for part in PARTS
    )
    return Scenes(name, train, validation, test, num_fitted=min(shared.num_fitted, shared.num_train))
