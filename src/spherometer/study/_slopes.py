"""alpha-ReQ and LiDAR of an encoder, with intervals; an encoder for which one is undefined has none.

Shapes: N rows or samples, V views of each, D dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spherometer._results import Measurement
from spherometer.errors import UndefinedError
from spherometer.metrics import _jackknife, alpha_req, lidar
from spherometer.metrics._lidar import DELTA
from spherometer.metrics._spectrum_slopes import RANKS

_INTERVAL = f"jackknife over {_jackknife.NUM_GROUPS} groups of rows"


def slopes(rows_ND: Tensor, views_NVD: Tensor) -> dict[str, dict[str, Any]]:
    """alpha-ReQ of the rows and LiDAR of the views, as ``Measurement.to_dict`` gives them."""
    num, many, dim = views_NVD.shape
    kinds: tuple[tuple[str, str, Any, Tensor, dict[str, Any]], ...] = (
        ("alpha_req", "alpha-ReQ", alpha_req, rows_ND, {"ranks": list(RANKS)}),
        ("lidar", "LiDAR", lidar, views_NVD, {"views": many, "delta": DELTA}),
    )
    found: dict[str, dict[str, Any]] = {}
    for name, label, function, values, settings in kinds:
        try:
            value = float(function(values.double()))
        except UndefinedError:
            continue
        most = min(num - 1.0, dim)
        low, high = (1.0, most) if name == "lidar" else (0.0, float("inf"))
        interval = _interval(function, value, values.double(), low, high)
        found[name] = Measurement(
            name=name,
            value=value,
            interval=interval,
            baseline={"all directions": most} if name == "lidar" else {"every direction alike": 0.0},
            num=len(values),
            settings=settings | {"normalize": False, "interval": _INTERVAL if interval else None},
            better="higher" if name == "lidar" else None,
            label=label,
        ).to_dict()
    return found


def _interval(
    function: Any, value: float, rows: Tensor, low: float, high: float
) -> tuple[float, float] | None:
    if len(rows) < 2 * _jackknife.NUM_GROUPS:
        return None
    group = _jackknife.group_of_rows(len(rows)).to(rows.device)
    try:
        left_out = [float(function(rows[group != each])) for each in range(_jackknife.NUM_GROUPS)]
    except UndefinedError:
        return None
    return _jackknife.interval(value, left_out, len(rows), low=low, high=high)


def stacked(views: list[Tensor]) -> Tensor:
    """[N, V, D] of V views."""
    return torch.stack(views, dim=1)
