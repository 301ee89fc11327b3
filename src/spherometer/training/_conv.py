"""A small convolutional encoder for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.training._encoder import Encoder
from spherometer.training._heads import Head, Norm, make_head, make_norm


class ConvEncoder(Encoder):
    """Convolutions 3 x 3 that double the channels and halve the map, a hidden layer, a head.

    Made for images of about 8 x 8 to 64 x 64 pixels. Two designs: ``down="pool"`` takes the maximum of 2 x 2
    after every convolution but the last (a small VGG); ``down="stride"`` moves every convolution by two
    pixels instead (an all-convolutional net, Springenberg et al. 2015), which costs about a third.

    Args:
        dim: output coordinates D.
        channels: of the images, C.
        width: channels of the first convolution; each further one has twice as many.
        hidden: penultimate features P.
        depth: number of convolutions.
        down: "pool" or "stride".
        grid: the last map is averaged to ``grid`` x ``grid`` before the hidden layer.
        norm: "batch", "group" or "none", after every convolution, in the hidden layer and in an MLP head.
        head: "linear", "mlp" or "none".
        seed: of the initial weights.
    """

    kind = "conv"

    def __init__(
        self,
        dim: int | None = 32,
        *,
        channels: int = 1,
        width: int = 16,
        hidden: int = 128,
        depth: int = 2,
        down: str = "pool",
        grid: int = 4,
        norm: Norm = "batch",
        head: Head = "linear",
        seed: int = 0,
    ) -> None:
        for name, value in (
            ("channels", channels),
            ("width", width),
            ("hidden", hidden),
            ("depth", depth),
            ("grid", grid),
        ):
            _checks.whole("ConvEncoder", name, value)
        _checks.one_of("ConvEncoder", "down", down, ("pool", "stride"))
        _checks.one_of("ConvEncoder", "norm", norm, ("batch", "group", "none"))
        super().__init__()
        self.config = {
            "dim": dim,
            "channels": channels,
            "width": width,
            "hidden": hidden,
            "depth": depth,
            "down": down,
            "grid": grid,
            "norm": norm,
            "head": head,
        }
        with torch.device("meta"):  # no weight is drawn from the global generator
            layers: list[nn.Module] = []
            before = channels
            for number in range(depth):
                after = width << number
                stride = 2 if down == "stride" else 1
                layers += [
                    nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=norm == "none"),
                    make_norm(norm, after),
                    nn.ReLU(),
                ]
                if down == "pool" and number < depth - 1:
                    layers.append(nn.MaxPool2d(2))
                before = after
            self.dense_path = f"body.{len(layers) - 1}"
            layers += [
                nn.AdaptiveAvgPool2d(grid),
                nn.Flatten(),
                nn.Linear(before * grid * grid, hidden, bias=norm == "none"),
                make_norm(norm, hidden, maps=False),
                nn.ReLU(),
            ]
            self.body = nn.Sequential(*layers)
            self.head = make_head("ConvEncoder", head, hidden, dim, norm)
        self.draw(seed)

    def prepare(self, x: Tensor) -> Tensor:
        x = super().prepare(x)
        if self.config["down"] == "pool":
            return x
        # channels last, also for one channel, where torch cannot tell: convolutions are 1.5 times faster then
        size = (x.shape[0], x.shape[2], x.shape[3], x.shape[1])
        return x.permute(0, 2, 3, 1).contiguous().view(-1).view(size).permute(0, 3, 1, 2)
