"""Uniformity: how evenly a set of points covers the sphere.

Shapes: N, M rows, D dimensions.
"""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._checks import Features, NanPolicy

Estimator = Literal["u", "v"]


def _on_sphere(
    function: str, z: Any, t: Any, estimator: Estimator, *, normalize: bool, nan: NanPolicy
) -> tuple[Features, Tensor]:
    _checks.positive(function, "t", t)
    _checks.one_of(function, "estimator", estimator, ("u", "v"))
    checked = _checks.features(function, "z", z, min_rows=2, nan=nan)
    return checked, sphere.unit_rows(function, "z", checked, scale=normalize)


def uniformity(
    z: Tensor | NDArray[Any],
    *,
    t: float | Tensor = 2.0,
    estimator: Estimator = "u",
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Logarithm of the mean Gaussian potential over all pairs of rows.

    U = log mean_{i < j} exp(-t \|z_i - z_j\|^2), rows on the unit sphere.

    Args:
        z: [N, D] the set of points, N >= 2. Pass the whole set: U is not a mean over batches.
        t: sharpness of the potential, > 0; a number or a 0-dim tensor (which gets its gradient).
        estimator: "u" leaves self pairs out (nearly unbiased, as the reference code); "v" keeps them
            (the mean over all N^2 pairs: biased upwards by about 1/N, but never below the population bound).
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays.

    Range: [-4t, 0], lower is better. 0: one point. The uniform law gives ``expected_uniformity(D, t)``
    (-3.9375 for D = 128, t = 2; tends to -2t); a few well-placed points lie below it, never below
    ``minimum_uniformity(N, D, t)``.

    Raises:
        InputError: ``z`` is not a finite [N, D] floating-point array, ``t`` is not positive.
        NotOnSphereError: a row of zeros, or rows off the sphere with ``normalize=False``.
        UndefinedError: fewer than two rows.

    Cost: O(N^2 D) time, O(N D) memory (tiles). Half precision is computed in float32, tile sums are combined
    in float64. Rounding the *input* to bfloat16 moves U by about 3e-6 for D = 128 and 3e-4 for D = 2.
    Differentiable in ``z`` and ``t`` in one pass; twice for N <= 1024.

    Source: Wang & Isola 2020, section 4.1.2; estimators: appendix A.1.1. Deviation: rows are normalised here.

    Example:
        >>> import numpy as np
        >>> round(uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])), 6)
        -8.0
    """
    checked, unit_ND = _on_sphere("uniformity", z, t, estimator, normalize=normalize, nan=nan)
    return checked.scalar(pairs.gaussian_potential(unit_ND, t, estimator=estimator))


def uniformity_samples(
    z: Tensor | NDArray[Any],
    *,
    t: float | Tensor = 2.0,
    estimator: Estimator = "u",
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""How crowded the neighbourhood of every row is.

    u_i = log mean_{j != i} exp(-t \|z_i - z_j\|^2); :func:`uniformity` is log mean_i exp(u_i) (not the mean).

    Args:
        z: [N, D] the set of points, N >= 2.
        t: sharpness of the potential, > 0.
        estimator: "u" leaves the row itself out, "v" keeps it.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        [N] tensor or NumPy array; with ``nan="drop"`` only the rows kept, in order. No gradient.

    Range: [-4t, 0]; high for rows in crowded places.

    Raises:
        InputError: as :func:`uniformity`.

    Cost: O(N^2 D) time, O(N D) memory.

    Source: the inner mean of Wang & Isola 2020, section 4.1.2; the per-row form is ours.

    Example:
        >>> import numpy as np
        >>> uniformity_samples(np.array([[1.0, 0.0], [-1.0, 0.0]])).round(6)
        array([-8., -8.])
    """
    checked, unit_ND = _on_sphere("uniformity_samples", z, t, estimator, normalize=normalize, nan=nan)
    return checked.vector(pairs.gaussian_log_rows(unit_ND.detach(), float(t), estimator=estimator))


def cross_uniformity(
    x: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any],
    *,
    t: float | Tensor = 2.0,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Logarithm of the mean Gaussian potential between two sets of points.

    U_xy = log mean_{i, j} exp(-t \|x_i - y_j\|^2) over all N M pairs (row i with row i included).

    Args:
        x: [N, D] one set.
        y: [M, D] the other set; its rows need not belong to those of ``x``.
        t: sharpness of the potential, > 0; a number or a 0-dim tensor (which gets its gradient).
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" them (in each set by itself).

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays.

    Range: [-4t, 0]. Two independent uniform sets give ``expected_uniformity(D, t)``; higher: the two sets
    lie in the same places; lower: in opposite ones.

    Raises:
        InputError: as :func:`uniformity`.

    Cost: O(N M D) time, O((N + M) D) memory. Differentiable in ``x``, ``y`` and ``t``.

    Source: ours; it completes the pooling identity of uniformity: with P the numbers of pairs and m = exp U,
    P_AB m_AB = P_A m_A + P_B m_B + N_A N_B m_cross.

    Example:
        >>> import numpy as np
        >>> round(cross_uniformity(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])), 6)
        -4.0
    """
    _checks.positive("cross_uniformity", "t", t)
    first, second = _checks.feature_set("cross_uniformity", ("x", "y"), (x, y), nan=nan, paired=False)
    x_ND = sphere.unit_rows("cross_uniformity", "x", first, scale=normalize)
    y_MD = sphere.unit_rows("cross_uniformity", "y", second, scale=normalize)
    return first.scalar(pairs.cross_gaussian_potential(x_ND, y_MD, t))


def normalized_uniformity(
    z: Tensor | NDArray[Any],
    *,
    t: float = 2.0,
    estimator: Estimator = "u",
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Uniformity on a scale that does not depend on the number of dimensions.

    1 - U / U*, with U* = ``expected_uniformity(D, t)``.

    Args:
        z: [N, D] the set of points, N >= 2.
        t: sharpness of the potential, > 0.
        estimator: "u" leaves self pairs out, "v" keeps them.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays.

    Range: lower is better. 0: as uniform as the uniform law in D dimensions; 1: one point. A few
    well-placed points come out slightly below 0.

    Raises:
        InputError: as :func:`uniformity`.

    Cost: O(N^2 D) time, O(N D) memory. Differentiable in ``z``.

    Source: the score is ours; the bound is Corollary 1 of Wang & Isola 2020.

    Example:
        >>> import numpy as np
        >>> normalized_uniformity(np.ones((3, 4)))
        1.0
    """
    checked, unit_ND = _on_sphere("normalized_uniformity", z, t, estimator, normalize=normalize, nan=nan)
    value = pairs.gaussian_potential(unit_ND, float(t), estimator=estimator)
    return checked.scalar(1 - value / sphere.expected_uniformity(unit_ND.shape[1], float(t)))
