"""The bandwidth curve as a figure, as a section of the page, and from the command line with a table of "
"meta-data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pytest

import spherometer as sm
from spherometer import plots, report
from spherometer._bandwidth_curve import bandwidth_curve
from spherometer._curve import BandwidthCurve
from spherometer.cli import main
from spherometer.kernels import Categorical, Gaussian, Product
from spherometer.report import _evaluations
from test_plots import HOSTILE, elements, texts
from test_report_escaping import PAYLOADS, skeleton


def rows(num: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num, 3))
    y = x + 0.1 * rng.normal(size=x.shape)
    return x, y, np.round(20 + 60 * rng.random(num), 1), np.where(rng.random(num) < 0.5, "f", "m")


@pytest.fixture(scope="module")
def curve() -> dict[str, Any]:
    x, y, age, _ = rows()
    return bandwidth_curve(x, y, {"age": age}).to_dict()


# --- the figure ---------------------------------------------------------------------------------------


def test_the_same_curve_gives_the_same_bytes(curve: dict[str, Any]) -> None:
    svg = plots.to_svg(plots.bandwidths(curve))
    assert svg == plots.to_svg(plots.bandwidths(json.loads(json.dumps(curve))))
    assert {element.tag.rsplit("}", 1)[-1] for element in elements(svg)} <= {
        *("svg", "g", "path", "use", "defs", "clipPath", "rect", "style"),
    }


def test_the_figure_says_what_the_curve_says(curve: dict[str, Any]) -> None:
    figure = plots.bandwidths(curve)
    upper, lower = figure.axes[:2]
    assert {"no kernel", "infinite bandwidth", "the kernel's own"} <= set(texts(figure))
    assert upper.get_title(loc="left").startswith("Conditional alignment")
    assert lower.get_title(loc="left").startswith("Conditional uniformity")
    assert lower.get_xlabel() == "Bandwidth of age"
    middle = next(point for point in curve["points"] if point["factor"] == 1)
    labels = {
        place: text.get_text()
        for place, text in zip(lower.get_xticks(), lower.get_xticklabels(), strict=True)
    }
    assert labels[0] == f"{middle['bandwidths']['age']:.3g}"
    assert len(labels) == 9
    for axes, name in ((upper, "alignment"), (lower, "uniformity")):
        line = next(line for line in axes.lines if len(line.get_xdata()) == 17)
        assert list(line.get_ydata()) == [point[name] for point in curve["points"]]
        assert list(line.get_xdata()) == pytest.approx([k / 2 for k in range(-8, 9)])


def test_what_was_not_measured_is_not_drawn() -> None:
    x, _, age, _ = rows()
    one = bandwidth_curve(x, None, age, form="threshold", factors=(0.5, 1.0, 1e6)).to_dict()
    figure = plots.bandwidths(one)
    assert len(figure.axes) == 1
    assert figure.axes[0].get_xlabel() == "Bandwidth of metadata"
    assert "infinite bandwidth" not in texts(figure)
    plots.to_svg(figure)
    several = bandwidth_curve(x, x, {"a": age, "b": age**2}, factors=(1,)).to_dict()
    assert plots.bandwidths(several).axes[1].get_xlabel() == "Bandwidths of a, b: times their own"
    for point in one["points"]:
        point["uniformity"] = None
    assert plots.bandwidths(one).axes == []


def test_hostile_names_are_drawn_and_do_nothing(curve: dict[str, Any]) -> None:
    hostile = json.loads(json.dumps(curve))
    for point in hostile["points"]:
        point["bandwidths"] = {HOSTILE: point["bandwidths"]["age"]}
    svg = plots.to_svg(plots.bandwidths(hostile))
    assert b"script" not in svg
    assert b"alert" not in svg


# --- the page -----------------------------------------------------------------------------------------


def test_the_page_shows_the_curve() -> None:
    x, y, age, sex = rows()
    e = sm.measure(x, y, metadata={"age": age, "sex": sex}, bandwidth_curve=True)
    page = report.render_evaluations([("model", e)])
    assert page == report.render_evaluations([("model", sm.Evaluation.from_json(e.to_json()))])
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    words = "".join(tree.itertext())
    assert "Against the bandwidth" in words
    assert str(e.bandwidth_curve.kernel) in words
    assert "Similar samples" in words
    table = tree.findall(".//table")[-1]
    body = table.findall("tbody/tr")
    assert len(body) == 19
    assert ["".join(row[0].itertext()) for row in (body[0], body[9], body[18])] == [
        "No kernel",
        "The kernel's own",
        "Infinite",
    ]
    point = e.bandwidth_curve.points[8]
    assert f"{point.alignment:.4f}" in "".join(body[9].itertext())
    assert len(tree.findall(".//figure")) == 3
    assert "kernel in full" not in words
    for name in ("conditional_alignment", "conditional_uniformity"):
        assert report._words.MEASURES[name][2] in words


def test_a_page_without_a_curve_has_no_such_section() -> None:
    x, y, age, _ = rows()
    assert "Against the bandwidth" not in report.render_evaluations([("a", sm.measure(x, y, metadata=age))])


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: ascii(p[:24]))
def test_the_section_keeps_its_elements(
    payload: str, curve: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_evaluations.plots, "intervals", lambda measurements: None)
    monkeypatch.setattr(_evaluations.plots, "bandwidths", lambda curve: None)
    monkeypatch.setattr(_evaluations.plots, "to_svg", lambda figure: b"")

    def page(text: str) -> str:
        planted = json.loads(json.dumps(curve))
        planted |= {"kernel": text, "notes": [text], "settings": {text: text}, "definition": {text: text}}
        for point in planted["points"]:
            point["bandwidths"] = {text: 1.0}
        e = sm.Evaluation({}, notes=(text,), bandwidth_curve=BandwidthCurve.from_dict(planted))
        return report.render_evaluations([(text, e)])

    assert skeleton(page(payload)) == skeleton(page("a harmless text"))


# --- the command --------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x, y, age, sex = rows()
    names = [f"sub-{row:02d}" for row in range(30)]
    np.save("x.npy", x)
    np.savez("pairs.npz", x=x, y=y)
    np.savez("named.npz", x=x, y=y, ids=np.array(names)[::-1])
    np.savez("numbered.npz", features=x, participant_id=np.arange(30))
    lines = [f"{n}\t{a}\t{s}" for n, a, s in zip(names, age, sex, strict=True)]
    Path("t.tsv").write_text("\n".join(["participant_id\tage\tsex", *lines, "sub-99\tn/a\tf"]) + "\n")
    Path("t.csv").write_text(
        "\n".join(["age,sex", *(f"{a},{s}" for a, s in zip(age, sex, strict=True))]) + "\n"
    )
    return tmp_path


def measured(capsys: pytest.CaptureFixture[str], *arguments: str) -> sm.Evaluation:
    assert main(["measure", *arguments, "--json"]) == 0, capsys.readouterr().err
    out, err = capsys.readouterr()
    assert err == ""
    found = sm.Evaluation.from_json(out)
    assert found.provenance["files"]
    found.provenance = None  # an array has none
    return found


@pytest.mark.usefixtures("place")
def test_rows_of_a_table_by_position(capsys: pytest.CaptureFixture[str]) -> None:
    x, y, age, sex = rows()
    found = measured(capsys, "pairs.npz", "--metadata", "t.csv")
    assert found == sm.measure(x, y, metadata={"age": age, "sex": sex})
    found = measured(capsys, "pairs.npz", "--metadata", "t.csv", "--columns", "age")
    assert found == sm.measure(x, y, metadata={"age": age})
    found = measured(
        capsys, "x.npy", "--metadata", "t.csv", "--kernel", "age:gaussian:5", "--kernel", "sex:categorical"
    )
    kernel = Product({"age": Gaussian(5.0), "sex": Categorical()})
    assert found == sm.measure(x, metadata={"age": age, "sex": sex}, kernel=kernel)
    found = measured(
        capsys, "x.npy", "--metadata", "t.csv", "--columns", "sex, age", "--kernel", "age:laplace:scott",
        "--bandwidth-curve", "--t", "3",
    )  # fmt: skip
    assert list(found["conditional_uniformity"].settings["kernel_in_full"]["columns"]) == ["sex", "age"]
    assert len(found.bandwidth_curve.points) == 17
    assert found.bandwidth_curve.settings["t"] == 3
    assert found.bandwidth_curve.columns == ["age"]


@pytest.mark.usefixtures("place")
def test_rows_of_a_table_by_id(capsys: pytest.CaptureFixture[str]) -> None:
    x, y, age, sex = rows()
    wanted = sm.measure(x, y, metadata={"age": age[::-1], "sex": sex[::-1]})
    found = measured(capsys, "named.npz", "--metadata", "t.tsv")
    assert dict(found) == dict(wanted)
    assert found.notes == (*wanted.notes, "1 rows of t.tsv belong to no row of named.npz.")
    assert dict(measured(capsys, "named.npz", "--metadata", "t.tsv", "--id", "participant_id")) == dict(
        wanted
    )
    lines = Path("t.tsv").read_text().replace("sub-", "").replace("\n0", "\n").splitlines()
    Path("n.tsv").write_text("\n".join(lines) + "\n")
    found = measured(capsys, "numbered.npz", "--metadata", "n.tsv", "--columns", "age")
    assert found["conditional_uniformity"].value == pytest.approx(
        float(sm.conditional_uniformity(x, {"age": age}))
    )


@pytest.mark.usefixtures("place")
def test_sessions_of_one_subject_share_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    x, _, age, _ = rows()
    np.savez("sessions.npz", x=np.concatenate([x, x[:3]]), ids=[f"sub-{row % 30:02d}" for row in range(33)])
    found = measured(capsys, "sessions.npz", "--metadata", "t.tsv", "--columns", "age")
    wanted = sm.measure(np.concatenate([x, x[:3]]), metadata={"age": np.concatenate([age, age[:3]])})
    assert dict(found) == dict(wanted)


@pytest.mark.usefixtures("place")
def test_missing_entries(capsys: pytest.CaptureFixture[str]) -> None:
    x, _, age, _ = rows()
    lines = Path("t.csv").read_text().splitlines()
    lines[4] = "n/a,f"
    Path("gap.csv").write_text("\n".join(lines) + "\n")
    kept = np.arange(30) != 3
    found = measured(capsys, "x.npy", "--metadata", "gap.csv", "--columns", "age", "--missing", "drop")
    wanted = sm.measure(x, metadata={"age": [*age[:3], None, *age[4:]]}, nan="drop")
    assert dict(found)["conditional_uniformity"].value == wanted["conditional_uniformity"].value
    assert found["conditional_uniformity"].num == kept.sum()
    neutral = measured(capsys, "x.npy", "--metadata", "gap.csv", "--missing", "neutral")
    assert neutral["conditional_uniformity"].num == 30


def test_saved_with_its_curve_and_drawn(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pairs.npz", "--metadata", "t.csv", "--bandwidth-curve", "--out", "e.json"]
    assert main(["measure", *arguments, "--fail-if", "conditional_uniformity>0"]) == 0
    assert "Against the bandwidth of age." in capsys.readouterr().out
    assert sm.Evaluation.from_json((place / "e.json").read_text()).bandwidth_curve is not None
    assert main(["report", "e.json"]) == 0
    assert "Against the bandwidth" in (place / "e.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["x.npy", "--kernel", "age:gaussian:5"],
            "measure: --metadata must be given with --kernel, because it says something about the table. Got "
            "no table. Pass for instance --metadata participants.tsv.",
        ),
        (
            ["x.npy", "--bandwidth-curve"],
            "measure: --metadata must be given with --bandwidth-curve, because it says something about the "
            "table. Got no table. Pass for instance --metadata participants.tsv.",
        ),
        (
            ["x.npy", "--metadata", "t.tsv"],
            "measure: --metadata 't.tsv' must have one row for each row of 'x.npy', because without ids "
            "row i "
            "of the table belongs to row i of the file. Got 31 rows for 30. Pass the table of these rows, or "
            "save ids beside the features and pass --id.",
        ),
        (
            ["named.npz", "--metadata", "t.csv"],
            "measure: --metadata 't.csv' must have a column of ids, because 'named.npz' has ids, and "
            "rows are "
            "matched by them. Got no column of a usual name (ids, id, participant_id, subject_id, "
            "sample_id). "
            "Name the column with --id.",
        ),
        (
            ["x.npy", "--metadata", "t.tsv", "--id", "participant_id"],
            "measure: --id 'participant_id' must name ids in 'x.npy' too, because rows are matched by them. "
            "Got a file without ids. Save them beside the features with np.savez(..., ids=ids), or "
            "leave --id "
            "out: then row i of the table belongs to row i.",
        ),
        (
            ["numbered.npz", "--metadata", "t.tsv"],
            "measure: --metadata 't.tsv' must have a row for every id of 'numbered.npz', because a row of "
            "features without meta-data is similar to nothing. Got 30 of 30 ids without a row, the "
            "first five "
            "'0', '1', '2', '3', '4'. Add them to the table (n/a where a value is missing), or leave "
            "those rows "
            "out.",
        ),
        (
            ["named.npz", "--metadata", "twice.tsv"],
            "measure: --metadata 'twice.tsv' must name every id once, because one row would hide the "
            "other. Got "
            "1 ids in several rows, namely 'sub-01'. Keep one row for each.",
        ),
        (
            ["x.npy", "--metadata", "t.csv", "--columns", "agee"],
            "measure: --columns must name columns of 't.csv', because their values are compared. Got 'agee', "
            "while the table has 'age', 'sex'. Did you mean 'age'.",
        ),
        (
            ["x.npy", "--metadata", "t.csv", "--kernel", "size:gaussian:5"],
            "measure: --kernel must name columns of 't.csv', because their values are compared. Got 'size', "
            "while the table has 'age', 'sex'. Name one of them.",
        ),
        (
            ["x.npy", "--metadata", "t.csv", "--columns", "sex", "--kernel", "age:gaussian:5"],
            "measure: --kernel must be for a column that --columns names, because others are not "
            "compared. Got "
            "'age'. Name it there, or leave --columns out.",
        ),
        (
            ["x.npy", "--metadata", "t.csv", "--kernel", "age:gaussian:5", "--kernel", "age:laplace:5"],
            "measure: --kernel must be given once for each column, because a column is compared in one way. "
            "Got two for 'age'. Leave one out.",
        ),
        (
            ["x.npy", "--metadata", "t.csv", "--kernel", "age:gaussian:0"],
            "Gaussian: bandwidth must be a finite number greater than 0, because the formula is defined only "
            "there. Got 0. Pass for instance bandwidth=2.",
        ),
        (
            ["x.npy", "--metadata", "t.csv", "--kernel", "sex:gaussian:5"],
            "measure: sex must hold numbers, because the kernel compares their differences. Got 'm'. Pass "
            "numbers, or use Categorical() for it.",
        ),
        (
            ["x.npy", "--metadata", "constant.csv"],
            "Gaussian.fit: age must vary, because the median rule takes the bandwidth from its spread. "
            "Got 30 "
            "rows with the same value. Leave it out, or give a bandwidth as a number.",
        ),
        (
            ["x.npy", "--metadata", "t.csv", "--columns", "sex", "--bandwidth-curve"],
            "bandwidth_curve: kernel must have a bandwidth, because it is what varies along the curve. Got "
            "sex: categorical kernel. Give a column of numbers a kernel such as Gaussian().",
        ),
    ],
)
def test_bad_usage_is_one_line_and_writes_nothing(
    arguments: list[str], line: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("twice.tsv").write_text(Path("t.tsv").read_text() + "sub-01\t30\tm\n")
    Path("constant.csv").write_text("age\n" + "30\n" * 30)
    before = sorted(place.iterdir())
    assert main(["measure", *arguments, "--out", "e.json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"spherometer: {line}\n"
    assert sorted(place.iterdir()) == before


@pytest.mark.usefixtures("place")
def test_ids_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("bad.npz", x=rows()[0], ids=np.arange(30.0))
    assert main(["measure", "bad.npz", "--metadata", "t.tsv"]) == 2
    assert capsys.readouterr().err == (
        "spherometer: measure: ids 'ids' of 'bad.npz' must be texts or whole numbers, one for each row, "
        "because "
        "each names the row of the table that belongs to a row of features. Got shape (30,), dtype float64. "
        "Save 30 of them.\n"
    )
    assert main(["measure", "bad.npz"]) == 0  # without a table nobody asks for ids
