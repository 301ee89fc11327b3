"""Figures: the same bytes for the same results, safe texts, nothing global changed."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import matplotlib
import pytest
from matplotlib.figure import Figure

from spherometer import plots
from spherometer.plots._style import plain
from study_document import study_document

DOCUMENT = study_document()
FIGURES: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "plane": lambda d: plots.plane(
        d["trials"], headline=d["headline"], baselines=d["baselines"], best=d["best"]
    ),
    "sweep": lambda d: plots.sweep(d["sweep"], chance=d["data"]["chance"]),
    "trajectories": lambda d: plots.trajectories(d["trajectories"]),
    "circle": lambda d: plots.circle(d["circle"]),
    "selection": lambda d: plots.selection(d["selection"]["all"]),
    "intervals": lambda d: plots.intervals(d["trials"][3]["metrics"]),
}
HOSTILE = "</svg><script>alert(1)</script> $\\frac{1}{0}$ \x00 \ud800 ]]> --> \u202e 🎉 _"


@functools.cache
def drawn(name: str) -> tuple[Figure, bytes]:
    figure = FIGURES[name](DOCUMENT)
    return figure, plots.to_svg(figure)


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [axes.get_title(loc="left") for axes in figure.axes]
    return found + [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def elements(svg: bytes) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter())


@pytest.mark.parametrize("name", FIGURES)
def test_same_results_give_same_bytes_whatever_the_users_settings(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure, svg = drawn(name)
    png = plots.to_png(figure, dpi=50)
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "other"}):
        again = FIGURES[name](study_document())
        assert plots.to_svg(again) == svg
        assert plots.to_png(again, dpi=50) == png
    assert plots.to_svg(figure) == svg
    assert png.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FIGURES)
def test_svg_holds_outlines_only(name: str) -> None:
    _, svg = drawn(name)
    assert b"<!--" not in svg
    assert b"<!DOCTYPE" not in svg
    for element in elements(svg):
        tag = element.tag.rsplit("}", 1)[-1]
        assert tag in {"svg", "g", "path", "use", "defs", "clipPath", "rect", "style", "image"}, tag
        for attribute, value in element.attrib.items():
            assert not attribute.lower().startswith("on")
            if attribute.endswith("href") and tag != "image":
                assert value.startswith("#")


def hostile_document() -> dict[str, Any]:
    document = study_document()
    for row in document["best"]:
        row["role"] = HOSTILE
    document["trajectories"]["paths"][HOSTILE] = document["trajectories"]["paths"].pop("both")
    for panel in document["circle"]:
        panel["name"] = HOSTILE
        panel["labels"] = [HOSTILE if label == 3 else label for label in panel["labels"]]
    for row in document["selection"]["all"].values():
        row["label"] = HOSTILE
    for one in document["trials"][3]["metrics"].values():
        one["label"] = HOSTILE
        one["baseline"] = {HOSTILE: 1.0}
    return document


@pytest.mark.parametrize("name", sorted(set(FIGURES) - {"sweep"}))
def test_hostile_texts_are_drawn_and_do_nothing(name: str) -> None:
    figure = FIGURES[name](hostile_document())
    svg = plots.to_svg(figure)
    assert b"script" not in svg
    assert b"alert" not in svg
    benign = {element.tag for element in elements(drawn(name)[1])}
    assert {element.tag for element in elements(svg)} <= benign


@pytest.mark.parametrize(
    ("given", "drawn"),
    [
        ("a  b\nc", "a b c"),
        ("$x$", r"\$x\$"),
        ("_hidden", " _hidden"),
        ("\x00\ud800\u202e🎉", "\N{REPLACEMENT CHARACTER}" * 4),
        ("αlpha λ ≤ é", "αlpha λ ≤ é"),
        ("x" * 1_000_000, "x" * 59 + "…"),
        (7, "7"),
    ],
)
def test_plain(given: object, drawn: str) -> None:
    assert plain(given) == drawn


def test_plane_labels_the_best_and_leaves_out_what_has_no_place() -> None:
    figure = drawn("plane")[0]
    found = texts(figure)
    assert "Best contrastive" in found
    assert "Untrained encoder" in found
    assert "Raw pixels" not in found
    assert "Collapsed" in found
    assert "Uniform law in 32 dimensions" in found


def test_plane_of_nothing_is_empty_axes() -> None:
    figure = plots.plane([], headline="linear_output", baselines={})
    assert all(not axes.collections for axes in figure.axes)
    plots.to_svg(figure)


def test_plane_of_one_encoder() -> None:
    trial = DOCUMENT["trials"][3]
    plots.to_svg(plots.plane([trial], headline="linear_output", baselines=DOCUMENT["baselines"]))


def test_sweep_puts_pure_losses_outside_the_logarithmic_axis() -> None:
    axes = drawn("sweep")[0].axes[1]
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    places = axes.get_xticks()
    assert names[0] == "uniform\nonly"
    assert names[-1] == "align\nonly"
    assert names[names.index("1/2")] == "1/2"
    assert places[names.index("1")] == 0
    assert places[names.index("2")] == 1
    assert all(math.isfinite(place) for place in places)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_sweep_of_few_rows(num: int) -> None:
    plots.to_svg(plots.sweep(DOCUMENT["sweep"][:num]))


def test_sweep_draws_repeated_ratios_around_their_mean() -> None:
    rows = [dict(row, accuracy=value) for row in DOCUMENT["sweep"][1:3] for value in (0.8, 0.9)]
    lines = plots.sweep(rows).axes[0].lines
    assert any(list(line.get_ydata()) == pytest.approx([0.85, 0.85]) for line in lines)


def test_trajectories_say_accuracy_at_the_ends() -> None:
    found = texts(drawn("trajectories")[0])
    assert {"start: 94.0 %", "both: 97.5 %", "align only: 15.0 %", "uniform only: 90.0 %"} <= set(found)


def test_circle_of_nothing_and_of_an_empty_encoder() -> None:
    assert plots.circle([]).axes == []
    empty = {
        "name": "x",
        "points": [],
        "labels": [],
        "distances": [],
        "alignment": 0,
        "uniformity": 0,
        "accuracy": 0,
    }
    plots.to_svg(plots.circle([empty]))


def test_selection_says_what_is_not_defined() -> None:
    rows = {"sum": {"label": "Sum", "rank_correlation": None, "regret": {"value": 0.01, "interval": None}}}
    assert "not defined" in texts(plots.selection(rows))


def test_intervals_of_nothing() -> None:
    assert plots.intervals({}).axes == []


def test_pyplot_is_never_imported() -> None:
    code = "import sys, spherometer.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
