"""Small vision transformers.

Shapes: B images, L = (H / patch) (W / patch) patches, E features of a patch.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.errors import ShapeError
from spherometer.training._encoder import Encoder
from spherometer.training._heads import Head, make_head
from spherometer.training._sizes import checked_size

_PATCHES = {"imagenet": 16, "cifar": 4, "digits": 2}  # pixels along each side of a patch


class _Places(nn.Module):
    """Adds where a patch is: sines and cosines of its row and column (Vaswani et al. 2017, in two axes)."""

    table: Tensor

    def __init__(self, rows: int, columns: int, width: int) -> None:
        super().__init__()
        self.grid = (rows, columns)
        self.width = width
        self.register_buffer("table", torch.empty(rows * columns, width))

    def fill(self) -> None:
        """Write the table, which is not drawn."""
        quarter = self.width // 4
        rates = torch.exp(-math.log(10_000.0) * torch.arange(quarter, dtype=torch.float64) / quarter)
        rows, columns = (torch.arange(side, dtype=torch.float64)[:, None] * rates for side in self.grid)
        rows = torch.cat([rows.sin(), rows.cos()], dim=1)[:, None].expand(*self.grid, 2 * quarter)
        columns = torch.cat([columns.sin(), columns.cos()], dim=1)[None].expand(*self.grid, 2 * quarter)
        self.table.copy_(torch.cat([rows, columns], dim=2).flatten(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, E, rows, columns] -> [B, L, E]."""
        return x.flatten(2).transpose(1, 2) + self.table


class _Attention(nn.Module):
    """Softmax attention with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.out(mixed)
        return out


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), _Attention(width, heads))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        out: Tensor = x + self.mlp(x)
        return out


class _Map(nn.Module):
    """[B, L, E] -> [B, E, rows, columns]."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.grid = (rows, columns)

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).reshape(len(x), -1, *self.grid)


class ViT(Encoder):
    """Patches, transformer blocks, the mean over patches, a head.

    The mean instead of a class token and fixed sines as positions: the plain baseline of Beyer et al. 2022.
    "penultimate" is the mean, "dense" the map of the patches. Without batch normalisation, unless the head is
    an MLP with it. Made by its subclasses ``ViTMicro``, ``ViTTiny`` and ``ViTSmall``.

    Args:
        dim: output coordinates D.
        channels: of the images.
        size: their height and width.
        stem: "imagenet": patches of 16 x 16 pixels; "cifar": of 4 x 4; "digits": of 2 x 2. Left out: 4 x 4 up
            to size 64 (``ViTMicro``: 2 x 2 up to size 16).
        norm: of an MLP head, "batch", "group" or "none"; the blocks always have layer normalisation.
        head: "linear", "mlp" or "none".
        seed: of the initial weights.

    Source: Dosovitskiy et al. 2021 and Touvron et al. 2021 (the sizes), Beyer et al. 2022.
    """

    dense_path = "body.map"
    width = 0
    depth = 12
    heads = 0
    finest = 0  # size up to which patches are of 2 x 2 pixels if nobody says

    def __init__(
        self,
        dim: int | None = 128,
        *,
        channels: int = 3,
        size: tuple[int, int] = (224, 224),
        stem: Literal["imagenet", "cifar", "digits"] | None = None,
        norm: Literal["batch", "group", "none"] = "batch",
        head: Head = "linear",
        seed: int = 0,
    ) -> None:
        function = type(self).__name__
        _checks.whole(function, "channels", channels)
        _checks.one_of(function, "norm", norm, ("batch", "group", "none"))
        height, width = checked_size(function, size)
        if stem is None:
            largest = max(height, width)
            stem = "digits" if largest <= self.finest else "cifar" if largest <= 64 else "imagenet"
        _checks.one_of(function, "stem", stem, tuple(_PATCHES))
        patch = _PATCHES[stem]
        if height % patch or width % patch:
            _checks.refuse(
                ShapeError, function, "size", f"be divisible by {patch}",
                f"patches of {patch} x {patch} pixels cover the image", str((height, width)),
                "Pass other images, or another stem",
            )  # fmt: skip
        super().__init__()
        self.config = {
            "dim": dim, "channels": channels, "size": [height, width], "stem": stem,
            "norm": norm, "head": head,
        }  # fmt: skip
        rows, columns = height // patch, width // patch
        with torch.device("meta"):
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            parts["patches"] = nn.Conv2d(channels, self.width, patch, stride=patch)
            parts["places"] = _Places(rows, columns, self.width)
            for number in range(self.depth):
                parts[f"block{number + 1}"] = _Block(self.width, self.heads)
            parts["norm"] = nn.LayerNorm(self.width)
            parts["map"] = _Map(rows, columns)
            parts["mean"] = nn.AdaptiveAvgPool2d(1)
            parts["flat"] = nn.Flatten()
            self.body = nn.Sequential(parts)
            self.head = make_head(function, head, self.width, dim, norm)
        self.draw(seed)

    def draw(self, seed: int) -> None:
        """As every encoder, then the transformer's own: linear maps N(0, .02), cut at two deviations."""
        super().draw(seed)
        generator = torch.Generator().manual_seed(seed)
        for part in self.body.modules():
            if isinstance(part, _Places):
                part.fill()
            elif isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02, a=-0.04, b=0.04, generator=generator)


class ViTMicro(ViT):
    """``ViT`` with 3 blocks of width 32 and 4 heads, 38 thousand weights: for images of 8 x 8 to 32 x 32."""

    kind = "vit_micro"
    width = 32
    depth = 3
    heads = 4
    finest = 16


class ViTTiny(ViT):
    """``ViT`` with 12 blocks of width 192 and 3 heads."""

    kind = "vit_tiny"
    width = 192
    heads = 3


class ViTSmall(ViT):
    """``ViT`` with 12 blocks of width 384 and 6 heads."""

    kind = "vit_small"
    width = 384
    heads = 6
