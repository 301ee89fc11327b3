"""Linear probe: multinomial logistic regression on frozen features."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.probes._arrays import checked

_MAX_ITERATIONS = 5000


class LinearProbe:
    """Multinomial logistic regression with an L2 penalty, by scikit-learn.

    Minimises the sum of the cross-entropies + |W|^2 / (2 strength); the intercepts are not penalised.

    Args:
        strength: inverse of the penalty (scikit-learn's ``C``).
        standardize: scale every column to mean 0 and variance 1 first (by the training rows). ``False`` reads
            the features as they are, so that features which hardly differ stay hard to tell apart: right for
            unit vectors, where the spread itself is the subject.

    Example:
        >>> x = np.array([[0.0], [0.1], [1.0], [1.1]])
        >>> LinearProbe().fit(x, np.array([0, 0, 1, 1])).score(x, np.array([0, 0, 1, 1]))
        1.0
    """

    def __init__(self, strength: float = 1.0, *, standardize: bool = True) -> None:
        _checks.positive("LinearProbe", "strength", strength)
        self.strength = float(strength)
        self.standardize = standardize
        self._model: Any = None

    def fit(self, features: Any, labels: Any) -> LinearProbe:
        """Fit to features [N, D] with labels [N] of at least two classes."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x, y = checked("LinearProbe.fit", features, labels)
        if len(np.unique(y)) < 2:
            _checks.refuse(
                InputError,
                "LinearProbe.fit",
                "labels",
                "hold at least 2 classes",
                "a boundary lies between classes",
                f"{len(np.unique(y))}",
                "Pass labels of several classes",
            )
        classifier = LogisticRegression(C=self.strength, max_iter=_MAX_ITERATIONS, tol=1e-3)
        self._model = make_pipeline(StandardScaler(), classifier) if self.standardize else classifier
        self._model.fit(x, y)
        return self

    def predict(self, features: Any) -> np.ndarray[Any, Any]:
        """Classes [N] of features [N, D]."""
        if self._model is None:
            _checks.refuse(
                InputError, "LinearProbe.predict", "probe", "be fitted", "it has no weights yet", "none",
                "Call fit(features, labels) first",
            )  # fmt: skip
        predicted: np.ndarray[Any, Any] = self._model.predict(checked("LinearProbe.predict", features)[0])
        return predicted

    def score(self, features: Any, labels: Any) -> float:
        """Accuracy in [0, 1]."""
        x, y = checked("LinearProbe.score", features, labels)
        return float(np.mean(self.predict(x) == y))
