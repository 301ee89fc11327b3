"""The page of a study of feature maps: its figures, its tables, what it refuses."""

from __future__ import annotations

import copy
import csv
import functools
import io
import json
from pathlib import Path
from typing import Any

import html5lib
import matplotlib
import numpy as np
import pytest

import dense_document
import spherometer as sm
from spherometer import plots
from spherometer.errors import InputError, UndefinedError
from spherometer.report import _dense_study, render, write_study
from test_plots import HOSTILE, elements, texts
from test_report_escaping import PAYLOADS, skeleton

RULES = ("geometric", "similarity", "index", "random", "instance only")


@functools.cache
def _made_up(sets: tuple[str, ...], seeds: int) -> str:
    rng = np.random.default_rng(0)
    configurations = _configurations()
    trials = [
        _trial(one, data, seed, place / 12, rng)
        for data in sets
        for seed in range(seeds)
        for place, one in enumerate(configurations)
    ]
    document = {
        "schema": "spherometer.study/dense/1",
        "spherometer": "0.1.0",
        "study": "dense",
        "quick": False,
        "seeds": list(range(seeds)),
        "environment": {"torch": "2.13", "python": "3.11"},
        "data": {name: _data(name) for name in sets},
        "protocol": {"epochs": 12, "cells": [7, 7], "probe": "linear, on frozen cells"},
        "configurations": configurations,
        "trials": trials,
        "relations": _relations(trials, sets),
        "matching": _matching(sets, rng),
        "correlations": {name: {"dense": -0.97, "instance": -0.4} for name in sets},
        "heat": _heat(rng),
        "caveats": ["Scenes are made up."],
        "findings": [
            {"claim": "Geometric partners are worth it.", "verdict": "shown", "evidence": "By 5 points."},
            {"claim": "Signs are stable.", "verdict": "unclear", "evidence": "Intervals hold 0."},
        ],
    }
    return json.dumps(document, allow_nan=False, sort_keys=True)


def made_up(sets: tuple[str, ...] = ("multi", "single"), seeds: int = 1) -> dict[str, Any]:
    """A document as the study writes it, of numbers that nobody measured."""
    document: dict[str, Any] = json.loads(_made_up(sets, seeds))
    return document


def _configurations() -> list[dict[str, Any]]:
    kinds = ["dense_info_nce"] * 5 + ["dense_align_uniform"] * 4 + ["info_nce", "align_uniform"]
    found = [
        {
            "id": f"c{place}",
            "name": f"{kind.replace('_', ' ')}, {RULES[place % 4]}",
            "loss": kind,
            "matching": RULES[place % 4] if kind.startswith("dense") else None,
            "dense_weight": 1.0 if place == 3 else 0.5 if kind.startswith("dense") else 0.0,
        }
        for place, kind in enumerate(kinds)
    ]
    found += [
        {"id": kind, "name": kind.title(), "loss": kind, "matching": None, "dense_weight": None}
        for kind in ("untrained", "raw")
    ]
    return found


def _measured(value: float, spread: float = 0.02) -> dict[str, Any]:
    return sm.Measurement("m", value, (value - spread, value + spread), num=100).to_dict()


def _trial(one: dict[str, Any], data: str, seed: int, place: float, rng: Any) -> dict[str, Any]:
    loss = one["loss"]
    score = 0.25 + 0.15 * place + float(rng.normal()) / 100
    score = 0.2 if loss == "untrained" else 0.15 if loss == "raw" else score
    metrics: dict[str, Any] = {
        "dense_alignment": _measured(1.2 - place + float(rng.normal()) / 30),
        "dense_uniformity": _measured(-3.6 + 2.0 * place + float(rng.normal()) / 20),
        "dense_uniformity_within": _measured(-1.0 - place),
        "alignment": _measured(0.3 + float(rng.random()) / 3) if one["dense_weight"] != 1.0 else None,
        "uniformity": _measured(-2.5 - float(rng.random())) if one["dense_weight"] != 1.0 else None,
    }
    if loss == "untrained":
        metrics |= {"alignment": None, "uniformity": None}
    if loss == "raw":
        metrics = dict.fromkeys(metrics)
    segmentation = {
        "value": score, "interval": [score - 0.01, score + 0.01], "num": 400, "pixel_accuracy": 0.8,
        "per_class": [0.9, score, None],
    }  # fmt: skip
    tasks = {"segmentation": segmentation}
    if loss != "raw":
        value = 0.5 + float(rng.random()) / 5
        tasks["classification"] = {"value": value, "interval": [value - 0.03, value + 0.03], "num": 400}
    return {
        "configuration": one["id"], "data": data, "seed": seed, "status": "finished", "message": None,
        "metrics": metrics, "tasks": tasks, "losses": [5.0, 4.1, 3.9],
    }  # fmt: skip


def _data(name: str) -> dict[str, Any]:
    several = name == "multi"
    return {
        "name": "Scenes with several objects" if several else "Scenes with one object",
        "source": "digits on textured backgrounds",
        "num_train": 1500, "num_held_out": 300, "num_test": 400, "size": 56, "grid": [7, 7],
        "num_classes": 11, "classification": "map" if several else "accuracy",
        "chance": {"segmentation": 0.081, "classification": 0.3 if several else 0.1},
    }  # fmt: skip


def _relations(trials: list[dict[str, Any]], sets: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = []
    for data in sets:
        for task in ("segmentation", "classification"):
            for kind, names in (
                ("dense", ("dense_alignment", "dense_uniformity")),
                ("instance", ("alignment", "uniformity")),
            ):
                known = [
                    trial
                    for trial in trials
                    if trial["data"] == data
                    and trial["configuration"].startswith("c")
                    and trial["metrics"][names[0]]
                ]
                columns = [[trial["metrics"][name]["value"] for trial in known] for name in names]
                scores = [trial["tasks"][task]["value"] for trial in known]
                groups = [trial["configuration"] for trial in known]
                row = {"data": data, "task": task, "metrics": kind, "num": len(known)}
                try:
                    found = sm.performance_relation(*columns, scores, groups=groups, num_resamples=200)
                except UndefinedError as error:
                    rows.append(row | {"relation": None, "message": str(error)})
                else:
                    rows.append(row | {"relation": found.to_dict(), "message": None})
    return rows


def _matching(sets: tuple[str, ...], rng: Any) -> list[dict[str, Any]]:
    rows = []
    for data in sets:
        for task in ("segmentation", "classification"):
            for mean, rule in zip((0.377, 0.353, 0.317, 0.287, 0.282), RULES, strict=True):
                seeds = [mean + float(rng.normal()) / 80 for _ in range(3)]
                value = sum(seeds) / 3
                rows.append(
                    {
                        "data": data, "matching": rule, "task": task, "value": value, "sd": 0.013,
                        "seeds": seeds, "interval": [value - 0.03, value + 0.03],
                    }
                )  # fmt: skip
    return rows


def _heat(rng: Any) -> list[dict[str, Any]]:
    rows = []
    for image in range(2):
        y, x = np.mgrid[0:28, 0:28]
        disc = ((y - 10 - 6 * image) ** 2 + (x - 12) ** 2 < 60).astype(float)
        pixels = np.round(0.2 + 0.6 * disc + 0.1 * rng.random((28, 28)), 3)[..., None].tolist()
        for name in ("Geometric", "Random"):
            scale = 0.4 if name == "Geometric" else 1.4
            cells: list[list[float | None]] = np.round(scale * rng.random((7, 7)), 3).tolist()
            cells[0][0] = cells[0][1] = None
            rows.append({"image": pixels, "alignment": cells, "name": name})
    return rows


def words(page: str) -> str:
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    return " ".join("".join(tree.find("body").itertext()).split())


def rows_of(page: str, place: int) -> list[list[str]]:
    table = html5lib.parse(page, namespaceHTMLElements=False).findall(".//table")[place]
    return [[" ".join("".join(cell.itertext()).split()) for cell in row] for row in table.findall("tbody/tr")]


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without drawing: an empty image instead of each figure."""
    names = ("relations", "plane-multi", "matching", "heat")
    monkeypatch.setattr(_dense_study, "_figures", lambda document: dict.fromkeys(names))
    monkeypatch.setattr(_dense_study.plots, "to_svg", lambda figure: b"")


# --- the page -----------------------------------------------------------------------------------------


@functools.cache
def page_of(sets: tuple[str, ...] = ("multi", "single"), seeds: int = 1) -> str:
    return render(made_up(sets, seeds))


def test_it_says_what_the_document_says() -> None:
    page = page_of()
    assert "<script" not in page
    said = words(page)
    for part in (
        "Geometric partners are worth it.", "By 5 points.", "Scenes are made up.", "Spherometer 0.1.0",
        "22 small encoders were trained", "18 of them with losses that compare cells",
        "Scenes with several objects: -", "definitions of ours", "Moon, Kim and Choi, 2022",
        "its abstract only",
        "spherometer study dense --data multi,single --seeds 1", "56 × 56 pixels, maps of 7 × 7 cells",
        "1 500 to train, 300 held out, 400 to test",
        "resample settings, not runs", "Near −1 they are two ends of one trade (",
    ):  # fmt: skip
        assert part.replace(": -", ": \N{MINUS SIGN}0.97") in said, part
    assert "quick run" not in said


@pytest.mark.usefixtures("without_figures")
def test_a_quick_run_says_so() -> None:
    assert "quick run" in words(render(made_up() | {"quick": True}))


def test_every_relation_is_a_row() -> None:
    document = made_up()
    body = rows_of(page_of(), 0)
    assert len(body) == 8
    assert [row[0].split(")")[1].split(",")[0] for row in body] == ["cells", "whole images"] * 4
    assert body[0][0].startswith("Scenes with several objects: Segmentation (mIoU)")
    assert body[2][0].startswith("Scenes with several objects: Classification (mAP)")
    assert body[6][0].startswith("Scenes with one object: Classification (accuracy)")
    first = next(
        row["relation"]
        for row in document["relations"]
        if (row["data"], row["task"], row["metrics"]) == ("multi", "segmentation", "dense")
    )
    assert body[0][0].endswith("cells,11 encoders")
    assert rows_of(page_of(("multi",), 2), 0)[0][0].endswith("cells,22 encoders of 11 settings")
    assert body[0][1].startswith(f"{first['multiple_r']:.2f}[{first['intervals']['multiple_r'][0]:.2f}, ")
    assert body[0][3] in ("< 0.001", f"{first['p_value']:.3f}")
    assert body[0][6].replace("\N{MINUS SIGN}", "-").startswith(f"{first['direction']:.0f}°")
    assert body[0][9].replace("\N{MINUS SIGN}", "-") == f"{first['r_between']:.2f}"


@pytest.mark.usefixtures("without_figures")
def test_a_relation_that_was_refused_says_why() -> None:
    document = made_up()
    document["relations"][0] |= {"relation": None, "message": "Eight are needed."}
    said = words(render(document))
    assert "Not computed. Eight are needed." in said
    document["relations"] = []
    assert "No relation was computed." in words(render(document))


def test_the_ablation_stands_beside_what_no_training_gives() -> None:
    body = rows_of(page_of(), 1)
    assert [row[0].split(":")[0] for row in body] == [
        "Geometric", "Similarity", "Index", "Random", "No dense loss", "An encoder that was never trained",
        "No encoder", "Without looking at the image",
    ]  # fmt: skip
    row = next(one for one in made_up()["matching"] if one["matching"] == "geometric")
    assert body[0][1].startswith(f"{100 * row['value']:.1f} %[")
    assert body[0][3] == ", ".join(f"{100 * value:.1f}" for value in row["seeds"])
    assert [row[1] for row in body[5:]] == [f"{v} %" for v in ("20.0", "15.0", "8.1")]


def test_no_number_of_a_head_that_was_not_trained() -> None:
    body = rows_of(page_of(("multi",), 2), 3)
    assert len(body) == 26
    by_name = {row[1]: row for row in body}
    alone = by_name["dense info nce, randomseed 0"]
    assert alone[-2:] == ["–", "–"]
    assert "–" not in alone[2:7]
    assert by_name["Rawseed 1"][3:] == ["–"] * 6
    assert float(body[0][2].split(" ")[0]) >= float(body[1][2].split(" ")[0])


@pytest.mark.usefixtures("without_figures")
def test_failed_runs_are_named_and_left_out() -> None:
    document = made_up(("multi",))
    document["trials"][0] |= {"status": "failed", "message": "It diverged.", "metrics": {}, "tasks": {}}
    page = render(document)
    body = rows_of(page, 3)
    assert body[-1][1].endswith("It diverged.")
    assert set(body[-1][2:]) == {"–"}
    assert "10 small encoders were trained" in words(page)
    assert "1 encoder was not trained to the end and is left out" in words(page)


def test_little_can_be_said() -> None:
    document = made_up(("multi",))
    empty: dict[str, Any] = {"relations": [], "matching": [], "heat": [], "findings": [], "correlations": {}}
    del document["caveats"]
    page = render(document | empty)
    said = words(page)
    assert "No finding was recorded." in said
    assert "Which partners should a cell have" in said  # the title, and what no training gives
    nothing = render(document | empty | {"trials": [], "configurations": []})
    assert "0 small encoders were trained" in words(nothing)
    assert html5lib.parse(nothing, namespaceHTMLElements=False).findall(".//figure") == []


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("sets", [("multi",), ("multi", "single")])
def test_the_document_of_the_study_is_understood(sets: Any) -> None:
    document = dense_document.made_up_document(sets)
    page = render(json.loads(json.dumps(document, allow_nan=False, sort_keys=True)))
    said = words(page)
    for finding in document["findings"]:
        assert finding["claim"] in said
    assert len(rows_of(page, 0)) == 4 * len(sets)
    geometric, *_ = rows_of(page, 1)
    assert geometric[1].startswith("40.4 %[")
    assert geometric[3] == "40.0, 40.4, 40.8"
    assert "--seeds 3 --quick" in said


def test_files(tmp_path: Path) -> None:
    page = write_study(made_up(("multi",)), tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    assert page.read_text() == page_of(("multi",))
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    figures = ("relations", "plane-multi", "matching", "heat")
    assert names == {"report.html", "trials.csv"} | {
        f"figures/{name}.{kind}" for name in figures for kind in ("svg", "png")
    }
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "trials.csv").read_text())))
    trials = made_up(("multi",))["trials"]
    assert len(rows) == len(trials)
    assert float(rows[2]["dense_alignment_low"]) == trials[2]["metrics"]["dense_alignment"]["interval"][0]
    assert float(rows[2]["segmentation"]) == trials[2]["tasks"]["segmentation"]["value"]
    assert rows[3]["alignment"] == ""
    assert rows[3]["pixel_accuracy"] == "0.8"
    assert (rows[2]["matching"], rows[2]["dense_weight"], rows[2]["loss"]) == (
        "index", "0.5", "dense_info_nce",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "must"),
    [
        (("trials",), 3, "document.trials must be a list, because the page is drawn from it. Got a"),
        (("data", "multi", "grid"), [], "document.data.multi.grid must be whole numbers, because"),
        (("trials", 0, "data"), "x", "document.trials[0].data must be one of the data sets, because"),
        (("trials", 0, "configuration"), "x", "document.trials[0].configuration must be one of the conf"),
        (("trials", 0, "metrics", "alignment"), {"value": "x"}, "trials[0].metrics.alignment.value must"),
        (("relations", 0, "relation", "intervals", "rho"), [1], "relation.intervals.rho must be two numbers"),
        (("matching", 0, "seeds"), ["a"], "document.matching[0].seeds must be the numbers of the seeds"),
        (("heat", 0, "alignment"), [[1.0], [1.0, 2.0]], "document.heat[0].alignment must be rows of numbers"),
        (("heat", 0, "image"), [[[0.5]], [[0.5, 0.5]]], "document.heat[0].image must be rows of numbers"),
        (("heat", 0, "image"), [0.5], "document.heat[0].image must be rows of pixels"),
        (("correlations", "multi"), {"dense": 1.0}, "document.correlations.multi must have the key"),
        (("caveats",), [3], "document.caveats[0] must be a text"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(path: tuple[Any, ...], value: Any, must: str) -> None:
    document = made_up()
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(InputError) as caught:
        render(document)
    message = str(caught.value)
    assert message.startswith("report: document")
    assert must in message
    assert message.endswith("Pass a results.json that this version's `spherometer study` wrote.")


def test_names_of_data_sets_never_leave_the_directory(tmp_path: Path) -> None:
    document = made_up(("multi",))
    document["data"]["../x"] = document["data"]["multi"]
    with pytest.raises(InputError, match="short keys of small letters and digits"):
        write_study(document, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def planted(text: str) -> dict[str, Any]:
    """The text wherever a text from data can stand."""
    document = made_up(("multi",))
    document["spherometer"] = document["study"] = text
    document["environment"] = {"torch": text, f"z{text}": "1"}
    document["data"]["multi"] |= {"name": text, "source": text}
    document["protocol"] = {"views": text, f"z{text}": {text: text}}
    for one in document["configurations"]:
        one |= {"name": text, "loss": text if one["id"] == "c1" else one["loss"], "matching": text}
    document["trials"][1] |= {"status": text, "message": text}
    document["trials"][2]["metrics"]["zz" + text] = document["trials"][2]["metrics"]["dense_alignment"]
    for row in document["relations"][:1]:
        row["relation"]["warnings"] = [text]
        row["metrics"] = text
    document["relations"][1] |= {"relation": None, "message": text}
    document["matching"][0]["matching"] = text
    for example in document["heat"]:
        example["name"] = text
    document["caveats"] = [text]
    document["findings"][0] = {"claim": text, "verdict": text, "evidence": text}
    return document


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: ascii(p[:24]))
def test_texts_are_words_and_nothing_else(payload: str) -> None:
    assert skeleton(render(planted(payload))) == skeleton(render(planted("a harmless text")))


# --- the figures --------------------------------------------------------------------------------------


@functools.cache
def figures_of() -> dict[str, Any]:
    return _dense_study._figures(_dense_study.checked(made_up(("multi",))))


def test_the_same_document_gives_the_same_bytes_whatever_the_users_settings() -> None:
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "other"}):
        again = _dense_study._figures(_dense_study.checked(made_up(("multi",))))
    assert dict(matplotlib.rcParams) == before
    assert list(again) == ["relations", "plane-multi", "matching", "heat"]
    for name, figure in figures_of().items():
        svg = plots.to_svg(figure)
        assert plots.to_svg(again[name]) == svg
        tags = {element.tag.rsplit("}", 1)[-1] for element in elements(svg)}
        assert tags <= {"svg", "g", "path", "use", "defs", "clipPath", "rect", "style", "image"}


def test_the_planes_show_the_trained_encoders_that_have_the_numbers() -> None:
    figure = figures_of()["plane-multi"]
    dense, _, instance, _ = figure.axes[:4]
    trials = made_up(("multi",))["trials"]
    places = np.concatenate([np.asarray(each.get_offsets()) for each in dense.collections])
    trained = [trial for trial in trials if trial["configuration"].startswith("c")]
    wanted = [
        [trial["metrics"][name]["value"] for name in ("dense_uniformity", "dense_alignment")]
        for trial in trained
    ]
    assert sorted(map(tuple, places)) == sorted(map(tuple, wanted))
    assert sum(len(each.get_offsets()) for each in instance.collections) == 10  # one head was not trained
    assert dense.collections[0].norm is instance.collections[0].norm  # one scale of colours
    assert "correlation of the two: \N{MINUS SIGN}0.97" in texts(figure)
    assert dense.get_title(loc="left") == "Numbers of cells: Segmentation (mIoU)"
    document = made_up(("multi",))
    for trial in document["trials"]:
        trial["metrics"] |= {"alignment": None, "uniformity": None}
    bare = plots.dense_planes(document, "multi", [("segmentation", "mIoU")])
    assert "no encoder has them" in texts(bare)


def test_the_figure_of_relations_has_values_intervals_and_gaps() -> None:
    relation = made_up()["relations"][0]["relation"]
    figure = plots.dense_relations([{"dense": relation, "instance": None}], ["one"])
    strength, sign, way = figure.axes
    for axes, name in ((strength, "multiple_r"), (sign, "rho"), (way, "direction")):
        drawn = [list(line.get_xdata()) for line in axes.lines]
        assert [relation[name]] in drawn
        assert relation["intervals"][name] in drawn
        assert "not computed" in [text.get_text() for text in axes.texts]
    unrelated = (2 / (relation["num_groups"] - 1)) ** 0.5
    assert [unrelated] in [list(line.get_xdata()) for line in strength.lines]
    assert [text.get_text() for text in strength.get_yticklabels()] == ["one"]


def test_the_figure_of_matching_shows_every_seed() -> None:
    rows = [
        {"label": "a", "value": 0.3, "interval": [0.2, 0.4], "seeds": [0.25, 0.35]},
        {"label": "b", "value": 0.1, "interval": None, "seeds": [0.1]},
    ]
    axes = plots.dense_matching([{"title": "T", "rows": rows}]).axes[0]
    drawn = [list(line.get_xdata()) for line in axes.lines]
    for wanted in ([0.2, 0.4], [0.25, 0.35], [0.3], [0.1]):
        assert wanted in drawn
    assert {"30.0", "10.0"} <= {text.get_text() for text in axes.texts}
    assert axes.get_title(loc="left") == "T"


def test_heat_maps_share_one_scale_and_leave_gaps() -> None:
    examples = made_up()["heat"]
    figure = plots.dense_heat(examples)
    grid = figure.axes[:6]
    maps = [axes.images[-1] for axes in (grid[1], grid[2], grid[4], grid[5])]
    top = max(v for each in examples for row in each["alignment"] for v in row if v is not None)
    for drawn, example in zip(maps, examples, strict=True):
        assert drawn.get_clim() == (0.0, top)
        cells = drawn.get_array()
        assert cells.mask.tolist() == [[v is None for v in row] for row in example["alignment"]]
        assert cells[3, 3] == example["alignment"][3][3]
    assert [axes.get_title(loc="left") for axes in grid[:3]] == ["Image", "Geometric", "Random"]


def test_little_can_be_drawn() -> None:
    colour = {"image": [[[0.1, 0.2, 0.3]]], "alignment": [[None]], "name": "a"}
    for figure in (
        plots.dense_heat([colour]),
        plots.dense_heat([]),
        plots.dense_matching([]),
        plots.dense_relations([], []),
        plots.dense_planes(made_up() | {"trials": []}, "multi", []),
    ):
        plots.to_svg(figure)


def test_hostile_texts_are_drawn_and_do_nothing() -> None:
    figures = _dense_study._figures(_dense_study.checked(planted(HOSTILE)))
    for figure in figures.values():
        svg = plots.to_svg(figure)
        assert b"script" not in svg
        assert b"alert" not in svg


@pytest.mark.usefixtures("without_figures")
def test_checking_changes_nothing_that_was_given() -> None:
    document = made_up(("multi",))
    before = copy.deepcopy(document)
    render(document)
    assert document == before
