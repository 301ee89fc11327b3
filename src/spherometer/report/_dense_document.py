"""Checks the document of a study of feature maps before it is drawn, and names what it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spherometer.report import _document
from spherometer.report._document import check, check_value, refuse

SCHEMA = "spherometer.study/dense/1"
METRICS = {
    "dense_alignment": "Dense alignment",
    "dense_uniformity": "Dense uniformity",
    "dense_uniformity_within": "Dense uniformity within an image",
    "alignment": "Alignment",
    "uniformity": "Uniformity",
}
TASKS = {"segmentation": "Segmentation", "classification": "Classification"}
KINDS = {"dense": "cells", "instance": "whole images"}
RULES = {
    "geometric": "Geometric: the same place of the image",
    "similarity": "Similarity: the most alike cell",
    "index": "Index: the same number in the map",
    "random": "Random: any cell (control)",
    "instance only": "No dense loss: whole images only",
}
_NUMBER = (int, float)
_MAYBE = type(None)
_TOP: dict[str, _document.Kinds] = {
    "spherometer": str, "study": str, "quick": bool, "seeds": list, "environment": dict, "data": dict,
    "protocol": dict, "configurations": list, "trials": list, "relations": list, "matching": list,
    "correlations": dict, "heat": list, "findings": list,
}  # fmt: skip
_DATA: dict[str, _document.Kinds] = {
    "name": str, "source": str, "num_train": int, "num_held_out": int, "num_test": int, "size": int,
    "grid": list, "num_classes": int,
}  # fmt: skip
_CONFIGURATION: dict[str, _document.Kinds] = {"id": str, "name": str, "loss": str}
_TRIAL: dict[str, _document.Kinds] = {
    "configuration": str, "data": str, "seed": int, "status": str, "message": (str, _MAYBE),
    "metrics": dict, "tasks": dict,
}  # fmt: skip
_RELATION: dict[str, _document.Kinds] = {
    "data": str, "task": str, "metrics": str, "relation": (dict, _MAYBE), "message": (str, _MAYBE),
}  # fmt: skip
_FITTED: dict[str, _document.Kinds] = {
    "num": int, "num_groups": int, "multiple_r": _NUMBER, "adjusted_r2": _NUMBER, "rho": _NUMBER,
    "rho_spearman": _NUMBER, "direction": _NUMBER, "intervals": dict, "p_value": _NUMBER, "warnings": list,
}  # fmt: skip
_MATCHING: dict[str, _document.Kinds] = {
    "data": str, "matching": str, "task": str, "value": _NUMBER, "sd": (int, float, _MAYBE), "seeds": list,
    "interval": (list, _MAYBE),
}  # fmt: skip
_PER_CLASS: dict[str, _document.Kinds] = {"data": str, "name": str, "classes": list, "values": list}
_SPREAD: dict[str, _document.Kinds] = {"dropped": list, "relations": list, "correlations": dict}
_DROPPED: dict[str, _document.Kinds] = {"data": str, "configuration": str, "seed": int}
_HEAT: dict[str, _document.Kinds] = {"image": list, "alignment": list, "name": str}
_FINDING: dict[str, _document.Kinds] = {"claim": str, "verdict": str, "evidence": str}


def checked(given: Any) -> dict[str, Any]:
    """Return a cleaned copy of the document, or raise InputError naming what is missing or wrong."""
    document: dict[str, Any] = _document.cleaned(given)
    check("", document, _TOP)
    for name, data in document["data"].items():
        if not re.fullmatch(r"[a-z0-9_-]{1,40}", name):
            refuse(".data", "have short keys of small letters and digits", repr(name)[:60])
        check(f".data.{name}", data, _DATA)
        if not (data["grid"] and all(type(side) is int for side in data["grid"])):
            refuse(f".data.{name}.grid", "be whole numbers", str(data["grid"])[:60])
    for index, configuration in enumerate(document["configurations"]):
        check(f".configurations[{index}]", configuration, _CONFIGURATION)
    known = {configuration["id"] for configuration in document["configurations"]}
    for index, trial in enumerate(document["trials"]):
        where = f".trials[{index}]"
        check(where, trial, _TRIAL)
        if trial["configuration"] not in known:
            refuse(
                f"{where}.configuration", "be one of the configurations", repr(trial["configuration"])[:60]
            )
        _check_data(where, trial, document)
        for part in ("metrics", "tasks"):
            for name, value in trial[part].items():
                if value is not None:
                    check_value(f"{where}.{part}.{name}", value)
    _check_relations("", document["relations"], document)
    if document.setdefault("spread", {}):
        check(".spread", document["spread"], _SPREAD)
        _check_relations(".spread", document["spread"]["relations"], document)
        for index, row in enumerate(document["spread"]["dropped"]):
            check(f".spread.dropped[{index}]", row, _DROPPED)
        check(
            ".spread.correlations",
            document["spread"]["correlations"],
            dict.fromkeys(document["spread"]["correlations"], (int, float, _MAYBE)),
        )
    for index, row in enumerate(document.setdefault("per_class", [])):
        where = f".per_class[{index}]"
        check(where, row, _PER_CLASS)
        _check_data(where, row, document)
        _check_grid(f"{where}.values", [row["values"]])
        if len(row["classes"]) != len(row["values"]) or not all(isinstance(c, str) for c in row["classes"]):
            refuse(f"{where}.classes", "name every value", str(row["classes"])[:60])
    for index, row in enumerate(document["matching"]):
        where = f".matching[{index}]"
        check(where, row, _MATCHING)
        check_value(where, row)
        _check_data(where, row, document)
        if not all(_is_number(value) for value in row["seeds"]):
            refuse(f"{where}.seeds", "be the numbers of the seeds", str(row["seeds"])[:60])
    for name, pair in document["correlations"].items():
        check(f".correlations.{name}", pair, dict.fromkeys(KINDS, (int, float, _MAYBE)))
    for index, example in enumerate(document["heat"]):
        where = f".heat[{index}]"
        check(where, example, _HEAT)
        _check_grid(f"{where}.alignment", example["alignment"], empty=True)
        rows = example["image"]
        if not all(isinstance(row, list) for row in rows):
            refuse(f"{where}.image", "be rows of pixels", "something else")
        _check_grid(f"{where}.image", [channels for row in rows for channels in row])
        _check_grid(f"{where}.image", [[len(channels) for channels in row] for row in rows])
    for index, finding in enumerate(document["findings"]):
        check(f".findings[{index}]", finding, _FINDING)
    for index, text in enumerate(document.setdefault("caveats", [])):
        if not isinstance(text, str):
            refuse(f".caveats[{index}]", "be a text", type(text).__name__)
    return document


def _check_relations(place: str, rows: list[Any], document: Mapping[str, Any]) -> None:
    for index, relation in enumerate(rows):
        where = f"{place}.relations[{index}]"
        check(where, relation, _RELATION)
        _check_data(where, relation, document)
        if relation["relation"] is not None:
            check(f"{where}.relation", relation["relation"], _FITTED)
            for name, ends in relation["relation"]["intervals"].items():
                _check_ends(f"{where}.relation.intervals.{name}", ends)


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool)


def _check_ends(where: str, ends: Any) -> None:
    if not (isinstance(ends, list) and len(ends) == 2 and all(_is_number(end) for end in ends)):
        refuse(where, "be two numbers", str(ends)[:60])


def _check_data(where: str, row: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    if row["data"] not in document["data"]:
        refuse(f"{where}.data", "be one of the data sets", repr(row["data"])[:60])


def _check_grid(where: str, rows: list[Any], *, empty: bool = False) -> None:
    """Rows of one length with numbers; None for nothing, where that may be."""
    good = bool(rows) and all(isinstance(row, list) and row and len(row) == len(rows[0]) for row in rows)
    if not good or not all(_is_number(v) or (empty and v is None) for row in rows for v in row):
        refuse(where, "be rows of numbers, all of one length", "something else")


def sets(document: Mapping[str, Any]) -> list[str]:
    """Names of the data sets, in the order of the trials (JSON keeps its keys sorted)."""
    seen = [trial["data"] for trial in document["trials"]]
    return list(dict.fromkeys([*seen, *document["data"]]))


def tasks(document: Mapping[str, Any]) -> list[str]:
    """Names of the tasks that any trial or relation has, in reading order."""
    found = {name for trial in document["trials"] for name in trial["tasks"]}
    found |= {row["task"] for part in ("relations", "matching") for row in document[part]}
    return [name for name in TASKS if name in found] + sorted(found - set(TASKS))


def task_label(document: Mapping[str, Any], data: str, task: str) -> str:
    """A task with its score: "Segmentation (mIoU)"."""
    known, score = TASKS.get(task, task), task_score(document, data, task)
    return known if score == "score" else f"{known} ({score})"


def task_score(document: Mapping[str, Any], data: str, task: str) -> str:
    """The score of a task in a few letters: "mIoU", "mAP", "accuracy"."""
    if task == "segmentation":
        return "mIoU"
    score = document["data"][data].get("classification") if task == "classification" else None
    return {"map": "mAP", "accuracy": "accuracy"}.get(str(score), "score")
