"""Alignment: how close the two sides of positive pairs lie.

Shapes: N pairs, D dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, sphere
from spherometer._checks import Features, NanPolicy

_CHUNK = 1 << 17  # numbers of one float64 chunk: 1 MiB, which stays in the cache


def checked_pairs(
    function: str, x: Any, y: Any, alpha: Any, *, normalize: bool, nan: NanPolicy
) -> list[Features]:
    """Both sides of the pairs, checked to lie on the sphere or to have a direction."""
    _checks.positive(function, "alpha", alpha)
    sides = _checks.feature_set(function, ("x", "y"), (x, y), nan=nan)
    for name, side in zip(("x", "y"), sides, strict=True):
        if normalize:
            _checks.refuse_zero_rows(function, name, side.rows)
        else:
            _checks.refuse_off_sphere(function, name, side.rows, side.dtype)
    return sides


def pair_distances(x_ND: Tensor, y_ND: Tensor, alpha: float | Tensor, *, normalize: bool) -> Tensor:
    """Distances to the power ``alpha`` [N] in float64, by differences, a few rows at a time."""
    size = max(1, _CHUNK // x_ND.shape[1])
    tracked = torch.is_grad_enabled() and any(
        isinstance(each, Tensor) and each.requires_grad for each in (x_ND, y_ND, alpha)
    )
    # written into one array: small results between freed chunks would keep the chunks from being reused
    whole = x_ND.new_empty(0 if tracked else len(x_ND), dtype=torch.float64)
    powers = []
    for start in range(0, len(x_ND), size):
        x = x_ND[start : start + size].to(torch.float64)
        y = y_ND[start : start + size].to(torch.float64)
        if normalize:
            x, y = sphere.normalize(x), sphere.normalize(y)
        power = _power((x - y).square().sum(dim=1), alpha)
        if tracked:
            powers.append(power)
        else:
            whole[start : start + size] = power
    return torch.cat(powers) if tracked else whole


def _power(squared: Tensor, alpha: float | Tensor) -> Tensor:
    """``squared`` to the power alpha / 2, with gradient 0 where it is 0 (the plain power gives 0 * inf)."""
    if not isinstance(alpha, Tensor) and alpha == 2:
        return squared
    same = squared == 0
    power = squared.masked_fill(same, 1.0).pow(alpha / 2)
    return power.masked_fill(same, 0.0)


def alignment(
    x: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any],
    *,
    alpha: float | Tensor = 2.0,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Mean distance between the two sides of positive pairs.

    A = (1/N) \sum_i \|x_i - y_i\|^alpha, rows on the unit sphere.

    Args:
        x: [N, D] one side of each pair.
        y: [N, D] the other side; row i belongs to row i of ``x``.
        alpha: power of the distance, > 0; a number or a 0-dim tensor.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" the pair.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays.

    Range: [0, 2^alpha], lower is better. 0: both sides coincide; 2 (for alpha = 2): unrelated sides.

    Raises:
        InputError: shapes, kinds or dtypes do not match, rows are not finite, ``alpha`` is not positive.
        NotOnSphereError: a row of zeros, or rows off the sphere with ``normalize=False``.
        UndefinedError: no rows.

    Cost: O(N D), in float64 a chunk of rows at a time (half precision included). Differentiable twice;
    where two sides coincide the gradient is 0 (for alpha = 1 that is the usual subgradient).

    Source: Wang & Isola 2020, section 4.1.1. Deviation: rows are normalised here.

    Example:
        >>> import numpy as np
        >>> alignment(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [3.0, 0.0]]))
        1.0
    """
    sides = checked_pairs("alignment", x, y, alpha, normalize=normalize, nan=nan)
    return sides[0].scalar(pair_distances(sides[0].rows, sides[1].rows, alpha, normalize=normalize).mean())


def alignment_samples(
    x: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any],
    *,
    alpha: float | Tensor = 2.0,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Distance of every positive pair: \|x_i - y_i\|^alpha, whose mean is :func:`alignment`.

    Args:
        x: [N, D] one side of each pair.
        y: [N, D] the other side; row i belongs to row i of ``x``.
        alpha: power of the distance, > 0; a number or a 0-dim tensor.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" the pair.

    Returns:
        [N] tensor or NumPy array; with ``nan="drop"`` only the pairs kept, in order.

    Range: [0, 2^alpha], lower is better.

    Raises:
        InputError: as :func:`alignment`.

    Cost: O(N D).

    Source: Wang & Isola 2020, section 4.1.1.

    Example:
        >>> import numpy as np
        >>> alignment_samples(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [3.0, 0.0]]))
        array([0., 2.])
    """
    sides = checked_pairs("alignment_samples", x, y, alpha, normalize=normalize, nan=nan)
    return sides[0].vector(pair_distances(sides[0].rows, sides[1].rows, alpha, normalize=normalize))
