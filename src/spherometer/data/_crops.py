"""Random resized crops, mirrored and turned: one affine map and one bilinear sampling for each view.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_ATTEMPTS = 10  # as in the usual definition: an area and a ratio that fit are looked for ten times
NUM_SLOTS = 2 * NUM_ATTEMPTS + 2


def crop_boxes(
    numbers: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    r"""Boxes of random resized crops (Szegedy et al. 2015), in pixels.

    The share of the area is uniform in ``scale``, the logarithm of width / height uniform over ``ratio``, the
    place uniform. Of ten draws the first that fits into the image is taken; if none does, the largest central
    box whose ratio is allowed. Boxes end anywhere, not only between pixels.

    Args:
        numbers: [B, 22], uniform in (0, 1).
        height, width: of the images.
        scale: lowest and highest share of the area.
        ratio: lowest and highest width / height.

    Returns:
        [B, 4]: left, top, width, height.
    """
    draws = numbers[:, : 2 * NUM_ATTEMPTS].view(-1, NUM_ATTEMPTS, 2)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[..., 0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + (high - low) * draws[..., 1])
    wide, tall = torch.sqrt(area * shape), torch.sqrt(area / shape)
    fits = (wide <= width) & (tall <= height)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    central = min(max(width / height, ratio[0]), ratio[1])
    wide = torch.where(found, wide.gather(1, first)[:, 0], min(width, height * central))
    tall = torch.where(found, tall.gather(1, first)[:, 0], min(height, width / central))
    place = torch.where(found[:, None], numbers[:, 2 * NUM_ATTEMPTS : NUM_SLOTS], 0.5)
    left, top = place[:, 0] * (width - wide), place[:, 1] * (height - tall)
    return torch.stack([left, top, wide, tall], dim=1)


def sample_boxes(
    images: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    *,
    mirrored: Tensor | None = None,
    angle: Tensor | None = None,
    outside: str = "border",
) -> Tensor:
    """Resize each image's box to ``size`` by bilinear sampling, mirrored and turned about the box's centre.

    Pixel i covers [i, i + 1], so a box that is the whole image gives the image back.

    Args:
        images: [B, C, H, W].
        boxes: [B, 4]: left, top, width, height in pixels.
        size: height and width of the result.
        mirrored: [B] bool: left and right exchanged.
        angle: [B] in radians.
        outside: "border" (the nearest pixel) or "zeros".

    Returns:
        [B, C, *size].
    """
    height, width = images.shape[-2:]
    left, top, wide, tall = boxes.to(torch.float64).unbind(dim=1)
    sign = 1.0 if mirrored is None else 1.0 - 2.0 * mirrored.to(torch.float64)
    turn = torch.zeros_like(left) if angle is None else angle.to(torch.float64)
    cos, sin = torch.cos(turn), torch.sin(turn)
    rows = (
        (sign * cos * wide / width, -sin * tall / width, (2 * left + wide) / width - 1),
        (sign * sin * wide / height, cos * tall / height, (2 * top + tall) / height - 1),
    )
    v, u = (torch.arange(n, device=images.device, dtype=images.dtype).mul(2).add(1 - n).div(n) for n in size)
    axes = []
    for row in rows:
        a, b, c = (part.to(images.dtype).view(-1, 1, 1) for part in row)
        axes.append(a * u[None, None, :] + (b * v[None, :, None] + c))  # [B, *size]
    grid = torch.stack(axes, dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)


def erased(images: Tensor, numbers: Tensor, share: tuple[float, float], chance: float) -> Tensor:
    """Set a box of some images to 0: ``share`` of their area, width / height from 1/2 to 2, inside the image.

    Args:
        images: [B, C, H, W].
        numbers: [B, 5], uniform in (0, 1).
        share: lowest and highest share of the area.
        chance: with which an image is touched.
    """
    height, width = images.shape[-2:]
    area = height * width * (share[0] + (share[1] - share[0]) * numbers[:, 1])
    shape = torch.exp(math.log(2) * (2 * numbers[:, 2] - 1))
    wide = torch.sqrt(area * shape).clamp(max=width)
    tall = torch.sqrt(area / shape).clamp(max=height)
    tall = torch.where(numbers[:, 0] < chance, tall, 0)
    left, top = numbers[:, 3] * (width - wide), numbers[:, 4] * (height - tall)
    x = torch.arange(width, device=images.device).add(0.5)
    y = torch.arange(height, device=images.device).add(0.5)
    across = (x >= left[:, None]) & (x < (left + wide)[:, None])
    down = (y >= top[:, None]) & (y < (top + tall)[:, None])
    return images.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 0.0)


def central_box(height: int, width: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest central box with the ratio of ``size``: left, top, width, height."""
    factor = min(height / size[0], width / size[1])
    tall, wide = size[0] * factor, size[1] * factor
    return (width - wide) / 2, (height - tall) / 2, wide, tall


def resized_box(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The same in whole pixels, of at least one."""
    left, top, wide, tall = (round(part) for part in central_box(height, width, size))
    return left, top, min(max(1, wide), width - left), min(max(1, tall), height - top)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest central box with the ratio of ``size``, resized to it with antialiasing."""
    left, top, wide, tall = resized_box(images.shape[-2], images.shape[-1], size)
    box = images[..., top : top + tall, left : left + wide]
    return F.interpolate(box, size=size, mode="bilinear", align_corners=False, antialias=True)
