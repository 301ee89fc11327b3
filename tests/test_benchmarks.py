"""The benchmarks run, on tiny sizes and without a look at seconds; their page holds their figures."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import chromium

FOLDER = Path(__file__).parent.parent / "benchmarks"
TINY = ("--quick", "--no-memory", "--seconds", "0.01", "--num")
CASES = {
    "uniformity": (*TINY, "64"),
    "info_nce": (*TINY, "64"),
    "conditional": (*TINY, "64"),
    "local_density": (*TINY, "64"),
    "losses_more": (*TINY, "64"),
    "neighbors": (*TINY, "300"),
    "dense": (*TINY, "2"),
    "streamed": (*TINY, "600"),
    "scaling": (*TINY, "64", "128"),
    "threads": (*TINY, "64", "--threads", "1", "1"),
    "processes": (*TINY, "64"),
    "peers": (*TINY, "64"),
    "memory": (*TINY, "640", "1280"),
    "monitor": (*TINY, "1"),
    "large_files": (*TINY, "500", "--dim", "8"),
    "small": (*TINY, "256", "--only", "uniform_loss", "SupCon", "interval"),
    "gpu": (*TINY, "64"),
}
THERE = sorted(name for name in CASES if (FOLDER / f"{name}.py").exists())


def load(name: str) -> ModuleType:
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return importlib.import_module(name)


def run(name: str, arguments: tuple[str, ...]) -> None:
    """The script as its command line runs it; threads and random numbers are put back."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        module = load(name)
        _stand_in(patch, name, module)
        patch.setattr(sys, "argv", [f"{name}.py", *arguments])
        try:
            module.main()
        finally:
            torch.set_num_threads(threads)


def _stand_in(patch: pytest.MonkeyPatch, name: str, module: ModuleType) -> None:
    """Nothing starts a process: seconds of importing torch each."""
    if name == "threads":
        timing = load("_timing")
        patch.setattr(module, "in_process", lambda *_: timing.plain(module.compare([64], [1, 1], True)))
    elif name == "processes":
        patch.setattr(module, "ranks", lambda num, exact: [module.work(num, exact, 0, 1)])
    elif name == "memory":
        patch.setattr(module, "measured", lambda case: 1000 * case[1])
    elif name == "large_files":
        metric = {"value": -3.5, "interval": [-3.6, -3.4]}

        def measured(path: Path, out: Path, threads: int, *options: str) -> dict[str, float]:
            assert path.stat().st_size > 0
            out.write_text(json.dumps({"metrics": {"uniformity": metric}}))
            return {"wall": 2.0, "cpu": 1.0 + threads, "bytes": 1e9}

        patch.setattr(module, "measured", measured)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each script wrote: JSON, with Markdown beside it."""
    found = {}
    for name in THERE:
        out = tmp_path_factory.mktemp(name)
        run(name, (*CASES[name], "--out", str(out)))
        results = list(out.glob("*.json"))
        assert len(results) == 1 or name == "gpu", name  # which may have nothing to measure
        if results:
            found[name] = results[0]
    return found


@pytest.mark.parametrize("name", THERE)
def test_each_script_writes_a_dated_result_with_machine_and_spread(
    name: str, written: dict[str, Path]
) -> None:
    if name == "gpu" and name not in written:
        return
    record = json.loads(written[name].read_text())
    assert record["schema"] == "spherometer.benchmark/1"
    assert re.fullmatch(rf"{name}_\d{{4}}-\d\d-\d\d", written[name].stem)
    assert {"processor", "cores", "load", "torch", "numpy", "python", "spherometer"} <= set(record["machine"])
    assert record["numbers"]
    medians = [one for one in _leaves(record["numbers"]) if isinstance(one, dict)]
    assert all(one["low"] <= one["median"] <= one["high"] for one in medians)
    text = written[name].with_suffix(".md").read_text()
    assert text.startswith("# ")
    assert "| --- |" in text


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict) and "median" not in value:
        return [leaf for one in value.values() for leaf in _leaves(one)]
    return [value]


def test_a_memory_case_prints_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    run("memory", ("--memory", "uniformity, forward + backward", "2000", "--dim", "16"))
    assert 0 <= int(capsys.readouterr().out.split()[-1]) < 2000 * 2000 * 4


def test_the_plan_knows_every_script_and_fits_into_ten_minutes() -> None:
    plan = {script.name: script for script in load("run").PLAN}
    scripts = {path.stem for path in FOLDER.glob("[!_]*.py")} - {"run"}
    assert scripts <= set(plan)
    assert set(plan) == set(CASES)
    assert sum(script.seconds for script in plan.values()) < 590
    assert sum(script.quick for script in plan.values()) < 300


def test_what_does_not_fit_into_the_budget_is_named(tmp_path: Path) -> None:
    run_module = load("run")
    runner = run_module.Runner(budget=1.0, quick=False)
    script = run_module.Script("uniformity", ("--num", "64"), 100.0, 20.0)
    assert runner.run(script, tmp_path) is None
    assert runner.notes == ["uniformity: not run, the time was spent."]


def test_scripts_that_come_later_keep_their_time(tmp_path: Path) -> None:
    run_module = load("run")
    runner = run_module.Runner(budget=60.0, quick=False)
    ran: list[list[str]] = []
    runner._process = lambda path, arguments, seconds: ran.append(arguments) or 0
    script = run_module.Script("uniformity", ("--num", "64"), 40.0, 10.0)
    runner.run(script, tmp_path, [script])
    runner.run(script, tmp_path, [script, script, script])
    assert ["--quick" in arguments for arguments in ran] == [False, True]
    assert runner.notes[-2] == "uniformity: run with --quick, the time was short."


# --- what is made of the numbers --------------------------------------------------------------------------


def test_a_median_remembers_its_spread() -> None:
    median = load("_timing").Median
    one = median.of([4.0, 1.0, 2.0, 3.0, 100.0])
    assert (one, one.low, one.high, one.rounds) == (3.0, 2.0, 4.0, 5)
    few = median.of([2.0, 1.0])
    assert (few, few.low, few.high) == (1.5, 1.0, 2.0)
    assert few.over(0.5).record() == {"median": 3.0, "low": 2.0, "high": 4.0, "rounds": 2}
    assert load("_timing").shown(few) == "1.50 (1.00-2.00)"


def test_contenders_take_turns_and_rounds_end_with_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = load("_timing")
    seen: list[str] = []
    works = {name: (lambda name=name: seen.append(name)) for name in ("a", "b")}
    monkeypatch.setattr(timing, "_limit", [float("inf")])  # a script run before may have left its own
    assert {len(series) for series in timing.interleave(works, 3, 1).values()} == {3}
    assert "".join(seen) == "ab" + "abbaab"
    monkeypatch.setattr(timing, "_limit", [0.0])
    assert {len(series) for series in timing.interleave(works, 30, 1).values()} == {2}


def test_an_exponent_is_the_slope_in_logarithms() -> None:
    exponent = load("scaling").exponent
    assert exponent({256: 5.0, 512: 9.0, 2048: 1.0, 4096: 4.0, 8192: 16.0}) == pytest.approx(2.0)
    assert exponent({64: 1.0, 128: 2.0}) == pytest.approx(1.0)


def figure(median: float, away: float = 0.0) -> dict[str, float]:
    return {"median": median, "low": median - away, "high": median + away, "rounds": 3}


def test_what_falls_short_says_by_how_much_and_what_the_floor_would_give() -> None:
    targets = load("_targets")
    numbers = {"forward + backward 16384": {"pdist": figure(9.0), "full": figure(5.5), "floor": figure(0.9)}}
    rows = {row["words"]: row for row in targets.judged({"uniformity": {"numbers": numbers}}) if row["must"]}
    short = rows["uniformity, forward + backward, N = 16384: torch.pdist"]
    assert (short["verdict"], short["ceiling"]) == ("short", 10.0)
    assert short["why"].startswith(
        "55 % short. Out of reach here: products of matrices and exponentials alone"
    )
    assert "would give 10.00 on this processor" in short["why"]
    good = rows["uniformity, forward + backward, N = 16384: full matrix"]
    assert (good["verdict"], good["why"]) == ("reached", "")
    assert rows["uniformity, forward + backward, N = 4096: torch.pdist"]["verdict"] == "not measured"
    share = rows["uniformity, forward + backward, N = 16384: share of the floor"]
    assert (share["verdict"], share["ceiling"]) == ("reached", None)


def test_the_least_of_several_promises_is_named() -> None:
    promises = [
        {"name": f"{name}: memory allowed / added", "found": found, "least": 1.0}
        for name, found in (("this", 1.5), ("that", 0.8))
    ]
    rows = load("_targets").judged({"memory": {"promises": promises}})
    (row,) = [row for row in rows if row["script"] == "memory"]
    assert (row["found"]["median"], row["verdict"]) == (0.8, "short")
    assert row["why"] == "20 % short. 1 of 2 reach it; the least is that: memory allowed / added."


# --- the page ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(written: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose scripts found what is written, with two figures that are asked for."""
    scripts = {}
    for name, path in written.items():
        text = path.with_suffix(".md").read_text()
        scripts[name] = {**json.loads(path.read_text()), "text": text, "arguments": ""}
    numbers = scripts["uniformity"]["numbers"]
    numbers["forward + backward 4096"] = {"pdist": figure(7.25, 0.5), "floor": figure(0.87)}
    numbers["forward + backward 16384"] = {"pdist": figure(9.6, 0.125), "floor": figure(0.92)}
    record = scripts["uniformity"]
    run_document = {
        "schema": "spherometer.benchmarks/1",
        "date": record["date"],
        "machine": record["machine"],
        "seconds": 12.0,
        "notes": ["A run of <tests>."],
        "scripts": scripts,
    }
    out = tmp_path_factory.mktemp("page")
    text = load("_page").markdown(run_document)
    load("run").save(out, run_document, text)
    assert "| uniformity, forward + backward, N = 4096: torch.pdist | 7.25 6.75 to 7.75 | 6 |" in text
    (kept,) = out.glob("benchmarks_*.json")
    assert set(json.loads(kept.read_text())["scripts"]) == set(written)
    (found,) = out.glob("benchmarks_*.html")
    return found


def test_the_page_opens_and_holds_its_figures(page: Path, tmp_path: Path) -> None:
    binary = chromium.find_chromium()
    if binary is None:
        pytest.skip("Chromium is not installed; on Debian: apt-get install chromium")
    with chromium.opened(binary, tmp_path) as tab:
        tab.open(page)
        widths = tab.evaluate("[...document.images].map(image => image.complete ? image.naturalWidth : 0)")
        assert len(widths) == 3
        assert all(width > 300 for width in widths)
        assert tab.evaluate("document.scripts.length") == 0
        assert [one["entry"] for one in tab.seen("Log.entryAdded")] == []
        asked = {one["request"]["url"].split(":")[0] for one in tab.seen("Network.requestWillBeSent")}
        assert asked <= {"file", "data"}
        select = "[...document.querySelectorAll('#asked tbody tr')]"
        rows = tab.evaluate(f"{select}.map(row => row.innerText.replace(/\\s+/g, ' '))")
        assert len(rows) == sum(row["must"] for row in load("_targets").judged({}))
        by_words = {row.split(" torch.pdist")[0]: row for row in rows if "torch.pdist" in row}
        reached = by_words["uniformity, forward + backward, N = 4096:"]
        assert "7.25 6.75 to 7.75 6 8.33 REACHED" in reached
        short = by_words["uniformity, forward + backward, N = 16384:"]
        assert "9.60 9.47 to 9.72 20 10.43 SHORT 52 % short." in short
        tables = tab.evaluate("document.querySelectorAll('#all details').length")
        assert tables == len(json.loads(page.with_suffix(".json").read_text())["scripts"])
        assert "A run of <tests>." in tab.evaluate("document.querySelector('#made').innerText")
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True
        )
        tab.open(page)
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
