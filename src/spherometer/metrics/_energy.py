"""Hyperspherical energy: how strongly the rows would repel each other as charges on the sphere.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._checks import NanPolicy
from spherometer.errors import UndefinedError


def hyperspherical_energy(
    z: Tensor | NDArray[Any],
    *,
    power: float = 1.0,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Mean over all pairs of rows of the inverse distance to a power (the Riesz energy).

    E = mean_{i < j} \|z_i - z_j\|^-power, rows on the unit sphere; for power 0 the mean of
    log(1 / \|z_i - z_j\|).

    Args:
        z: [N, D] the set of points, N >= 2, all of them different. Pass the whole set.
        power: exponent >= 0: the larger, the more the nearest pairs count. 1 is the Coulomb energy.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays.

    Range: [2^-power, infinity) ([-log 2, infinity) for power 0), lower is better. The uniform law gives
    ``sphere.expected_energy(D, power)``, which tends to 2^(-power / 2); from power = D - 1 on it is infinite,
    and the value of a sample grows with N.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, ``power`` is negative or not finite.
        NotOnSphereError: a row of zeros, or rows off the sphere with ``normalize=False``.
        UndefinedError: fewer than two rows, two rows in the same place (their energy is infinite), or a
            value beyond float64.

    Cost: O(N^2 D) time, O(N D) memory (tiles), in float64 whatever the input; pairs nearer than 1 % of the
    spread are taken by differences, so that the nearest pairs, which count most, are accurate to 1e-11.
    Differentiable in one pass; twice for N <= 1024.

    Source: the energies of the Thomson problem and of Liu et al. 2018, equation 1, as a mean over pairs.
    Deviation: rows are normalised here.

    Example:
        >>> import numpy as np
        >>> hyperspherical_energy(np.array([[1.0, 0.0], [-1.0, 0.0]]))
        0.5
    """
    function = "hyperspherical_energy"
    _checks.exponent(function, "power", power)
    checked = _checks.features(function, "z", z, min_rows=2, nan=nan)
    wide = dataclasses.replace(checked, rows=checked.rows.double())
    unit_ND = sphere.unit_rows(function, "z", wide, scale=normalize)
    value = pairs.riesz_energy(unit_ND, float(power))
    if math.isinf(float(value.detach())):
        _refuse_infinite(function, unit_ND, power)
    return checked.scalar(value)


def _refuse_infinite(function: str, unit_ND: Tensor, power: float) -> None:
    nearest, squared = pairs.nearest(unit_ND, 1)
    first = int(squared.flatten().argmin())
    second, distance = int(nearest[first]), math.sqrt(float(squared[first]))
    if distance < 1e-14:
        _checks.refuse(
            UndefinedError,
            function,
            "z",
            "have rows with different directions",
            "two rows in the same place repel each other infinitely",
            f"rows {first} and {second} in the same place",
            "Remove duplicates, or use uniformity, which bears them",
        )
    _checks.refuse(
        UndefinedError,
        function,
        "power",
        "leave distance^-power within float64",
        "the mean would be infinite",
        f"power {power:g} and a distance of {distance:.3g} between rows {first} and {second}",
        "Pass a smaller power",
    )
