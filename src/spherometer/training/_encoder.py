"""What every encoder here is: a body, a head, and an output on the unit sphere.

Shapes: B samples, C channels, H x W pixels, P penultimate features, D output coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spherometer import _checks, sphere
from spherometer.errors import ShapeError
from spherometer.training._taps import record

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Encoded(NamedTuple):
    """Both representations that probes read."""

    output: Tensor  # [B, D], unit rows
    penultimate: Tensor  # [B, P]


class Encoder(nn.Module):
    """Samples -> unit vectors: ``normalize(head(body(x)))``.

    A kind of encoder is a subclass that sets ``kind``, keeps its constructor's arguments (without the seed)
    in ``config``, builds ``body`` (samples -> [B, P]) and ``head`` ([B, P] -> [B, D]) on the meta device, and
    calls ``draw(seed)``. So every weight comes from an own generator, and the global one is not touched.
    """

    kind: str = "encoder"
    dense_path: str | None = None  # of the sub-module whose output is the dense map [B, C', H', W']
    config: dict[str, Any]
    body: nn.Module
    head: nn.Module

    def draw(self, seed: int) -> None:
        """Draw all weights from ``seed``; the modules may still be on the meta device."""
        _checks.whole(type(self).__name__, "seed", seed, at_least=0)
        self.to_empty(device="cpu")
        initialise(self, torch.Generator().manual_seed(seed))

    def prepare(self, x: Tensor) -> Tensor:
        """Check the samples, and lay them out as the body likes them."""
        channels = self.config.get("channels")
        if channels is not None and (x.ndim != 4 or x.shape[1] != channels):
            _checks.refuse(
                ShapeError, type(self).__name__, "x", f"be images [B, {channels}, H, W]",
                "the first layer was made for them", f"shape {tuple(x.shape)}",
                "Convert the images, or build the encoder with other channels",
            )  # fmt: skip
        return x

    def features(self, x: Tensor) -> Encoded:
        """Output [B, D] and penultimate features [B, P], which enter the head, of samples x."""
        penultimate = self.body(self.prepare(x))
        return Encoded(sphere.normalize(self.head(penultimate)), penultimate)

    def forward(self, x: Tensor) -> Tensor:
        """Unit vectors [B, D] of samples x."""
        return self.features(x).output

    def tap(self, x: Tensor, names: str | Sequence[str]) -> dict[str, Tensor]:
        """Features inside the encoder, in one forward pass, in the mode and with the gradients of the moment.

        Args:
            x: samples.
            names: "output" [B, D], "penultimate" [B, P] (what enters the head), "dense" (the last map,
                [B, C', H', W'], of volumes [B, C', X', Y', Z']), or the path of any sub-module ("body.0").

        Returns:
            name -> what that part put out; nothing stays attached to the encoder, also after an error.

        Raises:
            InputError: an unknown name, no dense map in this encoder, or a part that puts out no tensor.
        """
        own = {"output": "", "penultimate": "body", "dense": self.dense_path}
        wanted = [names] if isinstance(names, str) else list(names)
        return record("tap", self, x, {name: own.get(name, name) for name in wanted})


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of convolutions and linear maps as He et al. 2015 do; norms start as the identity."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, (*_BATCH_NORMS, nn.GroupNorm, nn.LayerNorm)):
            if isinstance(part, _BATCH_NORMS):
                part.reset_running_stats()
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def encode(encoder: Encoder, images: Tensor, *, batch_size: int = 1024) -> Encoded:
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
