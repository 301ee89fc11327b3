"""How many directions tell samples apart, beyond what their views do: LiDAR.

Shapes: N samples, V views of each, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, sphere
from spherometer._checks import Features, NanPolicy
from spherometer.errors import ShapeError, UndefinedError
from spherometer.metrics._spectrum import exponent_of, scaled_rows, singular_values

DELTA = 1e-4
_EPS = 1e-7  # added to the shares, as RankMe does
_CHUNK = 1 << 21  # numbers of one float64 chunk: 16 MiB


def lidar_of(views_NVD: Tensor, delta: float) -> float | None:
    """LiDAR of finite views; None where the means of the samples do not differ."""
    views_NVD = views_NVD.detach()
    num, many, dim = views_NVD.shape
    exponent = exponent_of(views_NVD.reshape(num * many, dim))
    first = scaled_rows(views_NVD[0], exponent).mean(dim=0)
    means_ND = views_NVD.new_zeros(num, dim, dtype=torch.float64)
    within_DD = views_NVD.new_zeros(dim, dim, dtype=torch.float64)
    size = max(1, _CHUNK // (many * dim))
    for start in range(0, num, size):
        block = scaled_rows(views_NVD[start : start + size], exponent) - first
        base = block[:, :1]  # subtracted first: identical views come out as exact zeros
        mean = base + (block - base).mean(dim=1, keepdim=True)
        means_ND[start : start + size] = mean[:, 0]
        apart = (block - mean).reshape(-1, dim)
        within_DD += apart.T @ apart
    within_DD /= num * many
    means_ND = means_ND - means_ND[:1]
    means_ND = means_ND - means_ND.mean(dim=0)
    value_D, vector_DD = torch.linalg.eigh(within_DD)
    value_D = value_D.clamp(min=0)
    # in the scaled units; never so small that the rounding of the eigenvalues decides
    added = min(delta, 1e60) * 2.0 ** min(max(-2 * exponent, -900), 600)
    added = max(added, 1e-15 * float(value_D[-1]), 1e-300)
    whitened_ND = (means_ND @ vector_DD) * ((value_D + added) / added).rsqrt()
    if float(whitened_ND.abs().max()) == 0:
        return None
    singular = singular_values(whitened_ND, centred=False, exponent=exponent_of(whitened_ND)).square()
    share = singular / singular.sum() + _EPS
    return math.exp(-float((share * share.log()).sum()))


def _checked(views: Any, nan: NanPolicy) -> tuple[Features, int, int]:
    """The views as rows, and how many samples and views there are after whole samples were dropped."""
    shape = tuple(views.shape) if isinstance(views, (Tensor, np.ndarray)) else None
    if shape is not None and (len(shape) != 3 or 0 in shape[1:]):
        _checks.refuse(
            ShapeError, "lidar", "views", "have shape [N, V, D]",
            "the views of a sample are compared with those of the others", f"shape {shape}",
            "Stack the views: numpy.stack([x, y], axis=1) or torch.stack([x, y], dim=1)",
        )  # fmt: skip
    if shape is None or len(shape) != 3:
        return _checks.features("lidar", "views", views), 0, 0  # refuses what is no array
    num, many, dim = shape
    flat = _checks.features("lidar", "views", views.reshape(num, many * dim), min_rows=1, nan=nan)
    return flat, many, dim


def lidar(
    views: Tensor | NDArray[Any], *, delta: float = DELTA, normalize: bool = False, nan: NanPolicy = "refuse"
) -> Any:
    r"""LiDAR: an effective rank of how samples differ, in units of how the views of one sample differ.

    With m_i the mean of the views of sample i and m the mean of all: S_b = (1/N) sum_i (m_i - m)(m_i - m)^T,
    S_w = (1/(N V)) sum_i sum_v (z_iv - m_i)(z_iv - m_i)^T + delta I; l the eigenvalues of
    S_w^(-1/2) S_b S_w^(-1/2), p_k = l_k / sum l + 1e-7, and LiDAR = exp(-sum_k p_k log p_k) over the
    min(N, D) directions.

    Variant: every sample is a class of its own, its views are the members; covariances divided by their
    counts; delta 1e-4 added to the diagonal as the paper does, in the units of the features, so the value
    depends on their scale where S_w is not much larger than delta; rows not normalised. Public codes differ:
    stable-pretraining divides by N - 1 and N (V - 1) and has its own default delta, reptrix adds 1e-6.

    Args:
        views: [N, V, D] features of V >= 2 views of each of N >= 2 samples. The paper takes 50 views of 1000
            samples; with two, S_w is known from N differences only, which is less than D unless N > D.
        delta: added to the diagonal of S_w, > 0.
        normalize: scale every view to length 1 first.
        nan: "refuse" samples with NaN or infinity in a view, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays. No gradient.

    Range: [1, min(N - 1, D)] (up to 1e-5 of rounding from the 1e-7); higher means that more directions tell
    samples apart, which the paper relates to better probes. Compare only at the same N, V and D, with the
    same views.

    Raises:
        ShapeError: ``views`` is not [N, V, D].
        InputError: not finite or not floating-point, or ``delta`` is not a positive number.
        NotOnSphereError: a view of zeros with ``normalize=True``.
        UndefinedError: fewer than two samples or two views, or samples whose means are all the same.

    Cost: O(N V D^2 + N D min(N, D)) in float64, O(D^2 + N D) memory.

    Source: Thilak et al. 2024 (LiDAR), from memory and public code.

    Example:
        >>> import numpy as np
        >>> samples = np.concatenate([np.eye(3), -np.eye(3)])  # three directions, alike
        >>> round(lidar(np.stack([samples + 0.1, samples - 0.1], axis=1)), 2)  # and one that the views share
        2.02
    """
    _checks.positive("lidar", "delta", delta)
    checked, many, dim = _checked(views, nan)
    num = len(checked.rows)
    for what, got in (("samples", num), ("views of each", many)):
        if got < 2:
            _checks.refuse(
                UndefinedError, "lidar", "views", f"hold at least 2 {what}",
                "samples are told apart by how their views differ", f"{got}",
                "Pass [N, V, D] with several views of several samples",
            )  # fmt: skip
    rows = checked.rows.reshape(num * many, dim)
    if normalize:
        flat = Features(rows, None, checked.is_numpy, checked.dtype)
        rows = sphere.unit_rows("lidar", "views", flat, scale=True)
    value = lidar_of(rows.reshape(num, many, dim), float(delta))
    if value is None:
        _checks.refuse(
            UndefinedError, "lidar", "views", "have samples that differ",
            "without it no direction tells samples apart", "samples whose means are identical",
            "Look for a collapsed encoder",
        )  # fmt: skip
    return checked.scalar(torch.tensor(value, dtype=torch.float64, device=rows.device))
