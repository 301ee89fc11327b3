"""Residual networks with 18 and 50 layers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.training._encoder import Encoder
from spherometer.training._heads import Head, make_head, make_norm


class _Residual(nn.Module):
    """ReLU(x + branch(x)); where the shape changes, x goes through a convolution 1 x 1 first."""

    def __init__(self, branch: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.branch(x) + self.shortcut(x))
        return out


def _conv(before: int, after: int, side: int, stride: int, norm: str) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, side, stride=stride, padding=side // 2, bias=False)
    return [conv, make_norm(norm, after)]


def _plain(before: int, width: int, stride: int, norm: str) -> nn.Sequential:
    """Two convolutions 3 x 3."""
    return nn.Sequential(
        *_conv(before, width, 3, stride, norm), nn.ReLU(), *_conv(width, width, 3, 1, norm)
    )  # fmt: skip


def _bottleneck(before: int, width: int, stride: int, norm: str) -> nn.Sequential:
    """Convolutions 1 x 1, 3 x 3 (which takes the stride) and 1 x 1, to four times the width."""
    return nn.Sequential(
        *_conv(before, width, 1, 1, norm),
        nn.ReLU(),
        *_conv(width, width, 3, stride, norm),
        nn.ReLU(),
        *_conv(width, 4 * width, 1, 1, norm),
    )


class ResNet(Encoder):
    """A stem, four stages of residual blocks, the mean over positions, a head.

    "penultimate" is what enters the head (the backbone's mean), "dense" the last stage's map. The first block
    of stages 2-4 halves the map, in bottlenecks at the convolution 3 x 3, as all current code does (the
    paper: at the first 1 x 1). Made by its subclasses ``ResNet18`` and ``ResNet50``.

    Args:
        dim: output coordinates D.
        channels: of the images.
        stem: "imagenet": 7 x 7 convolution with stride 2, then 3 x 3 maximum with stride 2. "cifar": a 3 x 3
            convolution alone, for images of about 32 x 32 (as Chen et al. 2020, appendix B.9).
        width: channels of the first stage.
        norm: "batch" (the paper's) or "group".
        head: "linear" (MoCo), "mlp" (SimCLR) or "none".
        seed: of the initial weights.

    Source: He, Zhang, Ren & Sun 2016.
    """

    dense_path = "body.stage4"
    blocks: tuple[int, ...] = ()
    expansion = 1

    def __init__(
        self,
        dim: int | None = 128,
        *,
        channels: int = 3,
        stem: Literal["imagenet", "cifar"] = "imagenet",
        width: int = 64,
        norm: Literal["batch", "group"] = "batch",
        head: Head = "linear",
        seed: int = 0,
    ) -> None:
        function = type(self).__name__
        _checks.whole(function, "channels", channels)
        _checks.whole(function, "width", width)
        _checks.one_of(function, "stem", stem, ("imagenet", "cifar"))
        _checks.one_of(function, "norm", norm, ("batch", "group"))
        super().__init__()
        self.config = {
            "dim": dim, "channels": channels, "stem": stem, "width": width, "norm": norm, "head": head,
        }  # fmt: skip
        with torch.device("meta"):
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            side, stride = (7, 2) if stem == "imagenet" else (3, 1)
            first = [*_conv(channels, width, side, stride, norm), nn.ReLU()]
            if stem == "imagenet":
                first.append(nn.MaxPool2d(3, 2, padding=1))
            parts["stem"] = nn.Sequential(*first)
            before = width
            for number, count in enumerate(self.blocks):
                inner = width << number
                stage: list[nn.Module] = []
                for block in range(count):
                    stride = 2 if number and not block else 1
                    after = self.expansion * inner
                    same = stride == 1 and before == after
                    shortcut = (
                        nn.Identity() if same else nn.Sequential(*_conv(before, after, 1, stride, norm))
                    )
                    branch = _plain if self.expansion == 1 else _bottleneck
                    stage.append(_Residual(branch(before, inner, stride, norm), shortcut))
                    before = after
                parts[f"stage{number + 1}"] = nn.Sequential(*stage)
            parts["mean"] = nn.AdaptiveAvgPool2d(1)
            parts["flat"] = nn.Flatten()
            self.body = nn.Sequential(parts)
            self.head = make_head(function, head, before, dim, norm)
        self.draw(seed)


class ResNet18(ResNet):
    """``ResNet`` with 2, 2, 2, 2 blocks of two convolutions 3 x 3; 512 penultimate features."""

    kind = "resnet18"
    blocks = (2, 2, 2, 2)


class ResNet50(ResNet):
    """``ResNet`` with 3, 4, 6, 3 bottlenecks; 2048 penultimate features."""

    kind = "resnet50"
    blocks = (3, 4, 6, 3)
    expansion = 4
