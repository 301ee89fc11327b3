"""What the study of local density claims, with verdicts by rule.

Differences are paired by seed, with Student's t interval over seeds. "shown": the interval lies on the
claim's side; "not shown": it lies on the other side; "unclear": it holds both, or there is one seed. A claim
that two numbers are level is shown when the interval lies within a stated margin, and not shown when it lies
outside of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from spherometer.study._conditional_findings import over_seeds
from spherometer.study._findings import in_points, judge, make_finding

_LEVEL = 0.05  # of relative local density: "level"
_POINTS = 0.01  # of accuracy: "about equal"
_LARGE, _SMALL = "1", ("0.1", "0.05")
Row = dict[str, Any]
Path = Sequence[str]


def values_at(row: Row | None, path: Path) -> list[float]:
    """The values over seeds at a place of an arm's last entry; empty where there are none."""
    found: Any = row
    for name in path:
        found = None if found is None else found.get(name)
    return [] if found is None else list(found["seeds"])


class Story:
    """The last entries of a document, by arm, and the sentences made of them."""

    def __init__(self, document: Row) -> None:
        self.final: dict[str, Row | None] = document["final"]
        self.arms: dict[str, Row] = {arm["id"]: arm for arm in document["arms"]}
        self.num_labels = document["protocol"]["few_labels"]

    @property
    def architectures(self) -> list[str]:
        """Those that are there."""
        kinds = (arm["architecture"] for arm in self.arms.values())
        return [kind for kind in dict.fromkeys(kinds) if kind is not None]

    def name(self, arm: str) -> str:
        """Of an arm."""
        return str(self.arms[arm]["name"])

    def unfinished(self, *arms: str) -> str:
        """That there is nothing to compare, in words."""
        return f"{' and '.join(self.name(arm) for arm in arms)}: not finished for the same seeds"

    def mean(self, arm: str, path: Path) -> float:
        """Over seeds; NaN where there are none."""
        values = values_at(self.final.get(arm), path)
        return math.fsum(values) / len(values) if values else math.nan

    def difference(
        self, first: tuple[str, Path], second: tuple[str, Path], change: Callable[[float], float] = float
    ) -> Row | None:
        """first - second over seeds, each changed (say to its logarithm) before."""
        one, two = (values_at(self.final.get(arm), path) for arm, path in (first, second))
        if not one or len(one) != len(two):
            return None
        return over_seeds(change(a) - change(b) for a, b in zip(one, two, strict=True))


def _short(name: str) -> str:
    """The objective alone, as it stands within a sentence."""
    objective = name.split(",")[0].split(" (")[0]
    return objective[:1].lower() + objective[1:]


def verdict_above(pair: Row | None, bound: float = 0.0) -> str:
    """Whether a difference lies above ``bound``."""
    if pair is None or pair["interval"] is None:
        return "unclear"
    low, high = pair["interval"]
    return judge(low, high, bound)


def verdict_below(pair: Row | None) -> str:
    """Whether a difference lies below 0."""
    if pair is None or pair["interval"] is None:
        return "unclear"
    low, high = pair["interval"]
    return judge(-high, -low)


def verdict_level(pair: Row | None, margin: float) -> str:
    """Whether a difference lies within ``margin`` of 0."""
    if pair is None or pair["interval"] is None:
        return "unclear"
    low, high = pair["interval"]
    if -margin < low and high < margin:
        return "shown"
    return "not shown" if low > margin or high < -margin else "unclear"


def worst(verdicts: Iterable[str]) -> str:
    """Of several that a claim needs all of."""
    found = list(verdicts)
    return next((each for each in ("not shown", "unclear") if each in found), "shown" if found else "unclear")


def spread(pair: Row, write: Callable[[float], str]) -> str:
    """A difference with its interval."""
    ends = pair["interval"]
    shown = "" if ends is None else f" [{write(ends[0])}, {write(ends[1])}]"
    return f"{write(pair['value'])}{shown}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def density_findings(document: Row) -> list[dict[str, str]]:
    """All findings of a document."""
    story = Story(document)
    found = [
        _large_temperature(story),
        _small_temperature(story),
        _wholes(story),
        _purity_falls(story),
        *_graph_and_linear(story),
        _few_labels(story),
        *_bad(story),
        _chosen_on_test(story),
    ]
    return [finding for finding in found if finding is not None]


def _over_architectures(
    claim: str, story: Story, rule: Callable[[str], tuple[str, str] | None]
) -> dict[str, str] | None:
    """One finding from a verdict and a sentence for each architecture; it needs all of them."""
    parts = [part for kind in story.architectures if (part := rule(kind)) is not None]
    if not parts:
        return None
    return make_finding(claim, worst(verdict for verdict, _ in parts), " ".join(words for _, words in parts))


def _compared(
    story: Story, kind: str, path: Path, first: str = "contrastive", second: str = "supervised"
) -> tuple[Row | None, str]:
    arms = f"{first}-{kind}", f"{second}-{kind}"
    if any(arm not in story.arms for arm in arms):
        return None, ""
    pair = story.difference((arms[0], path), (arms[1], path))
    if pair is None:
        return None, story.unfinished(*arms)
    means = [story.mean(arm, path) for arm in arms]
    return pair, (
        f"{story.name(arms[0])} {means[0]:.3f}, {_short(story.name(arms[1]))} {means[1]:.3f}, "
        f"difference {spread(pair, _signed)}"
    )


def _large_temperature(story: Story) -> dict[str, str] | None:
    def rule(kind: str) -> tuple[str, str] | None:
        pair, words = _compared(story, kind, ("rld", _LARGE))
        return (verdict_below(pair), f"{words}.") if words else None

    claim = "At temperature 1, which looks at the whole, contrastive encoders are less dense than supervised."
    return _over_architectures(claim, story, rule)


def _small_temperature(story: Story) -> dict[str, str] | None:
    def rule(kind: str) -> tuple[str, str] | None:
        rows = [(each, *_compared(story, kind, ("rld", each))) for each in _SMALL]
        if not rows[0][2]:
            return None
        spoken = "; ".join(f"at {each}: {words}" for each, _, words in rows)
        spoken = spoken[0].upper() + spoken[1:]
        return worst(verdict_level(pair, _LEVEL) for _, pair, _ in rows), f"{spoken}."

    claim = (
        f"At temperatures 0.1 and 0.05, which look at the nearest images, contrastive encoders are as dense "
        f"as supervised ones (to {_LEVEL:g})."
    )
    return _over_architectures(claim, story, rule)


def _wholes(story: Story) -> dict[str, str] | None:
    path = ("calinski_harabasz",)

    def rule(kind: str) -> tuple[str, str] | None:
        arms = f"contrastive-{kind}", f"supervised-{kind}"
        if any(arm not in story.arms for arm in arms):
            return None
        pair = story.difference((arms[1], path), (arms[0], path), math.log)
        if pair is None:
            return "unclear", f"{story.unfinished(*arms)}."
        means = [story.mean(arm, path) for arm in arms]
        shares = [story.mean(arm, ("between_share",)) for arm in arms]
        times = spread(pair, lambda value: f"{math.exp(value):.2f}")
        words = (
            f"{story.name(arms[0])} {means[0]:.0f}, supervised {means[1]:.0f}: higher by a factor of "
            f"{times}; {shares[0]:.0%} and {shares[1]:.0%} of the variance lie between classes."
        )
        return verdict_above(pair), words

    claim = "Calinski-Harabasz, which looks at classes as wholes, is lower for contrastive encoders."
    return _over_architectures(claim, story, rule)


def _purity_falls(story: Story) -> dict[str, str] | None:
    def falls(arm: str) -> list[float]:
        near, far = (values_at(story.final.get(arm), ("purity", k)) for k in ("1", "100"))
        return [a - b for a, b in zip(near, far, strict=False)]

    def rule(kind: str) -> tuple[str, str] | None:
        arms = f"contrastive-{kind}", f"supervised-{kind}"
        if any(arm not in story.arms for arm in arms):
            return None
        losses = [falls(arm) for arm in arms]
        if not all(losses) or len(losses[0]) != len(losses[1]):
            return "unclear", f"{story.unfinished(*arms)}."
        pair = over_seeds(a - b for a, b in zip(*losses, strict=True))
        shown = " and ".join(
            f"{story.mean(arm, ('purity', '1')):.3f} to {story.mean(arm, ('purity', '100')):.3f}"
            for arm in arms
        )
        words = f"{story.name(arms[0])} and supervised: {shown}, difference of the falls"
        return verdict_above(pair), f"{words} {spread(pair, _signed)}."

    claim = (
        "From the nearest neighbour to the 100th, classes mix more in contrastive than supervised encoders."
    )
    return _over_architectures(claim, story, rule)


def _heads(story: Story, arm: str, place: str, first: str, second: str) -> tuple[Row | None, str]:
    paths = (place, first), (place, second)
    pair = story.difference((arm, paths[0]), (arm, paths[1]))
    if pair is None:
        return None, f"{story.unfinished(arm)}."
    means = [story.mean(arm, path) for path in paths]
    return pair, (
        f"{story.name(arm)}: {means[0]:.1%} against {means[1]:.1%}, {spread(pair, in_points)} points."
    )


def _graph_and_linear(story: Story) -> list[dict[str, str] | None]:
    def rule(objective: str) -> Callable[[str], tuple[str, str] | None]:
        def one(kind: str) -> tuple[str, str] | None:
            arm = f"{objective}-{kind}"
            if arm not in story.arms:
                return None
            pair, words = _heads(story, arm, "accuracy", "gcn", "linear")
            return verdict_above(pair), words

        return one

    return [
        _over_architectures(
            "The graph classifier reads contrastive encoders better than a linear one, as the paper says.",
            story,
            rule("contrastive"),
        ),
        _over_architectures(
            "The graph classifier reads supervised encoders better than a linear one.",
            story,
            rule("supervised"),
        ),
        _over_architectures(
            "The graph classifier reads an untrained encoder better than a linear one.",
            story,
            rule("untrained"),
        ),
        _over_architectures(
            "The graph classifier reads scattered encoders (low contrastive loss, low Calinski-Harabasz) "
            "better than a linear one.",
            story,
            rule("bad"),
        ),
        _neighbors(story),
    ]


def _neighbors(story: Story) -> dict[str, str] | None:
    def one(kind: str) -> tuple[str, str] | None:
        if f"contrastive-{kind}" not in story.arms:
            return None
        pair, words = _heads(story, f"contrastive-{kind}", "accuracy", "gcn", "knn")
        return verdict_above(pair), words

    claim = "On contrastive encoders the graph classifier is better than a vote of the nearest neighbours."
    return _over_architectures(claim, story, one)


def _few_labels(story: Story) -> dict[str, str] | None:
    def one(kind: str) -> tuple[str, str] | None:
        if f"contrastive-{kind}" not in story.arms:
            return None
        pair, words = _heads(story, f"contrastive-{kind}", "few", "gcn", "linear")
        return verdict_below(pair), words

    claim = f"With {story.num_labels} labels the graph classifier is worse than a linear one."
    return _over_architectures(claim, story, one)


def _bad(story: Story) -> list[dict[str, str] | None]:
    def loss(kind: str) -> tuple[str, str] | None:
        pair, words = _compared(story, kind, ("contrastive_loss",), "bad", "untrained")
        return (verdict_below(pair), f"{words}.") if words else None

    def dense(kind: str) -> tuple[str, str] | None:
        pair, words = _compared(story, kind, ("rld", "0.1"), "bad", "contrastive")
        return (verdict_level(pair, _LEVEL), f"{words}.") if words else None

    def linear(kind: str) -> tuple[str, str] | None:
        arms = f"bad-{kind}", f"contrastive-{kind}"
        if any(arm not in story.arms for arm in arms):
            return None
        path = ("accuracy", "linear")
        pair = story.difference((arms[0], path), (arms[1], path))
        if pair is None:
            return "unclear", f"{story.unfinished(*arms)}."
        means = [story.mean(arm, path) for arm in arms]
        words = f"{story.name(arms[0])}: {means[0]:.1%}, contrastive {means[1]:.1%}"
        return verdict_below(pair), f"{words}, {spread(pair, in_points)} points."

    return [
        _over_architectures(
            "Scattered encoders have a lower contrastive loss than untrained ones.",
            story,
            loss,
        ),
        _over_architectures(
            f"Scattered encoders are locally as dense as contrastive ones (temperature 0.1, to {_LEVEL:g}).",
            story,
            dense,
        ),
        _over_architectures(
            "A linear classifier reads scattered encoders worse than contrastive.", story, linear
        ),
    ]


def _chosen_on_test(story: Story) -> dict[str, str] | None:
    gains: list[list[float]] = []
    for arm in story.arms:
        chosen, fair = (
            values_at(story.final.get(arm), ("accuracy", name)) for name in ("gcn_chosen_on_test", "gcn")
        )
        gains.append([a - b for a, b in zip(chosen, fair, strict=False)])
    whole = [seeds for seeds in gains if seeds and len(seeds) == len(gains[0])]
    if not whole:
        return None
    pair = over_seeds(math.fsum(values) / len(values) for values in zip(*whole, strict=True))
    least, most = (pick(math.fsum(seeds) / len(seeds) for seeds in whole) for pick in (min, max))
    return make_finding(
        "Choosing step and temperature of the graph classifier by test labels, as the paper's code does, "
        "overstates its accuracy.",
        verdict_above(pair),
        f"{spread(pair, in_points)} points on average over {len(whole)} arms, from {in_points(least)} to "
        f"{in_points(most)} points.",
    )
