"""Uniformity of a set whose rows lie on several processes.

Shapes: N rows of all processes, n own ones, D dimensions, W processes.
"""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._checks import NanPolicy


def sharded_uniformity(
    z: Tensor | NDArray[Any],
    *,
    t: float | Tensor = 2.0,
    estimator: Literal["u", "v"] = "u",
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""``uniformity`` of the rows of all processes together, none of which has to hold them all.

    U = log mean_{i < j} exp(-t \|z_i - z_j\|^2), i and j over the rows of all processes. Other metrics never
    talk to other processes; this one does, so **every** process of the default group must call it.

    Args:
        z: [n, D] the rows of this process; n may differ, and be 0. No row may lie on two processes.
        t: sharpness of the potential, > 0; the same on every process.
        estimator: "u" leaves self pairs out, "v" keeps them.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays; the same on every process, to the last bit
        however the rows are held. Without a process group ``uniformity(z)``.

    Range: as ``uniformity``: [-4t, 0], lower is better.

    Raises:
        InputError: as ``uniformity``; on the other processes one that names the process that refused.
        UndefinedError: fewer than two rows over all processes.
        LostProcessError: a process has died, or gives no sign of life.

    Cost: N^2 / (2 W) pairs of rows on every process, whatever the shards; N D / W memory. Differentiable
    once: the mean over processes of the gradients of parameters is that of one process that holds all.

    Source: Wang & Isola 2020, section 4.1.2; the exchange around half of a ring is ours.

    Example:
        >>> import numpy as np
        >>> round(sharded_uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])), 6)
        -8.0
    """
    function = "sharded_uniformity"
    with pairs.failing_together(function) as world:
        _checks.positive(function, "t", t)
        _checks.one_of(function, "estimator", estimator, ("u", "v"))
        checked = _checks.features(function, "z", z, min_rows=2 if world == 1 else 0, nan=nan)
        unit_nD = sphere.unit_rows(function, "z", checked, scale=normalize)
    return checked.scalar(pairs.ring_gaussian_potential(unit_nD, t, estimator=estimator, function=function))
