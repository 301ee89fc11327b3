"""How well a number known without labels picks the encoder that performs best.

Shapes: K encoders, G groups, B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spherometer import _checks, _groups
from spherometer._groups import Array
from spherometer.errors import InputError, UndefinedError

_MIN_INTERVAL = 3  # groups below which no interval is given


@dataclass(frozen=True)
class SelectionQuality:
    """What picking by one criterion is worth; intervals are 95 %, None for fewer than 3 groups."""

    rank_correlation: float  # Spearman, +1: the criterion orders the encoders as performance does
    rank_correlation_interval: list[float] | None
    regret: float  # best performance minus that of the pick, in the units of performance
    regret_interval: list[float] | None
    picked: int | None  # entry of the pick (the first of tied ones); None for chance
    num_tied: int  # encoders that tie for the pick
    num: int
    num_groups: int

    def to_dict(self) -> dict[str, Any]:
        """Nested values with their intervals, ready for JSON."""
        return {
            "rank_correlation": {
                "value": self.rank_correlation,
                "interval": self.rank_correlation_interval,
            },
            "regret": {"value": self.regret, "interval": self.regret_interval},
            "picked": self.picked,
            "num_tied": self.num_tied,
            "num": self.num,
            "num_groups": self.num_groups,
        }


def selection_quality(
    score: Any,
    performance: Any,
    *,
    groups: Any = None,
    lower_is_better: bool = True,
    num_resamples: int = 2000,
    seed: int = 0,
) -> SelectionQuality:
    """How well ``score`` orders the encoders, and what picking its best one costs.

    rank correlation = Spearman correlation of the goodness of the score with performance;
    regret = max_k performance_k - performance of the encoder with the best score.

    Args:
        score: K numbers (list, array or 1-D tensor), the criterion.
        performance: K numbers, higher is better.
        groups: K names resampled together: the seed of each encoder for intervals over seeds, its
            configuration for intervals over configurations. None: every encoder on its own.
        lower_is_better: whether the criterion picks its smallest (alignment, uniformity, a loss) or its
            largest value (an effective rank).
        num_resamples: bootstrap resamples, at least 100; the pick is repeated among the encoders drawn.
        seed: of the bootstrap.

    Returns:
        A ``SelectionQuality``. Encoders that tie for the best score are picked with equal chance, so the
        regret is their mean.

    Range: rank correlation in [-1, 1], 0 for chance. Regret >= 0, lower is better; its baseline is
        ``chance_quality``.

    Raises:
        UndefinedError: fewer than 3 encoders, or a constant score or performance.
        ShapeError, InputError: lengths that differ, NaN, anything but numbers.

    Cost: O(B K log K).
    Source: our own definition; the terms are the usual ones of model selection.

    Example:
        >>> quality = selection_quality([0.1, 0.3, 0.2, 0.4], [0.9, 0.7, 0.95, 0.6])
        >>> round(quality.rank_correlation, 6), round(quality.regret, 6), quality.picked
        (0.8, 0.05, 0)
    """
    function = "selection_quality"
    if not isinstance(lower_is_better, (bool, np.bool_)):
        _checks.refuse(
            InputError,
            function,
            "lower_is_better",
            "be True or False",
            "it says which end of the score is picked",
            repr(lower_is_better)[:80],
            "Pass lower_is_better=True for a loss",
        )
    s, p, weights, num_groups = _prepared(
        function, ("score", "performance"), (score, performance), groups, num_resamples, seed
    )
    s = -s if lower_is_better else s  # goodness
    everyone = np.ones((1, len(s)))
    best = s == s.max()
    return SelectionQuality(
        rank_correlation=float(_spearman(s, p, everyone)[0]),
        rank_correlation_interval=_interval(_spearman(s, p, weights), num_groups),
        regret=float(_regret(s, p, everyone)[0]),
        regret_interval=_interval(_regret(s, p, weights), num_groups),
        picked=int(best.argmax()),
        num_tied=int(best.sum()),
        num=len(s),
        num_groups=num_groups,
    )


def chance_quality(
    performance: Any, *, groups: Any = None, num_resamples: int = 2000, seed: int = 0
) -> SelectionQuality:
    """The baseline of ``selection_quality``: any encoder, each with equal chance.

    regret = max_k performance_k - mean_k performance_k; the rank correlation is 0 by definition.

    Args:
        performance: K numbers, higher is better.
        groups: as for ``selection_quality``.
        num_resamples: as for ``selection_quality``.
        seed: as for ``selection_quality``.

    Returns:
        A ``SelectionQuality`` without a pick and without an interval of the rank correlation.

    Raises:
        UndefinedError, ShapeError, InputError: as ``selection_quality``.

    Cost: O(B K).
    Source: our own definition.

    Example:
        >>> round(chance_quality([0.9, 0.7, 0.8, 0.6]).regret, 6)
        0.15
    """
    p, weights, num_groups = _prepared(
        "chance_quality", ("performance",), (performance,), groups, num_resamples, seed
    )
    flat = np.zeros_like(p)
    return SelectionQuality(
        rank_correlation=0.0,
        rank_correlation_interval=None,
        regret=float(_regret(flat, p, np.ones((1, len(p))))[0]),
        regret_interval=_interval(_regret(flat, p, weights), num_groups),
        picked=None,
        num_tied=len(p),
        num=len(p),
        num_groups=num_groups,
    )


def standardized_sum(*scores: Any) -> list[float]:
    """Sum of scores, each in units of its standard deviation over the encoders; lower is better if all are.

    sum_c (s_ck - mean_k s_ck) / sd_k s_ck

    Args:
        scores: lists of K numbers, for instance alignment and uniformity.

    Returns:
        K numbers.

    Raises:
        UndefinedError: a score that does not vary.
        ShapeError, InputError: lengths that differ, NaN, anything but numbers.

    Cost: O(K).
    Source: our own definition; what the lower-left corner of the alignment-uniformity plane means.

    Example:
        >>> standardized_sum([0.0, 1.0], [10.0, 30.0])
        [-2.0, 2.0]
    """
    function = "standardized_sum"
    names = [f"scores[{index}]" for index in range(len(scores))]
    total: Array = np.zeros(1)
    for name, values in zip(names, _groups.columns(function, names, scores), strict=True):
        _groups.refuse_constant(function, name, values)
        total = total + (values - values.mean()) / values.std()
    return [float(value) for value in total]


def _prepared(
    function: str, names: tuple[str, ...], values: tuple[Any, ...], groups: Any, num_resamples: int, seed: int
) -> Any:
    columns = _groups.columns(function, names, values)
    num = len(columns[0])
    if num < 3:
        _checks.refuse(
            UndefinedError,
            function,
            "performance",
            "hold at least 3 encoders",
            "there is nothing to order among fewer",
            f"{num} encoders",
            "Compare more encoders",
        )
    for name, column in zip(names, columns, strict=True):
        _groups.refuse_constant(function, name, column)
    group = _groups.codes(function, groups, num)
    _checks.whole(function, "num_resamples", num_resamples, at_least=100)
    _checks.whole(function, "seed", seed, at_least=0)
    weights = _groups.bootstrap_weights(group, num_resamples, np.random.default_rng(seed))
    return *columns, weights, int(group.max()) + 1


def _spearman(goodness: Array, performance: Array, weights: Array) -> Array:
    ranked = _groups.ranks(goodness, weights), _groups.ranks(performance, weights)
    return _groups.correlation(*ranked, weights)


def _regret(goodness: Array, performance: Array, weights: Array) -> Array:
    """Best minus mean picked performance among the encoders drawn, [B]."""
    drawn = weights > 0
    top = np.where(drawn, goodness, -np.inf).max(axis=1, keepdims=True)
    picked = np.where(drawn & (goodness == top), weights, 0.0)
    best = np.where(drawn, performance, -np.inf).max(axis=1, keepdims=True)
    regret: Array = (picked * (best - performance)).sum(axis=1) / picked.sum(axis=1)
    return regret


def _interval(values: Array, num_groups: int) -> list[float] | None:
    if num_groups < _MIN_INTERVAL or not np.isfinite(values).any():
        return None
    return _groups.interval(values)
