"""The page of a study and of evaluations: complete, self-contained, the same bytes; bad input refused."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pytest

import spherometer as sm
from spherometer import report
from spherometer.errors import InputError
from spherometer.report import _study, _table
from spherometer.stores import write_file
from study_document import study_document

GOLDEN_FIX = "Pass a results.json that this version's `spherometer study` wrote."


@pytest.fixture(scope="module")
def page() -> str:
    return report.render(study_document())


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without drawing: an empty image instead of each figure."""
    names = ("plane", "sweep", "trajectories", "circle", "selection")
    monkeypatch.setattr(_study, "_figures", lambda document: {})
    monkeypatch.setattr(_study, "_vectors", lambda figures: dict.fromkeys(names, b""))


def parsed(page: str) -> Any:
    return html5lib.parse(page, namespaceHTMLElements=False)


def words(page: str) -> str:
    return " ".join("".join(parsed(page).itertext()).split())


def test_same_document_gives_the_same_page(page: str) -> None:
    assert report.render(study_document()) == page


def test_page_is_self_contained(page: str) -> None:
    assert len(page.encode()) < 2_000_000
    tree = parsed(page)
    assert [e for e in tree.iter() if e.tag in {"script", "link", "iframe", "object", "form", "base"}] == []
    for element in tree.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            if name == "href":
                assert value.startswith("#")
            if name in {"src", "srcset", "data", "action"}:
                assert value.startswith("data:image/svg+xml;base64,")
    assert re.search(r"url\(|@import|https?://", page) is None
    policy = [e.attrib["content"] for e in tree.iter("meta") if "http-equiv" in e.attrib]
    assert policy == [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    ]


def test_links_lead_somewhere(page: str) -> None:
    tree = parsed(page)
    ids = {e.attrib["id"] for e in tree.iter() if "id" in e.attrib}
    assert {e.attrib["href"][1:] for e in tree.iter("a")} <= ids


def test_images_have_words_and_figures_have_captions(page: str) -> None:
    tree = parsed(page)
    images = list(tree.iter("img"))
    assert len(images) == 5
    assert all(image.attrib["alt"] for image in images)
    captions = ["".join(caption.itertext()) for caption in tree.iter("figcaption")]
    assert [caption.strip()[:8] for caption in captions] == [f"Figure {n}" for n in range(1, 6)]
    assert all("How to read it" in caption for caption in captions)


def test_page_says_what_the_document_says(page: str) -> None:
    document, text = study_document(), words(page)
    for finding in document["findings"]:
        assert finding["claim"] in text
        assert finding["evidence"] in text
    for trial in document["trials"]:
        assert trial["name"] in text
    for row in document["best"]:
        assert row["role"] in text
    for part in (
        "1 077 images to train",
        "the loss was not finite at step 12",
        "Not computed. performance_relation",
    ):
        assert part in text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "spherometer study digits --out runs/digits" in text
    assert "quick run" not in text


@pytest.mark.usefixtures("quickly")
def test_trials_are_sorted_by_validation_accuracy() -> None:
    document = study_document()
    accuracy = {
        t["name"]: t["accuracy"]["linear_output"]["validation"] for t in document["trials"] if t["accuracy"]
    }
    names = sorted(accuracy, key=lambda name: -accuracy[name])
    table = list(parsed(report.render(document)).iter("table"))[-1]
    shown = [next(row.iter("th")).text for row in table.iter("tr") if row.find("th") is not None]
    assert [name for name in shown if name in set(names)] == names


@pytest.mark.usefixtures("quickly")
def test_quick_and_seeds_are_in_the_command() -> None:
    document = study_document() | {"quick": True, "seeds": [0, 1, 2]}
    text = words(report.render(document))
    assert "spherometer study digits --out runs/digits --quick --seeds 3" in text
    assert "This is a quick run" in text
    assert "intervals and p-values of the relation therefore resample settings" in text


@pytest.mark.parametrize(
    "part", ["sweep", "trajectories", "circle", "selection", "best", "findings", "relation"]
)
def test_parts_may_be_empty(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plane", "sweep", "trajectories", "circle", "selection"):
        monkeypatch.setattr(_study.plots, name, lambda *_, **__: None)
    monkeypatch.setattr(_study.plots, "to_svg", lambda figure: b"")
    document = study_document()
    document[part] = type(document[part])()
    page = report.render(document)
    if part in ("sweep", "trajectories", "circle"):
        assert f'id="{part}"' not in page
        assert f'href="#{part}"' not in page


@pytest.mark.usefixtures("quickly")
def test_refused_relation_and_selection_say_why() -> None:
    document = study_document()
    document["relation"]["linear_output"] = {"refused": "too few encoders, says the relation"}
    document["selection"]["all"] = {"refused": "too few encoders, says the selection"}
    text = words(report.render(document))
    assert "Not computed. too few encoders, says the relation" in text
    assert "too few encoders, says the selection" in text


@pytest.mark.usefixtures("quickly")
def test_without_collapsed_encoders_equal_tables_are_shown_once() -> None:
    document = study_document()
    document["selection"]["without_info_nce"] = document["selection"]["all"]

    def captions() -> list[str]:
        found = ["".join(c.itertext()) for c in parsed(report.render(document)).iter("caption")]
        return [caption for caption in found if caption.startswith("Table 3")]

    family = "Without the contrastive family"
    assert captions() == [
        "Table 3a. Without collapsed encoders",
        "Table 3b. All encoders",
        f"Table 3c. {family}",
    ]
    for trial in document["trials"]:
        trial["collapsed"] = False
    assert [caption.split(". ")[1] for caption in captions()] == ["All encoders", family]


def change(path: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def apply(document: dict[str, Any]) -> Any:
        *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        part: Any = document
        for key in parents:
            part = part[key]
        if value is KeyError:
            del part[last]
        else:
            part[last] = value
        return document

    return apply


@pytest.mark.parametrize(
    ("spoil", "must", "got"),
    [
        (lambda _: [], "must be an object", "a list"),
        (
            change("schema", "spherometer.study/9"),
            ".schema must be 'spherometer.study/1'",
            "'spherometer.study/9'",
        ),
        (
            change("schema", KeyError),
            ".schema must be 'spherometer.study/1'",
            "no such key",
        ),
        (
            change("trials", KeyError),
            "must have the key 'trials'",
            "no such key",
        ),
        (
            change("trials/3/metrics", []),
            ".trials[3].metrics must be an object",
            "a list",
        ),
        (
            change("trials/3/metrics/alignment/value", "low"),
            ".trials[3].metrics.alignment.value must be a whole number or a number",
            "a text",
        ),
        (
            change("trials/3/metrics/alignment/interval", [1]),
            ".trials[3].metrics.alignment.interval must be two numbers or nothing",
            "[1]",
        ),
        (
            change("trials/0/accuracy/linear_output/test", KeyError),
            ".trials[0].accuracy.linear_output must have the key 'test'",
            "no such key",
        ),
        (
            change("quick", 1),
            ".quick must be true or false",
            "a whole number",
        ),
        (
            change("data/num_train", True),
            ".data.num_train must be a whole number",
            "true or false",
        ),
        (
            change("circle/0/points", KeyError),
            ".circle[0] must have the key 'points'",
            "no such key",
        ),
        (
            change("trajectories/paths/both", {}),
            ".trajectories.paths.both must be a list",
            "an object",
        ),
        (
            change("selection/all/sum/label", None),
            ".selection.all.sum.label must be a text",
            "nothing",
        ),
        (
            change("findings/0/verdict", KeyError),
            ".findings[0] must have the key 'verdict'",
            "no such key",
        ),
    ],
)
def test_documents_that_cannot_be_drawn(
    spoil: Callable[[dict[str, Any]], Any], must: str, got: str, tmp_path: Path
) -> None:
    document = spoil(study_document())
    with pytest.raises(InputError) as caught:
        report.write_study(document, tmp_path / "out")
    where = must if must.startswith(".") else f" {must}"
    message = f"report: document{where}, because the page is drawn from it. Got {got}. {GOLDEN_FIX}"
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


def test_write_study(tmp_path: Path, page: str) -> None:
    path = report.write_study(study_document(), tmp_path / "new" / "place")
    assert path == tmp_path / "new" / "place" / "report.html"
    assert path.read_text(encoding="utf-8") == page
    names = sorted(str(p.relative_to(path.parent)) for p in path.parent.rglob("*") if p.is_file())
    figures = [
        f"figures/{n}.{k}"
        for n in ("circle", "plane", "selection", "sweep", "trajectories")
        for k in ("png", "svg")
    ]
    assert names == [*figures, "report.html", "trials.csv"]
    rows = list(csv.DictReader(io.StringIO((path.parent / "trials.csv").read_text(encoding="utf-8"))))
    trials = {t["key"]: t for t in study_document()["trials"]}
    assert [row["key"] for row in rows][-1] == study_document()["trials"][-1]["key"]
    assert {row["key"] for row in rows} == set(trials)
    for row in rows:
        metrics = trials[row["key"]]["metrics"]
        if metrics:
            assert float(row["uniformity"]) == metrics["uniformity"]["value"]
            assert float(row["uniformity_low"]) == metrics["uniformity"]["interval"][0]


def test_a_spreadsheet_runs_nothing_and_numbers_stay_numbers() -> None:
    cells = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "plain", "", None, True, -1.5, 1e-9, 3]
    lines = list(
        csv.reader(io.StringIO(_table.table(["=head", "b"], [[c, c] for c in cells]).decode(), newline=""))
    )
    assert lines[0] == ["'=head", "b"]
    assert [line[0] for line in lines[1:]] == [
        "'=1+1",
        "'+1",
        "'-1",
        "'@SUM(A1)",
        "'\t=1",
        "' =1",
        "plain",
        "",
        "",
        "true",
        "-1.5",
        "1e-09",
        "3",
    ]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_out_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        write_file(tmp_path / "file" / "report.html", b"x")
    assert str(caught.value) == (
        "write: out must be a place that can be written to, because results are saved there. "
        f"Got file exists for {str(tmp_path / 'file' / 'report.html')!r}. Choose another one."
    )


@pytest.fixture(scope="module")
def evaluation() -> sm.Evaluation:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8))
    return sm.measure(x, x + 0.1 * rng.normal(size=x.shape), labels=np.arange(60) % 3)


def test_page_of_evaluations(evaluation: sm.Evaluation, tmp_path: Path) -> None:
    path = report.write_evaluations([("model <A>", evaluation), ("B", evaluation)], tmp_path / "x.html")
    page = path.read_text(encoding="utf-8")
    assert page == report.render_evaluations([("model <A>", evaluation), ("B", evaluation)])
    text = words(page)
    for name, measured in evaluation.items():
        assert measured.label in text, name
        for label in measured.baseline:
            assert label in text
    assert "model <A>" in text
    assert "model <A>" not in page
    assert report.write_evaluations([("one", evaluation)], tmp_path) == tmp_path / "report.html"


def test_every_measurement_is_explained(evaluation: sm.Evaluation) -> None:
    from spherometer.report import _words

    assert set(evaluation) <= set(_words.MEASURES)
    for name, measured in evaluation.items():
        assert _words.MEASURES[name][1] == (measured.better or ""), name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [],
            "report: evaluations must hold at least one evaluation, because an empty page says nothing. "
            "Got none. ",
        ),
        (
            [("a", {})],
            "report: evaluations must be pairs (name, Evaluation), because each is shown under its name. "
            "Got tuple. ",
        ),
    ],
)
def test_what_is_no_evaluation_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        report.render_evaluations(given)
    assert str(caught.value) == message + "Pass for instance [('model A', spherometer.measure(x))]."
