"""How densely classes lie: as a figure, as a section of the page, and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pytest

import spherometer as sm
from spherometer import plots, report
from spherometer._density import LocalDensity
from spherometer._local_density import local_density
from spherometer.cli import main
from spherometer.report import _local_density
from test_plots import HOSTILE, elements, texts
from test_report_escaping import PAYLOADS, skeleton


def rows(num: int = 60, classes: int = 3) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    codes = np.arange(num) % classes
    z = 1.5 * rng.normal(size=(classes, 3))[codes] + rng.normal(size=(num, 3))
    return z, [f"kind {code:02d}" for code in codes]


@pytest.fixture(scope="module")
def density() -> dict[str, Any]:
    return local_density(*rows(), interval=True).to_dict()


# --- the figure ---------------------------------------------------------------------------------------


def test_the_same_result_gives_the_same_bytes(density: dict[str, Any]) -> None:
    svg = plots.to_svg(plots.local_density(density))
    assert svg == plots.to_svg(plots.local_density(json.loads(json.dumps(density))))
    assert {element.tag.rsplit("}", 1)[-1] for element in elements(svg)} <= {
        *("svg", "g", "path", "use", "defs", "clipPath", "rect", "style"),
    }


def test_the_figure_says_what_the_result_says(density: dict[str, Any]) -> None:
    figure = plots.local_density(density)
    left, middle, right = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Relative local density",
        "Neighbor purity",
        "Between classes",
    ]
    assert {"ceiling", "random labels", "at least half way", "unrelated labels"} <= set(texts(figure))
    assert f"{100 * density['between_share']:.0f} %" in texts(figure)
    drawn = [list(line.get_ydata()) for line in left.lines]
    for name in ("value", "ceiling", "random"):
        assert [point[name] for point in density["points"]] in drawn
    for point in density["points"]:
        assert point["interval"] in drawn
    assert [text.get_text() for text in left.get_xticklabels()] == ["1", "0.5", "0.2", "0.1", "0.05"]
    assert left.get_xlim()[0] > left.get_xlim()[1]  # near rows at the right
    assert [point["value"] for point in density["purity"]] in [
        list(line.get_ydata()) for line in middle.lines
    ]
    assert [text.get_text() for text in middle.get_xticklabels()] == ["1", "10"]
    index = f"{density['calinski_harabasz']:.4g}"
    assert [text.get_text() for text in right.get_xticklabels()] == [f"Calinski-Harabasz\n{index}"]
    assert right.patches[1].get_height() == density["between_share"]


def test_points_may_come_in_any_order(density: dict[str, Any]) -> None:
    turned = {**density, "points": density["points"][::-1]}
    assert plots.to_svg(plots.local_density(turned)) == plots.to_svg(plots.local_density(density))


def test_little_can_be_drawn() -> None:
    z, _ = rows()
    one = local_density(z, ["a"] * 60, temperatures=0.3, k=100).to_dict()
    figure = plots.local_density(one)
    assert len(figure.axes) == 2
    assert "ceiling and random labels" in texts(figure)
    assert "at least half way" not in texts(figure)
    assert "Calinski-Harabasz\nundefined" in [t.get_text() for t in figure.axes[1].get_xticklabels()]
    plots.to_svg(figure)
    unlike = local_density(z, np.arange(60), temperatures=(0.01, 0.001)).to_dict()
    plots.to_svg(plots.local_density(unlike))


# --- the page -----------------------------------------------------------------------------------------


def words_of(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def test_the_page_shows_the_section() -> None:
    z, labels = rows()
    e = sm.measure(z, labels=labels)
    page = report.render_evaluations([("model", e)])
    assert page == report.render_evaluations([("model", sm.Evaluation.from_json(e.to_json()))])
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    words = words_of(tree)
    density = e.local_density
    assert "How densely the classes lie" in words
    assert density.sentence in words
    assert "The words follow a rule of ours: locally dense, when relative local density at temp" in words
    assert "locally dense" in [words_of(badge) for badge in tree.findall(".//span[@class='badge open']")]
    assert density.notes[0] in words
    for name in ("relative_local_density", "calinski_harabasz", "hubness"):
        assert report._words.MEASURES[name][2] in words
    measures, classes = tree.findall(".//table")[-2:]
    body = [words_of(row) for row in measures.findall("tbody/tr")]
    assert len(body) == 5 + 2 + 2
    point = density.points[3]
    assert body[3].startswith(f"Relative local density at temperature 0.1 ↑{point.value:.4f}[")
    assert body[3].endswith(f"{point.ceiling:.4f}")
    assert body[5].startswith(f"Neighbor purity, 1 neighbour ↑{density.purity[0].value:.4f}[")
    assert body[8].startswith(f"Calinski-Harabasz index ↑{density.calinski_harabasz:.1f}")
    body = [words_of(row) for row in classes.findall("tbody/tr")]
    assert [row[:9] for row in body] == ["kind 0020", "kind 0120", "kind 0220"]
    gives = point.contributions["kind 00"]
    share = point.shares["kind 00"]
    assert body[0].endswith(f"{gives:.4f}{share * (1 - share):.4f}")
    assert len(tree.findall(".//figure")) == 3


def test_a_page_without_labels_has_no_such_section() -> None:
    z, _ = rows()
    assert "How densely" not in report.render_evaluations([("a", sm.measure(z))])
    assert _local_density.section(None) is None


def test_many_classes_are_summed() -> None:
    z, labels = rows(84, 28)
    density = local_density(z, labels)
    shown = _local_density.section(density.to_dict())
    assert shown is not None
    assert len(shown["classes"]) == 20
    last = shown["classes"][-1]
    point = density.points[3]
    rest = [f"kind {code:02d}" for code in range(19, 28)]
    assert (last["name"], last["num"]) == ("9 more classes", "27")
    assert last["contribution"] == f"{sum(point.contributions[name] for name in rest):.4f}".replace("-", "−")
    assert last["most"] == f"{sum(point.shares[name] * (1 - point.shares[name]) for name in rest):.4f}"
    twenty = _local_density.section(local_density(*rows(80, 20)).to_dict())
    assert twenty is not None
    assert twenty["classes"][-1]["name"] == "kind 19"
    one = _local_density.section(local_density(z, ["a"] * 84).to_dict())
    assert one is not None
    assert (one["reading"], one["badge"], one["calinski_harabasz"]) == (
        "neither locally nor globally dense",
        "no",
        "–",
    )


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: ascii(p[:24]))
def test_the_section_keeps_its_elements(
    payload: str, density: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_local_density.plots, "local_density", lambda density: None)
    monkeypatch.setattr(_local_density.plots, "to_svg", lambda figure: b"")

    def page(text: str) -> str:
        planted = json.loads(json.dumps(density))
        planted |= {"sentence": text, "notes": [text], "settings": {text: text}, "spherometer": text}
        for number, entry in enumerate(planted["classes"]):
            entry["name"] = f"{text}{number}"
        e = sm.Evaluation({}, notes=(text,), local_density=LocalDensity.from_dict(planted))
        return report.render_evaluations([(text, e)])

    assert skeleton(page(payload)) == skeleton(page("a harmless text"))


def test_hostile_names_are_shown_and_do_nothing() -> None:
    z, labels = rows()
    names = [HOSTILE + label for label in labels]
    page = report.render_evaluations([("a", sm.measure(z, labels=names))])
    assert "<script" not in page
    page.encode("utf-8")


# --- the command --------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    z, labels = rows()
    np.save("z.npy", z)
    np.save("labels.npy", np.array(labels))
    return tmp_path


@pytest.mark.usefixtures("place")
def test_the_command_prints_the_reading(capsys: pytest.CaptureFixture[str]) -> None:
    z, labels = rows()
    assert main(["measure", "z.npy", "--labels", "labels.npy"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    wanted = sm.measure(z, labels=labels)
    assert out == f"{wanted}\n"
    assert wanted.local_density.sentence in " ".join(out.split())
    assert main(["measure", "z.npy", "--labels", "labels.npy", "--json"]) == 0
    found = sm.Evaluation.from_json(capsys.readouterr().out)
    found.provenance = None  # an array has none
    assert found == wanted


@pytest.mark.usefixtures("place")
def test_the_command_checks_and_writes(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["measure", "z.npy", "--labels", "labels.npy", "--out", "e.json"]
    assert main([*arguments, "--fail-if", "relative_local_density<0.9"]) == 1
    assert "check failed: relative_local_density<0.9 for 'z.npy'" in capsys.readouterr().err
    assert main(["report", "e.json", "--out", "page.html"]) == 0
    assert "How densely the classes lie" in Path("page.html").read_text(encoding="utf-8")
