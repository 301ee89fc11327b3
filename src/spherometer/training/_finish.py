"""What a finished run is judged by: measured on views of held-out samples, probed on labelled ones.

Shapes: N samples, D output coordinates.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import data
from spherometer._measure import measure
from spherometer._version import __version__
from spherometer.errors import InputError, SpherometerError
from spherometer.training._begin import Probed, open_views
from spherometer.training._encoder import Encoder, encode
from spherometer.training._loop import PairedViews
from spherometer.training._probing import probe_encoder
from spherometer.training._recipe import Recipe

_MEASURED = 4096  # samples at most
_MEASURED_EPOCH = 2**31  # views that no training step sees


def _held_out(recipe: Recipe, views: PairedViews, download: bool) -> tuple[Any, str]:
    """The test part as the views of training, if the data have one."""
    if recipe.data.part == "auto":
        try:
            return open_views(recipe, part="test", download=download), "test"
        except SpherometerError:
            pass  # no such part, or not enough of it
    return views, "train"


def _sides(encoder: Encoder, views: Any, num: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows = data.permutation(len(views), seed=0)[:num].sort().values
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for index in torch.split(rows, 512):
        for side, view in zip(sides, views(_MEASURED_EPOCH, index), strict=True):
            side.append(encode(encoder, view.to(device)).output.float().cpu())
    return torch.cat(sides[0]), torch.cat(sides[1])


def measured(
    encoder: Encoder, recipe: Recipe, views: PairedViews, device: torch.device, *, download: bool = False
) -> dict[str, Any]:
    """Every number of two views of at most 4096 held-out samples (of training samples where none are)."""
    sample, part = _held_out(recipe, views, download)
    x, y = _sides(encoder, sample, _MEASURED, device)
    try:
        evaluation = measure(x, y)
    except InputError as error:  # a collapsed encoder may leave nothing to measure
        return {"part": part, "num": len(x), "values": {}, "message": str(error)}
    found = {name: evaluation[name].to_dict() for name in evaluation}
    return {"part": part, "num": len(x), "values": found, "message": None}


def probed(encoder: Encoder, untrained: Encoder, parts: Probed, device: torch.device) -> dict[str, Any]:
    """Linear and nearest-neighbour accuracy of the encoder, the one it started from, and the raw pixels."""
    seen, clean = parts
    return {
        "trained": probe_encoder(encoder, seen.train, seen.test, device=device),
        "untrained": probe_encoder(untrained.to(device), seen.train, seen.test, device=device),
        "raw_pixels": probe_encoder(None, clean.train, clean.test, device=device),
    }


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {
        "spherometer": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
