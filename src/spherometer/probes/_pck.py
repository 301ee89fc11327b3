"""Correspondence accuracy: whether the most similar cell of another view is where the same thing is.

Shapes: N pairs of images, C channels, S cells of x, R cells of y, K axes, T thresholds, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks, _groups, sphere
from spherometer._results import Better, Measurement
from spherometer.correspondence import FlowField, ViewGeometry
from spherometer.correspondence._geometry import cell_centres, cells_at
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.probes import _cells
from spherometer.probes._arrays import Array, Rows

_FUNCTION = "correspondence_accuracy"
_RESAMPLES = 1000
_ENTRIES = 1 << 22  # distances held at once
_CLOSE = 1e-9
_CHANCE, _BEST, _SAME = "a random cell", "the nearest cell", "the cell at the same place"

Geometry = tuple[ViewGeometry, ViewGeometry] | FlowField


@torch.no_grad()
def correspondence_accuracy(
    x: Any, y: Any, geometry: Geometry, *, thresholds: float | Sequence[float] = (0.05, 0.1), seed: int = 0
) -> dict[str, Measurement]:
    r"""Percentage of correct keypoints (PCK) of dense features, every cell being a keypoint.

    Each cell of x whose centre y shows is answered by the cell of y of the same image of largest cosine.
    PCK(a) is the share of them where the centre of that cell lies within a * (longer side of y) of the place
    where the centre of the cell of x truly is. With a ``FlowField`` places and sides are in pixels of its
    target; with the ``ViewGeometry`` of two views in pixels of their image, the sides of y being those of the
    box that it shows.

    Args:
        x, y: maps [N, C, *grid] of the two views; the grids may differ.
        geometry: ``(of x, of y)`` as ``views.geometry(epoch, index)`` gives it, or a flow from x to y.
        thresholds: a, above 0.
        seed: of the resampling.

    Returns:
        "pck_0.05", ... (as ``thresholds``), "pck_cell" (the very cell of y that the true place lies in) and
        "distance" (the mean, pixels). Beside each its exact expectation for a cell of y drawn at random, what
        always answering with the nearest cell would give (on coarse grids less than 1), and with the cell
        at the same place of y: where views hardly differ, as in a stereo pair, that is much, and features
        that know only their place (by the padding of convolutions) come near it.
        ``num``: the cells that have a partner. Intervals: percentiles of 1000 bootstrap resamples of the
        images; of a single image, of its 4 x 4 (x 4) tiles: cells nearby are not independent.

    Range: [0, 1], higher is better; the distance: lower is better.

    Raises:
        InputError, ShapeError: maps or geometry that do not match.
        UndefinedError: no cell of x is shown by y.

    Cost: N S R C for the answers and N S R K for chance; at most 2^22 distances at a time.

    Source: PCK is Yang & Ramanan 2013; a share of the image's longer side as in Min et al. 2019 (SPair-71k).
        Asking every cell instead of annotated points, and the baselines, are ours.

    Example:
        >>> maps = torch.eye(16).view(1, 16, 4, 4)
        >>> whole = ViewGeometry.whole(1, (32, 32))
        >>> found = correspondence_accuracy(maps, maps, (whole, whole), thresholds=(0.1,))
        >>> found["pck_0.1"].value, found["pck_0.1"].baseline["a random cell"]
        (1.0, 0.0625)
    """
    one, two = (_cells.checked_maps(_FUNCTION, z, name=name) for name, z in (("x", x), ("y", y)))
    if len(one) != len(two) or one.shape[1] != two.shape[1] or one.ndim != two.ndim:
        _checks.refuse(
            ShapeError, _FUNCTION, "y", "have the images, channels and axes of x", "cells are compared",
            f"x {tuple(one.shape)}, y {tuple(two.shape)}", "Pass the maps of one encoder for both views",
        )  # fmt: skip
    thresholds = (thresholds,) if isinstance(thresholds, (int, float)) else tuple(thresholds)
    for each in thresholds:
        _checks.positive(_FUNCTION, "thresholds", each)
    _checks.whole(_FUNCTION, "seed", seed, at_least=0)
    places, scales = _truth(geometry, one)
    sides = scales.square().sum(dim=1).sqrt().amax(dim=1) * 2  # of y, in pixels
    sums = [
        _of_cells(one[image].flatten(1).T, two[image].flatten(1).T, places[image], rows, scales[image],
                  (tuple(one.shape[2:]), tuple(two.shape[2:])),
                  [float(each) * float(sides[image]) for each in thresholds])
        for image, rows in _shown(places)
    ]  # fmt: skip
    if not sums:
        _checks.refuse(
            UndefinedError, _FUNCTION, "geometry", "lead from some cell of x into y",
            "only cells that y shows have a true partner", f"none of {len(one)} images",
            "Pass views that overlap",
        )  # fmt: skip
    codes = _clusters(one, places)
    values = torch.cat(sums).numpy()  # [M, 4, T + 2]: answered, by chance, nearest, at the same place
    names = [f"pck_{each:g}" for each in thresholds]
    labels = [f"PCK at {each:g}" for each in thresholds]
    samples = _resampled(values[:, 0], codes, seed)
    over = "images" if len(one) > 1 else "tiles of the image"
    found = {}
    for place, (name, label) in enumerate(
        zip(
            [*names, "pck_cell", "distance"],
            [*labels, "PCK of the very cell", "Distance in pixels"],
            strict=True,
        )
    ):
        better: Better = "lower" if name == "distance" else "higher"
        value, chance, best, same = (float(each) for each in values[:, :, place].mean(axis=0))
        baseline = {_CHANCE: chance, _SAME: same, _BEST: best}
        interval = None
        if samples is not None:
            low, high = _groups.interval(samples[:, place])
            interval = (min(low, value), max(high, value))
        how = None if interval is None else f"bootstrap over {over}"
        settings: dict[str, Any] = {"resamples": _RESAMPLES, "seed": seed, "interval": how}
        if place < len(names):
            settings["threshold"] = float(thresholds[place])
        found[name] = Measurement(name, value, interval, baseline, len(values), settings, better, label)
    return found


def _truth(geometry: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Where the centres of the cells of x are in y [N, S, K] (view coordinates, NaN outside), and the
    linear maps [N, K, K] from view coordinates of y to pixels.
    """
    grid, num = tuple(x.shape[2:]), len(x)
    parts = geometry if isinstance(geometry, (tuple, list)) else (geometry,)
    pair = len(parts) == 2 and all(isinstance(each, ViewGeometry) for each in parts)
    if not (pair or isinstance(geometry, FlowField)):
        _checks.refuse(
            InputError, _FUNCTION, "geometry", "be the ViewGeometry of x and of y, or a FlowField",
            "it says which places belong together", type(geometry).__name__,
            "Pass geometry=views.geometry(epoch, index), or FlowField.from_disparity(...)",
        )  # fmt: skip
    for each in parts:
        if len(each) != num or each.num_axes != len(grid):
            _checks.refuse(
                ShapeError, _FUNCTION, "geometry", f"be of {num} images with {len(grid)} axes",
                "it says where the cells of these maps lie", f"{len(each)} images with {each.num_axes} "
                "axes",
                "Pass the geometry of these views",
            )  # fmt: skip
    if pair:
        first, second = parts
        places = second.in_view(first.centres(grid)).double().cpu()
        scales = second.matrix[..., :-1].double().cpu()
    else:
        flow: FlowField = geometry
        places = flow.in_view(cell_centres(grid, flow.displacement.device)).double().cpu()
        target = flow.target or tuple(flow.displacement.shape[2:])
        scales = torch.diag(torch.tensor([side / 2 for side in target], dtype=torch.float64)).expand(
            num, -1, -1
        )
    shown = ((places >= -1 - _CLOSE) & (places < 1 - _CLOSE)).all(dim=-1, keepdim=True)
    return torch.where(shown, places, torch.nan), scales


def _shown(places: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The cells of each image that have a partner, where there are some."""
    for image, shown in enumerate(torch.isfinite(places).all(dim=-1)):
        rows = shown.nonzero()[:, 0]
        if len(rows):
            yield image, rows


def _of_cells(
    x: Tensor, y: Tensor, places: Tensor, rows: Tensor, scale: Tensor,
    grids: tuple[tuple[int, ...], tuple[int, ...]], reaches: Sequence[float],
) -> Tensor:  # fmt: skip
    """[M, 4, T + 2]: of each of the ``rows`` what its answer, and the others that ``values`` names, get."""
    centres = cell_centres(grids[1], places.device)
    same = cells_at(cell_centres(grids[0], places.device)[None], grids[1])[0][rows]
    one, two = sphere.normalize(x[rows]), sphere.normalize(y)
    found = []
    for start in range(0, len(rows), max(1, _ENTRIES // len(y))):
        part = slice(start, start + max(1, _ENTRIES // len(y)))
        true = places[rows[part]]
        answers = (one[part] @ two.T).argmax(dim=1)
        apart = torch.linalg.vector_norm((true[:, None] - centres) @ scale.T, dim=-1)  # [m, R] pixels
        own = F.one_hot(cells_at(true[None], grids[1])[0], len(y))
        hits = apart[..., None] <= apart.new_tensor(reaches) + _CLOSE
        each = torch.cat([hits, own[..., None], apart[..., None]], dim=-1)
        picked = each[torch.arange(len(true)), answers]
        nearest = each[torch.arange(len(true)), apart.argmin(dim=1)]
        nearest[:, -2] = 1.0
        stayed = each[torch.arange(len(true)), same[part]]
        found.append(torch.stack([picked, each.mean(dim=1), nearest, stayed], dim=1))
    return torch.cat(found)


def _clusters(x: Tensor, places: Tensor) -> Rows:
    """The image of every cell with a partner; of a single image its tile."""
    shown = torch.isfinite(places).all(dim=-1)
    if len(x) > 1:
        image = shown.nonzero()[:, 0].numpy()
        return np.unique(image, return_inverse=True)[1].astype(np.int64)
    tile = _cells.tiles(x.shape[2:])[shown[0]]
    return np.unique(tile.numpy(), return_inverse=True)[1].astype(np.int64)


def _resampled(values: Array, codes: Rows, seed: int) -> Array | None:
    """Means [B, T + 2] over resampled clusters of cells; None for fewer than two."""
    num = int(codes.max()) + 1
    if num < 2:
        return None
    sums = np.stack([np.bincount(codes, column, num) for column in values.T], axis=1)
    cells = np.bincount(codes, minlength=num)
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = _groups.bootstrap_weights(np.arange(num), _RESAMPLES, rng)
    means: Array = (weights @ sums) / (weights @ cells)[:, None]
    return means if math.isfinite(float(means.sum())) else None
