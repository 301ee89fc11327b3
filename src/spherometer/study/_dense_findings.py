"""What the study of dense representations claims, with verdicts by rule.

Differences of arms are paired by seed, with Student's t interval over seeds. "shown": the interval lies on
the claim's side; "not shown": it lies on the other side; "unclear": it holds both, or there is one seed.
Where the cells of some encoders lie at one point, what is said of relations must hold with and without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spherometer.study._conditional_findings import over_seeds
from spherometer.study._dense_grid import INSTANCE_ONLY
from spherometer.study._findings import in_points, judge, make_finding

_STRONG = -0.8  # correlation of alignment with uniformity that is called strong
_ABOUT_TASK = {"segmentation": "segmentation", "classification": "classification"}
_SCORES = {"segmentation": "mean IoU", "map": "mean average precision", "accuracy": "accuracy"}
CAVEATS = (
    "How cells are paired in the metrics, which pairs of cells make uniformity, and the number that sums "
    "up "
    "the relation with a task are our definitions.",
    "Scenes of digits are small and made; nothing here is a claim about photographs.",
    "Encoders differ in their losses, so a relation over them is no proof of a cause. Few configurations "
    "make "
    "multiple R large by chance alone: look at its interval and its p-value.",
    "Neighbouring cells share most of what they see, so part of the alignment of cells is trivial.",
    "Intervals over three seeds are wide.",
)
Row = dict[str, Any]


def dense_findings(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """All findings of a document."""
    found = []
    for data in dict.fromkeys(trial["data"] for trial in document["trials"]):
        where = document["data"][data]["name"].lower()
        pairs = [
            (("geometric", "random"), "segmentation",
             "Partners that show the same place make better maps than random partners."),
            (("geometric", INSTANCE_ONLY), "segmentation",
             "A loss of cells with true partners makes better maps than a loss of whole images alone."),
            (("geometric", "similarity"), "segmentation",
             "Partners that show the same place make better maps than the most similar cells."),
            (("geometric", "index"), "segmentation",
             "Partners that show the same place make better maps than cells of the same number."),
            ((INSTANCE_ONLY, "geometric"), "classification",
             "The loss of cells costs classification."),
        ]  # fmt: skip
        found += [_arms(document, data, arms, task, f"{where.capitalize()}: {claim[0].lower()}{claim[1:]}")
                  for arms, task, claim in pairs]  # fmt: skip
        found += [_stronger(document, data, where, task) for task in _ABOUT_TASK]
        found += [_lower_left(document, data, where, task) for task in _ABOUT_TASK]
        found.append(_opposed(document, data, where))
    return found


def _row(document: Mapping[str, Any], data: str, arm: str, task: str) -> Row | None:
    rows = document["matching"]
    wanted = (data, arm, task)
    return next((row for row in rows if (row["data"], row["matching"], row["task"]) == wanted), None)


def _arms(
    document: Mapping[str, Any], data: str, arms: tuple[str, str], task: str, claim: str
) -> dict[str, str]:
    first, second = (_row(document, data, arm, task) for arm in arms)
    if first is None or second is None or len(first["seeds"]) != len(second["seeds"]):
        return make_finding(claim, "unclear", "One of the arms did not finish for the same seeds.")
    pair = over_seeds(a - b for a, b in zip(first["seeds"], second["seeds"], strict=True))
    score = _SCORES[task if task == "segmentation" else document["data"][data]["classification"]]
    said = (
        f"{arms[0].capitalize()}: {first['value']:.1%}; {arms[1]}: {second['value']:.1%} of {score}; "
        f"difference {in_points(pair['value'])} points"
    )
    if pair["interval"] is None:
        return make_finding(claim, "unclear", f"{said}. One seed has no interval.")
    low, high = pair["interval"]
    return make_finding(
        claim, judge(low, high), f"{said} [{in_points(low)}, {in_points(high)}] over {pair['num']} seeds."
    )


def _related(document: Mapping[str, Any], data: str, task: str, kind: str) -> tuple[Row | None, str]:
    """The relation, or why there is none."""
    for row in document["relations"]:
        if (row["data"], row["task"], row["metrics"]) == (data, task, kind):
            return row["relation"], row["message"] or ""
    return None, "It was not computed."


def _spread(document: Mapping[str, Any], data: str, task: str) -> tuple[Row | None, str]:
    """The relation of cells without encoders whose cells lie at one point, and what to say of it."""
    again = document.get("spread") or {}
    num = sum(row["data"] == data for row in again.get("dropped", ()))
    if not num:
        return None, ""
    name = "encoder" if num == 1 else "encoders"
    for row in again["relations"]:
        if (row["data"], row["task"]) == (data, task) and row["relation"] is not None:
            return row["relation"], f"Without the {num} {name} whose cells lie at one point"
    return None, ""


def _stronger(document: Mapping[str, Any], data: str, where: str, task: str) -> dict[str, str]:
    """Do the numbers of cells foretell the task better than those of whole images?"""
    claim = (
        f"{where.capitalize()}: the numbers of cells go with {task} more closely than those of whole images."
    )
    (dense, why), (whole, why_not) = (_related(document, data, task, kind) for kind in ("dense", "instance"))
    if dense is None or whole is None:
        return make_finding(claim, "unclear", why or why_not)
    verdict = _closer(dense, whole)
    said = "; ".join(
        f"{words}: multiple R {each['multiple_r']:.2f} {_ends(each['intervals']['multiple_r'])}, p "
        f"{each['p_value']:.2g}, {each['num']} encoders of {each['num_groups']} configurations"
        for words, each in (("cells", dense), ("whole images", whole))
    )
    again, words = _spread(document, data, task)
    more = ""
    if again is not None:
        verdict = verdict if _closer(again, whole) == verdict else "unclear"
        ends = _ends(again["intervals"]["multiple_r"])
        more = f" {words}, cells: multiple R {again['multiple_r']:.2f} {ends}, p {again['p_value']:.2g}."
    return make_finding(claim, verdict, f"{said}.{more} Intervals that overlap decide nothing.")


def _closer(dense: Row, whole: Row) -> str:
    ends = [each["intervals"]["multiple_r"] for each in (dense, whole)]
    if ends[0][0] > ends[1][1] and dense["p_value"] < 0.05:
        return "shown"
    return "not shown" if ends[0][1] < ends[1][0] and whole["p_value"] < 0.05 else "unclear"


def _lower_left(document: Mapping[str, Any], data: str, where: str, task: str) -> dict[str, str]:
    """Are encoders better that are low in both numbers of cells?"""
    claim = f"{where.capitalize()}: encoders low in both numbers of cells are better at {task}."
    found, why = _related(document, data, task, "dense")
    if found is None:
        return make_finding(claim, "unclear", why)
    turned = found["intervals"]["direction"]
    said = (
        f"Signed rho {found['rho']:.2f} {_ends(found['intervals']['rho'])}; direction "
        f"{found['direction']:.0f} degrees [{turned[0]:.0f}, {turned[1]:.0f}] (0 alignment alone, 90 "
        f"uniformity alone); p {found['p_value']:.2g}."
    )
    verdict = _signed(found)
    again, words = _spread(document, data, task)
    if again is not None:
        verdict = verdict if _signed(again) == verdict else "unclear"
        said += (
            f" {words}: signed rho {again['rho']:.2f} {_ends(again['intervals']['rho'])}, direction "
            f"{again['direction']:.0f} degrees, p {again['p_value']:.2g}."
        )
    return make_finding(claim, verdict, said)


def _signed(found: Row) -> str:
    return "unclear" if found["p_value"] >= 0.05 else judge(*found["intervals"]["rho"])


def _opposed(document: Mapping[str, Any], data: str, where: str) -> dict[str, str]:
    """Are alignment and uniformity of cells two ends of one trade?"""
    claim = (
        f"{where.capitalize()}: alignment and uniformity of cells are strongly opposed over encoders "
        f"(correlation below {_STRONG:g}), so that the sign of a relation is unstable."
    )
    values = document["correlations"].get(data, {})
    dense, whole = values.get("dense"), values.get("instance")
    if dense is None:
        return make_finding(claim, "unclear", "There are too few encoders.")
    said = f"Correlation of cells {dense:.2f}" + ("" if whole is None else f", of whole images {whole:.2f}")
    verdict = "shown" if dense < _STRONG else "not shown"
    again = ((document.get("spread") or {}).get("correlations") or {}).get(data)
    if again is not None:
        verdict = verdict if (again < _STRONG) == (dense < _STRONG) else "unclear"
        said += f"; of cells without encoders whose cells lie at one point {again:.2f}"
    return make_finding(claim, verdict, f"{said}; numbers, no interval.")


def _ends(ends: Sequence[float]) -> str:
    return f"[{ends[0]:.2f}, {ends[1]:.2f}]"
