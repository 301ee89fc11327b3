"""Multi-label probe: which of several things an image shows, from frozen features.

Shapes: N rows, D dimensions, K classes, B resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from spherometer import _checks, _groups
from spherometer._results import Measurement
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.probes._arrays import Array, Rows, checked

_MAX_ITERATIONS = 5000
_RESAMPLES = 1000
_BLOCK = 1 << 20  # weights at a time


class MultiLabelProbe:
    """One logistic regression for each class (one against the rest), by scikit-learn.

    Args:
        strength: inverse of the L2 penalty of each (scikit-learn's ``C``).
        standardize: scale every column to mean 0 and variance 1 first (by the training rows).

    Example:
        >>> x = np.array([[0.0, 1.0], [0.1, 0.0], [1.0, 0.0], [1.1, 1.0]])
        >>> shown = np.array([[0, 1], [0, 0], [1, 0], [1, 1]])
        >>> MultiLabelProbe().fit(x, shown).score(x, shown)
        1.0
    """

    def __init__(self, strength: float = 1.0, *, standardize: bool = True) -> None:
        _checks.positive("MultiLabelProbe", "strength", strength)
        self.strength = float(strength)
        self.standardize = standardize
        self._models: list[Any] = []

    def fit(self, features: Any, labels: Any) -> MultiLabelProbe:
        """Fit to features [N, D] with labels [N, K] of 0 and 1; a class of one of them alone is not "
        "learned."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x, _ = checked("MultiLabelProbe.fit", features)
        y = multi_hot("MultiLabelProbe.fit", labels, len(x))
        self._models = []
        for shown in y.T:
            if shown.min() == shown.max():
                self._models.append(bool(shown[0]))
                continue
            model = LogisticRegression(C=self.strength, max_iter=_MAX_ITERATIONS, tol=1e-4)
            self._models.append(make_pipeline(StandardScaler(), model) if self.standardize else model)
            self._models[-1].fit(x, shown)
        return self

    def scores(self, features: Any) -> Array:
        """Log-odds [N, K] of features [N, D]; the same for all rows where the training rows were alike."""
        if not self._models:
            _checks.refuse(
                InputError, "MultiLabelProbe.scores", "probe", "be fitted", "it has no weights yet", "none",
                "Call fit(features, labels) first",
            )  # fmt: skip
        x, _ = checked("MultiLabelProbe.scores", features)
        found = np.empty((len(x), len(self._models)))
        for place, model in enumerate(self._models):
            constant = isinstance(model, bool)
            found[:, place] = (1.0 if model else -1.0) if constant else model.decision_function(x)
        return found

    def predict(self, features: Any) -> Rows:
        """Whether each class is shown [N, K], 0 or 1: where its log-odds are above 0."""
        return (self.scores(features) > 0).astype(np.int64)

    def score(self, features: Any, labels: Any) -> float:
        """Mean average precision, in [0, 1]."""
        return self.evaluate(features, labels)["map"].value

    def evaluate(self, features: Any, labels: Any, *, seed: int = 0) -> dict[str, Measurement]:
        """Mean average precision "map" and "ap_0", ... on other rows, as ``average_precision_scores``."""
        return average_precision_scores(labels, self.scores(features), seed=seed)


def multi_hot(function: str, labels: Any, num: int | None = None) -> Rows:
    """Labels [N, K] of 0 and 1 as int64."""
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "biuf" or num not in (None, len(array)):
        rows = "" if num is None else f" for {num} rows"
        _checks.refuse(
            ShapeError, function, "labels", "have shape [N, K], a column for each class",
            "an image may show several", f"shape {array.shape}{rows}",
            "Pass image_labels(index), or one-hot labels; for one class a row use LinearProbe",
        )  # fmt: skip
    if not np.isin(array, (0, 1)).all():
        _checks.refuse(
            InputError, function, "labels", "hold 0 and 1", "a class is shown or not",
            repr(array[~np.isin(array, (0, 1))][0].item()), "Compare them with a threshold first",
        )  # fmt: skip
    return array.astype(np.int64)


def average_precision_scores(labels: Any, scores: Any, *, seed: int = 0) -> dict[str, Measurement]:
    r"""Average precision of every class and their mean, each with a 95 % interval.

    AP = \sum_n (R_n - R_{n-1}) P_n over the distinct scores in falling order, with R_n and P_n the recall and
    precision of all rows down to the n-th: no interpolation.

    Args:
        labels: [N, K] of 0 and 1.
        scores: [N, K] numbers that are larger for classes that are more likely shown.
        seed: of the resampling.

    Returns:
        "map", the mean over the classes that some row shows, and "ap_0", "ap_1", ... of these. Intervals:
        percentiles of 1000 bootstrap resamples of the rows (a resample without a row of a class leaves that
        class out); None for a single row.

    Range: [0, 1], higher is better; beside it the share of rows that show the class, which scores without
        any knowledge tend to.

    Raises:
        InputError: labels and scores that do not match, no row that shows anything.

    Source: the definition of scikit-learn's ``average_precision_score``; the bootstrap over rows is ours.

    Example:
        >>> found = average_precision_scores([[1], [0], [1], [0]], [[0.9], [0.8], [0.7], [0.1]])
        >>> round(found["map"].value, 4)
        0.8333
    """
    y = multi_hot("average_precision_scores", labels)
    given = scores.detach().cpu().numpy() if isinstance(scores, Tensor) else np.asarray(scores)
    if given.shape != y.shape or given.dtype.kind not in "biuf" or not np.isfinite(given).all():
        _checks.refuse(
            InputError, "average_precision_scores", "scores", "be finite numbers in the shape of labels",
            "rows are sorted by them", f"labels {y.shape}, scores {given.shape} of {given.dtype}",
            "Pass one score for each row and class",
        )  # fmt: skip
    _checks.whole("average_precision_scores", "seed", seed, at_least=0)
    shown = np.flatnonzero(y.any(axis=0))
    if not len(shown):
        _checks.refuse(
            UndefinedError,
            "average_precision_scores",
            "labels",
            "hold a 1",
            "precision needs something to find",
            f"none in {len(y)} rows",
            "Pass rows that show something",
        )
    num = len(y)
    each = np.array([_precision(y[:, k], given[:, k], np.ones((1, num)))[0] for k in shown])
    samples = _resampled(y[:, shown], given[:, shown], seed) if num > 1 else None
    how = None if samples is None else "bootstrap over rows"
    settings = {"resamples": _RESAMPLES, "seed": seed, "interval": how, "classes": len(shown)}
    shares = y[:, shown].mean(axis=0)
    values = [("map", "Mean average precision", each.mean(), shares.mean())]
    values += [
        (f"ap_{k}", f"Average precision of class {k}", value, share)
        for k, value, share in zip(shown, each, shares, strict=True)
    ]
    found = {}
    for place, (name, label, value, share) in enumerate(values):
        interval = None
        if samples is not None:
            column = np.nanmean(samples, axis=1) if place == 0 else samples[:, place - 1]
            low, high = _groups.interval(column)
            interval = (min(low, float(value)), max(high, float(value)))
        baseline = {"the share of rows that show it": float(share), "perfect": 1.0}
        found[name] = Measurement(name, float(value), interval, baseline, num, settings, "higher", label)
    return found


def _precision(shown: Rows, scores: Array, weights: Array) -> Array:
    """Average precision [B] of one class, with weights [B, N] of the rows; NaN where none shows it."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of rows of equal score
    sorted_weights = weights[:, order]
    right = np.cumsum(sorted_weights * shown[order], axis=1)[:, ends]
    every = np.cumsum(sorted_weights, axis=1)[:, ends]
    total = right[:, -1:]
    gained = np.diff(right, axis=1, prepend=0.0)
    summed = (gained * right / np.where(every > 0, every, 1.0)).sum(axis=1)
    return np.where(total[:, 0] > 0, summed / np.where(total[:, 0] > 0, total[:, 0], 1.0), np.nan)


def _resampled(shown: Rows, scores: Array, seed: int) -> Array:
    """Average precisions [B, K] of resampled rows; resamples that show nothing at all are left out."""
    num, width = shown.shape
    rng = np.random.Generator(np.random.PCG64(seed))
    found = np.empty((_RESAMPLES, width))
    step = max(1, _BLOCK // num)
    for start in range(0, _RESAMPLES, step):
        stop = min(start + step, _RESAMPLES)
        weights = _groups.bootstrap_weights(np.arange(num), stop - start, rng)
        for k in range(width):
            found[start:stop, k] = _precision(shown[:, k], scores[:, k], weights)
    return found[np.isfinite(found).any(axis=1)]
