"""What may be a candidate, and what is measured of each.

Shapes: N rows, V views, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks, rows, sphere
from spherometer._measure import measure
from spherometer._results import Evaluation
from spherometer._select._criteria import Z95
from spherometer.errors import InputError, UndefinedError
from spherometer.metrics import alpha_req, isoscore, lidar

CONTRASTED = 1024  # rows of the InfoNCE loss: one tile
EXACT = 20_000  # rows up to which files are read whole
_MOST_BYTES = 256 << 20  # of an evaluation


@dataclass(frozen=True)
class Measured:
    """A candidate with its numbers."""

    metrics: dict[str, dict[str, Any]]
    num: int | None
    dim: int | None
    ids: tuple[str, ...] | None
    uniform_law: float | None  # the value of uniformity that tells dimensions apart where ``dim`` is unknown
    notes: tuple[str, ...] = ()


def measured(name: str, value: Any, *, options: Mapping[str, Any], temperature: float, seed: int) -> Measured:
    """Measure one candidate.

    Args:
        name: what messages call it.
        value: [N, D] or [N, V, D] array, (x, y), path (an .npz with x and y, or z1 and z2, holds pairs), rows
            that can be read, an Evaluation, or a function without arguments that returns one of these.
        options: of ``measure``.
        temperature: of the InfoNCE loss.
        seed: of the rows that the InfoNCE loss is taken of, where there are more than 1024.
    """
    if callable(value):
        value = value()
    if isinstance(value, (str, PathLike)) and Path(value).suffix.lower() == ".json":
        value = _saved(Path(value))
    if isinstance(value, Evaluation):
        return _of(value, None, None)
    ids: tuple[str, ...] | None = None
    views = y = None
    if rows.is_stored(value):
        stored = rows.opened("select", name, value, pairs=True)  # of archives, as the command finds them
        ids = None if stored.ids is None else tuple(stored.ids)
        if len(stored) > EXACT:
            found = _of(measure(stored, seed=seed, **options), stored.shape[1], ids)
            if stored.other is None:
                return found
            chosen = _chosen(len(stored), seed)
            sides = (_whole(stored.rows, chosen), _whole(stored.other, chosen))
            metric = _info_nce(*sides, temperature, seed, options)
            return replace(found, metrics={**found.metrics, "info_nce": metric})
        x, y = _whole(stored.rows), None if stored.other is None else _whole(stored.other)
        options = {**options, "labels": options.get("labels", stored.labels)}
        stored.check()
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        x, y = value
    else:
        x = value
        if getattr(x, "ndim", 2) == 3 and x.shape[1] >= 2:
            views, x, y = x, x[:, 0], x[:, 1]
    evaluation = measure(x, y, **options)
    more = _more(evaluation, x, y, views, options, temperature, seed)
    found = _of(evaluation, int(x.shape[1]), ids)
    return replace(found, metrics={**found.metrics, **more})


def _saved(path: Path) -> Evaluation:
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        _checks.refuse(
            InputError, "select", "candidates", "be files that can be read",
            "evaluations are small regular files", repr(str(path))[:200], "Look at the path",
        )  # fmt: skip
    return Evaluation.from_json(path.read_bytes())


def _whole(source: rows.RowSource, chosen: Tensor | None = None) -> Tensor:
    """All rows, or the chosen ones (in order)."""
    if chosen is None:
        return torch.cat([block for _, block in rows.unit_blocks(source)])
    kept = []
    for start, block in rows.unit_blocks(source):
        here = chosen[(chosen >= start) & (chosen < start + len(block))]
        kept.append(block[here - start])
    return torch.cat(kept)


def _chosen(num: int, seed: int) -> Tensor:
    """Rows of the InfoNCE loss: the same ones for all candidates with as many rows."""
    order = torch.randperm(num, generator=torch.Generator().manual_seed(seed))
    return order[:CONTRASTED].sort().values


def _of(evaluation: Evaluation, dim: int | None, ids: tuple[str, ...] | None) -> Measured:
    metrics = {
        name: {
            "value": one.value,
            "interval": None if one.interval is None else list(one.interval),
            "better": one.better,
            "label": one.label,
        }
        for name, one in evaluation.items()
    }
    uniform = evaluation.get("uniformity")
    return Measured(
        metrics=metrics,
        num=None if uniform is None else uniform.num,
        dim=dim,
        ids=ids,
        uniform_law=None if uniform is None else uniform.baseline.get("uniform law"),
        notes=evaluation.notes,
    )


def _metric(value: float, interval: list[float] | None, better: str | None, label: str) -> dict[str, Any]:
    return {"value": value, "interval": interval, "better": better, "label": label}


def _more(
    evaluation: Evaluation,
    x: Any,
    y: Any,
    views: Any,
    options: Mapping[str, Any],
    temperature: float,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """What ``measure`` does not give: the InfoNCE loss, LiDAR of more than two views."""
    nan, found = options.get("nan", "refuse"), {}
    for name, label, better, function in (
        ("alpha_req", "alpha-ReQ", None, alpha_req),
        ("isoscore", "IsoScore", "higher", isoscore),
    ):
        if name not in evaluation:
            try:
                found[name] = _metric(float(function(x, nan=nan)), None, better, label)
            except UndefinedError:
                continue
    if y is None:
        return found
    if views is None and "lidar" not in evaluation:
        views = np.stack([x, y], axis=1) if isinstance(x, np.ndarray) else torch.stack([x, y], dim=1)
    if views is not None:
        try:
            label = f"LiDAR ({views.shape[1]} views)"
            found["lidar"] = _metric(float(lidar(views, nan=nan)), None, "higher", label)
        except UndefinedError:
            pass
    return found | {"info_nce": _info_nce(x, y, temperature, seed, options)}


def _info_nce(x: Any, y: Any, temperature: float, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """The InfoNCE loss of at most 1024 random pairs, with the influence of each pair as its error."""
    scale = options.get("normalize", True)
    sides = _checks.feature_set("select", ("x", "y"), (x, y), min_rows=2, nan=options.get("nan", "refuse"))
    units = [
        sphere.unit_rows("select", name, side, scale=scale).detach()
        for name, side in zip(("x", "y"), sides, strict=True)
    ]
    num = len(units[0])
    if num > CONTRASTED:
        chosen = _chosen(num, seed).to(units[0].device)
        units = [side[chosen] for side in units]
        num = CONTRASTED
    x_ND, y_ND = (side.to(torch.float64) for side in units)
    scaled_NN = x_ND @ y_ND.T / temperature
    row, column = scaled_NN.logsumexp(dim=1), scaled_NN.logsumexp(dim=0)
    term = (row + column) / 2 - scaled_NN.diagonal()
    # a pair counts with its own term, and as a negative in those of the others
    as_negative = (scaled_NN - row[:, None]).exp().sum(dim=0) + (scaled_NN - column).exp().sum(dim=1)
    value = float(term.mean())
    half = Z95 * float((term + as_negative / 2).std()) / math.sqrt(num)
    label = f"InfoNCE loss of {num} pairs (temperature {temperature:g})"
    return _metric(value, [value - half, value + half], "lower", label)
