"""What a selection says: its table, and what makes the ranking doubtful."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spherometer._select._criteria import CRITERIA

if TYPE_CHECKING:
    from spherometer._select._candidates import Measured
    from spherometer._select._result import Candidate, Selection

FEW = 5
LOW_R = 0.5
COLLAPSED = 0.95  # normalized uniformity
_COLUMNS = (
    ("alignment", "alignment"),
    ("uniformity", "uniformity"),
    ("normalized_uniformity", "normalized"),
    ("rankme", "RankMe"),
)
_SHOWN = 4  # names in a sentence


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def doubts(
    criterion: str,
    ordered: Sequence[Candidate],
    found: Sequence[Measured],
    apart: bool,
    quality: Mapping[str, Any] | None,
    chance: Mapping[str, Any] | None,
    relation: Mapping[str, Any] | None,
) -> list[str]:
    """Why this ranking may not be trusted, the gravest first."""
    said = []
    label = CRITERIA[criterion].label
    if len(ordered) < FEW:
        said.append(f"{len(ordered)} candidates are few: by chance alone one of them comes first.")
    missing = [each.name for each in ordered if "alignment" not in each.metrics]
    if missing:
        said.append(
            f"No alignment for {listed(missing)}: without positive pairs a collapsed or scattered encoder "
            "can come first; neither rank nor uniformity alone was shown to be better than chance in our "
            "studies."
        )
    flat = [
        each.name
        for each in ordered
        if "normalized_uniformity" in each.metrics
        and each.metrics["normalized_uniformity"]["value"] >= COLLAPSED
    ]
    if flat:
        said.append(
            f"All rows lie almost at one point for {listed(flat)}: such encoders stretch the scale on which "
            "the others are compared; leave them out."
        )
    unranked = [each.name for each in ordered if each.score is None]
    if unranked:
        said.append(f"Not ranked, because {label} is missing: {listed(unranked)}.")
    tied = [each.name for each in ordered[1:] if each.tied_with_best]
    if tied:
        said.append(
            f"The intervals of {listed(tied)} overlap that of {ordered[0].name}: this criterion does not "
            "tell them apart with these rows (compare two of them to be sure: the same rows make it sharper)."
        )
    sizes = {each.num for each in found if each.num is not None}
    ids = {None if each.ids is None else frozenset(each.ids) for each in found}
    if len(sizes) > 1:
        said.append(
            f"Candidates have {min(sizes)} to {max(sizes)} rows: ranks and losses depend on that number."
        )
    elif len(ids - {None}) > 1:
        said.append(
            "Candidates have different ids: differences may come from the rows, not from the encoders."
        )
    if apart:
        said.append(
            "Dimensions differ: uniformity, RankMe, LiDAR and the InfoNCE loss depend on them, and few "
            "dimensions count against a candidate. Normalized uniformity does not; it ranks worse."
        )
    return said + _judgement(criterion, label, quality, chance, relation)


def _judgement(
    criterion: str,
    label: str,
    quality: Mapping[str, Any] | None,
    chance: Mapping[str, Any] | None,
    relation: Mapping[str, Any] | None,
) -> list[str]:
    """With performance: what it says about the criterion."""
    said = []
    own = (quality or {}).get(criterion)
    if own is not None and chance is not None:
        low = (own["rank_correlation"]["interval"] or [own["rank_correlation"]["value"]])[0]
        if low <= 0:
            said.append(
                f"{label} does not order these candidates as their performance does (rank correlation "
                f"{own['rank_correlation']['value']:.2f}, its interval reaches {low:.2f})."
            )
        if own["regret"]["value"] >= chance["regret"]["value"]:
            said.append(
                f"Its pick loses {own['regret']['value']:.4g}, a blind one {chance['regret']['value']:.4g}."
            )
    if relation is not None and (relation["multiple_r"] < LOW_R or relation["p_value"] > 0.05):
        said.append(
            f"Alignment and uniformity say little about this performance (multiple R "
            f"{relation['multiple_r']:.2f}, p = {relation['p_value']:.2g})."
        )
    return said


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.5g}"


def spoken(selection: Selection) -> str:
    """A ranked table, the quality of every criterion where performance is known, then warnings and notes."""
    criterion = CRITERIA.get(selection.criterion)
    label = selection.criterion if criterion is None else criterion.label
    better = "" if criterion is None else ", lower is better" if criterion.lower else ", higher is better"
    columns = [(key, head) for key, head in _COLUMNS if any(key in each.metrics for each in selection)]
    judged = any(each.performance is not None for each in selection)
    head = [
        "rank",
        "candidate",
        "score",
        "",
        *(each for _, each in columns),
        *(["performance"] if judged else []),
    ]
    lines = [head]
    for each in selection:
        marks = " ".join(
            mark for mark, there in (("tied", each.tied_with_best), ("front", each.front)) if there
        )
        values = [each.metrics[key]["value"] if key in each.metrics else None for key, _ in columns]
        lines.append(
            ["-" if each.rank is None else str(each.rank), each.name, _cell(each.score), marks]
            + [_cell(value) for value in values]
            + ([_cell(each.performance)] if judged else [])
        )
    text = [f"Ranked by: {label}{better}", *_table(lines, left=(1, 3))]
    if selection.quality is not None:
        rows = [["criterion", "rank correlation", "95 % interval", "loss of its pick", "pick"]]
        for key, one in selection.quality.items():
            ends = one["rank_correlation"]["interval"]
            rows.append(
                [
                    CRITERIA[key].label if key in CRITERIA else key,
                    f"{one['rank_correlation']['value']:.2f}",
                    "" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]",
                    f"{one['regret']['value']:.4g}",
                    str(one["picked"] or ""),
                ]
            )
        if selection.chance is not None:
            rows.append(["Chance", "0.00", "", f"{selection.chance['regret']['value']:.4g}", ""])
        text += ["", *_table(rows, left=(0, 4))]
    text += [f"Warning: {each}" for each in selection.warnings]
    return "\n".join([*text, *(f"Note: {each}" for each in selection.notes)])


def _table(rows: list[list[str]], left: tuple[int, ...]) -> list[str]:
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for column, (text, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(text))
            cells.append(text + space if column in left else space + text)
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines
