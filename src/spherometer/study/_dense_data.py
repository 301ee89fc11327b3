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

# no digit is mirrored (that makes another sign), and there is no colour
_JITTER = (0.4, 0.4, 0.0, 0.0)
SMALLEST, LARGEST = (0.1, 0.5), (0.3, 1.0)  # shares of a scene that a view shows: in training, when measured


def changes(shared: DenseProtocol, part: str) -> Augmentation:
    """How views of a part are made: small crops train, larger ones, about as much enlarged, are measured."""
    side = shared.view_size if part == "train" else shared.size
    return Augmentation(
        "scenes", size=(side, side), scale=SMALLEST if part == "train" else LARGEST, jitter=_JITTER
    )


PARTS: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Scenes:
    """The scenes of one data set: those that train, that encoders are measured on, that score the tasks."""

    name: Data
    shared: DenseProtocol
    train: SegmentedPart
    held_out: SegmentedPart
    test: SegmentedPart

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
        return Probed.of(self.train, min(self.shared.num_fitted, len(self.train)))

    @cached_property
    def tested(self) -> Probed:
        """What they are scored on."""
        return Probed.of(self.test, len(self.test))

    def views(self, part: str, seed: int) -> ImageViews:
        """Two views of every scene of a part, which know where they lie."""
        whose = self.train if part == "train" else self.held_out
        return ImageViews(whose, changes(self.shared, part), seed)


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
            make_scenes(
                num=numbers[part],
                size=shared.size,
                objects=name,
                background=shared.background,
                part=part,
                seed=shared.scenes_seed,
            )
        )
        for part in PARTS
    )
    return Scenes(name, shared, train, validation, test)
