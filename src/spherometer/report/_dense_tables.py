"""Tables of the page of a study of feature maps, as rows of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spherometer.report import _format
from spherometer.report._dense_document import KINDS, RULES, sets, task_label, tasks

NOT_TRAINED = {"untrained": "An encoder that was never trained", "raw": "No encoder: raw pixels"}


def titled(document: dict[str, Any], data: str, task: str, between: str = ": ") -> str:
    """The task, and the data set where there are several."""
    label = task_label(document, data, task)
    return label if len(document["data"]) == 1 else f"{document['data'][data]['name']}{between}{label}"


def relations(document: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table of relations: data set x task x (cells | whole images)."""
    order = sets(document), tasks(document), list(KINDS)
    places = [{name: place for place, name in enumerate(names)} for names in order]

    def place(row: Mapping[str, Any]) -> list[int]:
        keys = (row["data"], row["task"], row["metrics"])
        return [known.get(key, len(known)) for known, key in zip(places, keys, strict=True)]

    return [_relation(document, row) for row in sorted(rows, key=place)]


def _relation(document: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "task": titled(document, row["data"], row["task"]),
        "numbers": KINDS.get(row["metrics"], row["metrics"]),
        "refused": None,
    }
    one = row["relation"]
    if one is None:
        return shown | {"refused": row["message"] or "No reason was recorded."}
    ends = one["intervals"]

    def cell(name: str, digits: int = 2) -> dict[str, str]:
        interval = ends.get(name)
        rounded = None if interval is None else [round(end, digits) for end in interval]
        return _format.cell({"value": _rounded(one.get(name), digits), "interval": rounded}, digits)

    turned = cell("direction", 0)
    if turned["value"] != _format.DASH:
        turned["value"] += "°"
    plain = ("adjusted_r2", "rho_spearman", "partial_align", "partial_uniform", "r_between")
    return shown | {
        "num": _counted(one["num"], one["num_groups"]),
        "multiple_r": cell("multiple_r"),
        "rho": cell("rho"),
        "direction": turned,
        "p_value": "< 0.001" if one["p_value"] < 0.001 else _format.number(one["p_value"], 3),
        **{name: _format.number(_rounded(one.get(name), 2), 2) for name in plain},
    }


def _counted(num: int, num_groups: int) -> str:
    words = f"{_format.count(num)} encoders"
    return words if num == num_groups else f"{words} of {_format.count(num_groups)} settings"


def warnings(document: dict[str, Any]) -> list[dict[str, str]]:
    """What relations warn of, each text once with the rows it belongs to."""
    rows: dict[str, list[str]] = {}
    for row in document["relations"]:
        for text in (row["relation"] or {}).get("warnings", ()):
            numbers = KINDS.get(row["metrics"], row["metrics"])
            rows.setdefault(str(text), []).append(f"{titled(document, row['data'], row['task'])}, {numbers}")
    return [{"text": text, "rows": "; ".join(where)} for text, where in rows.items()]


def _rounded(value: Any, digits: int) -> Any:
    """Correlations near 0 are 0.00, not a power of ten."""
    return round(value, digits) if isinstance(value, float) else value


def spread(document: dict[str, Any]) -> dict[str, Any]:
    """The relations of cells without encoders whose cells lie at one point; {} where there are none."""
    again = document["spread"]
    if not again:
        return {}
    names = {each["id"]: each["name"] for each in document["configurations"]}
    dropped: dict[str, list[str]] = {}
    for row in again["dropped"]:
        name = names.get(row["configuration"], row["configuration"])
        several = [each for each in again["dropped"] if each["configuration"] == row["configuration"]]
        seed = f", seed {row['seed']}" if len({each["seed"] for each in several}) > 1 else ""
        dropped.setdefault(document["data"].get(row["data"], {}).get("name", row["data"]), []).append(
            name + seed
        )
    return {
        "dropped": [{"name": name, "encoders": "; ".join(each)} for name, each in dropped.items()],
        "relations": relations(document, again["relations"]),
        "correlations": [
            {"name": document["data"][data]["name"], "value": _format.number(_rounded(value, 2), 2)}
            for data, value in again["correlations"].items()
            if data in document["data"]
        ],
    }


def rule(row: Mapping[str, Any]) -> str:
    return RULES.get(row["matching"], str(row["matching"]))


def per_class(document: dict[str, Any]) -> list[dict[str, Any]]:
    """IoU of every class, one table for each data set."""
    tables = []
    for data in sets(document):
        rows = [row for row in document["per_class"] if row["data"] == data]
        classes = list(dict.fromkeys(name for row in rows for name in row["classes"]))
        shown = []
        for row in rows:
            values = dict(zip(row["classes"], row["values"], strict=True))
            name = NOT_TRAINED.get(row["name"], RULES.get(row["name"], row["name"]))
            known = row["name"] in NOT_TRAINED
            cells = [_format.number(100 * values[each], 1) if each in values else "–" for each in classes]
            shown.append({"name": name.split(":")[0], "cells": cells, "quiet": known})
        if shown:
            tables.append({"name": document["data"][data]["name"], "classes": classes, "rows": shown})
    return tables
