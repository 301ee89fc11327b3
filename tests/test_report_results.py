"""Pages of an evaluation with a portrait, of a comparison and of a selection."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import html5lib
import pytest
import torch

import hostile
import spherometer as sm
from result_documents import comparison_document, evaluation_document, selection_document
from spherometer import plots, report
from spherometer._portrait import Portrait
from spherometer._results import Evaluation
from spherometer.cli import main
from spherometer.errors import InputError
from spherometer.report import _format, _portrait, _summary

MOST_BYTES = 2_000_000


def words_of(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def tree_of(page: str) -> Any:
    return html5lib.parse(page, namespaceHTMLElements=False)


def evaluation_page(*documents: dict[str, Any]) -> str:
    return report.render_evaluations(
        [(f"set {place}", Evaluation.from_dict(one)) for place, one in enumerate(documents)]
    )


def small(document: dict[str, Any]) -> dict[str, Any]:
    """The document with little to draw beside the portrait."""
    kept = ("alignment", "uniformity", "normalized_uniformity")
    metrics = {name: one for name, one in document["metrics"].items() if name in kept}
    return {**{name: one for name, one in document.items() if name != "local_density"}, "metrics": metrics}


# --- evaluations --------------------------------------------------------------------------------------


def test_the_page_says_what_the_portrait_says() -> None:
    document = evaluation_document()
    page = evaluation_page(document)
    assert page == evaluation_page(json.loads(json.dumps(document)))
    tree, portrait = tree_of(page), document["portrait"]
    words = words_of(tree)
    assert "The two sides of a pair lie close together." in words
    assert f"Uniformity is {_format.number(document['metrics']['uniformity']['value'])}" in words
    assert "From 120 of 1 200 rows, drawn at random, in 6 dimensions." in words
    assert " ".join(_format.percent(portrait["distances"]["closer"]).split()) in words
    assert "all 7 140 pairs" in words
    for name in ("kind 0", "Paris", "20 to 34", portrait["neighbors"]["outliers"][0]["id"]):
        assert name in words
    for name in portrait["neighbors"]["duplicates"][0]["ids"]:
        assert name in words
    for said in (
        "rows.parquet",
        "ab" * 32,
        "spherometer measure rows.parquet --report page.html",
        "embedding",
    ):
        assert said in words
    assert len(tree.findall(".//figure")) == 1 + 3 + 1 + 1  # standing, rows, intervals, classes
    ids = {one.get("id") for one in tree.iter() if one.get("id")}
    links = {one.get("href") for one in tree.iter("a")}
    assert links == {f"#{one}" for one in ids}
    assert len(page.encode()) < MOST_BYTES


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_few_dimensions_and_no_pairs(dim: int) -> None:
    words = words_of(tree_of(evaluation_page(small(evaluation_document(60, dim, pairs=False)))))
    assert {1: "seen along two", 2: "on the circle", 3: "on the sphere"}[dim] in words
    assert "Without pairs, spread alone says nothing" in words
    assert "positive pair" not in words.split("What the rows look like")[1].split("Measurements")[0]


def test_a_page_without_a_portrait_has_no_such_sections() -> None:
    document = evaluation_document(portrait=False)
    words = words_of(tree_of(evaluation_page(document)))
    assert "What the rows look like" not in words
    assert "Where this comes from" not in words


def test_several_evaluations_share_one_plane() -> None:
    two = evaluation_page(evaluation_document(), evaluation_document())
    assert words_of(tree_of(two)).count("Down: the two sides of a pair lie closer.") == 1
    assert len(two.encode()) < MOST_BYTES
    assert words_of(tree_of(two)).count("What the rows look like") == 2
    with hostile.without_figures():
        four = evaluation_page(*[evaluation_document()] * 4)
        assert "What the rows look like" not in words_of(tree_of(four))
        other = evaluation_document(60, 5, portrait=False)
        assert "Normalized uniformity across" in evaluation_page(evaluation_document(portrait=False), other)


def metrics_of(**values: tuple[float, dict[str, float]]) -> dict[str, Any]:
    return {
        name: {"value": value, "interval": None, "baseline": baseline, "settings": {"k": 10}}
        for name, (value, baseline) in values.items()
    }


@pytest.mark.parametrize(
    ("value", "word"), [(0.02, "even"), (0.2, "uneven"), (0.5, "crowded"), (0.95, "collapsed")]
)
def test_words_of_spread(value: float, word: str) -> None:
    metrics = metrics_of(
        uniformity=(-4 * (1 - value), {"uniform law": -4.0}), normalized_uniformity=(value, {})
    )
    (card,) = _summary.summary({"metrics": metrics})
    assert card["word"] == word


@pytest.mark.parametrize(("value", "word"), [(0.1, "close"), (0.9, "loose"), (1.6, "apart")])
def test_words_of_pairs(value: float, word: str) -> None:
    (card,) = _summary.summary({"metrics": metrics_of(alignment=(value, {"unrelated pairs": 2.0}))})
    assert card["word"] == word
    assert "unrelated rows would have 2.000" in card["evidence"]


def test_far_pairs_may_still_be_nearer_than_others() -> None:
    portrait = evaluation_document()["portrait"]
    portrait["neighbors"] |= {"num_close": 0, "num_equal": 0}
    for closer, word in ((0.9, "far"), (0.5, "apart")):
        portrait["distances"]["closer"] = closer
        metrics = metrics_of(alignment=(1.4, {"unrelated pairs": 2.0}))
        assert _summary.summary({"metrics": metrics, "portrait": portrait})[0]["word"] == word


@pytest.mark.parametrize(("value", "word"), [(0.9, "together"), (0.3, "mixed"), (0.12, "unrelated")])
def test_words_of_classes(value: float, word: str) -> None:
    (card,) = _summary.summary({"metrics": metrics_of(neighbor_purity=(value, {"unrelated labels": 0.1}))})
    assert card["word"] == word


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"half": 0}, "none"),
        ({"half": 1, "uniform_half": 30}, "few directions"),
        ({"half": 9, "uniform_half": 30}, "concentrated"),
        ({"half": 15, "uniform_half": 30}, "many directions"),
    ],
)
def test_words_of_directions(change: dict[str, int], word: str) -> None:
    portrait = evaluation_document()["portrait"]
    portrait["spectrum"] |= change
    portrait |= {"mean_length": 0.7}
    portrait["neighbors"] |= {"num_close": 0, "num_equal": 0}
    first, second = _summary.summary({"metrics": {}, "portrait": portrait})
    assert (first["word"], second["word"]) == (word, "one side")


def test_words_of_twins() -> None:
    portrait = evaluation_document()["portrait"]
    portrait |= {"mean_length": 0.1, "dim": 3}
    portrait["neighbors"] |= {"num_close": 50, "num_equal": 0}
    assert _summary.summary({"metrics": {}, "portrait": portrait}) == []  # near by chance, on a small sphere
    portrait["neighbors"]["num_equal"] = 4
    (card,) = _summary.summary({"metrics": {}, "portrait": portrait})
    assert card["word"] == "twins"


def test_provenance_of_any_shape() -> None:
    assert _portrait.provenance(None) is None
    found = _portrait.provenance(
        {"files": [{"name": "a", "num_bytes": 3 << 20}, {}, 3], "settings": {"a_b": [1, 2], "c": {"d": None}}}
    )
    assert found is not None
    assert [one["size"] for one in found["files"]] == ["3.0 MiB", "–"]
    assert found["others"] == [("a b", "1, 2"), ("c d", "none")]


def test_all_rows_equal() -> None:
    document = evaluation_document()
    portrait = document["portrait"]
    portrait["spectrum"]["shares"] = [0.0] * len(portrait["spectrum"]["shares"])
    portrait["spectrum"] |= {"half": 0, "most": 0}
    portrait["density"] |= {"counts": [[120]], "across": [0.0, 1e-9], "up": [0.0, 1e-9]}
    Portrait.from_dict(portrait)
    assert "there is no variance" in words_of(tree_of(evaluation_page(small(document))))


# --- comparisons --------------------------------------------------------------------------------------


def test_the_page_of_a_comparison() -> None:
    document = comparison_document()
    page = report.render_comparison(document)
    tree = tree_of(page)
    words = words_of(tree)
    assert document["overall"]["words"] in words
    assert words_of(tree.find(".//p[@class='lead']/span")) == "mixed"
    table = tree.findall(".//table")[0]
    rows = [words_of(row) for row in table.findall("tbody/tr")]
    assert len(rows) == len(document["metrics"])
    first = next(iter(document["metrics"].values()))
    assert first["verdict"] in rows[0]
    assert _format.number(first["difference"], 4) in rows[0]
    assert "< 0.001" in rows[0]
    for said in (
        "Squared maximum mean discrepancy 0.0123, p = 0.002",
        "0.610 [0.580, 0.640]",
        "0.830 (debiased)",
        "kind 2",
    ):
        assert said in words
    assert len(tree.findall(".//figure")) == 2
    assert len(page.encode()) < MOST_BYTES


def test_two_files_of_one_name_are_told_apart() -> None:
    document = comparison_document(drift=False) | {"names": ["emb.npy", "emb.npy"]}
    page = report.render_comparison(document)
    assert "Is emb.npy (B) better than emb.npy (A)?" in page
    metrics = comparison_document()["evaluations"][0]["metrics"]
    moved = copy.deepcopy(metrics)
    moved["alignment"]["value"] += 1
    points = [
        {"name": "same", "uniformity": one["uniformity"], "alignment": one["alignment"]}
        for one in (metrics, moved)
    ]
    drawn = plots.points_plane(points, bands={}).axes[0].lines
    dots = {float(line.get_ydata()[0]) for line in drawn if line.get_marker() == "o"}
    assert dots == {one["alignment"]["value"] for one in (metrics, moved)}


def test_spread_alone_is_no_verdict_to_act_on() -> None:
    document = comparison_document(drift=False)
    document["overall"] = {"verdict": "worse", "words": "less uniform"}
    with hostile.without_figures():
        tree = tree_of(report.render_comparison(document))
        assert tree.find(".//p[@class='lead']/span").get("class") == "badge no"
        assert "spread alone cannot say" not in words_of(tree)
        for one in (document, *document["evaluations"]):
            del one["metrics"]["alignment"]
        tree = tree_of(report.render_comparison(document))
    assert tree.find(".//p[@class='lead']/span").get("class") == "badge open"
    assert "spread alone cannot say which set is better" in words_of(tree)


def test_a_comparison_with_little_in_it() -> None:
    document = comparison_document(drift=False)
    document |= {"paired": False, "num_shared": None, "evaluations": [{}, {}], "notes": []}
    document["evaluations"] = [dict(one, metrics={}) for one in comparison_document()["evaluations"]]
    for one in document["metrics"].values():
        one |= {"interval": None, "p_value": None, "p_holm": None, "verdict": None}
    tree = tree_of(report.render_comparison(document))
    words = words_of(tree)
    assert "The rows are not matched" in words
    assert "Drift" not in words
    assert tree.findall(".//figure") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema="x"), "document.schema must be 'spherometer.comparison/1'"),
        (lambda d: d.pop("overall"), "document must have the key 'overall'"),
        (lambda d: d.update(names=["a"]), "document.names must have two entries"),
        (lambda d: d["overall"].update(words=3), "document.overall.words must be a text"),
        (lambda d: d["metrics"]["uniformity"].pop("method"), "document.metrics.uniformity must have the key"),
    ],
)
def test_what_is_no_comparison_is_refused(change: Any, message: str) -> None:
    document = copy.deepcopy(comparison_document())
    change(document)
    with pytest.raises(InputError) as refused:
        report.render_comparison(document)
    assert message in str(refused.value)


# --- selections ---------------------------------------------------------------------------------------


def test_the_page_of_a_selection() -> None:
    document = selection_document()
    page = report.render_selection(document)
    assert page == report.render_selection(json.loads(json.dumps(document)))
    tree = tree_of(page)
    words = words_of(tree)
    assert words_of(tree.find(".//h1")) == "run0/step=0 comes first of 8"
    assert document["warnings"][0] in words
    assert document["notes"][0] in words
    ranking, scores, quality = tree.findall(".//table")
    rows = [words_of(row) for row in ranking.findall("tbody/tr")]
    assert [row[0] for row in rows] == list("12345678")
    assert "not told apart from the first" in rows[1]
    assert "on the front" in rows[3]
    assert len(scores.findall("thead/tr/th")) == 1 + len(document["scores"])
    body = [words_of(row) for row in quality.findall("tbody/tr")]
    assert body[0].startswith("Standardised alignment + uniformity0.70[0.20, 1.00]")
    assert body[-1].startswith("Picking blindly")
    assert "Multiple R" in words
    assert len(tree.findall(".//figure")) == 2
    assert len(page.encode()) < MOST_BYTES


def test_a_selection_without_labels_steps_or_pairs() -> None:
    document = selection_document(performance=False)
    for one in document["candidates"]:
        one |= {"step": None, "run": None, "score": None, "rank": None, "front": False}
        one["metrics"].pop("alignment")
    tree = tree_of(report.render_selection(document))
    words = words_of(tree)
    assert "none of which could be ranked" in words
    assert "Against performance" not in words
    assert tree.findall(".//figure") == []


def test_what_select_returns_becomes_a_page() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(80, 6, generator=generator)
    steps = {
        f"run/step={step}": (z * scale, z * scale + 0.2 * torch.randn(80, 6, generator=generator))
        for step, scale in ((0, 1.0), (10, torch.arange(1, 7) ** -0.5), (20, torch.arange(1, 7) ** -1.0))
    }
    selection = sm.select(steps, performance={name: 0.1 * place for place, name in enumerate(steps)})
    page = report.render_selection(selection)
    assert page == report.render_selection(json.loads(selection.to_json()))
    words = words_of(tree_of(page))
    assert f"{selection.best.name} comes first of 3" in words
    for warning in selection.warnings:
        assert " ".join(warning.split()) in words


def test_many_candidates_make_a_page_that_can_be_sent() -> None:
    document = selection_document()
    first = document["candidates"]
    many = [
        {**first[place % 8], "name": f"run{place % 8}/step={place}", "step": float(place), "rank": place + 1}
        for place in range(300)
    ]
    document |= {"candidates": many, "scores": {"sum": [float(place) for place in range(300)]}}
    page = report.render_selection(document)
    assert "100 more are not shown" in page
    assert len(page.encode()) < MOST_BYTES


def test_what_is_no_selection_is_refused() -> None:
    with pytest.raises(InputError, match="schema"):
        report.render_selection({"schema": "spherometer.selection/2"})


# --- the command --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "make"),
    [("comparison", comparison_document), ("selection", selection_document)],
)
def test_the_command_takes_both(
    name: str, make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps(make()), encoding="utf-8")
    assert main(["report", str(path)]) == 0
    page = path.with_suffix(".html")
    assert capsys.readouterr().out == f"{page}\n"
    assert f"Spherometer {name}" in page.read_text(encoding="utf-8")
    assert main(["report", str(path), "--out", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "report.html").read_bytes() == page.read_bytes()
    assert main(["report", str(path), str(path)]) == 2
    error = capsys.readouterr().err
    assert f"report: RESULTS must be one {name}, or one or several evaluations" in error
    assert f"Got 2 {name}s among 2 files. Call report once for each {name}." in error


def test_the_command_refuses_what_is_nested_too_deep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep.json"
    for text in (
        "[" * 500 + "]" * 500,
        '{"schema": "spherometer.evaluation/2", "notes": ' + "[" * 90 + "]" * 90 + "}",
    ):
        path.write_text(text, encoding="utf-8")
        assert main(["report", str(path)]) == 2
        assert "Got objects and lists nested deeper than 60." in capsys.readouterr().err
    path.write_text("3", encoding="utf-8")
    assert main(["report", str(path)]) == 2
    assert not path.with_suffix(".html").exists()
