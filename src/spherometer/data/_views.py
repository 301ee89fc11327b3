"""Paired views of small images: affine, intensity and noise changes on whole batches of tensors.

Shapes: N images, B of them in a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks
from spherometer.data._draws import Draws
from spherometer.errors import InputError, ShapeError

_NUM_SCALARS = 6  # slots 0-5 hold angle, scale, two shifts, contrast, brightness; the noise follows


@dataclass(frozen=True)
class DigitViews:
    r"""Two views of every image, each a function of (seed, epoch, index, view) alone.

    A view is rotated, scaled, shifted (bilinear, zeros outside), then its intensities become
    ``contrast * pixel + brightness + noise``. Nothing is mirrored: a mirrored digit is another sign.

    Args:
        images: [N, C, H, W] float32; ``index`` below counts its rows.
        seed: of the views; the same seed gives the same views in any batch split, on any device.
        rotation: largest angle, degrees.
        translation: largest shift along each axis, as a share of the side.
        scale: largest relative change of size.
        contrast: largest relative change of contrast.
        brightness: largest shift of all pixels, in units of the full range.
        noise: standard deviation of the noise of every pixel.

    Example:
        >>> import torch
        >>> x, y = DigitViews(torch.rand(10, 1, 8, 8), seed=0)(0, torch.tensor([3, 7]))
        >>> x.shape, bool((x == y).all())
        (torch.Size([2, 1, 8, 8]), False)
    """

    images: Tensor
    seed: int
    rotation: float = 15.0
    translation: float = 0.125
    scale: float = 0.15
    contrast: float = 0.3
    brightness: float = 0.1
    noise: float = 0.1

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or not self.images.is_floating_point():
            _checks.refuse(
                ShapeError,
                "DigitViews",
                "images",
                "have shape [N, C, H, W] and hold floating-point numbers",
                "views move and rescale the pixels of each image",
                f"shape {tuple(self.images.shape)}, dtype {self.images.dtype}".replace("torch.", ""),
                "Stack the images with a channel axis and convert them with .float()",
            )

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.images)

    def __call__(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of the images ``index`` [B] in ``epoch``, each [B, C, H, W]."""
        return self.view(epoch, index, 0), self.view(epoch, index, 1)

    def view(self, epoch: int, index: Tensor, view: int) -> Tensor:
        """One view (0, 1, ...) of the images ``index`` [B] in ``epoch``."""
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= self.num_images):
            _checks.refuse(
                InputError,
                "DigitViews",
                "index",
                f"lie between 0 and {self.num_images - 1}",
                "it counts the rows of images",
                f"values from {int(index.min())} to {int(index.max())}",
                "Pass row numbers of the images given to DigitViews",
            )
        draws = Draws(self.seed, epoch, view)
        index = index.to(self.images.device)
        scalars = 2 * draws.uniform(index, _NUM_SCALARS) - 1  # each in (-1, 1)
        images = self._moved(self.images[index], scalars)
        contrast = 1 + self.contrast * scalars[:, 4]
        brightness = self.brightness * scalars[:, 5]
        pixels = draws.normal(index, images[0].numel() if len(images) else 1, first=_NUM_SCALARS)
        noise = self.noise * pixels.to(images.dtype).view_as(images)
        shape = (-1, 1, 1, 1)
        return images * contrast.to(images).view(shape) + brightness.to(images).view(shape) + noise

    def _moved(self, images: Tensor, scalars: Tensor) -> Tensor:
        angle = math.radians(self.rotation) * scalars[:, 0]
        size = torch.exp(math.log1p(self.scale) * scalars[:, 1])  # as often larger as smaller
        cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
        shift = 2 * self.translation * scalars[:, 2:4]  # grid coordinates run from -1 to 1
        matrix = torch.stack(
            [torch.stack([cos, -sin, shift[:, 0]], dim=1), torch.stack([sin, cos, shift[:, 1]], dim=1)], dim=1
        )
        grid = F.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
