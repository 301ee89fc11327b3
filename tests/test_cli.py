"""The commands: what they write, and what every way of ending gives."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spherometer as sm
from spherometer.cli import _conditions, _main, main
from spherometer.cli._progress import Progress
from spherometer.errors import InputError, MissingExtraError
from study_document import study_document


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in, with files of features."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4))
    y = x + 0.1 * rng.normal(size=x.shape)
    np.save("x.npy", x)
    np.save("y.npy", y)
    np.save("labels.npy", np.array(["a", "b"] * 20))
    np.savez("pairs.npz", x=x, y=y, labels=np.arange(40) % 2)
    np.savez("views.npz", z1=x, z2=y)
    np.savez("other.npz", first=x, second=y, classes=np.arange(40) % 2)
    np.savez("single.npz", whatever=x, labels=np.arange(40) % 2)
    return tmp_path


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The single line on stderr; nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.rstrip("\n")


def measured(capsys: pytest.CaptureFixture[str], *arguments: str) -> sm.Evaluation:
    assert main(["measure", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return without_provenance(out)


def without_provenance(text: str) -> sm.Evaluation:
    document = json.loads(text)
    provenance = document.pop("provenance")
    assert all(len(one["sha256"]) == 64 and one["num_bytes"] > 0 for one in provenance["files"])
    return sm.Evaluation.from_dict(document)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["x.npy"], {}),
        (["x.npy", "--pairs", "y.npy"], {"y": True}),
        (["x.npy", "--labels", "labels.npy"], {"labels": ["a", "b"] * 20}),
        (["pairs.npz"], {"y": True, "labels": [0, 1] * 20}),
        (["views.npz"], {"y": True}),
        (["single.npz"], {"labels": [0, 1] * 20}),
        (["pairs.npz", "--column", "x"], {"labels": [0, 1] * 20}),
        (["other.npz", "--column", "first"], {}),
        (
            ["other.npz", "--column", "first", "--pairs", "second", "--labels", "classes"],
            {"y": True, "labels": [0, 1] * 20},
        ),
        (["other.npz", "--column", "first", "--pairs", "y.npy"], {"y": True}),
    ],
)
def test_measure_finds_the_sides(
    arguments: list[str], keys: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    y = np.load("y.npy") if keys.get("y") else None
    expected = sm.measure(np.load("x.npy"), y, labels=keys.get("labels"))
    assert measured(capsys, *arguments) == expected


@pytest.mark.usefixtures("place")
def test_measure_passes_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.load("x.npy"), np.load("y.npy")
    x[3, 0] = np.nan
    np.savez("nan.npz", x=x, y=y)
    got = measured(capsys, "nan.npz", "--t", "3", "--alpha", "1", "--nan", "drop")
    assert got == sm.measure(x, y, t=3.0, alpha=1.0, nan="drop")
    unit = x[:3] / np.linalg.norm(x[:3], axis=1, keepdims=True)
    np.save("unit.npy", unit)
    assert measured(capsys, "unit.npy", "--no-normalize") == sm.measure(unit, normalize=False)


@pytest.mark.usefixtures("place")
def test_measure_prints_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "x.npy"]) == 0
    assert capsys.readouterr().out == f"{sm.measure(np.load('x.npy'))}\n"
    assert main(["measure", "x.npy", "y.npy"]) == 0
    x, y = (sm.measure(np.load(name)) for name in ("x.npy", "y.npy"))
    assert capsys.readouterr().out == f"x.npy\n{x}\n\ny.npy\n{y}\n"
    assert main(["measure", "x.npy", "y.npy", "--json"]) == 0
    assert [one["file"] for one in json.loads(capsys.readouterr().out)] == ["x.npy", "y.npy"]


def test_measure_saves_and_report_draws(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "x.npy", "--out", "new/x.json"]) == 0
    assert without_provenance((place / "new/x.json").read_text()) == sm.measure(np.load("x.npy"))
    assert main(["measure", "x.npy", "pairs.npz", "--out", "many"]) == 0
    assert sorted(path.name for path in (place / "many").iterdir()) == ["pairs.json", "x.json"]
    capsys.readouterr()
    assert main(["report", "many/x.json", "many/pairs.json", "--out", "page"]) == 0
    assert capsys.readouterr().out == f"{Path('page/report.html')}\n"
    assert "pairs" in (place / "page/report.html").read_text(encoding="utf-8")
    assert main(["report", "new/x.json"]) == 0
    assert (place / "new/x.html").exists()


@pytest.mark.parametrize("condition", ["uniformity>-9", "uniformity <= 0", "rankme>=1", "alignment<2"])
def test_a_check_that_fails_gives_1(condition: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        ["measure", "pairs.npz", "--fail-if", condition, "--fail-if", "uniformity>0", "--out", "e.json"]
    )
    assert code == 1
    assert capsys.readouterr().err == f"spherometer: check failed: {condition} for 'pairs.npz'\n"
    assert (place / "e.json").exists()


@pytest.mark.usefixtures("place")
def test_checks_that_hold_give_0() -> None:
    assert main(["measure", "pairs.npz", "--fail-if", "uniformity>0", "--fail-if", "rankme<1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "Missing command. See: spherometer --help"),
        (["nonsense"], "No such command 'nonsense'. See: spherometer --help"),
        (["measure"], "Missing argument 'FILE'. See: spherometer --help"),
        (["measure", "x.npy", "--zzzzzz"], "No such option: --zzzzzz. See: spherometer --help"),
        (
            ["measure", "x.npy", "--fail-if", "uniformity"],
            "measure: --fail-if must be a name, one of > < >= <=, and a number, because the two are "
            "compared. "
            "Got 'uniformity'. Pass for instance --fail-if 'uniformity>-2'.",
        ),
        (
            ["measure", "x.npy", "--fail-if", "unifrmity>0", "--out", "e.json"],
            "measure: --fail-if must name something that was measured, because its value is compared. Got "
            "'unifrmity', while there are uniformity, normalized_uniformity, wasserstein_uniformity, rankme, "
            "effective_rank, participation_ratio, alpha_req, isoscore. Did you mean 'uniformity'.",
        ),
        (
            ["measure", "absent.npy"],
            "read: file 'absent.npy' must exist and be readable, because its rows are measured. "
            "Got no such file or directory. Check the path.",
        ),
        (
            ["measure", "x.txt"],
            "open: file 'x.txt' must exist and be readable, because its rows are measured. "
            "Got no such file. Check the path.",
        ),
        (
            ["measure", "other.npz"],
            "measure: --column must say which array of 'other.npz' to measure, because none has a usual name "
            "(x, z1, z, features, embeddings). Got 'first', 'second', 'classes'. Pass for instance "
            "--column NAME.",
        ),
        (
            ["measure", "other.npz", "--column", "frst"],
            "measure: --column must name an array of 'other.npz', because that array is measured. Got "
            "'frst', "
            "while the file holds 'first', 'second', 'classes'. Did you mean 'first'.",
        ),
        (
            ["measure", "pairs.npz", "--labels", "classes"],
            "measure: --labels must name an array of 'pairs.npz', because that array is measured. Got "
            "'classes', "
            "while the file holds 'x', 'y', 'labels'. Did you mean 'labels'.",
        ),
        (
            ["measure", "x.npy", "--column", "x"],
            "measure: --column must be left out for a .npy file, because it holds a single array without a "
            "name. "
            "Got 'x'. Use a .npz file, or leave it out.",
        ),
        (
            ["measure", "x.npy", "--t", "0"],
            "measure: t must be a finite number greater than 0, because the formula is defined only there. "
            "Got 0. "
            "Pass for instance t=2.",
        ),
        (
            ["measure", "x.npy", "./x.npy", "--out", "many"],
            "measure: FILEs must have different names when --out is given, because each result gets the "
            "name of its "
            "file. Got two results named 'x.json'. Measure them one by one.",
        ),
        (
            ["measure", "x.npy", "--out", "y.npy/e.json"],
            "write: out must be a place that can be written to, because results are saved there. Got file "
            "exists for "
            "'y.npy/e.json'. Choose another one.",
        ),
        (
            ["report", "absent.json"],
            "report: RESULTS 'absent.json' must be a JSON file that spherometer wrote, because the page is "
            "drawn "
            "from it. Got no such file. Pass results.json of a study, or what measure --out saved.",
        ),
        (
            ["report", "x.npy"],
            "report: RESULTS 'x.npy' must be a JSON file that spherometer wrote, because the page is drawn "
            "from it. "
            "Got no JSON ('utf-8' codec can't decode byte 0x93 in position 0: invalid start byte). "
            "Pass results.json of a study, or what measure --out saved.",
        ),
        (
            ["study", "digitz"],
            "study: NAME must be 'digits', 'text', 'diabetes', 'brain', 'local-density' or 'dense', because "
            "these are the studies there are. Got 'digitz'. Run: spherometer study digits.",
        ),
    ],
)
def test_bad_input_gives_2_and_one_line(
    arguments: list[str], line: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in place.iterdir())
    assert main(arguments) == 2
    assert complaint(capsys) == f"spherometer: {line}"
    assert sorted(path.name for path in place.iterdir()) == before


def test_report_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(study_document()), encoding="utf-8")
    monkeypatch.setattr("spherometer.report._study._figures", lambda document: {})
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert (tmp_path / "trials.csv").exists()


def test_report_of_two_studies_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(study_document()), encoding="utf-8")
    assert main(["report", str(path), str(path)]) == 2
    assert complaint(capsys) == (
        "spherometer: report: RESULTS must be one study, or one or several evaluations, because a page "
        "shows one or "
        "the other. Got 2 studies among 2 files. Call report once for each study."
    )


@pytest.fixture
def run_digits(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Replace the study by a function: training has its own tests."""
    import spherometer.study

    return lambda function: monkeypatch.setattr(spherometer.study, "run_digits", function)


def test_study_passes_its_options_and_ends_with_the_path(
    run_digits: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}

    def study(out: Path, **options: Any) -> dict[str, Any]:
        given.update(options, out=out)
        options["progress"](1, 2, "align 1")
        options["progress"](2, 2, "uniform 1")
        return study_document()

    run_digits(study)
    arguments = ["study", "digits", "--out", str(tmp_path), "--quick", "--seeds", "2", "--jobs", "3"]
    assert main([*arguments, "--storage", "sqlite:///x.db", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(tmp_path / "report.html")
    assert err == "study digits: 1 of 2 align 1\nstudy digits: 2 of 2 uniform 1\n"
    assert given.pop("progress") is not None
    assert given == {
        "out": tmp_path,
        "quick": True,
        "seeds": 2,
        "jobs": 3,
        "storage": "sqlite:///x.db",
        "device": "cpu",
    }
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("study: out must be writable."), 2, "spherometer: study: out must be writable."),
        (
            MissingExtraError("study: optuna must be installed."),
            2,
            "spherometer: study: optuna must be installed.",
        ),
        (KeyboardInterrupt(), 130, None),
        (SystemExit(143), 143, None),
    ],
)
def test_ways_to_end(
    error: BaseException, code: int, line: str | None, run_digits: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def study(*_: Any, **__: Any) -> None:
        raise error

    run_digits(study)
    assert main(["study", "digits", "--out", "unused"]) == code
    if line is not None:
        assert complaint(capsys) == line
    elif code == 130:
        assert [line for line in capsys.readouterr().err.splitlines() if line] == [
            "spherometer: what is finished is kept; the same command goes on from there",
            "spherometer: interrupted",
        ]


def test_of_several_files_the_bad_one_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("few.npy", np.ones((1, 4)))
    assert main(["measure", "x.npy", "few.npy"]) == 2
    assert complaint(capsys) == (
        "spherometer: 'few.npy': measure: x must have at least 2 rows, because the quantity is a mean over "
        "pairs of rows. Got 1 row. Pass the whole set at once."
    )


def test_an_internal_error_keeps_the_traceback_in_a_file(
    run_digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def study(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("several\nlines")

    run_digits(study)
    monkeypatch.setattr(_main.tempfile, "tempdir", str(tmp_path))
    assert main(["study", "digits"]) == 3
    (log,) = tmp_path.glob("spherometer-*.log")
    assert complaint(capsys) == (
        f"spherometer: internal error: ZeroDivisionError: several lines (the details are in {log})"
    )
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_main_puts_the_signal_handler_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    main(["--version"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"spherometer {sm.__version__}\n"


@pytest.mark.parametrize(
    ("text", "name", "symbol", "bound"),
    [("a>-2", "a", ">", -2.0), (" rank_me <= 1e3 ", "rank_me", "<=", 1000.0), ("a<.5", "a", "<", 0.5)],
)
def test_conditions(text: str, name: str, symbol: str, bound: float) -> None:
    assert _conditions.parse([text]) == [_conditions.Condition(name, symbol, bound, text)]


@pytest.mark.parametrize(
    "text", ["", "a", "a=1", "a>", ">1", "a>nan", "a>inf", "a>1>2", "a>1;b", "__import__('os')>1"]
)
def test_conditions_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="--fail-if must be a name"):
        _conditions.parse([text])


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("study [red]digits") as progress:
        progress(1, 3, "[bold]x")
        progress(3, 3, "y")
    assert "study [red]digits" in stream.getvalue()
    assert "3/3" in stream.getvalue()


@pytest.mark.parametrize("arguments", [["--help"], ["measure", "--help"], ["study", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = (
        "torch",
        "numpy",
        "scipy",
        "sklearn",
        "matplotlib",
        "jinja2",
        "optuna",
        "rich.progress",
        "pandas",
    )
    code = (
        "import sys; from spherometer.cli import main; code = main(sys.argv[1:]); "
        f"found = [name for name in {heavy!r} if name in sys.modules]; "
        "sys.exit(str(found) if found or code else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "spherometer" in done.stdout


def test_sigterm_gives_143() -> None:
    code = (
        "import sys, time, spherometer.cli._main as m\n"
        "def wait(*a, **k):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "m._run = wait\nsys.exit(m.main([]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, b"")


def test_a_reader_that_goes_away_is_no_error(place: Path) -> None:
    code = "import sys; from spherometer.cli import main; sys.exit(main(sys.argv[1:]))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code, "measure", "x.npy"],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=place,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
