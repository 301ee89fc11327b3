"""What a finished run is judged by: measured on views of held-out samples, probed on labelled ones.

Shapes: N samples, D output coordinates.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer._measure import measure
from spherometer._version import __version__
from spherometer.errors import InputError, SpherometerError
from spherometer.training._begin import Probed, open_views
from spherometer.training._dense_encoder import DenseEncoder
from spherometer.training._encoder import Encoder
from spherometer.training._loop import PairedViews
from spherometer.training._measuring import chosen_rows, dense_measurements, outputs
from spherometer.training._metadata import Conditioning
from spherometer.training._probing import probe_encoder
from spherometer.training._probing_metadata import probe_metadata
from spherometer.training._recipe import Recipe

_MEASURED = 4096  # samples at most
_MEASURED_DENSE = 512  # of which the cells are compared


def _held_out(recipe: Recipe, views: PairedViews, download: bool) -> tuple[Any, str]:
    """The test part as the views of training, if the data have one."""
    if recipe.data.part == "auto":
        try:
            return open_views(recipe, part="test", download=download), "test"
        except SpherometerError:
            pass  # no such part, or not enough of it
    return views, "train"


def measured(
    encoder: Encoder,
    recipe: Recipe,
    views: PairedViews,
    device: torch.device,
    *,
    download: bool = False,
    conditions: Conditioning | None = None,
) -> dict[str, Any]:
    """Every number of two views of at most 4096 held-out samples (of training samples where none are)."""
    sample, part = _held_out(recipe, views, download)
    rows = chosen_rows(sample, _MEASURED)
    found: dict[str, Any] = {}
    messages: list[str] = []
    if recipe.method.trains_instances:
        x, y = outputs(encoder, sample, rows, device)
        more, message = _compared(conditions, sample, rows)
        try:
            found |= measure(x, y, **more)
        except InputError as error:  # a collapsed encoder may leave nothing to measure
            message = str(error)
        messages += [] if message is None else [message]
    else:
        messages.append("outputs not measured: the loss of the cells has not trained them (dense_weight = 1)")
    if isinstance(encoder, DenseEncoder):
        cells = chosen_rows(sample, _MEASURED_DENSE)
        try:
            dense, notes = dense_measurements(encoder, sample, cells, device)
        except InputError as error:
            dense, notes = {}, [str(error)]
        found |= dense
        messages += notes
    values = {name: each.to_dict() for name, each in found.items()}
    return {"part": part, "num": len(rows), "values": values, "message": " ".join(messages) or None}


def _compared(
    conditions: Conditioning | None, sample: Any, rows: Tensor
) -> tuple[dict[str, Any], str | None]:
    """What conditional metrics need of the rows, or why there are none."""
    table = None if conditions is None else conditions.rows_of(sample, rows)
    if conditions is None or table is None:
        return {}, None
    try:
        conditions.kernel.encode(table, "measure")
    except InputError as error:  # held-out samples may have gaps that the training part has not
        return {}, f"conditional metrics left out: {error}"
    return {"metadata": table, "kernel": conditions.kernel}, None


def probed(encoder: Encoder, untrained: Encoder, parts: Probed, device: torch.device) -> dict[str, Any]:
    """What can be read from the encoder, the one it started from, and the raw pixels or voxels.

    Of classes linear and nearest-neighbour accuracy; of meta-data ("metadata") errors of ridge regression and
    linear accuracy.
    """
    seen, clean = parts.seen, parts.clean
    asked = {"trained": (encoder, seen), "untrained": (untrained.to(device), seen)}
    raw = "raw_voxels" if clean.train.images(torch.tensor([0])).ndim == 5 else "raw_pixels"
    found: dict[str, Any] = {}
    for name, (probe, sides) in {**asked, raw: (None, clean)}.items():
        found[name] = {}
        if parts.labelled:
            found[name] |= probe_encoder(probe, sides.train, sides.test, device=device)
        if parts.kinds:
            described: tuple[Any, Any] = (sides.train, sides.test)
            found[name]["metadata"] = probe_metadata(probe, *described, parts.kinds, device=device)
    return found


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {
        "spherometer": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
