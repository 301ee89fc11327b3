"""Conditional alignment and uniformity: the two numbers, given what is known about the samples.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._checks import Features, NanPolicy
from spherometer.errors import InputError, ShapeError
from spherometer.kernels import Kernel, as_kernel, kernel_for

Form = Literal["normalized", "mean", "threshold"]
FORMS: tuple[Form, ...] = ("normalized", "mean", "threshold")


def fitted_kernel(function: str, kernel: Any, metadata: Any, nan: NanPolicy) -> Kernel:
    """The kernel that a metric uses: the given one, fitted if it still has to be, or the default one."""
    if kernel is None:
        return kernel_for(metadata, missing="drop" if nan == "drop" else "refuse")
    found = as_kernel(function, kernel)
    if nan == "drop" and found.missing == "refuse":
        found = found.with_missing("drop")
    return found if found.fitted else found.fit(metadata)


def with_metadata(
    function: str, sides: Sequence[Features], metadata: Any, kernel: Any, nan: NanPolicy
) -> tuple[Tensor | None, Tensor, Kernel]:
    """Which of the kept rows stay (None: all), their encoded meta-data, and the kernel."""
    found = fitted_kernel(function, kernel, metadata, nan)
    encoded = found.encode(metadata, function).to(sides[0].rows.device)
    kept = sides[0].kept
    num = len(sides[0].rows) if kept is None else len(kept)
    if len(encoded) != num:
        _checks.refuse(
            ShapeError, function, "metadata", "have one entry for each row",
            "entry i belongs to row i", f"{len(encoded)} entries for {num} rows",
            "Pass the meta-data of these rows, in their order",
        )  # fmt: skip
    encoded = encoded if kept is None else encoded[kept]
    if found.missing != "drop" or bool((stays := found.keep(encoded)).all()):
        return None, encoded, found
    return stays, encoded[stays], found


def similarity_of(kernel: Kernel, encoded: Tensor, dtype: torch.dtype) -> pairs.Similarity:
    """What the pair engine takes."""
    return pairs.Similarity(kernel, kernel.rows(encoded, dtype))


def conditional_alignment(
    x: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any],
    metadata: Any,
    *,
    kernel: Any = None,
    alpha: float = 2.0,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Mean distance between the sides of pairs of samples, weighted by how similar their meta-data are.

    (1/N) sum_i sum_j a_ij \|x_i - y_j\|^alpha with a_ij = w_ij / sum_k w_ik, over all rows j of y, the own
    one (w_ii = 1) among them; rows on the unit sphere. Every row of x is an anchor of the same weight.

    Args:
        x: [N, D] one side of each pair.
        y: [N, D] the other side; row i belongs to row i of ``x``.
        metadata: [N] or [N, K] numbers, or a mapping column -> N values (see ``spherometer.kernels``).
        kernel: similarity w, a kernel or a dict column -> kernel; fitted to ``metadata`` where its bandwidth
            is a rule. None: ``kernels.kernel_for(metadata)``.
        alpha: power of the distance, > 0.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity and missing meta-data, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays.

    Range: [0, 2^alpha], lower is better for samples that are meant to be similar. Bandwidth -> 0 with
    distinct meta-data: ``alignment(x, y)``. Bandwidth -> infinity: the mean over all N^2 pairs, for alpha = 2
    2 - 2 mean(x) . mean(y). Uniform and unrelated rows: 2 for alpha = 2.

    Raises:
        InputError: as ``alignment``; meta-data of another kind, unknown columns, missing entries.
        ShapeError: meta-data of another length.

    Cost: O(N^2 D) time, O(N D) memory. Differentiable in ``x`` and ``y``, not through the weights.

    Source: ours, after the abstract of Dufumier et al. 2021; for alpha = 2 it is the alignment term of
    y-Aware InfoNCE: -(1 - value / 2) / temperature.

    Example:
        >>> import numpy as np
        >>> x = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> [round(conditional_alignment(x, x, classes), 4) for classes in (["a", "a", "b"], ["a"] * 3)]
        [0.0, 1.7778]
    """
    function = "conditional_alignment"
    _checks.positive(function, "alpha", alpha)
    sides = _checks.feature_set(function, ("x", "y"), (x, y), nan=nan)
    units = [
        sphere.unit_rows(function, name, side, scale=normalize)
        for name, side in zip(("x", "y"), sides, strict=True)
    ]
    stays, encoded, found = with_metadata(function, sides, metadata, kernel, nan)
    if stays is not None:
        units = [rows[stays] for rows in units]
        _checks.enough_rows(function, "x", len(units[0]), 1, " with meta-data")
    similarity = similarity_of(found, encoded, units[0].dtype)
    return sides[0].scalar(pairs.anchor_mean(units[0], units[1], similarity, alpha))


def checked_form(function: str, form: Any, threshold: Any) -> float | None:
    """The threshold of a form: None where weights are 1 - w."""
    _checks.one_of(function, "form", form, FORMS)
    if form != "threshold":
        if threshold is not None:
            _checks.refuse(
                InputError, function, "threshold", f"be left out with form={form!r}", "its weights are 1 - w",
                repr(threshold)[:60], 'Pass form="threshold"',
            )  # fmt: skip
        return None
    value = 0.5 if threshold is None else threshold
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1
    if not usable:
        _checks.refuse(
            InputError, function, "threshold", "lie in (0, 1]", "similarities do",
            repr(value)[:60], "Pass for instance threshold=0.5",
        )  # fmt: skip
    return float(value)


def conditional_potential_mean(
    function: str,
    z: Tensor,
    t: float | Tensor,
    similarity: pairs.Similarity,
    form: Form,
    threshold: float | None,
) -> Tensor:
    """Conditional uniformity of unit rows, 0-dim float64, differentiable."""
    found, weight = pairs.conditional_potential(z, t, similarity, threshold=threshold)
    if float(weight) == -math.inf:
        pairs.refuse_all_alike(function, len(z))
    return found - (math.log(len(z) * (len(z) - 1)) if form == "mean" else weight)


def conditional_uniformity(
    z: Tensor | NDArray[Any],
    metadata: Any,
    *,
    kernel: Any = None,
    t: float | Tensor = 2.0,
    form: Form = "normalized",
    threshold: float | None = None,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> Any:
    r"""Logarithm of the mean Gaussian potential over pairs whose meta-data differ.

    With v_ij = 1 - w_ij and k_ij = exp(-t \|z_i - z_j\|^2), sums over i < j, rows on the unit sphere:

    * "normalized": log( sum v_ij k_ij / sum v_ij );
    * "mean": log( sum v_ij k_ij / (N (N - 1) / 2) ), which is the former + log mean v: the same gradient, but
      it depends on how many dissimilar pairs there are, and is -inf in the limit of a wide kernel;
    * "threshold": as "normalized" with v_ij = 1 where w_ij < threshold, else 0.

    Args:
        z: [N, D] the set of points, N >= 2. Pass the whole set.
        metadata: [N] or [N, K] numbers, or a mapping column -> N values (see ``spherometer.kernels``).
        kernel: similarity w, as for ``conditional_alignment``.
        t: sharpness of the potential, > 0; a number or a 0-dim tensor (which gets its gradient).
        form: which weights and which norm.
        threshold: of the form "threshold", in (0, 1]; 0.5 if left out.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity and missing meta-data, or "drop" them.

    Returns:
        A 0-dim tensor for tensors, a float for NumPy arrays.

    Range: [-4t, 0] ("mean": below that, too), lower is better. Bandwidth -> 0 with distinct meta-data:
    ``uniformity(z)``. Bandwidth -> infinity: the mean weighted by the squared differences of the meta-data.
    The uniform law is not its minimum: samples that are alike may collapse to a point, and C groups of equal
    meta-data reach -2 t C / (C - 1).

    Raises:
        InputError, NotOnSphereError: as ``uniformity``; other kinds of meta-data, unknown columns, gaps.
        ShapeError: meta-data of another length. UndefinedError: all meta-data are alike, no pair is left.

    Cost: O(N^2 D) time, O(N D) memory, and a pass over the meta-data alone. Differentiable in ``z`` and ``t``
    in one pass; twice for N <= 1024. 1 - w is taken through expm1, accurate for any bandwidth.

    Source: ours, after the abstract of Dufumier et al. 2021 ("repel only samples with dissimilar meta-data").

    Example:
        >>> import numpy as np
        >>> z = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> round(conditional_uniformity(z, ["a", "a", "b"]), 6)  # the two of class a may meet
        -8.0
    """
    function = "conditional_uniformity"
    _checks.positive(function, "t", t)
    limit = checked_form(function, form, threshold)
    checked = _checks.features(function, "z", z, min_rows=2, nan=nan)
    unit_ND = sphere.unit_rows(function, "z", checked, scale=normalize)
    stays, encoded, found = with_metadata(function, [checked], metadata, kernel, nan)
    if stays is not None:
        unit_ND = unit_ND[stays]
        _checks.enough_rows(function, "z", len(unit_ND), 2, " with meta-data")
    similarity = similarity_of(found, encoded, unit_ND.dtype)
    return checked.scalar(conditional_potential_mean(function, unit_ND, t, similarity, form, limit))


@torch.no_grad()
def conditional_uniformity_error(
    z: Tensor, t: float, similarity: pairs.Similarity, form: Form, threshold: float | None
) -> float:
    """Standard error of conditional uniformity: the jackknife over rows, exact, from the sums of each row."""
    potentials, weights = pairs.conditional_row_sums(z, t, similarity, threshold=threshold)
    values = (potentials.sum() - 2 * potentials).log()
    if form != "mean":
        values -= (weights.sum() - 2 * weights).log()
    num = len(z)
    spread = (values - values.mean()).square().sum() * (num - 1) / num
    return float(spread.sqrt())
