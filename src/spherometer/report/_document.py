"""Checks a study document before anything is drawn from it, and cleans its texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, NoReturn

from spherometer.errors import InputError

SCHEMA = "spherometer.study/1"
MAX_TEXT = 1000

_NUMBER = (int, float)
_MAYBE = type(None)
Kinds = type | tuple[type, ...]

_TOP: dict[str, Kinds] = {
    "spherometer": str,
    "study": str,
    "quick": bool,
    "seeds": list,
    "environment": dict,
    "data": dict,
    "protocol": dict,
    "trials": list,
    "headline": str,
    "relation": dict,
    "selection": dict,
    "best": list,
    "sweep": list,
    "trajectories": (dict, _MAYBE),
    "circle": list,
    "baselines": dict,
    "findings": list,
}
_DATA: dict[str, Kinds] = {
    "name": str,
    "source": str,
    "num_train": int,
    "num_validation": int,
    "num_test": int,
    "num_classes": int,
    "chance": _NUMBER,
}
_TRIAL: dict[str, Kinds] = {
    "key": str,
    "name": str,
    "family": str,
    "config": dict,
    "seed": int,
    "status": str,
    "message": (str, _MAYBE),
    "metrics": dict,
    "accuracy": dict,
    "collapsed": bool,
}
_MEASUREMENT: dict[str, Kinds] = {"value": _NUMBER, "interval": (list, _MAYBE)}
_ACCURACY: dict[str, Kinds] = {"validation": _NUMBER, "test": dict}
_BEST: dict[str, Kinds] = {
    "role": str,
    "key": str,
    "name": str,
    "validation": _NUMBER,
    "test": dict,
    "alignment": (dict, _MAYBE),
    "uniformity": (dict, _MAYBE),
}
_SWEEP: dict[str, Kinds] = {
    "align_weight": _NUMBER,
    "uniform_weight": _NUMBER,
    "alignment": _NUMBER,
    "exp_uniformity": _NUMBER,
    "accuracy": _NUMBER,
}
_STEP: dict[str, Kinds] = {"alignment": _NUMBER, "uniformity": _NUMBER, "accuracy": _NUMBER}
_CIRCLE: dict[str, Kinds] = {
    "name": str,
    "points": list,
    "labels": list,
    "distances": list,
    "alignment": _NUMBER,
    "uniformity": _NUMBER,
    "accuracy": _NUMBER,
}
_CRITERION: dict[str, Kinds] = {"label": str, "rank_correlation": (dict, _MAYBE), "regret": (dict, _MAYBE)}
_FINDING: dict[str, Kinds] = {"claim": str, "verdict": str, "evidence": str}


def refuse(where: str, must: str, got: str) -> NoReturn:
    raise InputError(
        f"report: document{where} must {must}, because the page is drawn from it. Got {got}. "
        "Pass a results.json that this version's `spherometer study` wrote."
    )


def _kind(value: Any) -> str:
    return {
        "dict": "an object",
        "list": "a list",
        "str": "a text",
        "bool": "true or false",
        "NoneType": "nothing",
        "int": "a whole number",
        "float": "a number",
    }.get(type(value).__name__, type(value).__name__)


def check(where: str, value: Any, keys: Mapping[str, Kinds]) -> None:
    if not isinstance(value, dict):
        refuse(where, "be an object", _kind(value))
    for key, kinds in keys.items():
        if key not in value:
            refuse(where, f"have the key '{key}'", "no such key")
        one = value[key]
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(one, wanted) or (isinstance(one, bool) and bool not in wanted):
            refuse(f"{where}.{key}", f"be {' or '.join(_kind(_example(k)) for k in wanted)}", _kind(one))


def _example(kind: type) -> Any:
    return None if kind is _MAYBE else kind()


def check_value(where: str, value: Any) -> None:
    """Check a number with an interval."""
    check(where, value, _MEASUREMENT)
    interval = value["interval"]
    if interval is not None and (
        len(interval) != 2 or not all(isinstance(v, _NUMBER) and not isinstance(v, bool) for v in interval)
    ):
        refuse(f"{where}.interval", "be two numbers or nothing", str(interval)[:60])


def check_measurement(where: str, value: Any) -> None:
    """Check one measurement: a value, an interval or none, named baselines."""
    check_value(where, value)
    baseline = value.get("baseline") or {}
    if not isinstance(baseline, dict) or not all(isinstance(v, _NUMBER) for v in baseline.values()):
        refuse(f"{where}.baseline", "be an object of numbers", _kind(baseline))


def _check_trial(where: str, trial: Any) -> None:
    check(where, trial, _TRIAL)
    for name, value in trial["metrics"].items():
        check_measurement(f"{where}.metrics.{name}", value)
    for name, value in trial["accuracy"].items():
        check(f"{where}.accuracy.{name}", value, _ACCURACY)
        check_value(f"{where}.accuracy.{name}.test", value["test"])


def _check_pictures(document: dict[str, Any]) -> None:
    for index, row in enumerate(document["sweep"]):
        check(f".sweep[{index}]", row, _SWEEP)
    if document["trajectories"]:
        part = document["trajectories"]
        check(".trajectories", part, {"start": dict, "paths": dict})
        check(".trajectories.start", part["start"], _STEP)
        for name, path in part["paths"].items():
            if not isinstance(path, list):
                refuse(f".trajectories.paths.{name}", "be a list", _kind(path))
            for index, step in enumerate(path):
                check(f".trajectories.paths.{name}[{index}]", step, _STEP)
    for index, panel in enumerate(document["circle"]):
        check(f".circle[{index}]", panel, _CIRCLE)


def checked(given: Any) -> dict[str, Any]:
    """Return a cleaned copy of a study document, or raise InputError naming what is missing or wrong."""
    if not isinstance(given, dict):
        refuse("", "be an object", _kind(given))
    if given.get("schema") != SCHEMA:
        found = repr(given.get("schema"))[:60] if "schema" in given else "no such key"
        refuse(".schema", f"be '{SCHEMA}'", found)
    document: dict[str, Any] = cleaned(given)
    check("", document, _TOP)
    check(".data", document["data"], _DATA)
    for index, trial in enumerate(document["trials"]):
        _check_trial(f".trials[{index}]", trial)
    for index, row in enumerate(document["best"]):
        check(f".best[{index}]", row, _BEST)
        check_value(f".best[{index}].test", row["test"])
        for name in ("alignment", "uniformity"):
            if row[name] is not None:
                check_measurement(f".best[{index}].{name}", row[name])
    for group, criteria in document["selection"].items():
        if not isinstance(criteria, dict):
            refuse(f".selection.{group}", "be an object", _kind(criteria))
        if "refused" not in criteria:
            for name, row in criteria.items():
                check(f".selection.{group}.{name}", row, _CRITERION)
    for name, sets in document["relation"].items():
        if not isinstance(sets, dict):
            refuse(f".relation.{name}", "be an object", _kind(sets))
        for group, relation in sets.items():
            if not isinstance(relation, dict) and group != "refused":
                refuse(f".relation.{name}.{group}", "be an object", _kind(relation))
    for index, finding in enumerate(document["findings"]):
        check(f".findings[{index}]", finding, _FINDING)
    _check_pictures(document)
    return document


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    """One line without control, direction-changing or unpaired characters, at most ``limit`` long."""
    line = " ".join(text[: 4 * limit].split())
    line = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def cleaned(value: Any) -> Any:
    """Return a deep copy with every text (and every key) cleaned."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): cleaned(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(one) for one in value]
    return value
