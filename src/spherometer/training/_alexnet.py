"""The encoder of Wang & Isola 2020 for small photographs (STL-10 at 64 x 64)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import nn

from spherometer import _checks
from spherometer.errors import ShapeError
from spherometer.training._encoder import Encoder
from spherometer.training._heads import Head, make_head, make_norm
from spherometer.training._sizes import checked_size


class SmallAlexNet(Encoder):
    """Five convolutions 3 x 3 with 96, 192, 384, 384, 192 channels, two hidden layers of 4096, a linear map.

    Norm and ReLU follow every layer but the last; a maximum over 3 x 3 positions, every second of them,
    follows convolutions 1, 2 and 5: 64 x 64 pixels become a map of 7 x 7. "penultimate" is fc7, "dense" the
    map before fc6.

    Args:
        dim: output coordinates D.
        channels: of the images.
        size: their height and width; fc6 is made for it.
        norm: "batch" (the paper's) or "group".
        head: "linear" (the paper's fc8), "mlp" or "none".
        seed: of the initial weights.

    Source: Wang & Isola 2020, appendix B.1; the layout goes back to Tian et al. 2020 and Isola et al. 2016.
    """

    kind = "small_alexnet"
    dense_path = "body.conv5"

    def __init__(
        self,
        dim: int | None = 128,
        *,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        norm: Literal["batch", "group"] = "batch",
        head: Head = "linear",
        seed: int = 0,
    ) -> None:
        _checks.whole("SmallAlexNet", "channels", channels)
        _checks.one_of("SmallAlexNet", "norm", norm, ("batch", "group"))
        height, width = checked_size("SmallAlexNet", size)
        if min(height, width) < 15:
            _checks.refuse(
                ShapeError, "SmallAlexNet", "size", "be at least (15, 15)",
                "three poolings leave no map else", str((height, width)),
                'Pass larger images, or take the encoder "conv"',
            )  # fmt: skip
        super().__init__()
        self.config = {
            "dim": dim, "channels": channels, "size": [height, width], "norm": norm, "head": head,
        }  # fmt: skip
        with torch.device("meta"):
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            before = channels
            for number, after in enumerate((96, 192, 384, 384, 192), start=1):
                layers = [
                    nn.Conv2d(before, after, 3, padding=1, bias=False),
                    make_norm(norm, after),
                    nn.ReLU(),
                ]
                if number in (1, 2, 5):
                    layers.append(nn.MaxPool2d(3, 2))
                    height, width = (height - 1) // 2, (width - 1) // 2
                parts[f"conv{number}"] = nn.Sequential(*layers)
                before = after
            parts["flat"] = nn.Flatten()
            before *= height * width
            for number in (6, 7):
                parts[f"fc{number}"] = nn.Sequential(
                    nn.Linear(before, 4096, bias=False), make_norm(norm, 4096, maps=False), nn.ReLU()
                )
                before = 4096
            self.body = nn.Sequential(parts)
            self.head = make_head("SmallAlexNet", head, 4096, dim, norm)
        self.draw(seed)
