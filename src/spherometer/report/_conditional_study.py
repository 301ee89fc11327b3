"""The page of a study of meta-data: what was found, the whole bandwidth curve, what each arm is worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spherometer import plots
from spherometer.report import _document, _format, _page, _table
from spherometer.report._document import check, check_value, refuse
from spherometer.stores import write_file

SCHEMA = "spherometer.study/conditional/1"
_PANELS = 3  # scores that the figure shows: the first ones
_VERDICTS = {"shown": "yes", "not shown": "no"}
_NUMBER = (int, float)
_MAYBE = type(None)
_TOP: dict[str, _document.Kinds] = {
    "spherometer": str, "study": str, "title": str, "lead": list, "quick": bool, "seeds": list,
    "environment": dict, "data": dict, "protocol": dict, "scores": list, "measures": list, "chosen_by": str,
    "bandwidth": str, "arms": list, "curves": list, "trade": (list, _MAYBE), "trials": list, "caveats": list,
    "findings": list,
}  # fmt: skip
_SCORE: dict[str, _document.Kinds] = {"name": str, "label": str, "kind": str}
_ARM: dict[str, _document.Kinds] = {
    "arm": str, "name": str, "conditioned": bool, "bandwidths": list, "num_candidates": int,
    "num_failed": int, "scores": dict, "validation": dict, "metrics": dict,
}  # fmt: skip
_CURVE: dict[str, _document.Kinds] = {"arm": str, "name": str, "points": list}
_POINT: dict[str, _document.Kinds] = {
    "bandwidth": _NUMBER, "num_chosen": int, "scores": dict, "validation": dict, "metrics": dict,
}  # fmt: skip
_TRIAL: dict[str, _document.Kinds] = {
    "key": str, "name": str, "arm": str, "bandwidth": (int, float, _MAYBE), "seed": int, "status": str,
    "message": (str, _MAYBE), "metrics": dict, "scores": dict,
}  # fmt: skip
_FINDING: dict[str, _document.Kinds] = {"claim": str, "verdict": str, "evidence": str}
_TESTED: dict[str, _document.Kinds] = {"validation": _NUMBER, "test": dict}


def checked(given: Any) -> dict[str, Any]:
    """Return a cleaned copy of the document, or raise InputError naming what is missing or wrong."""
    document: dict[str, Any] = _document.cleaned(given)
    check("", document, _TOP)
    check(".data", document["data"], {"name": str, "source": str})
    for index, score in enumerate(document["scores"]):
        check(f".scores[{index}]", score, _SCORE)
    for index, measure in enumerate(document["measures"]):
        check(f".measures[{index}]", measure, {"name": str, "label": str})
    known = {score["name"] for score in document["scores"]}
    if document["chosen_by"] not in known:
        refuse(".chosen_by", "be one of the scores", repr(document["chosen_by"])[:60])
    if document["trade"] is not None and (
        len(document["trade"]) != 2 or not set(map(str, document["trade"])) <= known
    ):
        refuse(".trade", "be two of the scores", repr(document["trade"])[:60])
    for index, arm in enumerate(document["arms"]):
        check(f".arms[{index}]", arm, _ARM)
        _check_averages(f".arms[{index}]", arm)
    for index, curve in enumerate(document["curves"]):
        check(f".curves[{index}]", curve, _CURVE)
        for place, point in enumerate(curve["points"]):
            where = f".curves[{index}].points[{place}]"
            check(where, point, _POINT)
            if point["bandwidth"] <= 0:
                refuse(f"{where}.bandwidth", "be above 0", str(point["bandwidth"]))
            _check_averages(where, point)
    for index, trial in enumerate(document["trials"]):
        check(f".trials[{index}]", trial, _TRIAL)
        for name, value in trial["scores"].items():
            check(f".trials[{index}].scores.{name}", value, _TESTED)
            check_value(f".trials[{index}].scores.{name}.test", value["test"])
    for index, finding in enumerate(document["findings"]):
        check(f".findings[{index}]", finding, _FINDING)
    return document


def _check_averages(where: str, row: Mapping[str, Any]) -> None:
    for part in ("scores", "validation", "metrics"):
        for name, value in row[part].items():
            check_value(f"{where}.{part}.{name}", value)


def _figures(document: dict[str, Any]) -> dict[str, Figure]:
    shown = _first_scores(document)
    drawn = {}
    if any(curve["points"] for curve in document["curves"]):
        drawn["bandwidths"] = plots.bandwidth_scores(document, shown)
    if document["trade"] is not None:
        drawn["trade"] = plots.trade(document)
    return drawn


def _first_scores(document: dict[str, Any]) -> list[str]:
    return [score["name"] for score in document["scores"]][:_PANELS]


def _measures(document: dict[str, Any]) -> list[str]:
    return [each["name"] for each in document["measures"]]


def _cells(document: dict[str, Any], row: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        _format.cell(row["scores"].get(score["name"]), share=score["kind"] == "accuracy")
        for score in document["scores"]
    ]


def _arms(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the main table."""
    return [
        {
            "name": arm["name"],
            "note": f"{arm['num_failed']} failed" if arm["num_failed"] else "",
            "bandwidths": _chosen(arm["bandwidths"]),
            "cells": _cells(document, arm),
            "metrics": [_format.cell(arm["metrics"].get(name)) for name in _measures(document)],
        }
        for arm in document["arms"]
    ]


def _chosen(bandwidths: list[Any]) -> str:
    """How often each bandwidth was chosen: "0.5 (4), 1 (1)"."""
    counts = {width: bandwidths.count(width) for width in sorted(set(bandwidths))}
    if len(counts) == 1:
        return f"{next(iter(counts)):g}"
    return ", ".join(f"{width:g} ({num})" for width, num in counts.items()) or _format.DASH


def _curves(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": curve["name"],
            "rows": [
                {
                    "bandwidth": f"{point['bandwidth']:g}",
                    "chosen": point["num_chosen"],
                    "cells": _cells(document, point),
                    "validation": _validation(document, point),
                    "metrics": [_format.cell(point["metrics"].get(name)) for name in _measures(document)],
                }
                for point in curve["points"]
            ],
        }
        for curve in document["curves"]
    ]


def _validation(document: dict[str, Any], point: Mapping[str, Any]) -> str:
    by = next(score for score in document["scores"] if score["name"] == document["chosen_by"])
    value = (point["validation"].get(by["name"]) or {}).get("value")
    return _format.percent(value) if by["kind"] == "accuracy" else _format.number(value)


def _contents(document: dict[str, Any]) -> dict[str, Any]:
    seeds, data = document["seeds"], document["data"]
    words = ["spherometer", "study", document["study"]]
    words += ["--out", f"runs/{document['study'].replace(' --metadata ', '-')}", "--seeds", str(len(seeds))]
    if document["quick"]:
        words.append("--quick")
    labels = {score["name"]: score["label"] for score in document["scores"]}
    told = ("name", "source", "num_train", "num_validation", "num_test")
    return {
        "version": document["spherometer"],
        "study": document["study"],
        "title": document["title"],
        "lead": document["lead"],
        "quick": document["quick"],
        "seeds": seeds,
        "bandwidth": document["bandwidth"],
        "chosen_by": labels[document["chosen_by"]],
        "scores": document["scores"],
        "measures": [each["label"] for each in document["measures"]],
        "findings": [{**row, "look": _VERDICTS.get(row["verdict"], "open")} for row in document["findings"]],
        "arms": _arms(document),
        "curves": _curves(document),
        "trade": None if document["trade"] is None else [labels[name] for name in document["trade"]],
        "num_failed": sum(trial["status"] == "failed" for trial in document["trials"]),
        "num_trials": len(document["trials"]),
        "data": data,
        "parts": ", ".join(
            f"{_format.count(data[name])} {use}"
            for name, use in zip(told[2:], ("to train", "to choose by", "to test"), strict=True)
            if name in data
        ),
        "more_data": [
            (_headed(name), _text(value)) for name, value in sorted(data.items()) if name not in told
        ],
        "protocol": [(_headed(name), _text(value)) for name, value in sorted(document["protocol"].items())],
        "caveats": document["caveats"],
        "environment": sorted(document["environment"].items()),
        "command": " ".join(words),
    }


def _headed(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _text(value: Any) -> str:
    """A plain value in words."""
    if isinstance(value, bool) or value is None:
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _render(document: dict[str, Any], vectors: dict[str, bytes]) -> str:
    contents = _contents(document)
    figures = {name: _page.image(svg) for name, svg in vectors.items()}
    contents["figures"] = {"bandwidths": None, "trade": None} | figures
    return _page.fill("study_conditional.html", contents)


def render_conditional(document: Any) -> str:
    """The page of a document with schema ``spherometer.study/conditional/1``; as ``render``."""
    document = checked(document)
    return _render(document, {name: plots.to_svg(each) for name, each in _figures(document).items()})


def write_conditional(document: Any, out: Path) -> Path:
    """Write ``report.html``, ``trials.csv`` and ``figures/`` into ``out``; as ``write_study``."""
    document = checked(document)
    figures = _figures(document)
    vectors = {name: plots.to_svg(figure) for name, figure in figures.items()}
    page = _render(document, vectors).encode("utf-8")
    files = {out / "trials.csv": csv_table(document)}
    for name, figure in figures.items():
        files[out / "figures" / f"{name}.svg"] = vectors[name]
        files[out / "figures" / f"{name}.png"] = plots.to_png(figure)
    for path, content in files.items():
        write_file(path, content)
    write_file(out / "report.html", page)
    return out / "report.html"


def csv_table(document: dict[str, Any]) -> bytes:
    """Every trial with every number, as CSV."""
    trials = document["trials"]
    metrics = _measures(document)
    scores = sorted({name for trial in trials for name in trial["scores"]})
    plain = ["key", "name", "arm", "bandwidth", "seed", "status", "message"]
    header = plain + metrics
    for name in scores:
        header += [f"{name}_validation", f"{name}_test", f"{name}_test_low", f"{name}_test_high"]
    rows = []
    for trial in trials:
        row = [trial[name] for name in plain] + [trial["metrics"].get(name) for name in metrics]
        for name in scores:
            found = trial["scores"].get(name)
            if found is None:
                row += [None] * 4
            else:
                test = found["test"]
                row += [found["validation"], test["value"], *(test["interval"] or [None, None])]
        rows.append(row)
    return _table.table(header, rows)
