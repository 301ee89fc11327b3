"""Conditional alignment and conditional uniformity against the bandwidth: how much the choice matters.

Shapes: N rows, D dimensions, K encoded columns of meta-data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._checks import NanPolicy
from spherometer._conditional import Compared, Values, compared, values_of
from spherometer._curve import BandwidthCurve, BandwidthPoint
from spherometer.errors import InputError
from spherometer.kernels import Kernel
from spherometer.metrics._alignment import pair_distances
from spherometer.metrics._conditional import Form, checked_form

FACTORS = tuple(2.0 ** (half / 2) for half in range(-8, 9))  # 1/16 ... 16
_ENDLESS = 2.0**40  # so wide that 1 - w is its first-order term to 12 digits, in any of the kernels


def bandwidth_curve(
    x: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any] | None,
    metadata: Any,
    *,
    kernel: Any = None,
    factors: Sequence[float] = FACTORS,
    alpha: float = 2.0,
    t: float = 2.0,
    form: Form = "normalized",
    threshold: float | None = None,
    normalize: bool = True,
    nan: NanPolicy = "refuse",
) -> BandwidthCurve:
    """Both conditional measures at many bandwidths: what the choice of a bandwidth decides.

    Args:
        x: [N, D] features, N >= 2.
        y: [N, D] the other side of positive pairs; None: uniformity alone.
        metadata: [N] or [N, K] numbers, or a mapping column -> N values.
        kernel: as in ``conditional_alignment``; None: ``kernels.kernel_for(metadata)``. It needs a bandwidth.
        factors: > 0; all bandwidths of the kernel are multiplied by each. 1 is the kernel itself.
        alpha: power of the distance in alignment, > 0.
        t: sharpness of the Gaussian potential, > 0.
        form: of conditional uniformity: "normalized", "mean" or "threshold".
        threshold: of the form "threshold".
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity and missing meta-data, or "drop" them.

    Returns:
        A BandwidthCurve: ``print(curve)`` for a table, ``curve.rows()``, ``curve.to_json()``. Beside the
        points stand plain alignment and uniformity, and the limit of an infinite bandwidth.

    Raises:
        InputError: as the metrics raise it; or a kernel without a bandwidth, where nothing can be varied.

    Cost: for each factor about three times that of the two metrics: values, intervals and similar rows.

    Source: ours.

    Example:
        >>> import torch
        >>> age = 20 + 60 * torch.rand(100, generator=torch.Generator().manual_seed(0))
        >>> x = torch.stack([(age / 40).cos(), (age / 40).sin()], dim=1)  # features that follow age
        >>> curve = bandwidth_curve(x, x, age, factors=(0.25, 1.0, 4.0))
        >>> low, middle, high = (point.alignment for point in curve.points)
        >>> low < middle < high < curve.infinite["alignment"]
        True
    """
    _checks.positive("bandwidth_curve", "alpha", alpha)
    _checks.positive("bandwidth_curve", "t", t)
    limit = checked_form("bandwidth_curve", form, threshold)
    steps = _factors(factors)
    names, values = (("x",), (x,)) if y is None else (("x", "y"), (x, y))
    sides = _checks.feature_set("bandwidth_curve", names, values, min_rows=2, nan=nan)
    with torch.no_grad():
        units = [
            sphere.unit_rows("bandwidth_curve", name, side, scale=normalize)
            for name, side in zip(names, sides, strict=True)
        ]
        rows = compared("bandwidth_curve", sides, units, metadata, kernel, nan)
        dropped = sides[0].num_dropped
        notes = [f"{dropped} rows with NaN or infinity dropped."] if dropped else []
        return curve_of(
            rows, steps, alpha=float(alpha), t=float(t), form=form, threshold=limit, normalize=normalize,
            notes=notes,
        )  # fmt: skip


def curve_of(
    rows: Compared, factors: Sequence[float] = FACTORS, *, alpha: float, t: float, form: Form = "normalized",
    threshold: float | None = None, normalize: bool, notes: Sequence[str] = (),
) -> BandwidthCurve:  # fmt: skip
    """The curve of checked rows."""
    widths = bandwidths_of(rows.kernel)
    if not widths:
        _checks.refuse(
            InputError, "bandwidth_curve", "kernel", "have a bandwidth", "it is what varies along the curve",
            str(rows.kernel), "Give a column of numbers a kernel such as Gaussian()",
        )  # fmt: skip
    shared = {"alpha": alpha, "t": t, "form": form, "threshold": threshold}
    points = []
    for factor in factors:
        at = values_of(rows, rows.kernel.scaled(factor), **shared)  # type: ignore[arg-type]
        points.append(
            BandwidthPoint(
                factor=factor,
                bandwidths={name: width * factor for name, width in widths.items()},
                neighbors=at.neighbors,
                alignment=at.alignment,
                alignment_interval=at.alignment_interval,
                uniformity=at.uniformity,
                uniformity_interval=at.uniformity_interval,
            )
        )
    found = list(notes)
    if rows.num_left_out:
        found.append(f"{rows.num_left_out} rows without meta-data left out.")
    undefined = sum(point.uniformity is None for point in points)
    if undefined:
        found.append(
            f"Conditional uniformity is undefined at {undefined} of {len(points)} bandwidths: "
            "all rows are alike there, no pair is left."
        )
    if undefined == len(points) and rows.y is None:
        pairs.refuse_all_alike("bandwidth_curve", len(rows.x))
    return BandwidthCurve(
        points=tuple(points),
        kernel=str(rows.kernel),
        definition=rows.kernel.to_dict(),
        unconditional={
            "alignment": None
            if rows.y is None
            else float(pair_distances(rows.x, rows.y, alpha, normalize=False).mean()),
            "uniformity": float(pairs.gaussian_potential(rows.x, t)),
        },
        infinite=_infinite(rows, alpha, t, form, threshold),
        num=len(rows.x),
        settings={**shared, "normalize": normalize},
        notes=tuple(found),
    )


def _infinite(
    rows: Compared, alpha: float, t: float, form: Form, threshold: float | None
) -> dict[str, float | None]:
    """The limit of ever larger bandwidths; None where there is none."""

    def at(factor: float) -> Values:
        kernel = rows.kernel.scaled(factor)
        return values_of(rows, kernel, alpha=alpha, t=t, form=form, threshold=threshold, intervals=False)

    one, two = at(_ENDLESS), at(4 * _ENDLESS)
    found = {"alignment": one.alignment, "uniformity": one.uniformity}
    if one.uniformity is not None and (two.uniformity is None or abs(one.uniformity - two.uniformity) > 1e-6):
        found["uniformity"] = None  # the form "mean" goes to minus infinity
    return found


def bandwidths_of(kernel: Kernel) -> dict[str, float]:
    """Bandwidths by column; those of a kernel without names under "metadata"."""
    definition = kernel.to_dict()
    parts = definition.get("columns", {"metadata": definition})
    return {name: float(part["bandwidth"]) for name, part in parts.items() if "bandwidth" in part}


def _factors(factors: Any) -> list[float]:
    try:
        given = [float(each) for each in factors]
    except (TypeError, ValueError):
        given = []
    if not given:
        _checks.refuse(
            InputError, "bandwidth_curve", "factors", "be a list of numbers",
            "the bandwidths of the kernel are multiplied by each", repr(factors)[:60],
            "Pass for instance factors=(0.5, 1, 2)",
        )  # fmt: skip
    for each in given:
        _checks.positive("bandwidth_curve", "factors", each)
    return sorted(set(given))
