"""Everything that is measured of an encoder: two views of samples, as wholes and cell by cell.

Shapes: N samples, D output coordinates, E channels of a cell, h x w cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spherometer import _checks, data
from spherometer._dense import dense_numbers
from spherometer._measure import measure
from spherometer._results import Evaluation, Measurement
from spherometer.correspondence import ViewGeometry
from spherometer.errors import InputError, UndefinedError
from spherometer.training._dense_encoder import DenseEncoder
from spherometer.training._encoder import Encoder

MEASURED_EPOCH = 2**31  # views that no training step sees
_BATCH = 256
_AT_ONCE = 1 << 26  # pixels or voxels in a batch
_MATCHING = ("auto", "geometric", "similarity", "index", "random")


class Cells(NamedTuple):
    """Maps of two views, what "similarity" compares, and where the views lie in their images."""

    x: Tensor  # [N, E, h, w]
    y: Tensor
    backbone: tuple[Tensor, Tensor]
    geometry: tuple[ViewGeometry, ViewGeometry] | None


def measure_encoder(
    encoder: Encoder,
    views: Any,
    *,
    matching: str = "auto",
    num: int = 4096,
    num_dense: int = 512,
    num_cells: int = 8192,
    whole: bool = True,
    dense: bool = True,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Alignment, uniformity and what goes with them, of the outputs and of the cells of a dense map.

    Args:
        encoder: in evaluation mode for the time of the call. Of a ``DenseEncoder`` the projected cells are
            measured, of any other encoder with a dense map the cells of that map.
        views: paired views, such as ``data.open_data(...)`` gives.
        matching: which cells of two views are a pair: "geometric" (cells that show the same place),
            "similarity", "index" or "random"; "auto": "geometric" where the views know their place, else
            "index".
        num: samples at most whose outputs are measured; num_dense: whose cells are.
        num_cells: cells at most whose spread is taken, drawn without replacement.
        whole: measure the outputs; dense: measure the cells. An encoder without a dense map is measured as
            whole, and a note says so.
        device: where it runs.

    Returns:
        An ``Evaluation``: that of ``measure``, and "dense_alignment", "dense_uniformity" (pairs of cells of
        different images) and "dense_uniformity_within" (of the same image). Intervals of the dense ones are
        over images.

    Raises:
        InputError: ``matching`` needs a geometry that the views do not have, or there is nothing to measure.
    """
    _checks.one_of("measure_encoder", "matching", matching, _MATCHING)
    for name, value in (("num", num), ("num_dense", num_dense), ("num_cells", num_cells)):
        _checks.whole("measure_encoder", name, value, at_least=2)
    found: dict[str, Measurement] = {}
    notes: list[str] = []
    where = torch.device(device)
    training = encoder.training
    encoder.to(where).eval()
    try:
        if whole:
            x, y = outputs(encoder, views, chosen_rows(views, num), where)
            evaluation = measure(x, y)
            found |= evaluation
            notes += evaluation.notes
        if dense and _has_map(encoder):
            more, said = dense_measurements(
                encoder, views, chosen_rows(views, num_dense), where, matching=matching, num_cells=num_cells
            )
            found |= more
            notes += said
        elif dense:
            notes.append(f"dense metrics left out: {encoder.kind!r} has no dense map.")
    finally:
        encoder.train(training)
    return Evaluation(found, notes=tuple(notes))


def chosen_rows(views: Any, num: int) -> Tensor:
    """At most ``num`` rows, spread over the set, ascending."""
    return data.permutation(len(views), seed=0)[:num].sort().values


def _has_map(encoder: Encoder) -> bool:
    return isinstance(encoder, DenseEncoder) or encoder.dense_path is not None


def _batches(views: Any, rows: Tensor) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Row numbers and both views, a batch at a time."""
    one = views(MEASURED_EPOCH, rows[:1])[0]
    size = max(1, min(_BATCH, _AT_ONCE // max(1, one.numel())))
    for index in torch.split(rows, size):
        yield index, views(MEASURED_EPOCH, index)


@torch.no_grad()
def outputs(encoder: Encoder, views: Any, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Unit vectors [N, D] of both views."""
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for _, both in _batches(views, rows):
        for side, view in zip(sides, both, strict=True):
            side.append(encoder(view.to(device)).float().cpu())
    return torch.cat(sides[0]), torch.cat(sides[1])


@torch.no_grad()
def cells_of(encoder: Encoder, views: Any, rows: Tensor, device: torch.device) -> Cells:
    """Maps of both views."""
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    maps: tuple[list[Tensor], list[Tensor]] = ([], [])
    for _, both in _batches(views, rows):
        for side, backbone, view in zip(sides, maps, both, strict=True):
            if isinstance(encoder, DenseEncoder):
                found = encoder.everything(view.to(device))
                side.append(found.cells.float().cpu())
                backbone.append(found.backbone.float().cpu())
            else:
                side.append(encoder.tap(view.to(device), "dense")["dense"].float().cpu())
    x, y = (torch.cat(side) for side in sides)
    compared = (torch.cat(maps[0]), torch.cat(maps[1])) if maps[0] else (x, y)
    known = callable(getattr(views, "geometry", None))
    return Cells(x, y, compared, views.geometry(MEASURED_EPOCH, rows) if known else None)


def dense_measurements(
    encoder: Encoder,
    views: Any,
    rows: Tensor,
    device: torch.device,
    *,
    matching: str = "auto",
    num_cells: int = 8192,
) -> tuple[dict[str, Measurement], list[str]]:
    """The dense measurements of some samples, and what a reader must know."""
    cells = cells_of(encoder, views, rows, device)
    if matching == "auto":
        matching = "index" if cells.geometry is None else "geometric"
    if matching == "geometric" and cells.geometry is None:
        _checks.refuse(
            InputError, "measure_encoder", "matching", 'be "similarity", "index" or "random" for these data',
            "their views do not say where they lie in their images", "'geometric'",
            'Pass for instance matching="index"',
        )  # fmt: skip
    function, notes = "measure_encoder", []
    more: dict[str, Any] = {"function": function, "num_cells": num_cells}
    empty = (cells.x == 0).flatten(2).all(dim=1).any(dim=1) | (cells.y == 0).flatten(2).all(dim=1).any(dim=1)
    if bool(empty.any()):  # a ReLU that nothing passes leaves a cell without a direction
        notes.append(
            f"{int(empty.sum())} of {len(empty)} images with a cell of zeros left out of the dense metrics."
        )
        if int((~empty).sum()) < 2:
            return {}, notes
        cells = _kept(cells, ~empty)
    if math.prod(cells.x.shape[2:]) * len(cells.x) <= num_cells:
        more["num_cells"] = None
    rule: dict[str, Any] = {"matching": matching}
    if matching == "geometric":
        rule["geometry"] = cells.geometry
    elif matching == "similarity":
        rule["match_features"] = cells.backbone
    found: dict[str, Measurement] = {}
    try:
        found |= dense_numbers(cells.x, cells.y, **rule, **more)
    except UndefinedError as error:
        notes.append(f"dense metrics left out: {error}")
    if math.prod(cells.x.shape[2:]) > 1:
        within = dense_numbers(cells.x, None, pairs="within_image", **more)["dense_uniformity"]
        name = "dense_uniformity_within"
        found[name] = replace(within, name=name)
    return found, notes


def _kept(cells: Cells, keep: Tensor) -> Cells:
    rows = keep.nonzero()[:, 0]
    geometry = None if cells.geometry is None else (cells.geometry[0][rows], cells.geometry[1][rows])
    return Cells(cells.x[rows], cells.y[rows], (cells.backbone[0][rows], cells.backbone[1][rows]), geometry)
