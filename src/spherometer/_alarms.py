"""When a reading of the monitor is an alarm: five statistics, each with a threshold, a cause and a next step.

Every statistic is 1 where all is well and 0 at the worst, so that one rule serves all: raised when it stays
below its threshold, cleared when it is well above again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RELIEF = 1.5  # an alarm clears above this many times its threshold


@dataclass(frozen=True)
class Alarm:
    """Something is wrong with a training run, since ``step``.

    Args:
        kind: "complete_collapse", "dimensional_collapse", "cluster_collapse", "norm_blow_up" or
            "misalignment".
        step: at which it was raised.
        cause: what was seen, in words.
        numbers: the statistic that crossed its threshold, the threshold, and what explains it.
        next_step: what to look at or change.

    ``str(alarm)`` is one line.
    """

    kind: str
    step: int
    cause: str
    numbers: Mapping[str, float]
    next_step: str

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.numbers.items())
        return f"step {self.step}: {self.kind}: {self.cause} ({numbers}). {self.next_step}."


@dataclass(frozen=True)
class Rule:
    """One kind of alarm: which statistic is watched, and what to say."""

    kind: str
    statistic: str
    shown: tuple[str, ...]
    cause: str
    next_step: str


RULES = (
    Rule(
        "complete_collapse",
        "spread",
        ("uniformity", "alignment", "num_rows"),
        "all features lie at nearly one point",
        "Let the loss spread them: raise uniform_weight against align_weight, or add negatives; if it does "
        "so already, lower the learning rate",
    ),
    Rule(
        "dimensional_collapse",
        "rank_share",
        ("effective_rank", "dim", "num_rows"),
        "the features use {effective_rank:.1f} of {full_rank:.0f} directions",
        "Look for dead units before the output; then weaken the augmentations, put an MLP head behind the "
        "features, or train with a smaller dim",
    ),
    Rule(
        "cluster_collapse",
        "distinct_share",
        ("distinct_points", "effective_rank", "num_rows"),
        "{num_rows:.0f} features sit on about {distinct_points:.0f} distinct points",
        "Look for repeated samples and for views that wipe out what tells samples apart; then raise "
        "uniform_weight or the temperature. Losses that use labels end here: min_distinct_share=None",
    ),
    Rule(
        "norm_blow_up",
        "norm_ratio",
        ("norm_median", "norm_p95"),
        "the features are {growth:.1f} times as long as after the warm-up, and the gradient of a loss that "
        "normalises them is as many times smaller",
        "Lower the learning rate or raise the weight decay; look for a loss that feeds on lengths",
    ),
    Rule(
        "misalignment",
        "pair_gap",
        ("alignment", "unrelated_alignment", "uniformity"),
        "two views of one sample are as far apart as two samples",
        "Check that row i of z1 and row i of z2 are one sample (a shuffle or a gather that reorders one "
        "side); then raise align_weight or weaken the augmentations",
    ),
)
KINDS = tuple(rule.kind for rule in RULES)
_NEED_SPREAD = ("dimensional_collapse", "cluster_collapse", "misalignment")  # not judged of a single point


@dataclass
class _Watch:
    low: int = 0  # readings in a row below the threshold
    active: bool = False


@dataclass
class Judge:
    """Turns readings into alarms: one per episode, after ``patience`` bad readings in a row."""

    thresholds: Mapping[str, float | None]  # of each statistic; None: not watched
    patience: int
    watches: dict[str, _Watch] = field(default_factory=lambda: {kind: _Watch() for kind in KINDS})

    def judge(self, step: int, reading: Mapping[str, float]) -> list[Alarm]:
        """The alarms that this reading raises."""
        raised = []
        collapsed = self._is_low("complete_collapse", reading, RELIEF)
        for rule in RULES:
            watch = self.watches[rule.kind]
            if collapsed and rule.kind in _NEED_SPREAD:
                watch.low = 0
                continue
            low = self._is_low(rule.kind, reading, 1.0)
            watch.low = watch.low + 1 if low else 0
            if watch.active:
                watch.active = self._is_low(rule.kind, reading, RELIEF)
            elif watch.low >= self.patience:
                watch.active = True
                raised.append(_alarm(rule, step, reading, self.thresholds[rule.statistic]))
        return raised

    def _is_low(self, kind: str, reading: Mapping[str, float], factor: float) -> bool:
        statistic = next(rule.statistic for rule in RULES if rule.kind == kind)
        threshold = self.thresholds[statistic]
        return threshold is not None and statistic in reading and reading[statistic] < factor * threshold

    def state(self) -> dict[str, Any]:
        return {kind: {"low": watch.low, "active": watch.active} for kind, watch in self.watches.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for kind, watch in self.watches.items():
            watch.low, watch.active = int(state[kind]["low"]), bool(state[kind]["active"])


def _alarm(rule: Rule, step: int, reading: Mapping[str, float], threshold: float | None) -> Alarm:
    assert threshold is not None
    growth = 1 / reading["norm_ratio"] if reading["norm_ratio"] else float("inf")
    full = min(reading["dim"], reading["num_rows"])
    cause = rule.cause.format(growth=growth, full_rank=full, **reading)
    numbers = {rule.statistic: reading[rule.statistic], "threshold": threshold}
    return Alarm(
        rule.kind, step, cause, numbers | {name: reading[name] for name in rule.shown}, rule.next_step
    )
