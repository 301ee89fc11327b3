"""Claims and verdicts, each derived by a fixed rule from the numbers of one run.

"shown": the 95 % interval lies on the claim's side; "not shown": it lies on the other side; "unclear": it
holds both. Claims about two encoders compare them image by image on the test images, with the same labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherometer.study._trajectories import START

_Z95 = 1.959963984540054
_MARGIN = 0.01  # "at least as good": not more than 1 point worse
_FEW = "the linear probe with 50 labels"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Speech:
    """Words of a study: what it is about, its headline probe, and what training is compared with."""

    noun: str = "images"
    probe: str = _FEW
    rivals: tuple[str, ...] = ("Untrained encoder", "Raw pixels")
    no_training: str = "an untrained encoder and than raw pixels"


_IMAGES = Speech()


def findings(document: dict[str, Any], right: dict[str, Array | None], draws: int) -> list[dict[str, str]]:
    """All findings of a document; ``right``: how often (of ``draws``) each test image was right, by key."""
    best = {row["role"]: row for row in document["best"]}
    found = [
        *about_relation(document),
        _at_least_as_good(best, right, draws),
        about_combination(best, right, draws),
        about_no_training(best, right, draws),
        about_both_terms(document, right, draws),
        *about_selection(document),
        _trajectories(document),
    ]
    return [finding for finding in found if finding is not None]


def make_finding(claim: str, verdict: str, evidence: str) -> dict[str, str]:
    """One finding."""
    return {"claim": claim, "verdict": verdict, "evidence": evidence}


def judge(low: float, high: float, bound: float = 0.0) -> str:
    """Whether an interval lies above ``bound``."""
    if low > bound:
        return "shown"
    return "not shown" if high < bound else "unclear"


def in_points(value: float) -> str:
    """A difference of shares in percentage points."""
    shown = f"{100 * value:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown


def paired_difference(first: Array, second: Array, draws: int) -> tuple[float, float, float]:
    """Mean difference of accuracies on the same images, with its 95 % interval over images."""
    difference = (first - second) / draws
    mean = float(difference.mean())
    half = _Z95 * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return mean, mean - half, mean + half


def compare_rows(
    first: dict[str, Any] | None, second: dict[str, Any] | None, right: dict[str, Array | None], draws: int
) -> tuple[float, float, float] | None:
    """The two encoders compared row by row of the test part; None when one is missing."""
    if first is None or second is None:
        return None
    a, b = right[first["key"]], right[second["key"]]
    return None if a is None or b is None else paired_difference(a, b, draws)


def spoken_pair(
    first: dict[str, Any], second: dict[str, Any], pair: tuple[float, float, float], speech: Speech = _IMAGES
) -> str:
    """What a comparison found, with its interval."""
    mean, low, high = (in_points(value) for value in pair)
    return (
        f"{first['name']}: {first['test']['value']:.1%} of test {speech.noun}; {second['name']}: "
        f"{second['test']['value']:.1%}; difference {mean} points [{low}, {high}] ({speech.probe})."
    )


def _sets(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The sets of encoders that claims are made about; one when none collapsed."""
    collapsed = sum(trial["collapsed"] for trial in document["trials"])
    sets = [("all", "all encoders" if collapsed else "all encoders (none collapsed)")]
    if collapsed:
        sets.append(("non_collapsed", f"encoders that did not collapse (all but {collapsed})"))
    return [*sets, ("without_single_terms", "all encoders but alignment alone and uniformity alone")]


def about_relation(document: dict[str, Any]) -> list[dict[str, str]]:
    """Are encoders better that are low in both numbers?"""
    found = []
    relations = document["relation"][document["headline"]]
    for which, who in _sets(document):
        relation = relations[which]
        claim = f"Among {who}, those low in both alignment and uniformity are the better ones."
        if "refused" in relation:
            found.append(make_finding(claim, "unclear", relation["refused"]))
            continue
        low, high = relation["intervals"]["rho"]
        verdict = judge(low, high)
        if verdict == "shown" and relation["p_value"] >= 0.05:
            verdict = "unclear"
        found.append(
            make_finding(
                claim,
                verdict,
                f"{relation['num']} encoders: rho {relation['rho']:.2f} [{low:.2f}, {high:.2f}], multiple R "
                f"{relation['multiple_r']:.2f}, p = {relation['p_value']:.2g}.",
            )
        )
    return found


def _at_least_as_good(
    best: dict[str, Any], right: dict[str, Array | None], draws: int
) -> dict[str, str] | None:
    first, second = best.get("Best direct align + uniform"), best.get("Best contrastive")
    pair = compare_rows(first, second, right, draws)
    if pair is None or first is None or second is None:
        return None
    _, low, high = pair
    verdict = judge(low, high, -_MARGIN)
    if high < 0:
        verdict = "not shown"
    words = ""
    if low > 0:
        words = " The direct one is better."
    elif high < 0:
        words = " The direct one is worse."
    among = f"{first['num_candidates']} and {second['num_candidates']}"
    tries = f" Chosen on validation images among {among} encoders."
    claim = (
        "Optimising alignment and uniformity directly is at least as good as contrastive training "
        "(at most 1 point worse)."
    )
    return make_finding(claim, verdict, spoken_pair(first, second, pair) + words + tries)


def about_combination(
    best: dict[str, Any], right: dict[str, Array | None], draws: int, speech: Speech = _IMAGES
) -> dict[str, str] | None:
    """Is a contrastive loss with a second term better?"""
    first = best.get("Best combination")
    others = [best[role] for role in ("Best direct align + uniform", "Best contrastive") if role in best]
    if first is None or not others:
        return None
    second = max(others, key=lambda row: float(row["validation"]))
    pair = compare_rows(first, second, right, draws)
    if pair is None:
        return None
    claim = "Adding alignment or uniformity to a contrastive loss is better than either kind of loss alone."
    return make_finding(claim, judge(*pair[1:]), spoken_pair(first, second, pair, speech))


def about_no_training(
    best: dict[str, Any], right: dict[str, Array | None], draws: int, speech: Speech = _IMAGES
) -> dict[str, str] | None:
    """Is training better than none?"""
    roles = ("Best contrastive", "Best direct align + uniform", "Best combination")
    trained = [best[role] for role in roles if role in best]
    rivals = [best[role] for role in speech.rivals if role in best]
    if not trained or not rivals:
        return None
    first = max(trained, key=lambda row: float(row["validation"]))
    pairs = [(rival, compare_rows(first, rival, right, draws)) for rival in rivals]
    known = [(rival, pair) for rival, pair in pairs if pair is not None]
    verdicts = [judge(*pair[1:]) for _, pair in known]
    evidence = " ".join(spoken_pair(first, rival, pair, speech) for rival, pair in known)
    claim = f"Training without labels gives better features than {speech.no_training}."
    return make_finding(claim, judge_all(verdicts), evidence)


def judge_all(verdicts: list[str]) -> str:
    """A claim with several parts is shown when all are, and not shown when one is not."""
    if verdicts and all(verdict == "shown" for verdict in verdicts):
        return "shown"
    return "not shown" if "not shown" in verdicts else "unclear"


def about_both_terms(
    document: dict[str, Any], right: dict[str, Array | None], draws: int, speech: Speech = _IMAGES
) -> dict[str, str] | None:
    """Are both terms needed?"""
    trials = {trial["key"]: trial for trial in document["trials"]}
    rows = [trials[point["key"]] for point in document["sweep"]]
    ends = [row for row in rows if not (row["config"]["align_weight"] and row["config"]["uniform_weight"])]
    inner = [row for row in rows if row not in ends]
    if len(ends) < 2 or not inner:
        return None
    headline = document["headline"]

    def row_of(trial: dict[str, Any]) -> dict[str, Any]:
        return {**trial, "test": trial["accuracy"][headline]["test"]}

    first = row_of(max(inner, key=lambda row: float(row["accuracy"][headline]["validation"])))
    pairs = [(row_of(end), compare_rows(first, end, right, draws)) for end in ends]
    known = [(end, pair) for end, pair in pairs if pair is not None]
    evidence = " ".join(spoken_pair(first, end, pair, speech) for end, pair in known)
    claim = (
        "Both terms are needed: the best mixture is better than uniformity alone and than alignment alone."
    )
    return make_finding(claim, judge_all([judge(*pair[1:]) for _, pair in known]), evidence)


def _spoken(choice: dict[str, Any]) -> str:
    interval = choice["rank_correlation"]["interval"]
    ends = "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    return (
        f"{choice['label']}: rank correlation with accuracy {choice['rank_correlation']['value']:.2f}{ends}, "
        f"its pick loses {100 * choice['regret']['value']:.1f} points against the best."
    )


_RIVALS = (
    ("rankme", "RankMe"),
    ("alpha_req", "alpha-ReQ"),
    ("lidar", "LiDAR"),
    ("info_nce", "the InfoNCE loss"),
)


def about_selection(document: dict[str, Any]) -> list[dict[str, str]]:
    """Does choosing without labels work?"""
    found = []
    for which, who in _sets(document):
        choices = document["selection"][which]
        total, chance = choices.get("sum"), choices.get("chance")
        if total is None or chance is None:
            continue
        low, high = total["rank_correlation"]["interval"] or (-1.0, 1.0)
        verdict = judge(low, high)
        if total["regret"]["value"] >= chance["regret"]["value"]:
            verdict = "unclear" if verdict == "shown" else "not shown"
        evidence = (
            _spoken(total) + f" An encoder picked at random loses {100 * chance['regret']['value']:.1f}."
        )
        claim = f"Among {who}, choosing by alignment + uniformity, without a label, is better than chance."
        found.append(make_finding(claim, verdict, evidence))
        for key, name in _RIVALS:
            other = choices.get(key)
            if other is not None:
                found.append(_orders_better(who, total, other, name))
    return found


def _orders_better(who: str, total: dict[str, Any], other: dict[str, Any], name: str) -> dict[str, str]:
    """Cautious: the two intervals must not overlap, although both come from the same encoders."""
    low, high = total["rank_correlation"]["interval"] or (-1.0, 1.0)
    other_low, other_high = other["rank_correlation"]["interval"] or (-1.0, 1.0)
    verdict = "unclear"
    if low > other_high or high < other_low:
        verdict = "shown" if low > other_high else "not shown"
    claim = f"Among {who}, alignment + uniformity orders encoders better than {name}."
    return make_finding(claim, verdict, f"{_spoken(total)} {_spoken(other)}")


def _trajectories(document: dict[str, Any]) -> dict[str, str] | None:
    """Accuracies of the paths' ends, on validation images (as independent samples, which is cautious)."""
    paths = {name: path[-1] for name, path in document["trajectories"]["paths"].items() if path}
    if set(paths) != {"align only", "uniform only", "both"}:
        return None
    start = document["trajectories"]["start"]["accuracy"]
    num = document["data"]["num_validation"]
    both = paths["both"]["accuracy"]
    verdicts = []
    for other in (start, paths["align only"]["accuracy"], paths["uniform only"]["accuracy"]):
        half = _Z95 * math.sqrt((both * (1 - both) + other * (1 - other)) / num)
        verdicts.append(judge(both - other - half, both - other + half))
    ends = ", ".join(f"{name} {path['accuracy']:.1%}" for name, path in paths.items())
    claim = f"Fine-tuning {START.name} with both terms ends better than it began and than with one term."
    return make_finding(
        claim, judge_all(verdicts), f"From {start:.1%} of validation images to: {ends} ({_FEW})."
    )
