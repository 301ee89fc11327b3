"""The page of a study: what was done, what was found, what each number means."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spherometer import plots
from spherometer.report import (
    _conditional_study,
    _dense_study,
    _density_study,
    _document,
    _format,
    _page,
    _trials,
    _words,
)
from spherometer.stores import write_file

_FIGURES = ("plane", "sweep", "trajectories", "circle", "selection")
_VERDICTS = {"shown": "yes", "not shown": "no"}


def _figures(document: dict[str, Any]) -> dict[str, Figure]:
    words = _words.words_of(document["study"])
    drawn = {
        "plane": plots.plane(
            document["trials"],
            headline=document["headline"],
            baselines=document["baselines"],
            best=document["best"],
            pair=words.pair,
            noun=words.noun,
        )
    }
    if document["sweep"]:
        drawn["sweep"] = plots.sweep(document["sweep"], chance=document["data"]["chance"], noun=words.noun)
    if document["trajectories"]:
        drawn["trajectories"] = plots.trajectories(document["trajectories"])
    if document["circle"]:
        drawn["circle"] = plots.circle(document["circle"])
    chosen = _selection_group(document)
    if chosen is not None:
        drawn["selection"] = plots.selection(dict(_ordered(document["selection"][chosen], _words.CRITERIA)))
    return drawn


def _selection_group(document: dict[str, Any]) -> str | None:
    """Which set the figure shows: the encoders that did not collapse, where that is defined."""
    for group in ("non_collapsed", "all"):
        criteria = document["selection"].get(group)
        if criteria and "refused" not in criteria:
            return group
    return None


def _ordered(parts: dict[str, Any], known: Iterable[str]) -> list[tuple[str, Any]]:
    """Items in reading order, unknown ones last (JSON keeps its keys sorted)."""
    order = list(known)
    return sorted(parts.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _relations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One table of relations for each accuracy, the headline first."""
    few = document["protocol"].get("few_labels", "few")
    tables = []
    for name, sets in _ordered(document["relation"], [document["headline"], *_words.ACCURACIES]):
        if "refused" in sets:
            sets = {"all": sets}
        rows = [_relation(group, one) for group, one in _ordered(sets, _words.SETS)]
        tables.append({"accuracy": _words.accuracy(name, few)[0], "rows": rows})
    return tables


def _relation(group: str, one: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"set": _words.SETS.get(group, group), "refused": one.get("refused")}
    if row["refused"] is not None:
        return row
    ends = one.get("intervals") or {}

    def cell(name: str) -> dict[str, str]:
        return _format.cell({"value": one.get(name), "interval": ends.get(name)}, 2)

    row |= {name: cell(name) for name in ("multiple_r", "rho")}
    plain = ("adjusted_r2", "rho_spearman", "partial_align", "partial_uniform")
    row |= {name: _format.number(one.get(name), 2) for name in plain}
    return row | {
        "num": _format.count(one.get("num_groups", one.get("num"))),
        "direction": _degrees(one.get("direction"), ends.get("direction")),
        "p_value": _p_value(one.get("p_value")),
        "warnings": one.get("warnings") or [],
    }


def _degrees(value: Any, ends: Any) -> dict[str, str]:
    cell = _format.cell({"value": value, "interval": ends}, 0)
    return cell if cell["value"] == _format.DASH else {**cell, "value": f"{cell['value']}°"}


def _p_value(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return _format.DASH
    return "< 0.001" if value < 0.001 else _format.number(value, 3)


def _selections(document: dict[str, Any], num_collapsed: int) -> list[dict[str, Any]]:
    """One table for each set of encoders; the set of the figure first."""
    tables = []
    for group, criteria in _ordered(document["selection"], ["non_collapsed", "all"]):
        same = group == "all" and num_collapsed == 0 and len(document["selection"]) > 1
        if not criteria or same:
            continue
        refused = criteria.get("refused")
        rows = [] if refused is not None else _ordered(criteria, _words.CRITERIA)
        tables.append(
            {
                "set": _words.SETS["all" if group == "non_collapsed" and num_collapsed == 0 else group]
                if group in _words.SETS
                else group,
                "refused": refused,
                "rows": [
                    {
                        "label": row["label"],
                        "correlation": _format.cell(row["rank_correlation"], 2),
                        "regret": _format.cell(row["regret"], share=True, unit=False),
                        "picked": row.get("picked_name") or _format.DASH,
                    }
                    for _, row in rows
                ],
            }
        )
    return tables


def _best(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "role": row["role"],
            "of": row.get("num_candidates") or 0,
            "name": row["name"],
            "validation": _format.percent(row["validation"]),
            "test": _format.cell(row["test"], share=True),
            "alignment": _format.cell(row["alignment"]),
            "uniformity": _format.cell(row["uniformity"]),
        }
        for row in document["best"]
    ]


def _protocol(document: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, value in document["protocol"].items():
        if isinstance(value, bool) or value is None:
            text = "yes" if value else "no"
        elif isinstance(value, (dict, list)):
            continue_ = value.items() if isinstance(value, dict) else enumerate(value)
            text = ", ".join(str(v) if isinstance(value, list) else f"{k}: {v}" for k, v in continue_)
        else:
            text = str(value)
        rows.append((key.replace("_", " ").capitalize(), text))
    return rows


def _ceiling(trials: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What a linear probe with all labels reads from encoders that learned nothing."""
    words = {"untrained": "an encoder that was never trained", "raw_pixels": "the raw pixels"}
    return [
        (words[trial["family"]], _format.percent(trial["accuracy"]["linear_output"]["test"]["value"]))
        for trial in trials
        if trial["family"] in words and "linear_output" in trial["accuracy"]
    ][:2]


def _contents(document: dict[str, Any]) -> dict[str, Any]:
    trials = document["trials"]
    finished = [t for t in trials if t["status"] == "finished"]
    trained = [t for t in finished if t["family"] not in ("untrained", "raw_pixels", "tf_idf", "minilm")]
    baselines = document["baselines"]
    roles = {row["role"]: row for row in document["best"]}
    seeds = document["seeds"]
    speech = _words.words_of(document["study"])
    words = ["spherometer", "study", document["study"], "--out", f"runs/{document['study']}"]
    if document["quick"]:
        words.append("--quick")
    if len(seeds) > 1:
        words += ["--seeds", str(len(seeds))]
    few = document["protocol"].get("few_labels", "few")
    num_collapsed = sum(t["collapsed"] for t in finished)
    return {
        "version": document["spherometer"],
        "study": document["study"],
        "quick": document["quick"],
        "data": document["data"],
        "headline": _words.accuracy(document["headline"], few)[0],
        "num_trained": len(trained),
        "num_configurations": len({t["name"] for t in trained}),
        "num_failed": sum(t["status"] == "failed" for t in trials),
        "num_collapsed": num_collapsed,
        "seeds": seeds,
        "measured_on": document["protocol"].get("measured_on", "held-out images"),
        "baselines": baselines,
        "raw": roles.get("Raw pixels"),
        "untrained": roles.get("Untrained encoder"),
        "counted": roles.get("Words counted (TF-IDF)"),
        "pretrained": roles.get("Pretrained all-MiniLM-L6-v2"),
        "ceiling": _ceiling(finished),
        "findings": [{**row, "look": _VERDICTS.get(row["verdict"], "open")} for row in document["findings"]],
        "best": _best(document),
        "relations": _relations(document),
        "selections": _selections(document, num_collapsed),
        "selection_set": _words.SETS.get((_selection_group(document) or "") if num_collapsed else "all", ""),
        "trajectories": document["trajectories"],
        "measures": [speech.measures[k] for k in _trials.measures(trials) if k in speech.measures],
        "table": _trials.page_table(document),
        "protocol": _protocol(document),
        "environment": sorted(document["environment"].items()),
        "glossary": speech.glossary,
        "noun": speech.noun,
        "pair": speech.pair,
        "collapse": speech.collapse,
        "command": " ".join(words),
    }


def _vectors(figures: dict[str, Figure]) -> dict[str, bytes]:
    return {name: plots.to_svg(figure) for name, figure in figures.items()}


def _render(document: dict[str, Any], vectors: dict[str, bytes]) -> str:
    contents = _contents(document)
    missing = dict.fromkeys(_FIGURES)
    contents["figures"] = missing | {name: _page.image(svg) for name, svg in vectors.items()}
    shown = [name for name in _FIGURES if name in vectors or name == "plane"]  # there always is a plane
    contents["numbers"] = {name: place for place, name in enumerate(shown, 1)}
    return _page.fill(_words.words_of(document["study"]).template, contents)


def _schema(document: Any) -> Any:
    return document.get("schema") if isinstance(document, dict) else None


def render(document: Any) -> str:
    """Return the page of a study document as HTML.

    Args:
        document: the contents of a ``results.json`` with schema ``spherometer.study/1``, or
            ``spherometer.study/conditional/1`` for a study of meta-data, or
            ``spherometer.study/local-density/1``, or ``spherometer.study/dense/1`` for one of feature maps.

    Returns:
        One self-contained page: no script, nothing fetched, the same text for the same document.

    Raises:
        InputError: the schema is unknown, or something the page needs is missing or of another kind.
    """
    if _schema(document) == _conditional_study.SCHEMA:
        return _conditional_study.render_conditional(document)
    if _schema(document) == _dense_study.SCHEMA:
        return _dense_study.render_dense(document)
    if _schema(document) == _density_study.SCHEMA:
        return _density_study.render_density(document)
    document = _document.checked(document)
    return _render(document, _vectors(_figures(document)))


def write_study(document: Any, out: Path) -> Path:
    """Write ``report.html``, ``trials.csv`` and ``figures/`` (SVG and PNG) into ``out``.

    Args:
        document: as for :func:`render`.
        out: a directory; it is made when missing. Files are replaced whole.

    Returns:
        The path of the page, which is written last.

    Raises:
        InputError: as :func:`render`; or ``out`` cannot be written to.
    """
    out = Path(out)
    if _schema(document) == _conditional_study.SCHEMA:
        return _conditional_study.write_conditional(document, out)
    if _schema(document) == _dense_study.SCHEMA:
        return _dense_study.write_dense(document, out)
    if _schema(document) == _density_study.SCHEMA:
        return _density_study.write_density(document, out)
    document = _document.checked(document)
    figures = _figures(document)
    vectors = _vectors(figures)
    page = _render(document, vectors).encode("utf-8")
    files = {out / "trials.csv": _trials.csv_table(document)}
    for name, figure in figures.items():
        files[out / "figures" / f"{name}.svg"] = vectors[name]
        files[out / "figures" / f"{name}.png"] = plots.to_png(figure)
    for path, content in files.items():
        write_file(path, content)
    write_file(out / "report.html", page)
    return out / "report.html"
