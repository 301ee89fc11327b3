"""The page of a comparison: which of two sets of features is better, by how much, and whether one drifted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spherometer import plots
from spherometer._version import __version__
from spherometer.report import _document, _evaluations, _format, _page, _portrait
from spherometer.stores import write_file

SCHEMA = "spherometer.comparison/1"
_BADGES = {"better": "yes", "worse": "no", "mixed": "open", "not distinguishable": "open"}
_ARROWS = {"lower": "↓", "higher": "↑"}
_MOST = 50  # rows of a table of classes
_TOP: dict[str, _document.Kinds] = {
    "spherometer": str,
    "names": list,
    "paired": bool,
    "num": list,
    "dims": list,
    "metrics": dict,
    "overall": dict,
    "drift": (dict, type(None)),
    "evaluations": list,
    "notes": list,
    "settings": dict,
}
_METRIC: dict[str, _document.Kinds] = {
    "label": str,
    "values": list,
    "intervals": list,
    "difference": (int, float),
    "interval": (list, type(None)),
    "method": str,
}


def _checked(given: Any) -> dict[str, Any]:
    """A cleaned copy of a comparison's document, or InputError naming what is wrong."""
    document: dict[str, Any] = _document.cleaned(given)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        _document.refuse(".schema", f"be '{SCHEMA}'", repr(found)[:60])
    _document.check("", document, _TOP)
    for name in ("names", "num", "dims", "evaluations"):
        if len(document[name]) != 2:
            _document.refuse(f".{name}", "have two entries", f"{len(document[name])}")
    for key, one in document["metrics"].items():
        _document.check(f".metrics.{key}", one, _METRIC)
    _document.check(".overall", document["overall"], {"verdict": str, "words": str})
    return document


def _metric(one: Mapping[str, Any]) -> dict[str, Any]:
    cells = [
        _format.cell({"value": value, "interval": interval}, 4)
        for value, interval in zip(one["values"], one["intervals"], strict=True)
    ]
    verdict = one.get("verdict")
    return {
        "label": one["label"],
        "arrow": _ARROWS.get(one.get("better") or "", ""),
        "cells": cells,
        "difference": _format.cell({"value": one["difference"], "interval": one["interval"]}, 4),
        "p": _p(one.get("p_value")),
        "p_holm": _p(one.get("p_holm")),
        "verdict": verdict or "",
        "badge": _BADGES.get(verdict or "", "open"),
        "method": one["method"],
        "normalized": bool(one.get("normalized")),
    }


def _p(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return _format.DASH
    return "< 0.001" if value < 0.001 else _format.number(value)


def _drift(drift: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if drift is None:
        return None
    mmd, overlap, cka = (drift.get(name) for name in ("mmd", "neighbor_overlap", "cka"))
    classes = drift.get("classes") or []
    return {
        "mmd": mmd
        and {
            "value": f"{mmd['value']:.3g}".replace("-", "\N{MINUS SIGN}"),
            "null": f"{mmd['null_mean']:.3g}".replace("-", "\N{MINUS SIGN}"),
            "p": _p(mmd["p_value"]),
            "permutations": _format.count(mmd["num_permutations"]),
            "num": _counts(mmd.get("num")),
            "verdict": mmd["verdict"],
            "badge": "no" if mmd["verdict"] == "drift" else "open",
        },
        "num_shifted": _format.count(drift.get("num_shifted")),
        "dimensions": [
            {
                "name": f"{one['dimension']}",
                "shift": _format.number(one["shift"]),
                "p": _p(one.get("p_holm")),
            }
            for one in drift.get("dimensions") or []
        ],
        "more": max(0, len(classes) - _MOST),
        "classes": [
            {
                "name": str(one["label"]),
                "num": [_format.count(num) for num in one["num"]],
                "shift": _format.number(one["shift"]),
                "p": _p(one.get("p_holm")),
            }
            for one in classes[:_MOST]
        ],
        "overlap": overlap
        and {
            "cell": _format.cell(overlap, 3),
            "baseline": _format.number(overlap.get("baseline")),
            "k": _format.count(overlap.get("k")),
        },
        "cka": cka
        and [
            ("debiased" if name == "value" else name, _format.number(value))
            for name, value in cka.items()
            if _is_number(value)
        ],
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _counts(num: Any) -> str:
    if isinstance(num, list):
        return " and ".join(_format.count(one) for one in num)
    return _format.count(num)


def render_comparison(comparison: Any) -> str:
    """Return the page of a comparison.

    Args:
        comparison: what ``spherometer.compare`` returned, or its ``to_dict()``.

    Returns:
        One self-contained page: no script, nothing fetched, the same text for the same comparison.

    Raises:
        InputError: it is no comparison.
    """
    document = _checked(comparison.to_dict() if hasattr(comparison, "to_dict") else comparison)
    names = [name or "(no name)" for name in map(str, document["names"])]
    if names[0] == names[1]:
        names = [f"{names[0]} ({letter})" for letter in "AB"]
    evaluations = [one for one in document["evaluations"] if isinstance(one, dict)]
    metrics = document["metrics"]
    told = [one for one in metrics.values() if one.get("verdict") is not None]
    standing = None
    if len(evaluations) == 2:
        standing = _portrait.standing(
            [(name, one["metrics"]) for name, one in zip(names, evaluations, strict=True)]
        )
    drawn = any(one["interval"] is not None and one.get("better") for one in metrics.values())
    overall, aligned = document["overall"], "alignment" in metrics
    return _page.fill(
        "comparison.html",
        {
            "version": __version__,
            "names": names,
            "paired": document["paired"],
            "num": [_format.count(num) for num in document["num"]],
            "num_shared": _format.count(document.get("num_shared")) if document.get("num_shared") else None,
            "dims": [_format.count(dim) for dim in document["dims"]],
            "overall": {**overall, "badge": _BADGES.get(overall["verdict"], "open") if aligned else "open"},
            "aligned": aligned,
            "counts": {
                verdict: [one["label"] for one in told if one["verdict"] == verdict]
                for verdict in ("better", "worse", "not distinguishable")
            },
            "standing": standing,
            "differences": _page.image(plots.to_svg(plots.comparison_differences(metrics)))
            if drawn
            else None,
            "rows": [_metric(one) for one in metrics.values()],
            "drift": _drift(document["drift"]),
            "sections": [
                _evaluations.plain_section(index, name, one)
                for index, (name, one) in enumerate(zip(names, evaluations, strict=False), 1)
            ],
            "notes": document["notes"],
            "settings": _portrait.provenance({"settings": document["settings"]}),
            "made_by": document["spherometer"],
        },
    )


def write_comparison(comparison: Any, out: Path) -> Path:
    """Write the page of a comparison to ``out``: a directory, or a path that ends in ``.html``.

    Raises:
        InputError: as :func:`render_comparison`; or ``out`` cannot be written to.
    """
    out = Path(out)
    path = out if out.suffix == ".html" else out / "report.html"
    write_file(path, render_comparison(comparison).encode("utf-8"))
    return path
