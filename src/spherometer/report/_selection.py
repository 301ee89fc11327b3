"""The page of a selection: candidates ranked without labels, and how far the ranking can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spherometer import plots
from spherometer._select import Selection
from spherometer._version import __version__
from spherometer.report import _document, _format, _page, _portrait
from spherometer.stores import write_file

_ARROWS = {"lower": "↓", "higher": "↑"}
_COLUMNS = ("alignment", "uniformity", "normalized_uniformity", "rankme")
_MOST = 200  # candidates of a table
_NAMED = 3  # of the best, beside the front, on the plane


def _columns(candidates: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Key, label and arrow of the measures that the table shows."""
    found = []
    for key in _COLUMNS:
        one = next((each["metrics"][key] for each in candidates if key in each["metrics"]), None)
        if one is not None:
            found.append((key, str(one["label"]), _ARROWS.get(one["better"] or "", "")))
    return found


def _row(one: dict[str, Any], columns: list[tuple[str, str, str]]) -> dict[str, Any]:
    return {
        "rank": _format.DASH if one["rank"] is None else str(one["rank"]),
        "name": one["name"] or "(no name)",
        "step": None if one["step"] is None else f"{one['step']:g}",
        "run": one["run"],
        "score": _format.number(one["score"], 4),
        "front": one["front"],
        "tied": one["tied_with_best"],
        "performance": _format.number(one["performance"], 4),
        "cells": [_format.cell(one["metrics"].get(key), 3) for key, _, _ in columns],
    }


def _plane(document: dict[str, Any], shared: str) -> str | None:
    """The plane of all candidates that have both measures."""
    usable = [
        one for one in document["candidates"] if "alignment" in one["metrics"] and shared in one["metrics"]
    ]
    if len(usable) < 2:
        return None
    points = [
        {
            "name": one["name"],
            "uniformity": one["metrics"][shared],
            "alignment": one["metrics"]["alignment"],
            "front": one["front"],
            "named": one["front"] or (one["rank"] or math.inf) <= _NAMED,
        }
        for one in usable
    ]
    label = "Uniformity" if shared == "uniformity" else "Normalized uniformity"
    bands: dict[str, Any] = {"one point": [0.0 if shared == "uniformity" else 1.0, 0.0]}
    if shared != "uniformity":
        bands["uniform law"] = 0.0
    paths = [[one["name"] for one in path] for path in _runs(document).values()]
    return _page.image(plots.to_svg(plots.points_plane(points, bands=bands, axis=label, paths=paths)))


def _runs(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Candidates of every run with several steps, in their order."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for one in document["candidates"]:
        if one["step"] is not None:
            runs.setdefault(one["run"] or "", []).append(one)
    return {
        name: sorted(path, key=lambda one: (one["step"], one["name"]))
        for name, path in sorted(runs.items())
        if len(path) > 1
    }


def _trajectories(document: dict[str, Any], columns: list[tuple[str, str, str]], label: str) -> str | None:
    runs = _runs(document)
    if not runs:
        return None
    labels = {"score": label} | {key: f"{words} {arrow}".strip() for key, words, arrow in columns[:4]}
    if any(one["performance"] is not None for path in runs.values() for one in path):
        labels["performance"] = "Performance ↑"
    paths = {
        name: [
            (
                float(one["step"]),
                {"score": one["score"], "performance": one["performance"]}
                | {key: one["metrics"][key]["value"] for key, _, _ in columns if key in one["metrics"]},
            )
            for one in path
        ]
        for name, path in runs.items()
    }
    return _page.image(plots.to_svg(plots.selection_paths(paths, labels)))


def _quality(document: dict[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    quality, chance = document["quality"], document["chance"]
    rows = [(labels.get(key, key), one) for key, one in (quality or {}).items()]
    if chance is not None:
        rows.append(("Picking blindly", chance))
    return [
        {
            "name": name,
            "correlation": _format.cell(one.get("rank_correlation"), 2),
            "regret": _format.cell(one.get("regret"), 4),
            "picked": one.get("picked") or _format.DASH,
        }
        for name, one in rows
    ]


def _relation(relation: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if relation is None:
        return []
    ends = relation.get("intervals") or {}
    found = []
    for key, words in (
        ("multiple_r", "Multiple R: how well alignment and uniformity together predict performance, 0 to 1"),
        ("adjusted_r2", "Adjusted R²: share of the variance explained, chance taken off"),
        ("rho", "ρ: +1 when low alignment and low uniformity go with good performance, −1 the opposite"),
        ("p_value", "p-value of so large an R without any relation"),
    ):
        if isinstance(relation.get(key), (int, float)):
            cell = _format.cell({"value": relation[key], "interval": ends.get(key)})
            found.append((words, f"{cell['value']} {cell['interval']}".strip()))
    return found


def render_selection(selection: Any) -> str:
    """Return the page of a selection.

    Args:
        selection: what ``spherometer.select`` returned, or its ``to_dict()``.

    Returns:
        One self-contained page: no script, nothing fetched, the same text for the same selection.

    Raises:
        InputError: it is no selection.
    """
    checked = selection if isinstance(selection, Selection) else Selection.from_dict(selection)
    document: dict[str, Any] = _document.cleaned(checked.to_dict())
    candidates = document["candidates"]
    settings = document["settings"]
    shared = settings.get("uniformity")
    shared = shared if shared in ("uniformity", "normalized_uniformity") else "uniformity"
    criteria = settings.get("criteria")
    criteria = criteria if isinstance(criteria, dict) else {}
    labels = {key: str(one.get("label", key)) for key, one in criteria.items() if isinstance(one, dict)}
    chosen = criteria.get(document["criterion"])
    lower = chosen.get("lower_is_better") if isinstance(chosen, dict) else None
    arrow = {True: "↓", False: "↑", None: ""}[lower]
    label = labels.get(document["criterion"], document["criterion"])
    columns = _columns(candidates)
    paired = any("alignment" in one["metrics"] for one in candidates)
    return _page.fill(
        "selection.html",
        {
            "version": __version__,
            "label": label,
            "arrow": arrow,
            "num": _format.count(len(candidates)),
            "best": candidates[0]["name"] or "(no name)",
            "ranked": candidates[0]["rank"] is not None,
            "best_score": _format.number(candidates[0]["score"], 4),
            "tied": [one["name"] for one in candidates[1:] if one["tied_with_best"]],
            "front": [one["name"] for one in candidates if one["front"]],
            "paired": paired,
            "warnings": document["warnings"],
            "notes": document["notes"],
            "columns": [{"label": words, "arrow": sign} for _, words, sign in columns],
            "rows": [_row(one, columns) for one in candidates[:_MOST]],
            "more": max(0, len(candidates) - _MOST),
            "performance": any(one["performance"] is not None for one in candidates),
            "plane": _plane(document, shared),
            "normalized": shared != "uniformity",
            "trajectories": _trajectories(document, columns, f"{label} {arrow}".strip()),
            "quality": _quality(document, labels),
            "relation": _relation(document["relation"]),
            "scores": [
                {
                    "name": labels.get(key, key),
                    "cells": [_format.number(value, 3) for value in values[:_MOST]],
                }
                for key, values in document["scores"].items()
            ],
            "settings": _portrait.provenance(
                {"settings": {key: value for key, value in settings.items() if key != "criteria"}}
            ),
            "made_by": document["spherometer"],
        },
    )


def write_selection(selection: Any, out: Path) -> Path:
    """Write the page of a selection to ``out``: a directory, or a path that ends in ``.html``.

    Raises:
        InputError: as :func:`render_selection`; or ``out`` cannot be written to.
    """
    out = Path(out)
    path = out if out.suffix == ".html" else out / "report.html"
    write_file(path, render_selection(selection).encode("utf-8"))
    return path
