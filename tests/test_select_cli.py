"""``spherometer select``: what it reads, prints and writes."""

import json

import numpy as np
import pyarrow as pa
import pytest
import typer
from pyarrow import parquet
from typer.testing import CliRunner

import spherometer as sm
from spherometer import stores
from spherometer._select import CRITERIA, Selection
from spherometer.cli import _select
from spherometer.errors import InputError

NOISES = {"run/step=1": 1.5, "run/step=2": 0.6, "run/step=10": 0.2, "other": 0.05}


@pytest.fixture
def run():
    app = typer.Typer()
    app.command("select")(_select.select)
    app.command("nothing")(lambda: None)  # with a second one the name of the command is an argument
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["select", *map(str, arguments)])


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((60, 5)).astype(np.float32)
    for name, noise in NOISES.items():
        path = tmp_path / "saved" / f"{name}.npz"
        path.parent.mkdir(exist_ok=True, parents=True)
        y = x + noise * generator.standard_normal(x.shape).astype(np.float32)
        np.savez(path, x=x, y=y, first=y, second=x)
    return tmp_path


@pytest.fixture(autouse=True)
def opened(monkeypatch):
    """What files are opened with, besides being opened."""
    calls, real = [], stores.open

    def opener(path, **options):
        calls.append((path.name, dict(options)))
        return real(path, **options)

    monkeypatch.setattr(stores, "open", opener)
    return calls


def test_a_directory_is_ranked(run, place):
    result = run("saved")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Ranked by: ")
    assert [line.split()[1] for line in lines[3:7]] == sorted(NOISES, key=NOISES.get)
    assert "4 candidates are few" in result.stdout


def test_json_and_files(run, place):
    result = run("saved", "--json", "--out", "s.json", "--report", "page.html", "--seed", 3)
    assert result.exit_code == 0
    found = Selection.from_json(result.stdout)
    assert (place / "s.json").read_text() == found.to_json() + "\n"
    assert [each.name for each in found] == sorted(NOISES, key=NOISES.get)
    assert found.settings["seed"] == 3
    page = (place / "page.html").read_text()
    assert "run/step=10" in page
    assert "<script" not in page


def test_results_judge(run, place):
    (place / "saved" / "known.csv").write_text("name,result\nother,.4\nrun/step=1,.1\nrun/step=2,.2\n")
    result = run("saved", "--performance", "saved/known.csv", "--json")
    assert result.exit_code == 0
    found = Selection.from_json(result.stdout)
    assert found["other"].performance == 0.4
    assert len(found) == 4
    assert found.quality["sum"]["num"] == 3


def test_several_files_and_their_columns(run, place, opened):
    files = ["saved/other.npz", "saved/run/step=10.npz"]
    result = run(*files, "--views", "first", "second", "--trust-size", "--json")
    assert result.exit_code == 0
    found = Selection.from_json(result.stdout)
    assert [each.name for each in found] == ["saved/other", "saved/run/step=10"]
    given = {"views": ("first", "second"), "trust_size": True}
    assert opened == [("other.npz", given), ("step=10.npz", given)]


def test_tables_with_ids_classes_and_pairs(run, place):
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((80, 3)).astype(np.float32)
    for name, noise in (("one", 0.1), ("two", 1.0)):
        sides = [rows, rows + noise * generator.standard_normal(rows.shape).astype(np.float32)]
        columns = {
            "who": pa.array([f"{side}{row}" for side in "ab" for row in range(80)]),
            "pair": pa.array([*range(80)] * 2),
            "kind": pa.array(["left", "right"] * 80),
            "emb": pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(sides).ravel()), 3),
        }
        parquet.write_table(pa.table(columns), place / f"{name}.parquet")
    options = ["--column", "emb", "--pair-id", "pair", "--id", "who", "--labels", "kind", "--json"]
    result = run("one.parquet", "two.parquet", *options)
    assert result.exit_code == 0, result.exception
    found = Selection.from_json(result.stdout)
    assert [each.name for each in found] == ["one", "two"]
    assert "tolerance" in found["one"].metrics
    assert not any("ids" in warning for warning in found.warnings)


def test_evaluations_are_read_without_features(run, place, opened):
    for name, noise in (("a", 0.1), ("b", 0.2)):
        x = np.random.default_rng(1).standard_normal((50, 4))
        sm.measure(x, x + noise * x[::-1]).to_json(place / f"{name}.json")
    result = run("a.json", "b.json", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["criterion"] == "sum"
    assert opened == []


def test_every_criterion_can_be_asked_for(run, place):
    assert {each.value for each in _select.Criterion} == set(CRITERIA)
    result = run("saved", "--criterion", "lidar", "--json")
    assert json.loads(result.stdout)["criterion"] == "lidar"
    assert run("saved", "--criterion", "accuracy").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["saved/other.npz"], "DIR must be a directory, or several files"),
        (["missing"], "DIR must be a directory, or several files"),
        (["saved/other.npz", "saved/other.npz"], "DIR must be files of different names"),
        (["saved", "--performance", "no.csv"], "performance must be a regular file"),
        (["saved", "--temperature", "0"], "temperature must"),
    ],
)
def test_what_is_refused(run, place, arguments, what):
    result = run(*arguments)
    assert isinstance(result.exception, InputError)
    assert str(result.exception).startswith("select: ")
    assert what in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize("names", [("x", "y"), ("z1", "z2")])
def test_python_finds_the_pairs_that_the_command_finds(names, run, place):
    for path in sorted((place / "saved").rglob("*.npz")):
        with np.load(path) as arrays:
            np.savez(path, **dict(zip(names, (arrays["x"], arrays["y"]), strict=True)))
    said = run("saved", "--json")
    found = sm.select("saved")
    assert found.criterion == "sum"
    assert all("alignment" in each.metrics and "info_nce" in each.metrics for each in found)
    assert found.to_json() + "\n" == said.stdout
    same = sm.select({each.name: place / "saved" / f"{each.name}.npz" for each in found})
    assert [each.metrics for each in same] == [each.metrics for each in found]


def test_what_python_opened_itself_stays_as_it_is(place):
    files = {each: stores.open(place / "saved" / f"{each}.npz", column="x") for each in NOISES}
    assert sm.select(files).criterion == "rankme"
