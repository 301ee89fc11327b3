"""Digits with meta-data: a noisy number that goes with the class, or the angle that they were turned by.

Shapes: N images of C x H x W pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer.data import DigitViews, Draws, ImageSet, load_images
from spherometer.kernels import Gaussian
from spherometer.study._conditional_grid import PROXY, ConditionalProtocol
from spherometer.study._conditional_parts import Sample, Target
from spherometer.training import ConvEncoder

_DRAWN = 7  # the "view" of the draws that make meta-data: images' own views are 0 and 1


def digits_sample(shared: ConditionalProtocol, seed: int, device: str) -> Sample:
    """The digits of one seed; the parts are those of the digits study, the meta-data are drawn anew."""
    images = load_images("digits")
    return proxy_sample(images, shared, seed, device) if shared.study == PROXY else angle_sample(
        images, shared, seed, device
    )  # fmt: skip


def proxy_sample(images: ImageSet, shared: ConditionalProtocol, seed: int, device: str) -> Sample:
    """Meta-data "proxy": the class as a number, plus Gaussian noise."""
    noise = Draws(seed, view=_DRAWN).normal(torch.arange(len(images.labels)), 1)[:, 0]
    proxy = images.labels.double() + shared.amount * noise
    return _sample(images, images.images, "proxy", proxy, shared, device, rotation=DigitViews.rotation)


def angle_sample(images: ImageSet, shared: ConditionalProtocol, seed: int, device: str) -> Sample:
    """Meta-data "angle": every image is turned by an angle of its own; views do not turn it further."""
    drawn = Draws(seed, view=_DRAWN).uniform(torch.arange(len(images.labels)), 1)[:, 0]
    angle = shared.amount * (2 * drawn - 1)
    return _sample(images, turned(images.images, angle), "angle", angle, shared, device, rotation=0.0)


def turned(images: Tensor, degrees: Tensor) -> Tensor:
    """``images`` [N, C, H, W], each turned by its own angle [N] about its centre; 0 outside."""
    radians = degrees * (math.pi / 180)
    cos, sin, zero = torch.cos(radians), torch.sin(radians), torch.zeros_like(radians)
    matrix = torch.stack([torch.stack([cos, -sin, zero], dim=1), torch.stack([sin, cos, zero], dim=1)], dim=1)
    grid = F.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _sample(
    images: ImageSet,
    pixels: Tensor,
    name: str,
    metadata: Tensor,
    shared: ConditionalProtocol,
    device: str,
    *,
    rotation: float,
) -> Sample:
    split = images.split
    return Sample(
        inputs=pixels.to(device),
        metadata={name: metadata},
        rows={"train": split.train, "validation": split.validation, "test": split.test},
        targets=(
            Target("class", "classes", images.labels.numpy(), few=True),
            Target(name, "numbers", metadata.numpy()),
        ),
        kernel=Gaussian,
        views=lambda inputs, seed: DigitViews(inputs, seed, rotation=rotation),
        encoder=lambda seed: ConvEncoder(shared.dim, channels=pixels.shape[1], seed=seed).to(device),
    )
