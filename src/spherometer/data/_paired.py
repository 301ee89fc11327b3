"""Two random views of every image of a set.

Shapes: N images, B of them in a batch, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from spherometer.correspondence import ViewGeometry
from spherometer.data._draws import Draws
from spherometer.data._source import LabelledImages, as_float, digest


class Changes(Protocol):
    """What is changed at random to make a view: a preset."""

    def view(self, images: Tensor, draws: Draws, index: Tensor) -> Tensor: ...
    def still(self, images: Tensor) -> Tensor: ...
    def settings(self) -> dict[str, Any]: ...
    def geometry(self, draws: Draws, index: Tensor, image_size: Any) -> ViewGeometry: ...


@dataclass(frozen=True)
class ImageViews:
    """Two views of every image, each a function of (seed, epoch, index, view) alone.

    Args:
        images: the rows of an image set.
        changes: a preset, such as ``PRESETS["fashion"]``.
        seed: of the views; the same seed gives the same views in any batch split, on any device.

    Example:
        >>> import torch
        >>> from spherometer.data import PRESETS, ArrayImages, LabelledImages
        >>> images = ArrayImages("some", "made here", torch.rand(9, 1, 28, 28))
        >>> x, y = ImageViews(LabelledImages(images), PRESETS["fashion"], seed=0)(0, torch.tensor([3, 7]))
        >>> x.shape, bool((x == y).all())
        (torch.Size([2, 1, 28, 28]), False)
    """

    images: LabelledImages
    changes: Changes
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.images.name

    @property
    def source(self) -> str:
        """Where the set comes from."""
        return self.images.source

    @property
    def labels(self) -> Tensor | None:
        """[N] int64 in 0 ... C - 1, or None."""
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of the images ``index`` [B] in ``epoch``, each [B, C, H, W] float32."""
        return self.views(self.load(index), epoch, index)

    def load(self, index: Tensor) -> Tensor:
        """Stored pixels of the images ``index`` [B], uint8 or float32; may run in worker processes."""
        return self.images.pixels(index.cpu())

    def views(self, loaded: Tensor, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of ``loaded``, the images ``index`` [B], on its device."""
        pixels = as_float(loaded)
        first, second = (self.changes.view(pixels, Draws(self.seed, epoch, view), index) for view in (0, 1))
        return first, second

    def view(self, epoch: int, index: Tensor, view: int) -> Tensor:
        """One view (0, 1, ...) of the images ``index`` [B] in ``epoch``."""
        return self.changes.view(as_float(self.load(index)), Draws(self.seed, epoch, view), index)

    def geometry(self, epoch: int, index: Tensor) -> tuple[ViewGeometry, ViewGeometry]:
        """Where both views of the images ``index`` [B] in ``epoch`` lie in their images."""
        size = tuple(self.images.of.shape[1:])
        first, second = (self.changes.geometry(Draws(self.seed, epoch, v), index, size) for v in (0, 1))
        return first, second

    def still(self, loaded: Tensor) -> Tensor:
        """``loaded`` without random changes, in the size and normalisation of the views."""
        return self.changes.still(as_float(loaded))

    def fingerprint(self) -> str:
        """Of the images (as their set says), the rows, the seed and every setting of the views."""
        return digest(images=self.images.fingerprint(), views=self.changes.settings(), seed=self.seed)
