"""The page of the study of local density: what it writes, escapes, leaves out and refuses."""

from __future__ import annotations

import copy
import csv
import functools
import html
import json
from pathlib import Path
from typing import Any

import pytest

from density_document import made_up_document
from spherometer import plots
from spherometer.errors import InputError
from spherometer.report import _density_study, write_study
from test_report_escaping import PAYLOADS, skeleton

FIGURES = ("curves-conv", "curves-vit", "panels", "scales-conv", "scales-vit", "toys")


@functools.cache
def _text(seeds: int) -> str:
    return json.dumps(made_up_document(seeds=seeds), allow_nan=False)


def made_up(seeds: int = 2) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_text(seeds))
    for part in ("toys", "panels"):  # fewer points draw faster and say the same
        for picture in found[part]:
            picture["points"], picture["labels"] = picture["points"][:40], picture["labels"][:40]
    return found


def drawn(document: dict[str, Any]) -> str:
    """The page with empty figures."""
    figures = dict.fromkeys(FIGURES, b"<svg/>")
    return _density_study._render(_density_study.checked(document), figures)


def test_files_and_figures(tmp_path: Path) -> None:
    path = write_study(made_up(), tmp_path)
    page = path.read_text(encoding="utf-8")
    assert path == tmp_path / "report.html"
    assert len(page) < 4_000_000
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    made = sorted(each.name for each in (tmp_path / "figures").iterdir())
    assert made == sorted(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg"))
    rows = list(csv.DictReader((tmp_path / "curves.csv").read_text(encoding="utf-8").splitlines()))
    document = made_up()
    entry = document["curves"]["contrastive-conv"][-1]
    (row,) = (
        each
        for each in rows
        if each["arm"] == "contrastive-conv"
        and each["epoch"] == str(entry["epoch"])
        and each["measure"] == "rld 0.1"
    )
    assert float(row["value"]) == pytest.approx(entry["rld"]["0.1"]["value"])


def test_results_read_back_give_the_same_page() -> None:
    document = made_up()
    again = json.loads(json.dumps(document, sort_keys=True))
    assert drawn(document) == drawn(again)


def test_every_arm_and_every_finding_is_on_the_page() -> None:
    document = made_up()
    page = drawn(document)
    for arm in document["arms"]:
        assert arm["name"] in page
    for finding in document["findings"]:
        assert html.escape(finding["claim"]) in page.replace("&#39;", "&#x27;")
    for toy in document["toys"]:
        assert toy["name"].lower() in page.lower()
    assert "652" in page


def test_numbers_of_the_table_are_those_of_the_document() -> None:
    document = made_up()
    document["final"]["supervised-conv"]["rld"]["0.1"] = {
        "value": 0.12345, "interval": [0.1, 0.2], "num": 2, "seeds": [0.1, 0.14],
    }  # fmt: skip
    page = drawn(document)
    assert "0.123" in page
    assert "0.12345" not in page


@pytest.mark.parametrize("part", ["panels", "toys"])
def test_parts_may_be_missing(part: str) -> None:
    document = made_up()
    document[part] = []
    figures = dict.fromkeys((each for each in FIGURES if each != part), b"<svg/>")
    page = _density_study._render(_density_study.checked(document), figures)
    assert page.count("<img") == len(figures)
    assert part not in _density_study._figures({**document, "arms": []})


def test_arms_that_did_not_finish() -> None:
    document = made_up()
    arm = next(each for each in document["arms"] if each["id"] == "bad-vit")
    arm |= {"num": 0, "message": "the loss became nan in step 3"}
    document["final"]["bad-vit"] = None
    document["curves"]["bad-vit"] = []
    page = drawn(document)
    assert "the loss became nan in step 3" in page


def test_one_seed_has_no_intervals() -> None:
    document = made_up(seeds=1)
    assert "[" not in drawn(document).split("<table")[1].split("</table>")[0]
    assert plots.density_scales(document, "conv").axes


PLACES = [
    lambda d, text: d["arms"][0].update(name=text),
    lambda d, text: d["findings"][0].update(claim=text, evidence=text),
    lambda d, text: d["toys"][0].update(name=text, words=text),
    lambda d, text: d["data"].update(source=text),
    lambda d, text: d["protocol"].update({"x": text}),
    lambda d, text: d["heads"][0].update(words=text),
    lambda d, text: d["environment"].update({text: text}),
]


@pytest.mark.parametrize("place", range(len(PLACES)))
def test_text_stays_text(place: int) -> None:
    def page_with(text: str) -> str:
        document = made_up()
        PLACES[place](document, text)
        return drawn(document)

    plain = skeleton(page_with("harmless"))
    for payload in PAYLOADS:
        assert skeleton(page_with(payload)) == plain


def _without(document: dict[str, Any], *path: Any) -> dict[str, Any]:
    found = copy.deepcopy(document)
    place: Any = found
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return found


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: _without(d, "curves"), "curves"),
        (lambda d: _without(d, "data", "num_classes"), "num_classes"),
        (lambda d: {**d, "temperatures": []}, "temperatures"),
        (lambda d: {**d, "ks": ["ten"]}, "ks"),
        (lambda d: {**d, "toys": [{**d["toys"][0], "points": [[0.0]]}]}, "pairs of numbers"),
        (lambda d: {**d, "panels": [{**d["panels"][0], "labels": [1]}]}, "labels"),
        (lambda d: {**d, "curves": {"x": 3}}, "be a list"),
    ],
)
def test_damaged_documents_are_refused_in_one_line(damage: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        write_study(damage(made_up()), tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_figures_are_the_same_each_time() -> None:
    document = made_up()
    one, two = (plots.to_svg(plots.density_toys(document)) for _ in range(2))
    assert one == two
