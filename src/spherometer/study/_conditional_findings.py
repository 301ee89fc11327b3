"""Means over seeds, and claims about arms with verdicts by rule.

"shown": the 95 % interval lies on the claim's side; "not shown": it lies on the other side; "unclear": it
holds both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from spherometer.study._conditional_story import Claim, Story, Unreached
from spherometer.study._findings import in_points, judge, make_finding

Row = dict[str, Any]


def conditional_findings(story: Story, document: Mapping[str, Any]) -> list[dict[str, str]]:
    """All findings of a document, in the order of the claims."""
    return [
        check_claim(claim, document) if isinstance(claim, Claim) else check_unreached(claim, document)
        for claim in story.claims
    ]


def over_seeds(values: Iterable[float]) -> Row:
    """Mean over seeds with Student's t interval (None for one seed), and the values."""
    array = np.asarray(list(values), dtype=np.float64)
    mean, num = float(array.mean()), len(array)
    interval = None
    if num > 1:
        from scipy.special import stdtrit

        half = float(stdtrit(num - 1, 0.975)) * float(array.std(ddof=1)) / math.sqrt(num)
        interval = [mean - half, mean + half]
    return {"value": mean, "interval": interval, "num": num, "values": array.tolist()}


def compare_arms(first: Row, second: Row, score: str) -> Row | None:
    """The paired difference of two arms over the seeds that both have; None when there is none."""
    one, two = (_by_seed(arm, score) for arm in (first, second))
    shared = sorted(one.keys() & two.keys())
    return over_seeds(one[seed] - two[seed] for seed in shared) if shared else None


def _by_seed(arm: Row, score: str) -> dict[int, float]:
    if score not in arm["scores"]:
        return {}
    return dict(zip(arm["seeds"], arm["scores"][score]["values"], strict=True))


def check_claim(claim: Claim, document: Mapping[str, Any]) -> dict[str, str]:
    """One finding: the claim, its verdict by rule, the numbers behind it."""
    first, second = (_strongest(names, claim.score, document) for names in (claim.first, claim.second))
    pair = None if first is None or second is None else compare_arms(first, second, claim.score)
    if first is None or second is None or pair is None:
        return make_finding(claim.text, "unclear", "One of the arms has no finished run.")
    score = next(each for each in document["scores"] if each["name"] == claim.score)
    spoken = (
        f"{first['name']}: {_shown(score, first['scores'][claim.score]['value'])}; {second['name']}: "
        f"{_shown(score, second['scores'][claim.score]['value'])}; difference {_difference(score, pair)} "
        f"({score['label']}, test part)."
    )
    if pair["interval"] is None:
        return make_finding(claim.text, "unclear", spoken + " One seed has no interval.")
    return make_finding(claim.text, _verdict(claim, pair["interval"]), spoken)


def _verdict(claim: Claim, interval: Sequence[float]) -> str:
    low, high = interval
    if claim.lower:
        return judge(-high, -low, claim.margin)
    return judge(low, high, -claim.margin)


def _strongest(names: Sequence[str], score: str, document: Mapping[str, Any]) -> Row | None:
    """Of several arms the one with the highest score on the validation part."""
    there = [arm for arm in document["arms"] if arm["arm"] in names and score in arm["scores"]]
    if not there:
        return None
    found: Row = max(there, key=lambda arm: float(arm["validation"][score]["value"]))
    return found


def _shown(score: Mapping[str, str], value: float) -> str:
    return f"{value:.1%}" if score["kind"] == "accuracy" else f"{value:.3f}"


def _difference(score: Mapping[str, str], pair: Row) -> str:
    points = score["kind"] == "accuracy"
    write = in_points if points else (lambda value: f"{value:+.3f}")
    ends = "" if pair["interval"] is None else f" [{', '.join(write(end) for end in pair['interval'])}]"
    return f"{write(pair['value'])}{' points' if points else ''}{ends} over {pair['num']} seeds"


def check_unreached(claim: Unreached, document: Mapping[str, Any]) -> dict[str, str]:
    """Is ``first`` out of reach of ``second``, whatever the bandwidth of ``second``?"""
    first = next((arm for arm in document["arms"] if arm["arm"] == claim.first), None)
    curve = next((each for each in document["curves"] if each["arm"] == claim.second), None)
    scores = {each["name"]: each for each in document["scores"]}
    if first is None or curve is None or not set(claim.scores) <= first["scores"].keys():
        return make_finding(claim.text, "unclear", "One of the arms has no finished run.")
    verdicts, spoken = [], []
    for point in curve["points"]:
        pairs = {name: compare_arms(point, first, name) for name in claim.scores}
        if any(pair is None for pair in pairs.values()):
            continue
        ends = [pair["interval"] for pair in pairs.values() if pair is not None]
        means = [pair["value"] for pair in pairs.values() if pair is not None]
        if any(end is not None and end[1] < 0 for end in ends):
            verdicts.append("shown")
        else:
            verdicts.append("not shown" if min(means) >= 0 else "unclear")
        shown = " and ".join(_shown(scores[name], point["scores"][name]["value"]) for name in claim.scores)
        spoken.append(f"{shown} at {point['bandwidth']:g}")
    worst = next((each for each in ("not shown", "unclear") if each in verdicts), "shown")
    own = " and ".join(
        f"{_shown(scores[name], first['scores'][name]['value'])} ({scores[name]['label']})"
        for name in claim.scores
    )
    return make_finding(
        claim.text, worst if verdicts else "unclear",
        f"{first['name']}: {own}. {curve['name']}, by bandwidth: {'; '.join(spoken)}.",
    )  # fmt: skip
