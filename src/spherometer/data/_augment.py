"""What is changed at random to make a view, and the presets of the papers.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from torch import Tensor

from spherometer import _checks
from spherometer.data import _colour, _crops
from spherometer.data._draws import Draws
from spherometer.errors import InputError

# where each change finds its numbers among those of one view; fixed, so that no change moves another's
_CROP, _FLIP, _ANGLE, _JITTER, _GREY, _BLUR, _ERASE, _NUM_SLOTS = 0, 22, 23, 24, 33, 34, 36, 41
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Augmentation:
    r"""One way to make views: crop and resize, mirror, turn, colour, grey, blur, erase, normalise, in order.

    Every number is drawn per image from ``Draws`` at (seed, epoch, index, view), and the changes are applied
    to the whole batch, each with one parameter for each image; cropping, mirroring and turning are one
    bilinear sampling. A value of 0 or None leaves a change out.

    Attributes:
        name: of the preset.
        size: height and width of the views; None: those of the images.
        scale, ratio: share of the area and width / height of the random resized crop.
        flip: chance to exchange left and right.
        rotation: largest angle, degrees; what comes from outside the image is 0.
        jitter: strength of brightness, contrast, saturation and hue (as in :func:`_colour.jittered`).
        jitter_chance: chance of the colour changes.
        grey: chance to lose the colours. grey_first: before the colour changes instead of after them.
        blur: chance of a Gaussian blur. sigma: its range, pixels.
        erase: chance that a box becomes 0. erased: its share of the area.
        mean, std: of each channel, for the normalisation; grey images take the mean over the channels.
    """

    name: str
    size: tuple[int, int] | None = None
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    rotation: float = 0.0
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_chance: float = 1.0
    grey: float = 0.0
    grey_first: bool = False
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    erase: float = 0.0
    erased: tuple[float, float] = (0.02, 0.2)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def settings(self) -> dict[str, Any]:
        """Everything that decides what a view is, JSON-able."""
        return asdict(self)

    def view(self, images: Tensor, draws: Draws, index: Tensor) -> Tensor:
        """One view of ``images`` [B, C, H, W] (float, in [0, 1]), the rows ``index`` [B] of the set."""
        numbers = draws.uniform(index.to(images.device), _NUM_SLOTS)
        images = self._moved(images, numbers)
        if self.grey_first:
            images = _colour.greyed(images, numbers[:, _GREY:_BLUR], self.grey)
        images = _colour.jittered(images, numbers[:, _JITTER:_GREY], self.jitter, self.jitter_chance)
        if not self.grey_first:
            images = _colour.greyed(images, numbers[:, _GREY:_BLUR], self.grey)
        images = _colour.blurred(images, numbers[:, _BLUR:_ERASE], self.blur, self.sigma)
        if self.erase:
            images = _crops.erased(images, numbers[:, _ERASE:], self.erased, self.erase)
        return self._normalised(images)

    def still(self, images: Tensor) -> Tensor:
        """``images`` [B, C, H, W] without any random change: resized, cut to the centre, normalised."""
        size = self.size or (images.shape[-2], images.shape[-1])
        if size != tuple(images.shape[-2:]):
            images = _crops.resized(images, size)
        return self._normalised(images)

    def _moved(self, images: Tensor, numbers: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        size = self.size or (height, width)
        if self.scale is None and not self.flip and not self.rotation:
            return images if size == (height, width) else _crops.resized(images, size)
        if self.scale is None:
            boxes = numbers.new_tensor(_crops.central_box(height, width, size)).expand(len(images), 4)
        else:
            boxes = _crops.crop_boxes(numbers[:, _CROP:_FLIP], height, width, self.scale, self.ratio)
        mirrored = numbers[:, _FLIP] < self.flip if self.flip else None
        angle = math.radians(self.rotation) * (2 * numbers[:, _ANGLE] - 1) if self.rotation else None
        outside = "zeros" if self.rotation else "border"
        return _crops.sample_boxes(images, boxes, size, mirrored=mirrored, angle=angle, outside=outside)

    def _normalised(self, images: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return images
        mean, std = (images.new_tensor(part) for part in (self.mean, self.std))
        if images.shape[1] == 1:
            mean, std = mean.mean(dim=0, keepdim=True), std.mean(dim=0, keepdim=True)
        return (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


PRESETS: Mapping[str, Augmentation] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            # Chen et al. 2020 (2002.05709), appendix A: distortion strength 1
            Augmentation(
                "simclr",
                (224, 224),
                (0.08, 1.0),
                flip=0.5,
                jitter=(0.8, 0.8, 0.8, 0.2),
                jitter_chance=0.8,
                grey=0.2,
                blur=0.5,
            ),
            # the same paper, appendix B.9: CIFAR-10, strength 0.5, no blur
            Augmentation(
                "simclr_cifar",
                None,
                (0.08, 1.0),
                flip=0.5,
                jitter=(0.4, 0.4, 0.4, 0.1),
                jitter_chance=0.8,
                grey=0.2,
            ),
            # He et al. 2020 (1911.05722), section 3.3
            Augmentation(
                "moco_v1",
                (224, 224),
                (0.2, 1.0),
                flip=0.5,
                jitter=(0.4, 0.4, 0.4, 0.4),
                grey=0.2,
                grey_first=True,
                mean=_IMAGENET[0],
                std=_IMAGENET[1],
            ),
            # Chen et al. 2020 (2003.04297)
            Augmentation(
                "moco_v2",
                (224, 224),
                (0.2, 1.0),
                flip=0.5,
                jitter=(0.4, 0.4, 0.4, 0.1),
                jitter_chance=0.8,
                grey=0.2,
                blur=0.5,
                mean=_IMAGENET[0],
                std=_IMAGENET[1],
            ),
            # Wang & Isola 2020 (2005.10242), appendix B
            Augmentation(
                "stl10",
                (64, 64),
                (0.08, 1.0),
                flip=0.5,
                jitter=(0.4, 0.4, 0.4, 0.4),
                grey=0.2,
                mean=(0.4409, 0.4279, 0.3868),
                std=(0.2683, 0.2610, 0.2687),
            ),
            # ours, for small grey images of things
            Augmentation(
                "fashion",
                None,
                (0.3, 1.0),
                flip=0.5,
                rotation=10.0,
                jitter=(0.4, 0.4, 0.0, 0.0),
                erase=0.25,
            ),
            Augmentation("none"),
        )
    }
)
PRESET_NAMES = (*PRESETS, "digits")


def preset(name: str, size: tuple[int, int] | None = None) -> Augmentation:
    """The preset ``name``, with views of another ``size`` when one is given."""
    if name not in PRESETS:
        near = difflib.get_close_matches(str(name), PRESETS, n=1, cutoff=0.0)[0]
        _checks.refuse(
            InputError,
            "open_data",
            "views",
            f"be one of {', '.join(PRESET_NAMES)}",
            "they say what is changed at random",
            repr(name)[:80],
            f"Did you mean {near!r}",
        )
    return PRESETS[name] if size is None else replace(PRESETS[name], size=size)
