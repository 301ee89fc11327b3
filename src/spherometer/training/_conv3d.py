"""A small 3-D convolutional encoder: trains on two CPU cores.

Shapes: B volumes, C channels, X x Y x Z voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.errors import ShapeError
from spherometer.training._encoder import Encoder
from spherometer.training._heads import Head, Norm, make_head, make_norm


class VolumeEncoder(Encoder):
    """An encoder of volumes [B, C, X, Y, Z]."""

    def prepare(self, x: Tensor) -> Tensor:
        channels = self.config["channels"]
        if x.ndim != 5 or x.shape[1] != channels:
            _checks.refuse(
                ShapeError, type(self).__name__, "x", f"be volumes [B, {channels}, X, Y, Z]",
                "the first layer was made for them", f"shape {tuple(x.shape)}",
                "Convert the volumes, or build the encoder with other channels",
            )  # fmt: skip
        return x


class Conv3dEncoder(VolumeEncoder):
    """Convolutions 3 x 3 x 3 with stride 2 that double the channels, a hidden layer, a head.

    Made for volumes of about 20 to 64 voxels a side.

    Args:
        dim: output coordinates D.
        channels: of the volumes, C.
        width: channels of the first convolution; each further one has twice as many.
        hidden: penultimate features P.
        depth: number of convolutions.
        grid: the last map is averaged to ``grid`` x ``grid`` x ``grid`` before the hidden layer.
        norm: "batch", "group" or "none", after every convolution, in the hidden layer and in an MLP head.
        head: "mlp", "linear" or "none".
        seed: of the initial weights.
    """

    kind = "conv3d"

    def __init__(
        self,
        dim: int | None = 128,
        *,
        channels: int = 1,
        width: int = 16,
        hidden: int = 128,
        depth: int = 4,
        grid: int = 2,
        norm: Norm = "batch",
        head: Head = "mlp",
        seed: int = 0,
    ) -> None:
        for name, value in (
            ("channels", channels),
            ("width", width),
            ("hidden", hidden),
            ("depth", depth),
            ("grid", grid),
        ):
            _checks.whole("Conv3dEncoder", name, value)
        _checks.one_of("Conv3dEncoder", "norm", norm, ("batch", "group", "none"))
        super().__init__()
        self.config = {
            "dim": dim,
            "channels": channels,
            "width": width,
            "hidden": hidden,
            "depth": depth,
            "grid": grid,
            "norm": norm,
            "head": head,
        }
        with torch.device("meta"):  # no weight is drawn from the global generator
            layers: list[nn.Module] = []
            before = channels
            for number in range(depth):
                after = width << number
                layers += [
                    nn.Conv3d(before, after, 3, stride=2, padding=1, bias=norm == "none"),
                    make_norm(norm, after, maps=3),
                    nn.ReLU(),
                ]
                before = after
            self.dense_path = f"body.{len(layers) - 1}"
            layers += [
                nn.AdaptiveAvgPool3d(grid),
                nn.Flatten(),
                nn.Linear(before * grid**3, hidden, bias=norm == "none"),
                make_norm(norm, hidden, maps=False),
                nn.ReLU(),
            ]
            self.body = nn.Sequential(*layers)
            self.head = make_head("Conv3dEncoder", head, hidden, dim, norm)
        self.draw(seed)
