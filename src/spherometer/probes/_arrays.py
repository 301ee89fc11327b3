"""Features and labels of a probe, as the arrays scikit-learn reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from spherometer import _checks
from spherometer.errors import ShapeError

Array = np.ndarray[Any, Any]


def checked(function: str, features: Any, labels: Any = None) -> tuple[Array, Array]:
    """Features as float64 [N, D] (finite), labels as an array [N]; no labels: an empty array."""
    rows = _checks.features(function, "features", features).rows
    x = rows.detach().cpu().double().numpy()
    if labels is None:
        return x, np.empty(0)
    y = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if y.shape != (len(x),):
        _checks.refuse(
            ShapeError,
            function,
            "labels",
            "have one entry per row of features",
            "row i of one belongs to row i of the other",
            f"features {x.shape}, labels {y.shape}",
            "Pass matching arrays",
        )
    return x, y
