"""Colour changes with one parameter for each image, applied by kornia in PIL's conventions.

Shapes: B images, C = 1 or 3 channels, H x W pixels, values in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from spherometer import _checks

NUM_SLOTS = 9  # whether, four amounts, four numbers whose order is the order of the four changes
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def _kornia(name: str) -> ModuleType:
    return _checks.extra(f"kornia.{name}", "train", "augmentation of images")


def _changes() -> tuple[Callable[[Tensor, Tensor], Tensor], ...]:
    enhance = _kornia("enhance")
    return (
        enhance.adjust_brightness_accumulative,
        enhance.adjust_contrast_with_mean_subtraction,
        enhance.adjust_saturation_with_gray_subtraction,
        lambda images, turn: enhance.adjust_hue(images, 2 * math.pi * turn),
    )


def jittered(
    images: Tensor, numbers: Tensor, strength: tuple[float, float, float, float], chance: float
) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image, in an order of its own.

    Factors are uniform in [max(0, 1 - s), 1 + s]; the hue turns by a share of the circle uniform in [-s, s].
    Grey images have neither saturation nor hue, so only the first two change.

    Args:
        images: [B, C, H, W] in [0, 1].
        numbers: [B, 9], uniform in (0, 1).
        strength: s of brightness, contrast, saturation and hue; 0 leaves that out.
        chance: with which an image is changed at all.
    """
    kinds = [k for k, s in enumerate(strength) if s > 0 and (k < SATURATION or images.shape[1] == 3)]
    if not kinds or chance <= 0 or not len(images):
        return images
    changes = _changes()
    amounts = []
    for kind, s in enumerate(strength):
        low, high = (-s, s) if kind == HUE else (max(0.0, 1 - s), 1 + s)
        amounts.append((low + (high - low) * numbers[:, 1 + kind]).to(images.dtype))
    order = torch.argsort(numbers[:, [5 + kind for kind in kinds]], dim=1)
    touched = numbers[:, 0] < chance
    images = images.clone()
    for turn in range(len(kinds)):
        for place, kind in enumerate(kinds):
            rows = (touched & (order[:, turn] == place)).nonzero()[:, 0]
            if len(rows):
                images[rows] = changes[kind](images[rows], amounts[kind][rows])
    return images


def greyed(images: Tensor, numbers: Tensor, chance: float) -> Tensor:
    """Replace the three channels of some images by their luma (ITU-R BT.601); ``numbers`` is [B, 1]."""
    if images.shape[1] != 3 or chance <= 0:
        return images
    grey = _kornia("color").rgb_to_grayscale(images)
    return torch.where((numbers[:, 0] < chance).view(-1, 1, 1, 1), grey, images)


def blurred(images: Tensor, numbers: Tensor, chance: float, sigma: tuple[float, float]) -> Tensor:
    """Blur some images with a Gaussian of sigma uniform in ``sigma`` pixels; ``numbers`` is [B, 2].

    The kernel is a tenth of the side wide (odd, at least 3) and has sum 1, as in SimCLR; at the border the
    image is mirrored about the centre of its last pixel.
    """
    rows = (numbers[:, 0] < chance).nonzero()[:, 0]
    if not len(rows):
        return images
    width = max(3, min(images.shape[-2:]) // 10 // 2 * 2 + 1)
    amount = (sigma[0] + (sigma[1] - sigma[0]) * numbers[rows, 1]).to(images.dtype)
    again = rows.repeat(2) if len(rows) == 1 else rows  # a single plane is added up in another order
    sigmas = amount.expand(len(again)) if len(rows) == 1 else amount
    found = _kornia("filters").gaussian_blur2d(
        images[again], (width, width), sigmas[:, None].expand(-1, 2).contiguous()
    )
    images = images.clone()
    images[rows] = found[: len(rows)]
    return images
