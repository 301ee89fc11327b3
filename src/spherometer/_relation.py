"""How alignment and uniformity together go with performance, over many encoders.

Shapes: K encoders, G groups, B resamples.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherometer import _checks, _groups
from spherometer._groups import Array, Codes
from spherometer.errors import UndefinedError

_MIN_GROUPS = 8
_FUNCTION = "performance_relation"


@dataclass(frozen=True)
class Relation:
    """What ``performance_relation`` found; ``print(relation)`` says it in words."""

    num: int  # encoders
    num_groups: int  # independent configurations
    multiple_r: float  # correlation of performance with its best linear prediction from the two
    adjusted_r2: float
    rho: float  # correlation of performance with -(standardised alignment + standardised uniformity)
    rho_spearman: float
    direction: float  # degrees: 0 alignment only, 90 uniformity only
    beta_align: float  # standardised regression coefficients
    beta_uniform: float
    partial_align: float | None  # correlation at a fixed value of the other; None where undefined
    partial_uniform: float | None
    vif: float  # variance inflation factor 1 / (1 - r_between^2)
    r_align: float  # correlation of performance with alignment alone
    r_uniform: float
    r_between: float  # correlation of alignment with uniformity
    intervals: dict[str, list[float]]  # 95 %, by name
    p_value: float
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain numbers, lists and strings, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        unrelated = math.sqrt(2 / (self.num_groups - 1))
        who = f"{self.num} encoders"
        if self.num_groups != self.num:
            who += f" of {self.num_groups} configurations"
        lines = [
            f"Alignment, uniformity and performance of {who}",
            f"  multiple R    {self._with_interval('multiple_r')}  how well the two together predict "
            f"performance (0 not at all, 1 exactly; unrelated numbers give about {unrelated:.2f})",
            f"  adjusted R^2  {self.adjusted_r2:.3f}  share of the variance explained, chance taken off",
            f"  rho           {self._with_interval('rho')}  +1: low alignment and low uniformity go with "
            "good performance; -1: the opposite",
            f"  rho, ranks    {self._with_interval('rho_spearman')}  the same, by order only",
            f"  direction     {self._with_interval('direction', '.0f')} degrees: {_in_words(self.direction)}",
            f"  p-value       {self.p_value:.2g}  for a multiple R this large without any relation",
        ]
        return "\n".join([*lines, *(f"  note: {text}" for text in self.warnings)])

    def _with_interval(self, name: str, form: str = ".3f") -> str:
        low, high = self.intervals[name]
        return f"{getattr(self, name):{form}} [{low:{form}}, {high:{form}}]"


def performance_relation(
    align: Any,
    uniform: Any,
    performance: Any,
    *,
    groups: Any = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Relation:
    r"""Summarise how alignment and uniformity go with performance over K encoders.

    With a, u, p standardised and r their correlations:

    * multiple R: R^2 = (r_pa^2 + r_pu^2 - 2 r_pa r_pu r_au) / (1 - r_au^2), the correlation of p with its
      least-squares prediction beta_a a + beta_u u;
    * adjusted R^2 = 1 - (1 - R^2) (G - 1) / (G - 3), with G the number of groups (K without groups);
    * rho = corr(p, -(a + u)) = -(r_pa + r_pu) / sqrt(2 + 2 r_au), signed, also by ranks;
    * direction = atan2(-beta_u, -beta_a) in degrees;
    * partial correlations, and VIF = 1 / (1 - r_au^2).

    Args:
        align: K numbers, lower is better (list, array or 1-D tensor).
        uniform: K numbers, lower is better.
        performance: K numbers, higher is better; pass the negative of an error.
        groups: K names; encoders with the same name (seeds of one configuration) are not independent, so
            intervals draw, and the p-value permutes, whole groups. None: every encoder is its own group.
        num_resamples: resamples of the bootstrap, and permutations, at least 100.
        seed: of both.

    Returns:
        A ``Relation``. ``intervals`` holds 95 % percentile bootstrap intervals; the one of ``direction`` is
        unwrapped around the value, so it may pass 180 degrees. The p-value is the share, with the observed
        order counted in, of permutations of performance over groups whose R is at least as large; groups of
        unequal size are replaced by their means for it (said in ``warnings``).

    Range: R in [0, 1]; unrelated numbers give R^2 of about 2 / (G - 1), so few encoders look related, and
        the bootstrap interval of R lies high for the same reason. rho in [-1, 1], 0 without relation.
        Direction: 45 both matter equally, 0 alignment only, 90 uniformity only; outside 0 ... 90 one of them
        has the wrong sign.

    Raises:
        UndefinedError: fewer than 8 groups, a constant argument, or alignment and uniformity that determine
            each other (\|r_au\| = 1).
        ShapeError: lengths that differ.
        InputError: NaN, infinity, anything but numbers.

    Cost: O(B K log K).
    Source: our own definition. The abstract of Moon, Kim & Choi 2022 announces one scalar that summarises
    this relation without giving its formula; nothing here should be quoted as theirs. A correlation over
    encoders does not prove a cause, and it depends on which encoders were trained: collapsed ones alone can
    make R large, so look at it with and without them.

    Example:
        >>> a = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        >>> u = [-3.0, -3.6, -2.9, -3.5, -2.8, -3.3, -2.6, -3.1]
        >>> p = [-x - y for x, y in zip(a, u)]
        >>> relation = performance_relation(a, u, p)
        >>> round(relation.multiple_r, 6), round(relation.rho, 3)
        (1.0, 0.993)
    """
    a, u, p = _groups.columns(_FUNCTION, ("align", "uniform", "performance"), (align, uniform, performance))
    group = _groups.codes(_FUNCTION, groups, len(a))
    _checks.whole(_FUNCTION, "num_resamples", num_resamples, at_least=100)
    _checks.whole(_FUNCTION, "seed", seed, at_least=0)
    num_groups = len(np.unique(group))
    _refuse_few(num_groups, len(a), groups is not None)
    for name, values in (("align", a), ("uniform", u), ("performance", p)):
        _groups.refuse_constant(_FUNCTION, name, values)
    a, u, p = (_standardised(values) for values in (a, u, p))
    _refuse_determined(float(_groups.correlation(a, u)))

    rng = np.random.default_rng(seed)
    value = {name: float(v) for name, v in _statistics(a, u, p, None, num_groups).items()}
    weights = _groups.bootstrap_weights(group, num_resamples, rng)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = _statistics(a, u, p, weights, num_groups)
    turned = (resampled["direction"] - value["direction"] + 180) % 360 - 180
    resampled["direction"] = value["direction"] + turned
    p_value, by_means = _p_value(a, u, p, group, num_resamples, rng)
    partial = {name: value.pop(name) for name in ("partial_align", "partial_uniform")}
    return Relation(
        num=len(a),
        num_groups=num_groups,
        **value,
        partial_align=_or_none(partial["partial_align"]),
        partial_uniform=_or_none(partial["partial_uniform"]),
        intervals={
            name: _groups.interval(values)
            for name, values in resampled.items()
            if name != "vif" and np.isfinite(values).sum() > num_resamples / 2
        },
        p_value=p_value,
        warnings=_warnings(value["r_between"], by_means, resampled["multiple_r"]),
    )


def _standardised(values: Array) -> Array:
    # to order one first, so that squares neither overflow nor vanish
    values = values / np.abs(values).max()
    values = values - values.mean()
    scaled: Array = values / np.sqrt(np.mean(values**2))
    return scaled


def _statistics(a: Array, u: Array, p: Array, weights: Array | None, num_groups: int) -> dict[str, Array]:
    """Every statistic, of the encoders as they are or of B weighted resamples; NaN where undefined."""
    r_pa, r_pu, r_au = (_groups.correlation(*two, weights) for two in ((p, a), (p, u), (a, u)))
    free = 1 - r_au**2
    free = np.where(free < 1e-12, np.nan, free)
    beta_a, beta_u = (r_pa - r_pu * r_au) / free, (r_pu - r_pa * r_au) / free
    r2 = np.clip(beta_a * r_pa + beta_u * r_pu, 0.0, 1.0)
    rest_a, rest_u = (np.where(1 - r**2 < 1e-12, np.nan, 1 - r**2) for r in (r_pa, r_pu))
    score = -(_scale_in(a, weights) + _scale_in(u, weights))
    ranked = _groups.ranks(score, weights), _groups.ranks(p, weights)
    spearman = _groups.correlation(*ranked, weights)
    return {
        "multiple_r": np.sqrt(r2),
        "adjusted_r2": 1 - (1 - r2) * (num_groups - 1) / (num_groups - 3),
        "rho": np.clip(-(r_pa + r_pu) / np.sqrt(2 + 2 * r_au), -1.0, 1.0),
        "rho_spearman": spearman if weights is not None else spearman[0],
        "direction": np.degrees(np.arctan2(-beta_u, -beta_a)),
        "beta_align": beta_a,
        "beta_uniform": beta_u,
        "partial_align": np.clip((r_pa - r_pu * r_au) / np.sqrt(rest_u * free), -1.0, 1.0),
        "partial_uniform": np.clip((r_pu - r_pa * r_au) / np.sqrt(rest_a * free), -1.0, 1.0),
        "vif": 1 / free,
        "r_align": r_pa,
        "r_uniform": r_pu,
        "r_between": r_au,
    }


def _scale_in(values: Array, weights: Array | None) -> Array:
    """Values over their standard deviation within each resample (the mean does not matter for ranks)."""
    if weights is None:
        return values
    w = weights / weights.sum(axis=-1, keepdims=True)
    mean = (w * values).sum(axis=-1, keepdims=True)
    spread = np.sqrt((w * (values - mean) ** 2).sum(axis=-1, keepdims=True))
    scaled: Array = values / np.where(spread == 0, 1.0, spread)
    return scaled


def _p_value(
    a: Array, u: Array, p: Array, group: Codes, num: int, rng: np.random.Generator
) -> tuple[float, bool]:
    """Share of permutations of whole groups with an R at least as large, and whether means were used."""
    sizes = np.bincount(group)
    by_means = bool((sizes != sizes[0]).any())
    if by_means:
        a, u, p = (np.bincount(group, values) / sizes for values in (a, u, p))
        for name, values in (("align", a), ("uniform", u), ("performance", p)):
            _groups.refuse_constant(_FUNCTION, f"the group mean of {name}", values)
        _refuse_determined(float(_groups.correlation(a, u)))
        members = np.arange(len(sizes))[:, None]
    else:
        members = np.argsort(group, kind="stable").reshape(len(sizes), -1)
    a, u, p = (values[members].ravel() for values in (a, u, p))
    order = rng.permuted(np.tile(np.arange(len(members)), (num, 1)), axis=1)
    shuffled = p.reshape(members.shape)[order].reshape(num, -1)
    r_au = _groups.correlation(a, u)
    observed, permuted = (
        _r_squared(_groups.correlation(q, a), _groups.correlation(q, u), r_au)
        for q in (p, np.ascontiguousarray(shuffled))
    )
    return float((1 + (permuted >= observed - 1e-12).sum()) / (1 + num)), by_means


def _r_squared(r_pa: Array, r_pu: Array, r_au: Array) -> Array:
    result: Array = (r_pa**2 + r_pu**2 - 2 * r_pa * r_pu * r_au) / (1 - r_au**2)
    return result


def _refuse_few(num_groups: int, num: int, grouped: bool) -> None:
    if num_groups < _MIN_GROUPS:
        what = f"{num_groups} groups of {num} encoders" if grouped else f"{num} encoders"
        _checks.refuse(
            UndefinedError,
            _FUNCTION,
            "groups" if grouped else "performance",
            f"hold at least {_MIN_GROUPS} independent {'groups' if grouped else 'encoders'}",
            "two predictors fit few points well by chance alone",
            what,
            "Train more configurations",
        )


def _refuse_determined(r_between: float) -> None:
    if 1 - r_between**2 < 1e-12:
        _checks.refuse(
            UndefinedError,
            _FUNCTION,
            "uniform",
            "not be a linear function of align",
            "their shares in the performance cannot be told apart",
            f"a correlation of {r_between:+.6f} between them",
            "Add encoders off that line, or correlate one of the two alone",
        )


def _warnings(r_between: float, by_means: bool, resampled: Array) -> list[str]:
    texts = []
    if abs(r_between) > 0.95:
        texts.append(
            f"alignment and uniformity correlate by {r_between:+.3f} over these encoders: multiple R, "
            "direction and the coefficients are unstable (VIF above 10)"
        )
    if by_means:
        texts.append("groups differ in size: the p-value compares their means")
    undefined = int((~np.isfinite(resampled)).sum())
    if undefined:
        texts.append(
            f"{undefined} of {len(resampled)} resamples were degenerate and left out of the intervals"
        )
    return texts


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _in_words(direction: float) -> str:
    if -22.5 <= direction < 22.5:
        return "alignment matters, uniformity hardly"
    if 22.5 <= direction < 67.5:
        return "both matter, in the expected sense"
    if 67.5 <= direction < 112.5:
        return "uniformity matters, alignment hardly"
    if 112.5 <= direction < 157.5:
        return "lower uniformity but higher alignment goes with good performance"
    if -67.5 <= direction < -22.5:
        return "lower alignment but higher uniformity goes with good performance"
    return "against expectation: higher values go with good performance"
