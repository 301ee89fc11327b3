"""The page of a study of feature maps: what the numbers of cells foretell, which partners are worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spherometer import plots
from spherometer.report import _format, _page, _table
from spherometer.report._dense_document import (
    KINDS,
    METRICS,
    RULES,
    SCHEMA,
    checked,
    sets,
    task_label,
    task_score,
    tasks,
)
from spherometer.report._dense_tables import NOT_TRAINED, per_class, relations, rule, spread, titled, warnings
from spherometer.stores import write_file

__all__ = ["SCHEMA", "checked", "csv_table", "render_dense", "write_dense"]
_VERDICTS = {"shown": "yes", "not shown": "no"}


def _figures(document: dict[str, Any]) -> dict[str, Figure]:
    drawn: dict[str, Figure] = {}
    rows = _relation_rows(document)
    if any(row.get(kind) for row in rows for kind in KINDS):
        drawn["relations"] = plots.dense_relations(rows, [row["label"] for row in rows])
    for data in sets(document):
        labels = [(task, task_label(document, data, task)) for task in tasks(document)]
        if any(trial["data"] == data and trial["tasks"] for trial in document["trials"]):
            drawn[f"plane-{data}"] = plots.dense_planes(document, data, labels)
    panels = [panel for panel in _panels(document, ":\n") if panel["rows"]]
    if panels:
        drawn["matching"] = plots.dense_matching(panels)
    if document["heat"]:
        drawn["heat"] = plots.dense_heat(document["heat"])
    return drawn


def _relation_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = {(row["data"], row["task"], row["metrics"]): row["relation"] for row in document["relations"]}
    return [
        {
            "label": titled(document, data, task, ":\n"),
            **{kind: found.get((data, task, kind)) for kind in KINDS},
        }
        for data in sets(document)
        for task in tasks(document)
        if any((data, task, kind) in found for kind in KINDS)
    ]


def _panels(document: dict[str, Any], between: str = ": ") -> list[dict[str, Any]]:
    """What each rule of matching gives, one panel for each data set and task."""
    order = list(RULES)
    panels = []
    for data in sets(document):
        for task in tasks(document):
            chosen = [row for row in document["matching"] if (row["data"], row["task"]) == (data, task)]
            chosen.sort(
                key=lambda row: order.index(row["matching"]) if row["matching"] in order else len(order)
            )
            panels.append(
                {
                    "title": titled(document, data, task, between),
                    "score": task_score(document, data, task),
                    "rows": [{**row, "label": rule(row).split(":")[0]} for row in chosen],
                    "without": _without(document, data, task),
                }
            )
    return [panel for panel in panels if panel["rows"] or panel["without"]]


def _without(document: dict[str, Any], data: str, task: str) -> list[dict[str, str]]:
    """What no training gives: untrained, raw pixels, chance."""
    losses = {each["id"]: each["loss"] for each in document["configurations"]}
    rows = []
    for loss, words in NOT_TRAINED.items():
        values = [
            float(trial["tasks"][task]["value"])
            for trial in document["trials"]
            if trial["data"] == data and losses[trial["configuration"]] == loss and trial["tasks"].get(task)
        ]
        if values:
            low, high = _format.percent(min(values)), _format.percent(max(values))
            rows.append({"name": words, "value": low if low == high else f"{low} to {high}"})
    chance = document["data"][data].get("chance")
    value = chance.get(task) if isinstance(chance, Mapping) else chance
    if isinstance(value, (int, float)):
        rows.append({"name": "Without looking at the image", "value": _format.percent(value)})
    return rows


def _matchings(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "title": panel["title"],
            "score": panel["score"],
            "without": panel["without"],
            "rows": [
                {
                    "name": rule(row),
                    "cell": _format.cell(row, share=True),
                    "sd": _format.percent(row["sd"]),
                    "seeds": ", ".join(_format.number(100 * value, 1) for value in row["seeds"]),
                }
                for row in panel["rows"]
            ],
        }
        for panel in _panels(document)
    ]


def _encoders(document: dict[str, Any]) -> list[dict[str, Any]]:
    """A table of all encoders for each data set, the best at the first task first; failed ones last."""
    names = {each["id"]: each["name"] for each in document["configurations"]}
    tables = []
    for data in sets(document):
        known = [
            task
            for task in tasks(document)
            if any(trial["data"] == data and trial["tasks"].get(task) for trial in document["trials"])
        ]
        trials = [trial for trial in document["trials"] if trial["data"] == data]
        if known:
            trials.sort(key=lambda trial: -_value(trial["tasks"].get(known[0]), -1.0))
        tables.append(
            {
                "name": document["data"][data]["name"],
                "tasks": [
                    (task_label(document, data, task), task_score(document, data, task)) for task in known
                ],
                "rows": [
                    {
                        "rank": rank,
                        "name": names[trial["configuration"]],
                        "seed": trial["seed"],
                        "note": "" if trial["status"] == "finished" else trial["message"] or trial["status"],
                        "tasks": [_format.cell(trial["tasks"].get(task), share=True) for task in known],
                        "metrics": [_format.cell(trial["metrics"].get(name)) for name in METRICS],
                    }
                    for rank, trial in enumerate(trials, 1)
                ],
            }
        )
    return [table for table in tables if table["rows"]]


def _value(measured: Any, default: float) -> float:
    return float(measured["value"]) if measured else default


def _correlations(document: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"name": document["data"][data]["name"]}
        | {kind: _format.number(document["correlations"].get(data, {}).get(kind), 2) for kind in KINDS}
        for data in sets(document)
        if data in document["correlations"]
    ]


def _contents(document: dict[str, Any]) -> dict[str, Any]:
    seeds, trials = document["seeds"], document["trials"]
    losses = {each["id"]: each["loss"] for each in document["configurations"]}
    trained = [
        trial
        for trial in trials
        if losses[trial["configuration"]] not in NOT_TRAINED and trial["status"] == "finished"
    ]
    kinds = [losses[trial["configuration"]] for trial in trained]
    words = ["spherometer", "study", "dense", "--data", ",".join(sets(document))]
    words += ["--seeds", str(len(seeds))] + (["--quick"] if document["quick"] else [])
    return {
        "version": document["spherometer"],
        "study": document["study"],
        "quick": document["quick"],
        "seeds": seeds,
        "num_trained": len(trained),
        "num_dense": sum(kind.startswith("dense") for kind in kinds),
        "num_settings": len({trial["configuration"] for trial in trained}),
        "num_failed": sum(trial["status"] == "failed" for trial in trials),
        "findings": [{**row, "look": _VERDICTS.get(row["verdict"], "open")} for row in document["findings"]],
        "relations": relations(document, document["relations"]),
        "spread": spread(document),
        "per_class": per_class(document),
        "warnings": warnings(document),
        "correlations": _correlations(document),
        "matchings": _matchings(document),
        "measures": list(METRICS.values()),
        "encoders": _encoders(document),
        "data": [_data(document["data"][name]) for name in sets(document)],
        "protocol": [(_headed(name), _text(value)) for name, value in sorted(document["protocol"].items())],
        "caveats": document["caveats"],
        "environment": sorted(document["environment"].items()),
        "command": " ".join(words),
    }


def _data(data: Mapping[str, Any]) -> dict[str, str]:
    size, grid = data["size"], " × ".join(str(side) for side in data["grid"])
    counts = ", ".join(
        f"{_format.count(data[name])} {use}"
        for name, use in (("num_train", "to train"), ("num_held_out", "held out"), ("num_test", "to test"))
    )
    return {
        "name": data["name"],
        "text": f"{data['source']}. {counts}; {size} × {size} pixels, maps of {grid} cells, "
        f"{data['num_classes']} classes.",
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


def _render(document: dict[str, Any], vectors: Mapping[str, bytes]) -> str:
    contents = _contents(document)
    images = {name: _page.image(svg) for name, svg in vectors.items()}
    planes = [name for name in images if name.startswith("plane-")]
    contents["figures"] = {name: images.get(name) for name in ("relations", "matching", "heat")}
    contents["planes"] = [
        {"name": document["data"][name.removeprefix("plane-")]["name"], "image": images[name]}
        for name in planes
    ]
    shown = [name for name in ("relations", *planes, "matching", "heat") if name in images]
    contents["figure_numbers"] = _numbered(shown)
    return _page.fill("study_dense.html", contents)


def _numbered(shown: Sequence[str]) -> dict[str, int]:
    """The number of each figure; all planes together are "planes"."""
    found = {name: place for place, name in enumerate(shown, 1)}
    first = [place for name, place in found.items() if name.startswith("plane-")]
    return {"relations": 0, "matching": 0, "heat": 0} | found | {"planes": min(first, default=0)}


def render_dense(document: Any) -> str:
    """The page of a document with schema ``spherometer.study/dense/1``; as ``render``."""
    document = checked(document)
    return _render(document, {name: plots.to_svg(each) for name, each in _figures(document).items()})


def write_dense(document: Any, out: Path) -> Path:
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
    """Every trial with its settings and every number, as CSV."""
    known = {each["id"]: each for each in document["configurations"]}
    settings = sorted({name for each in known.values() for name in each} - {"id"})
    named = tasks(document)
    header = ["configuration", *settings, "data", "seed", "status", "message", "pixel_accuracy"]
    for name in (*METRICS, *named):
        header += [name, f"{name}_low", f"{name}_high"]
    rows = []
    for trial in document["trials"]:
        row = [trial["configuration"]]
        row += [_plain(known[trial["configuration"]].get(name)) for name in settings]
        row += [trial[name] for name in ("data", "seed", "status", "message")]
        row.append((trial["tasks"].get("segmentation") or {}).get("pixel_accuracy"))
        for measured in [
            *(trial["metrics"].get(name) for name in METRICS),
            *(trial["tasks"].get(name) for name in named),
        ]:
            row += (
                [None] * 3 if not measured else [measured["value"], *(measured["interval"] or [None, None])]
            )
        rows.append(row)
    return _table.table(header, rows)


def _plain(value: Any) -> Any:
    return _text(value) if isinstance(value, (Mapping, list)) else value
