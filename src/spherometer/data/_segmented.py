"""Images whose pixels are labelled: what a probe of dense features is fitted on and tested with.

Shapes: N images, B of them in a batch, C channels, H x W pixels (of volumes X x Y x Z), K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks
from spherometer.data._crops import resized_box
from spherometer.data._source import Images, LabelledImages, check_index, content_hash, digest
from spherometer.errors import ShapeError

IGNORE = 255  # of a mask: a pixel whose class is not known, or not asked for
MAX_CLASSES = 255  # with the background: masks are bytes
_BLOCK = 1 << 24  # pixels that are counted at a time

Maps = Tensor | Callable[[Tensor], Tensor]  # [N, *sides] uint8, or a function from rows [B] to [B, *sides]


@dataclass(frozen=True)
class SegmentedImages:
    """An image set with a class for every pixel: 0 is the background, 255 is not counted.

    Args:
        images: the pixels, as any image set.
        maps: the classes [N, *sides] uint8, or a function that reads those of some rows.
        class_names: of the K classes, the background first.
        counts: [N, K] int64, how many pixels of each image are of each class.
        labels: [N] int64: the class, counted from 0 without the background, that covers the most pixels of an
            image (that of its object where there is one only; among equals the lower one); None where some
            image shows no object.

    Example:
        >>> from spherometer.data import ArrayImages
        >>> maps = torch.zeros(2, 4, 4, dtype=torch.uint8)
        >>> maps[:, 1, 1], maps[1, 2:] = 1, 2
        >>> images = ArrayImages("two", "made here", maps.unsqueeze(1))
        >>> made = SegmentedImages.of(images, maps, ("background", "a", "b"))
        >>> made.labels.tolist(), made.image_labels(torch.tensor([1])).tolist()
        ([0, 1], [[1, 1]])
    """

    images: Images
    maps: Maps
    class_names: tuple[str, ...]
    counts: Tensor
    labels: Tensor | None = None

    @classmethod
    def of(cls, images: Images, maps: Maps, class_names: Sequence[str]) -> SegmentedImages:
        """Count the pixels of every class, and find the label of every image.

        Raises:
            ShapeError: maps of another form, or with classes that have no name.
        """
        names = tuple(str(name) for name in class_names)
        if isinstance(maps, Tensor):
            _check_maps(maps, images)
        counts = count_classes(maps, len(images), math.prod(images.shape[1:]), len(names))
        objects = counts[:, 1:]
        known = objects.shape[1] > 0 and bool((objects.sum(dim=1) > 0).all())
        order = torch.arange(objects.shape[1], 0, -1)
        most = (objects == objects.amax(dim=1, keepdim=True)) * order if known else None
        return cls(images, maps, names, counts, None if most is None else most.argmax(dim=1))

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.images.name

    @property
    def source(self) -> str:
        """Where it comes from."""
        return self.images.source

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width (of volumes three sides) of every image."""
        return self.images.shape

    @property
    def num_classes(self) -> int:
        """K, with the background."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: Tensor) -> Tensor:
        """The images ``index`` [B], uint8 or float32."""
        return self.images.pixels(index)

    def masks(self, index: Tensor) -> Tensor:
        """The class of every pixel of the images ``index`` [B], [B, *sides] int64."""
        check_index(self.name, index, len(self))
        found = self.maps[index] if isinstance(self.maps, Tensor) else self.maps(index)
        return found.to(torch.int64)

    def image_labels(self, index: Tensor) -> Tensor:
        """Which classes but the background the images ``index`` [B] show, [B, K - 1] int64 of 0 and 1."""
        check_index(self.name, index, len(self))
        return (self.counts[index, 1:] > 0).to(torch.int64)

    def fingerprint(self) -> str:
        """Of the images and of their maps (of maps that are read when used: of their counts)."""
        maps = content_hash(self.maps) if isinstance(self.maps, Tensor) else "read when used"
        names, counts = list(self.class_names), content_hash(self.counts)
        return digest(images=self.images.fingerprint(), maps=maps, names=names, counts=counts)


def _check_maps(maps: Tensor, images: Images) -> None:
    shape = (len(images), *images.shape[1:])
    if maps.dtype != torch.uint8 or tuple(maps.shape) != shape:
        dtype = str(maps.dtype).replace("torch.", "")
        _checks.refuse(
            ShapeError, "SegmentedImages", "maps", f"be uint8 of shape {shape}",
            "every pixel of every image has a class", f"{dtype} of shape {tuple(maps.shape)}",
            "Pass one map for each image, in its size",
        )  # fmt: skip


def count_classes(maps: Maps, num: int, num_pixels: int, num_classes: int) -> Tensor:
    """Pixels [N, K] of each class in each of ``num`` maps of ``num_pixels``, those of 255 left out.

    Raises:
        ShapeError: a class that has no name.
    """
    counts = torch.zeros(num, num_classes, dtype=torch.int64)
    step = max(1, _BLOCK // num_pixels)
    for start in range(0, num, step):
        rows = torch.arange(start, min(start + step, num))
        part = (maps[rows] if isinstance(maps, Tensor) else maps(rows)).flatten(1).to(torch.int64)
        wrong = (part >= num_classes) & (part != IGNORE)
        if bool(wrong.any()):
            row = int(wrong.any(dim=1).nonzero()[0, 0])
            _checks.refuse(
                ShapeError, "SegmentedImages", "maps", f"hold classes from 0 to {num_classes - 1}, or 255",
                f"there are {num_classes} names, and 255 is not counted",
                f"{int(part[wrong].max())} in image {start + row}", "Name every class",
            )  # fmt: skip
        flat = part + 256 * torch.arange(len(part))[:, None]
        found = torch.bincount(flat.flatten(), minlength=256 * len(part)).view(len(part), 256)
        counts[rows] = found[:, :num_classes]
    return counts


@dataclass(frozen=True)
class SegmentedPart(LabelledImages):
    """Some rows of a segmented set as an encoder sees them when nothing is drawn at random, and their masks.

    Args:
        of: the set.
        rows: which of its rows, int64 [n]; None for all.
        still: what is done to every image, or None.

    ``num_classes`` counts the classes of ``labels``, without the background;
    ``of.num_classes`` those of masks.
    """

    of: SegmentedImages

    def masks(self, index: Tensor) -> Tensor:
        """The classes of the pixels of ``images(index)``, [B, *sides] int64; resized ones: the nearest "
        "pixel's."""
        masks = self.of.masks(self._rows(index))
        size = self.shape[1:]
        if tuple(masks.shape[1:]) == size:
            return masks
        left, top, wide, tall = resized_box(masks.shape[1], masks.shape[2], (size[0], size[1]))
        box = masks[:, None, top : top + tall, left : left + wide].to(torch.float32)
        return F.interpolate(box, size=size, mode="nearest-exact")[:, 0].to(torch.int64)

    def image_labels(self, index: Tensor) -> Tensor:
        """Which classes but the background the images show, [B, K - 1] int64 of 0 and 1."""
        return self.of.image_labels(self._rows(index))

    def _rows(self, index: Tensor) -> Tensor:
        check_index(self.of.name, index, len(self))
        return index if self.rows is None else self.rows[index]


def as_part(images: Any) -> LabelledImages:
    """All rows of a set, with masks where it has them."""
    return SegmentedPart(images) if isinstance(images, SegmentedImages) else LabelledImages(images)
