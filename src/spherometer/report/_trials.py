"""All encoders of a study as a table: on the page, and as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from spherometer.report import _format, _table, _words

_ARROWS = {"lower": "↓", "higher": "↑"}
_DIGITS = {
    "alignment": 3,
    "uniformity": 3,
    "normalized_uniformity": 3,
    "effective_rank": 1,
    "rankme": 1,
    "lidar": 1,
}


def _order(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Best first by validation accuracy; failed ones last; ties in the document's order."""
    headline = document["headline"]

    def rank(trial: dict[str, Any]) -> float:
        accuracy = trial["accuracy"].get(headline)
        return -float(accuracy["validation"]) if accuracy else math.inf

    return sorted(document["trials"], key=rank)


def _seen(trials: Sequence[dict[str, Any]], part: str, known: Sequence[str]) -> list[str]:
    found = {name for trial in trials for name in trial[part]}
    return [name for name in known if name in found] + sorted(found - set(known))


def measures(trials: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the measures that any trial has, in reading order."""
    return _seen(trials, "metrics", list(_words.MEASURES))


def page_table(document: dict[str, Any]) -> dict[str, Any]:
    """Header and rows for the page."""
    trials = _order(document)
    metrics = measures(trials)
    accuracies = _seen(trials, "accuracy", list(_words.ACCURACIES))
    headline, few = document["headline"], document["protocol"].get("few_labels", "few")
    words = _words.words_of(document["study"])
    others = [name for name in accuracies if name != headline]
    rows = []
    for rank, trial in enumerate(trials, 1):
        tests = {name: one["test"] for name, one in trial["accuracy"].items()}
        validation = trial["accuracy"].get(headline, {}).get("validation")
        cells = [_format.cell(tests.get(headline), share=True)]
        cells.append({"value": _format.percent(validation), "interval": ""})
        cells += [_format.cell(trial["metrics"].get(name), _DIGITS.get(name, 3)) for name in metrics]
        cells += [_format.cell(tests.get(name), share=True) for name in others]
        failed = trial["status"] != "finished"
        rows.append(
            {
                "rank": rank,
                "name": trial["name"],
                "family": _words.FAMILIES.get(trial["family"], trial["family"]),
                "seed": trial["seed"],
                "note": (trial["message"] or "failed")
                if failed
                else "collapsed"
                if trial["collapsed"]
                else "",
                "quiet": failed or trial["collapsed"],
                "cells": cells,
            }
        )
    heads = [
        {"name": "test", "arrow": "↑", "long": f"Accuracy on test {words.noun}"},
        {
            "name": "validation",
            "arrow": "↑",
            "long": f"Accuracy on validation {words.noun}: the order of the rows",
        },
    ]
    for name in metrics:
        label, better, meaning, _ = words.measures.get(name, (name, "", name, ""))
        heads.append({"name": label, "arrow": _ARROWS.get(better, ""), "long": meaning})
    for name in others:
        long, short = _words.accuracy(name, few)
        heads.append({"name": short, "arrow": "↑", "long": f"{long}: accuracy on test {words.noun}"})
    groups = [
        (_words.accuracy(headline, few)[0], 2),
        ("Measured without labels", len(metrics)),
        (f"Other accuracies on test {words.noun}", len(others)),
    ]
    return {"heads": heads, "rows": rows, "groups": [group for group in groups if group[1]]}


def csv_table(document: dict[str, Any]) -> bytes:
    """Every trial with every number, as CSV."""
    trials = _order(document)
    metrics = measures(trials)
    accuracies = _seen(trials, "accuracy", list(_words.ACCURACIES))
    settings = sorted({name for trial in trials for name in trial["config"]})
    header = ["key", "name", "family", "seed", "status", "message", "collapsed", "info_nce"]
    header += [f"config.{name}" for name in settings]
    for name in metrics:
        header += [name, f"{name}_low", f"{name}_high"]
    for name in accuracies:
        header += [f"{name}_validation", f"{name}_test", f"{name}_test_low", f"{name}_test_high"]
    rows = []
    for trial in trials:
        row = [trial.get(name) for name in header[:8]]
        row += [trial["config"].get(name) for name in settings]
        for name in metrics:
            row += _ends(trial["metrics"].get(name))
        for name in accuracies:
            accuracy = trial["accuracy"].get(name) or {}
            row += [accuracy.get("validation"), *_ends(accuracy.get("test"))]
        rows.append(row)
    return _table.table(header, rows)


def _ends(measurement: dict[str, Any] | None) -> list[Any]:
    if not measurement:
        return [None, None, None]
    return [measurement["value"], *(measurement["interval"] or [None, None])]
