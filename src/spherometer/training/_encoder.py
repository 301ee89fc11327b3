"""A small convolutional encoder whose output lies on the unit sphere.

Shapes: B images, C channels, H x W pixels, P penultimate features, D = ``dim`` output coordinates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from spherometer import _checks, sphere


class Encoded(NamedTuple):
    """Both representations that probes read."""

    output: Tensor  # [B, D], unit rows
    penultimate: Tensor  # [B, P]


class ConvEncoder(nn.Module):
    """Two convolutions, a hidden layer, a linear map to ``dim`` coordinates, scaled to length 1.

    Made for images of about 8 x 8 to 32 x 32 pixels. Weights are drawn from ``seed`` by an own generator.

    Args:
        dim: output coordinates D.
        channels: of the images, C.
        width: channels of the first convolution; the second has twice as many.
        hidden: penultimate features P.
        seed: of the initial weights.
    """

    def __init__(
        self, dim: int = 32, *, channels: int = 1, width: int = 16, hidden: int = 128, seed: int = 0
    ) -> None:
        for name, value in (("dim", dim), ("channels", channels), ("width", width), ("hidden", hidden)):
            _checks.whole("ConvEncoder", name, value)
        super().__init__()
        self.config = {"dim": dim, "channels": channels, "width": width, "hidden": hidden}
        with torch.device("meta"):  # no weight is drawn from the global generator
            self.body = nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
                nn.BatchNorm2d(2 * width),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(4),
                nn.Flatten(),
                nn.Linear(2 * width * 16, hidden, bias=False),
                nn.BatchNorm1d(hidden),
                nn.ReLU(),
            )
            self.head = nn.Linear(hidden, dim)
        self.to_empty(device="cpu")
        self._initialise(torch.Generator().manual_seed(seed))

    def _initialise(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.reset_running_stats()
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)

    def features(self, images: Tensor) -> Encoded:
        """Output [B, D] and penultimate features [B, P] of images [B, C, H, W]."""
        penultimate = self.body(images)
        return Encoded(sphere.normalize(self.head(penultimate)), penultimate)

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors [B, D] of images [B, C, H, W]."""
        return self.features(images).output


def encode(encoder: ConvEncoder, images: Tensor, *, batch_size: int = 1024) -> Encoded:
    """Both representations of all ``images`` in evaluation mode, without gradients; the mode is restored."""
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            parts = [encoder.features(part) for part in torch.split(images, batch_size)]
    finally:
        encoder.train(training)
    return Encoded(
        torch.cat([part.output for part in parts]), torch.cat([part.penultimate for part in parts])
    )
