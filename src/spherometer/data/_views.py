"""Paired views of small images: affine, intensity and noise changes on whole batches of tensors.

Shapes: N images, B of them in a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks
from spherometer.correspondence import ViewGeometry
from spherometer.data._crops import resized, resized_box
from spherometer.data._draws import Draws
from spherometer.data._source import check_index, content_hash, digest
from spherometer.errors import ShapeError

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
        labels: [N] int64, or None; they go with the views, and no view depends on them.

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
    labels: Tensor | None = None

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
    def changes(self) -> DigitChanges:
        """What is changed, without the images."""
        return DigitChanges(
            self.rotation, self.translation, self.scale, self.contrast, self.brightness, self.noise
        )

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of the images ``index`` [B] in ``epoch``, each [B, C, H, W]."""
        return self.views(self.load(index), epoch, index)

    def load(self, index: Tensor) -> Tensor:
        """The images ``index`` [B] themselves."""
        check_index("DigitViews", index, len(self), "images given to DigitViews")
        return self.images[index.to(self.images.device)]

    def views(self, loaded: Tensor, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of ``loaded``, the images ``index`` [B], on its device."""
        first, second = (self.changes.view(loaded, Draws(self.seed, epoch, view), index) for view in (0, 1))
        return first, second

    def view(self, epoch: int, index: Tensor, view: int) -> Tensor:
        """One view (0, 1, ...) of the images ``index`` [B] in ``epoch``."""
        return self.changes.view(self.load(index), Draws(self.seed, epoch, view), index)

    def still(self, loaded: Tensor) -> Tensor:
        """``loaded`` as it is: nothing is changed that is not drawn."""
        return self.changes.still(loaded)

    def geometry(self, epoch: int, index: Tensor) -> tuple[ViewGeometry, ViewGeometry]:
        """Where both views of the images ``index`` [B] in ``epoch`` lie in them."""
        size = self.images.shape[-2], self.images.shape[-1]
        first, second = (self.changes.geometry(Draws(self.seed, epoch, v), index, size) for v in (0, 1))
        return first, second

    def fingerprint(self) -> str:
        """Of pixels, labels, seed and settings."""
        return digest(
            pixels=content_hash(self.images),
            labels=content_hash(self.labels),
            seed=self.seed,
            views=self.changes.settings(),
        )


@dataclass(frozen=True)
class DigitChanges:
    """The changes of :class:`DigitViews`, for images from anywhere."""

    rotation: float = 15.0
    translation: float = 0.125
    scale: float = 0.15
    contrast: float = 0.3
    brightness: float = 0.1
    noise: float = 0.1
    size: tuple[int, int] | None = None

    def settings(self) -> dict[str, Any]:
        """Everything that decides what a view is, JSON-able."""
        return {"name": "digits"} | asdict(self)

    def still(self, images: Tensor) -> Tensor:
        """``images`` [B, C, H, W] in the size of the views."""
        return images if self.size is None else resized(images, self.size)

    def view(self, images: Tensor, draws: Draws, index: Tensor) -> Tensor:
        """One view of ``images`` [B, C, H, W], the rows ``index`` [B] of the set."""
        images, index = self.still(images), index.to(images.device)
        scalars = 2 * draws.uniform(index, _NUM_SCALARS) - 1  # each in (-1, 1)
        images = self._moved(images, scalars)
        contrast = 1 + self.contrast * scalars[:, 4]
        brightness = self.brightness * scalars[:, 5]
        pixels = draws.normal(index, images[0].numel() if len(images) else 1, first=_NUM_SCALARS)
        noise = self.noise * pixels.to(images.dtype).view_as(images)
        shape = (-1, 1, 1, 1)
        return images * contrast.to(images).view(shape) + brightness.to(images).view(shape) + noise

    def geometry(self, draws: Draws, index: Tensor, image_size: tuple[int, int]) -> ViewGeometry:
        """Where :meth:`view` of images of ``image_size``, the rows ``index`` [B] of the set, lies in them."""
        matrix = self._matrix(2 * draws.uniform(index, _NUM_SCALARS) - 1).double()
        box = resized_box(*image_size, self.size or image_size)
        # axes in the order of the tensor, the image's in pixels of the box that is resized to the view
        down, across = matrix[:, [1, 0]][:, :, [1, 0, 2]].unbind(dim=1)
        rows = []
        for row, start, side in ((down, box[1], box[3]), (across, box[0], box[2])):
            moved = row * (side / 2)
            rows.append(torch.cat([moved[:, :2], moved[:, 2:] + start + side / 2], dim=1))
        return ViewGeometry(torch.stack(rows, dim=1))

    def _matrix(self, scalars: Tensor) -> Tensor:
        """[B, 2, 3]: across and down in the image, from across and down in the view, both from -1 to 1."""
        angle = math.radians(self.rotation) * scalars[:, 0]
        size = torch.exp(math.log1p(self.scale) * scalars[:, 1])  # as often larger as smaller
        cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
        shift = 2 * self.translation * scalars[:, 2:4]  # grid coordinates run from -1 to 1
        return torch.stack(
            [torch.stack([cos, -sin, shift[:, 0]], dim=1), torch.stack([sin, cos, shift[:, 1]], dim=1)], dim=1
        )

    def _moved(self, images: Tensor, scalars: Tensor) -> Tensor:
        grid = F.affine_grid(self._matrix(scalars).to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
