"""Probe by nearest neighbours."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.probes._arrays import checked


class KNNProbe:
    """Majority vote of the k nearest training rows (ties go to the lower class), by scikit-learn.

    Args:
        k: number of neighbours.
        metric: "euclidean" or "cosine" (the same ordering for unit rows).

    Example:
        >>> x = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]])
        >>> int(KNNProbe(k=1).fit(x, np.array([0, 0, 1])).predict(x[2:])[0])
        1
    """

    def __init__(self, k: int = 5, *, metric: Literal["euclidean", "cosine"] = "euclidean") -> None:
        _checks.whole("KNNProbe", "k", k)
        _checks.one_of("KNNProbe", "metric", metric, ("euclidean", "cosine"))
        self.k = k
        self.metric = metric
        self._model: Any = None

    def fit(self, features: Any, labels: Any) -> KNNProbe:
        """Keep features [N, D], N >= k, with labels [N]."""
        from sklearn.neighbors import KNeighborsClassifier

        x, y = checked("KNNProbe.fit", features, labels)
        if len(x) < self.k:
            _checks.refuse(
                InputError,
                "KNNProbe.fit",
                "features",
                f"have at least k = {self.k} rows",
                "every prediction asks k neighbours",
                f"{len(x)}",
                "Pass more rows, or a smaller k",
            )
        self._model = KNeighborsClassifier(self.k, metric=self.metric, algorithm="brute").fit(x, y)
        return self

    def predict(self, features: Any) -> np.ndarray[Any, Any]:
        """Classes [N] of features [N, D]."""
        if self._model is None:
            _checks.refuse(
                InputError, "KNNProbe.predict", "probe", "be fitted", "it has no neighbours yet", "none",
                "Call fit(features, labels) first",
            )  # fmt: skip
        predicted: np.ndarray[Any, Any] = self._model.predict(checked("KNNProbe.predict", features)[0])
        return predicted

    def score(self, features: Any, labels: Any) -> float:
        """Accuracy in [0, 1]."""
        x, y = checked("KNNProbe.score", features, labels)
        return float(np.mean(self.predict(x) == y))
