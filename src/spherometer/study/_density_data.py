"""The images of the study of local density: the bundled digits, or parts of two larger sets.

Shapes: N images of C x H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from spherometer.data import Draws, ImageViews, load_images
from spherometer.data._augment import preset
from spherometer.data._images import stratified_split
from spherometer.data._named import NAMED, open_named
from spherometer.data._paired import Changes
from spherometer.data._source import ArrayImages, LabelledImages, digest
from spherometer.data._views import DigitChanges
from spherometer.study._density_grid import DensityProtocol

_NAMES = {"mnist": "mnist", "fashion-mnist": "fashion_mnist"}
_ORDER = 29  # of the draws that choose images of a large set: changing it changes every number
_MEASURED_SEED = (
    1_000_003  # views that the contrastive loss is measured on: the same for all, never trained on
)


@dataclass(frozen=True)
class Sample:
    """Images that train encoders and probes, and images that only test."""

    name: str
    source: str
    train: LabelledImages
    test: LabelledImages
    changes: Changes

    @property
    def num_classes(self) -> int:
        """C."""
        return self.train.num_classes

    @property
    def size(self) -> tuple[int, ...]:
        """Channels, height, width."""
        return self.train.shape

    @cached_property
    def labels(self) -> tuple[Tensor, Tensor]:
        """Classes of the training and of the test images."""
        train, test = self.train.labels, self.test.labels
        assert train is not None
        assert test is not None
        return train, test

    @cached_property
    def images(self) -> tuple[Tensor, Tensor]:
        """The training and the test images, as encoders see them when nothing is drawn."""
        train, test = (
            self.changes.still(part.images(torch.arange(len(part)))) for part in (self.train, self.test)
        )
        return train, test

    @cached_property
    def measured_views(self) -> tuple[Tensor, Tensor]:
        """Two views of every training image."""
        return self.views(_MEASURED_SEED)(0, torch.arange(len(self.train)))

    @property
    def chance(self) -> float:
        """Accuracy of always answering the class that is most frequent among the training images."""
        train, test = self.labels
        return float((test == int(torch.bincount(train).argmax())).double().mean())

    def fingerprint(self) -> str:
        """Of the images, their labels and how they are changed."""
        changed = self.changes.settings()
        return digest(train=self.train.fingerprint(), test=self.test.fingerprint(), views=changed)

    def views(self, seed: int) -> ImageViews:
        """What a run with this seed trains on."""
        return ImageViews(self.train, self.changes, seed)


def load_sample(shared: DensityProtocol, data_dir: str | Path | None = None) -> Sample:
    """The images of a protocol.

    Raises:
        InputError: the files of a larger set are not there, or damaged.
    """
    if shared.data == "digits":
        digits = load_images("digits")
        images = ArrayImages("digits", digits.source, digits.images, digits.labels)
        split = digits.split
        train = torch.cat([split.train, split.validation]).sort().values  # nothing is chosen by labels here
        parts = [LabelledImages(images, train), LabelledImages(images, split.test)]
        source, changes = digits.source, cast(Changes, DigitChanges())
    else:
        name = _NAMES[shared.data]
        parts = [LabelledImages(open_named(name, part, data_dir, False)) for part in ("train", "test")]
        source, views = NAMED[name].source, NAMED[name].views
        changes = DigitChanges() if views == "digits" else preset(views)
    return Sample(
        shared.data,
        source,
        _thinned(parts[0], shared.num_train),
        _thinned(parts[1], shared.num_test),
        changes,
    )


def _thinned(part: LabelledImages, num: int) -> LabelledImages:
    """``num`` images (0: all), of every class its share, by a fixed hash of the row number."""
    labels = part.labels
    assert labels is not None
    if num == 0 or num >= len(labels):
        return part
    order = Draws(_ORDER).uniform(torch.arange(len(labels)), 1)[:, 0]
    taken = stratified_split(labels, validation=0.0, test=num / len(labels)).test
    if len(taken) > num:  # shares of classes are rounded
        taken = taken[torch.argsort(order[taken], stable=True)[:num]]
    return part.subset(taken.sort().values)
