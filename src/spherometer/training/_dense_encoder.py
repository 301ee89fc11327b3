"""Encoders whose cells, too, lie on the sphere: a projection head for the dense map.

Shapes: B samples, C' channels of the dense map, h x w cells (of volumes three sides), E dense coordinates.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from spherometer import _checks, sphere
from spherometer.errors import InputError
from spherometer.training._encoder import Encoded, Encoder, initialise
from spherometer.training._encoders import KINDS
from spherometer.training._taps import record

DenseHead = Literal["mlp", "linear", "none"]
_SIDES = {2: 64, 3: 32}  # of the sample that shows how many channels the map has, where any size will do


class DenseEncoded(NamedTuple):
    """What a dense encoder says of samples, from one pass."""

    output: Tensor  # [B, D] unit rows: of the whole sample
    penultimate: Tensor  # [B, P]
    cells: Tensor  # [B, E, h, w] unit vectors: of every cell
    backbone: Tensor  # [B, C', h, w]: what the dense head reads


class DenseEncoder(Encoder):
    """An encoder and a dense head: 1 x 1 convolutions that map the cells of its dense map to the sphere.

    Args:
        encoder: an encoder, or the kind of one, with ``config``: its arguments.
        config: of the encoder, when it is given by its kind.
        dense_dim: coordinates E of a cell; of head "none" the channels C' of the map.
        dense_head: "mlp": two convolutions with C' hidden channels and a ReLU between them (DenseCL's);
            "linear": one; "none": the map itself.
        seed: of the weights of the dense head (and of an encoder given by its kind).

    Raises:
        InputError: the encoder has no dense map.

    Source: Wang et al. 2021 (DenseCL), with as many hidden channels as the map has.
    """

    kind = "dense"

    def __init__(
        self,
        encoder: Encoder | str = "conv",
        config: dict[str, Any] | None = None,
        *,
        dense_dim: int | None = 128,
        dense_head: DenseHead = "mlp",
        seed: int = 0,
    ) -> None:
        _checks.one_of("DenseEncoder", "dense_head", dense_head, ("mlp", "linear", "none"))
        super().__init__()
        if isinstance(encoder, str):
            if encoder not in KINDS:
                _checks.one_of("DenseEncoder", "encoder", encoder, tuple(KINDS))
            encoder = KINDS[encoder](**(config or {}), seed=seed)
        if encoder.dense_path is None:
            _checks.refuse(
                InputError, "DenseEncoder", "encoder", "have a dense map", "its cells are projected",
                f"{encoder.kind!r}, which has none", "Take a convolutional encoder or a ViT, such as 'conv'",
            )  # fmt: skip
        self.encoder = encoder
        num_axes, channels = _map_of(encoder)
        width = channels if dense_head == "none" else dense_dim
        if dense_head != "none":
            _checks.whole("DenseEncoder", "dense_dim", width)
        assert width is not None
        self.config = {
            "encoder": encoder.kind, "config": encoder.config,
            "dense_dim": None if dense_head == "none" else width, "dense_head": dense_head,
        }  # fmt: skip
        self.num_axes, self.dense_dim, self.num_channels = num_axes, width, channels
        with torch.device("meta"):
            self.dense_head = _head(dense_head, channels, width, num_axes)
        self.dense_head.to_empty(device=next(encoder.parameters()).device)
        initialise(self.dense_head, torch.Generator().manual_seed(seed))

    def prepare(self, x: Tensor) -> Tensor:
        return self.encoder.prepare(x)

    def features(self, x: Tensor) -> Encoded:
        return self.encoder.features(x)

    def everything(self, x: Tensor) -> DenseEncoded:
        """Output, penultimate features, projected cells and the map they come from, in one pass."""
        kept: dict[str, Tensor] = record(
            "DenseEncoder", self.encoder, x, {"": "", "penultimate": "body", "dense": self.encoder.dense_path}
        )
        cells = sphere.normalize(self.dense_head(kept["dense"]).movedim(1, -1)).movedim(-1, 1)
        return DenseEncoded(kept[""], kept["penultimate"], cells, kept["dense"])

    def cells(self, x: Tensor) -> Tensor:
        """Unit vectors [B, E, h, w] of the cells of samples x."""
        return self.everything(x).cells

    def tap(self, x: Tensor, names: str | Sequence[str]) -> dict[str, Tensor]:
        """As every encoder; "cells" are the projected ones."""
        wanted = [names] if isinstance(names, str) else list(names)
        if "cells" not in wanted:
            return self.encoder.tap(x, wanted)
        found = self.encoder.tap(x, list(dict.fromkeys([*(n for n in wanted if n != "cells"), "dense"])))
        cells = self.dense_head(found["dense"]).movedim(1, -1)
        found["cells"] = sphere.normalize(cells).movedim(-1, 1)
        return {name: found[name] for name in wanted}


def _head(kind: str, channels: int, width: int, num_axes: int) -> nn.Module:
    convolution = nn.Conv3d if num_axes == 3 else nn.Conv2d
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return convolution(channels, width, 1)
    return nn.Sequential(convolution(channels, channels, 1), nn.ReLU(), convolution(channels, width, 1))


def _map_of(encoder: Encoder) -> tuple[int, int]:
    """Number of axes and of channels of the dense map, from a pass without numbers."""
    size = encoder.config.get("size")
    axes = len(size) if size else (3 if any(isinstance(m, nn.Conv3d) for m in encoder.modules()) else 2)
    sides = tuple(size) if size else (_SIDES[axes],) * axes
    shadow = copy.deepcopy(encoder).to("meta").eval()
    sample = torch.empty(1, int(encoder.config.get("channels", 3)), *sides, device="meta")
    with torch.no_grad():
        shape = shadow.tap(sample, "dense")["dense"].shape
    return axes, shape[1]


def encode_dense(encoder: DenseEncoder, images: Tensor, *, batch_size: int = 256) -> DenseEncoded:
    """Everything of all ``images`` in evaluation mode, without gradients; the mode is restored."""
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            parts = [encoder.everything(part) for part in torch.split(images, batch_size)]
    finally:
        encoder.train(training)
    return DenseEncoded(*(torch.cat(each) for each in zip(*parts, strict=True)))


class Packed(nn.Module):
    """A dense encoder as a network with one row for each sample, so that batches are split as any others.

    A row holds the output, the projected cells, and (``backbone``) the map that "similarity" compares.
    """

    def __init__(self, encoder: DenseEncoder, *, backbone: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self._backbone = backbone
        self._grid: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        """[B, D + E h w (+ C' h w)]."""
        found = self.encoder.everything(x)
        self._grid = tuple(found.cells.shape[2:])
        parts = [found.output, found.cells.flatten(1)]
        if self._backbone:
            parts.append(found.backbone.detach().flatten(1).to(found.cells.dtype))
        return torch.cat(parts, dim=1)

    def unpack(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Output [B, D], cells [B, E, h, w] and map [B, C', h, w] (or None) of rows."""
        cells = math.prod(self._grid)
        widths = [self.encoder.dense_dim * cells]
        if self._backbone:
            widths.append(self.encoder.num_channels * cells)
        output, *maps = torch.split(rows, [rows.shape[1] - sum(widths), *widths], dim=1)
        shaped = [each.reshape(len(each), -1, *self._grid) for each in maps]
        return output, shaped[0], shaped[1] if self._backbone else None
