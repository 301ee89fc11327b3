"""Ridge regression on frozen features: what they know of numbers such as an age.

Shapes: N rows, D dimensions, T targets, S strengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from spherometer import _checks
from spherometer._results import Measurement
from spherometer.errors import InputError, ShapeError
from spherometer.probes._arrays import Array, Rows, checked, group_codes, numbers, refuse_constant
from spherometer.probes._regression import regression_scores

STRENGTHS = tuple(float(10.0 ** (half / 2)) for half in range(-14, 7))  # 1e-7 ... 1e3 by half decades


class RidgeProbe:
    """Ridge regression, by scikit-learn; its strength by cross-validation on the training rows.

    Minimises half the sum of the squared errors + |W|^2 / (2 strength); the intercept is not penalised.

    Args:
        strengths: inverses of the penalty to choose from (1 / strength is scikit-learn's ``alpha``): the one
            with the least squared error on the folds left out; among equals the strongest penalty. A single
            one is taken as it is.
        standardize: scale every column to mean 0 and variance 1 first (by the training rows; in each fold by
            those of the fold). ``False`` reads the features as they are.
        folds: of the cross-validation; with fewer rows (or groups) so many. Rows are shuffled, always alike.

    Attributes:
        strength: the chosen one after ``fit``, an array [T] for several targets; each has its own.

    Cost: one singular value decomposition of the training rows for each fold, whatever the number of
        strengths; O(N D min(N, D)).

    Example:
        >>> x = np.arange(20.0)[:, None]
        >>> probe = RidgeProbe().fit(x, 3 * x[:, 0] + 1)
        >>> round(probe.score(x, 3 * x[:, 0] + 1), 3)
        1.0
    """

    def __init__(
        self, strengths: float | Sequence[float] = STRENGTHS, *, standardize: bool = True, folds: int = 5
    ) -> None:
        given = list(np.atleast_1d(np.asarray(strengths, dtype=object)))
        for each in given:
            _checks.positive("RidgeProbe", "strengths", each)
        if not given:
            _checks.refuse(
                InputError, "RidgeProbe", "strengths", "hold at least one number", "one is chosen", "none",
                "Leave it out, or pass for instance strengths=(0.01, 1.0)",
            )  # fmt: skip
        _checks.whole("RidgeProbe", "folds", folds, at_least=2)
        self.strengths = tuple(sorted(float(each) for each in given))
        self.standardize = standardize
        self.folds = int(folds)
        self.strength: Any = None
        self._model: Any = None
        self._typical: Any = None
        self._flat = True

    def fit(self, features: Any, targets: Any, *, groups: Any = None) -> RidgeProbe:
        """Fit to features [N, D] with numbers [N] or [N, T]; rows of one of ``groups`` [N] share a fold."""
        x = checked("RidgeProbe.fit", features)[0]
        y = numbers("RidgeProbe.fit", "targets", targets, len(x))
        codes = None if groups is None else group_codes("RidgeProbe.fit", groups, len(x))
        refuse_constant("RidgeProbe.fit", "targets", y)
        chosen = np.full(y.shape[1], self.strengths[0])
        if len(self.strengths) > 1:
            chosen = np.asarray(self.strengths)[self._errors(x, y, codes).argmin(axis=0)]
        self._flat = np.ndim(targets) == 1
        self.strength = float(chosen[0]) if self._flat else chosen
        self._model = self._ridge(1 / chosen).fit(x, y)
        self._typical = y.mean(axis=0)
        return self

    def _errors(self, x: Array, y: Array, codes: Rows | None) -> Array:
        """Squared errors [S, T] on the rows left out."""
        num_strengths, num_targets = len(self.strengths), y.shape[1]
        penalties = np.repeat(1 / np.asarray(self.strengths), num_targets)
        errors = np.zeros((num_strengths, num_targets))
        for train, test in self._folds(len(x), codes):
            # one target for each strength: they share a decomposition
            model = self._ridge(penalties).fit(x[train], np.tile(y[train], (1, num_strengths)))
            guess = model.predict(x[test]).reshape(len(test), num_strengths, num_targets)
            errors += np.square(guess - y[test][:, None]).sum(axis=0)
        return errors

    def _folds(self, num: int, codes: Rows | None) -> Iterator[tuple[Rows, Rows]]:
        from sklearn.model_selection import GroupKFold, KFold

        most = num if codes is None else int(codes.max()) + 1
        if most < 2:
            _checks.refuse(
                InputError, "RidgeProbe.fit", "groups", "name at least 2 groups",
                "the strength is chosen on groups left out", f"{most}",
                "Pass groups=None, or a single strength",
            )  # fmt: skip
        rows, folds = np.zeros((num, 1)), min(self.folds, most)
        if codes is None:
            yield from KFold(folds, shuffle=True, random_state=0).split(rows)
        else:
            yield from GroupKFold(folds).split(rows, groups=codes)

    def _ridge(self, penalties: Array) -> Any:
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        ridge = Ridge(alpha=penalties, solver="svd")
        return make_pipeline(StandardScaler(), ridge) if self.standardize else ridge

    def predict(self, features: Any) -> Array:
        """Numbers [M] (or [M, T], as in ``fit``) for features [M, D]."""
        if self._model is None:
            _checks.refuse(
                InputError, "RidgeProbe.predict", "probe", "be fitted", "it has no weights yet", "none",
                "Call fit(features, targets) first",
            )  # fmt: skip
        x = checked("RidgeProbe.predict", features)[0]
        if x.shape[1] != self._model.n_features_in_:
            _checks.refuse(
                ShapeError, "RidgeProbe.predict", "features", f"have {self._model.n_features_in_} columns",
                "the probe was fitted on so many", f"shape {x.shape}", "Pass features of the same encoder",
            )  # fmt: skip
        predicted: Array = self._model.predict(x).reshape(len(x), len(self._typical))
        return predicted[:, 0] if self._flat else predicted

    def score(self, features: Any, targets: Any) -> float:
        """R^2: 1 is perfect, 0 the mean of these targets; the mean over several targets."""
        predicted = self.predict(features)
        y = numbers("RidgeProbe.score", "targets", targets, len(predicted))
        refuse_constant("RidgeProbe.score", "targets", y)
        left = np.square(predicted.reshape(y.shape) - y).sum(axis=0)
        return float(np.mean(1 - left / np.square(y - y.mean(axis=0)).sum(axis=0)))

    def evaluate(
        self, features: Any, targets: Any, *, groups: Any = None, seed: int = 0
    ) -> dict[str, Measurement]:
        """Mean absolute error "mae" and R^2 "r2" on other rows, each with interval and baseline.

        As ``regression_scores``, beside the error of always predicting the mean of the training targets.
        """
        predicted = self.predict(features)
        return regression_scores(targets, predicted, groups=groups, typical=self._typical, seed=seed)
