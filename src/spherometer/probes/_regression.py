"""What predicted numbers are worth: mean absolute error and R^2, with intervals.

Shapes: N rows, T targets, B resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spherometer import _checks, _groups
from spherometer._results import Better, Measurement
from spherometer.errors import ShapeError
from spherometer.probes._arrays import Array, group_codes, numbers, refuse_constant

_RESAMPLES = 1000
_BLOCK = 1 << 21  # weights at a time


def regression_scores(
    targets: Any, predicted: Any, *, groups: Any = None, typical: Any = None, seed: int = 0
) -> dict[str, Measurement]:
    r"""Mean absolute error and R^2 of predicted numbers, each with a 95 % interval.

    mae = (1/N) \sum |y_i - p_i|;  R^2 = 1 - \sum (y_i - p_i)^2 / \sum (y_i - mean y)^2.

    Args:
        targets: [N] or [N, T] true numbers.
        predicted: the same shape.
        groups: [N] what rows belong to (subjects, sites); whole groups are resampled. None: rows are.
        typical: the number (or T) that is predicted where nothing is known, for instance the mean of the
            training targets: the baseline of the error. None: the mean of ``targets``.
        seed: of the resampling.

    Returns:
        "mae" (in the unit of the target) and "r2"; for T > 1 targets "mae_0", "r2_0", "mae_1", ...
        Intervals: percentiles of 1000 bootstrap resamples of the tested rows or groups; they do not hold the
        spread over training sets. None for fewer than 2 groups; with fewer than about 10 they are too short.

    Range: mae >= 0, lower is better. R^2 <= 1, higher is better, 0 for the mean of the tested targets.

    Raises:
        InputError: shapes do not match, numbers that are missing, a constant target.

    Source: the textbook definitions, as in scikit-learn; the bootstrap is Efron 1979.

    Example:
        >>> scores = regression_scores([20.0, 30.0, 40.0, 50.0], [22.0, 31.0, 37.0, 50.0])
        >>> scores["mae"].value, round(scores["r2"].value, 3)
        (1.5, 0.972)
    """
    truth = numbers("regression_scores", "targets", targets)
    guess = numbers("regression_scores", "predicted", predicted, len(truth))
    if guess.shape != truth.shape:
        _checks.refuse(
            ShapeError, "regression_scores", "predicted", "have the shape of targets",
            "each number is compared with its own", f"targets {truth.shape}, predicted {guess.shape}",
            "Pass matching arrays",
        )  # fmt: skip
    refuse_constant("regression_scores", "targets", truth)
    _checks.whole("regression_scores", "seed", seed, at_least=0)
    centre = truth.mean(axis=0)
    usual = centre if typical is None else np.broadcast_to(np.asarray(typical, dtype=float), centre.shape)
    codes = None if groups is None else group_codes("regression_scores", groups, len(truth))
    errors, deviations = guess - truth, truth - centre
    maes, r2s = _resampled(errors, deviations, codes, seed)
    settings = {"resamples": _RESAMPLES, "seed": seed, "over": "rows" if codes is None else "groups"}
    found: dict[str, Measurement] = {}
    for k in range(truth.shape[1]):
        name, label = ("", "") if truth.shape[1] == 1 else (f"_{k}", f" of target {k}")
        found[f"mae{name}"] = _measurement(
            f"mae{name}", f"Mean absolute error{label}", float(np.abs(errors[:, k]).mean()), maes[:, k],
            {"always the same number": float(np.abs(truth[:, k] - usual[k]).mean()), "perfect": 0.0},
            "lower", len(truth), settings,
        )  # fmt: skip
        left, whole = float(errors[:, k] @ errors[:, k]), float(deviations[:, k] @ deviations[:, k])
        found[f"r2{name}"] = _measurement(
            f"r2{name}", f"R\N{SUPERSCRIPT TWO}{label}", 1 - left / whole, r2s[:, k],
            {"the mean of the targets": 0.0, "perfect": 1.0}, "higher", len(truth), settings,
        )  # fmt: skip
    return found


def _measurement(
    name: str, label: str, value: float, samples: Array, baseline: dict[str, float], better: Better,
    num: int, settings: dict[str, Any],
) -> Measurement:  # fmt: skip
    interval = _interval(samples, value)
    how = f"bootstrap over {settings['over']}" if interval else None
    kept = {"resamples": settings["resamples"], "seed": settings["seed"], "interval": how}
    return Measurement(name, value, interval, baseline, num, kept, better, label)


def _interval(samples: Array, value: float) -> tuple[float, float] | None:
    samples = samples[np.isfinite(samples)]
    if len(samples) < _RESAMPLES // 2:
        return None
    low, high = _groups.interval(samples)
    return min(low, value), max(high, value)


def _resampled(errors: Array, deviations: Array, codes: Array | None, seed: int) -> tuple[Array, Array]:
    """Mean absolute errors and R^2 [B, T] of resampled rows or groups; NaN where a resample is constant."""
    num, width = errors.shape
    codes = np.arange(num) if codes is None else codes
    maes, r2s = np.full((2, _RESAMPLES, width), np.nan)
    if int(codes.max()) < 1:
        return maes, r2s
    rng = np.random.Generator(np.random.PCG64(seed))
    step = max(1, _BLOCK // num)
    scale = np.square(deviations).sum(axis=0)
    for start in range(0, _RESAMPLES, step):
        stop = min(start + step, _RESAMPLES)
        weights = _groups.bootstrap_weights(codes, stop - start, rng)
        total = weights.sum(axis=1, keepdims=True)
        maes[start:stop] = weights @ np.abs(errors) / total
        spread = weights @ np.square(deviations) - np.square(weights @ deviations) / total
        good = spread > 1e-9 * scale
        left = weights @ np.square(errors)
        r2s[start:stop] = np.where(good, 1 - left / np.where(good, spread, 1.0), np.nan)
    return maes, r2s
