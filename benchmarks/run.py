"""All benchmarks in under ten minutes: dated results, and a page that holds them against what is asked.

Run: python benchmarks/run.py [--out benchmarks/results] [--quick] [--budget 585] [--only uniformity ...]

Every script runs in a process of its own with the sizes of the plan below, on one thread. Each has an
allotted time on an idle machine, stretched by how long those before it took; one that would leave the others
too little runs with ``--quick``, or not at all, and the page says so. Each script can be run alone, with
more sizes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _page
from _timing import machine_record

HERE = Path(__file__).resolve().parent
SCHEMA = "spherometer.benchmarks/1"
LEAST = 8.0  # seconds in which no script can do anything


@dataclass(frozen=True)
class Script:
    """One script of the plan: its arguments and the seconds it takes on an idle machine with two cores."""

    name: str
    arguments: tuple[str, ...]
    seconds: float
    quick: float  # seconds of --quick
    short: tuple[str, ...] = ()  # sizes of --quick, where they are not the script's own


PLAN = (
    Script("uniformity", ("--no-memory", "--seconds", "2.5"), 86, 20),
    Script(
        "info_nce", ("--no-memory", "--seconds", "4", "--num", "256", "512", "768", "4096", "16384"), 45, 15
    ),
    Script("conditional", ("--no-memory", "--seconds", "2", "--num", "256", "768", "4096"), 40, 20),
    Script("local_density", ("--no-memory", "--seconds", "3", "--num", "4000"), 29, 15),
    Script("small", ("--quick", "--seconds", "0.35"), 45, 45),
    Script("memory", (), 52, 25),
    Script("processes", ("--no-memory", "--num", "6144"), 40, 25),
    Script("peers", (), 4, 4),
    Script("threads", ("--seconds", "2"), 35, 8),
    Script("large_files", ("--threads", "1"), 48, 15),
    Script("dense", ("--no-memory", "--seconds", "3", "--num", "168"), 28, 12),
    Script("losses_more", ("--no-memory", "--seconds", "3"), 20, 12),
    Script("streamed", ("--no-memory", "--seconds", "8", "--num", "16384"), 14, 14),
    Script("neighbors", ("--no-memory", "--seconds", "3", "--num", "4000"), 15, 10),
    Script("scaling", (), 70, 15),
    Script("monitor", ("--num", "1"), 6, 6, ("--num", "1")),
    Script("gpu", (), 3, 3),
)


def _child(path: str, arguments: list[str]) -> None:
    """Run a script as the command line would, in a process that already holds torch."""
    os.setsid()  # its own children end with it
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(HERE))
    runpy.run_path(path, run_name="__main__")


class Runner:
    """Runs scripts one after the other, each in a process of its own, until the budget is spent."""

    def __init__(self, budget: float, quick: bool) -> None:
        self.quick, self.end = quick, time.monotonic() + budget
        self.allotted = self.taken = 1.0  # seconds: their quotient is the pace of this machine
        self.notes: list[str] = []
        self.failed: list[str] = []
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["torch", "numpy", "spherometer.pairs"])

    def run(self, script: Script, out: Path, later: Sequence[Script] = ()) -> dict[str, Any] | None:
        """What the script wrote, with its text; None where it did not run. ``later`` need time too."""
        path = HERE / f"{script.name}.py"
        if not path.exists():
            return None
        left, pace = self.end - time.monotonic(), max(1.0, self.taken / self.allotted)
        arguments, seconds = list(script.arguments), script.seconds
        short = left - pace * sum(one.quick for one in later) < pace * seconds
        if self.quick or short:
            arguments, seconds = self._shortened(script), script.quick
        if left < max(LEAST, 0.5 * pace * seconds):
            self.notes.append(f"{script.name}: not run, the time was spent.")
            return None
        if short and not self.quick:
            self.notes.append(f"{script.name}: run with --quick, the time was short.")
        print(f"\n=== {script.name} {' '.join(arguments)}", flush=True)
        began = time.monotonic()
        code = self._process(path, [*arguments, "--out", str(out)], min(left, 4 * seconds + 30))
        took = time.monotonic() - began
        self.allotted, self.taken = self.allotted + seconds, self.taken + took
        print(f"=== {script.name}: {took:.0f} s", flush=True)
        written = sorted(out.glob("*.json"))
        if code == 0 and not written:
            self.notes.append(f"{script.name}: nothing to measure on this machine.")
            return None
        if code != 0:
            ended = "it took too long" if code is None else f"exit code {code}"
            self.notes.append(f"{script.name}: no result, {ended} after {took:.0f} s.")
            if code is not None:
                self.failed.append(script.name)
            return None
        record: dict[str, Any] = json.loads(written[0].read_text(encoding="utf-8"))
        text = written[0].with_suffix(".md").read_text(encoding="utf-8")
        arguments_told = {"arguments": " ".join(arguments), "text": text, "seconds": round(took, 1)}
        return {"numbers": {}, "promises": [], **record, **arguments_told}

    def _shortened(self, script: Script) -> list[str]:
        """The arguments of --quick: with other sizes."""
        given = list(script.arguments)
        kept = given[: given.index("--num")] if "--num" in given else given
        return [*kept, "--quick", *script.short]

    def _process(self, path: Path, arguments: list[str], seconds: float) -> int | None:
        """The exit code; None when it took longer and was ended."""
        process = self.context.Process(target=_child, args=(str(path), arguments))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            assert process.pid is not None
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # before its setsid
                process.kill()
            process.join()
            return None
        return process.exitcode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for dated results: JSON, Markdown and a page")
    parser.add_argument("--quick", action="store_true", help="small sizes, about three minutes")
    parser.add_argument("--budget", type=float, default=585.0, help="seconds in all")
    parser.add_argument("--only", nargs="*", metavar="SCRIPT", help="some scripts of the plan")
    options = parser.parse_args()
    names = [script.name for script in PLAN]
    unknown = sorted(set(options.only or ()) - set(names))
    if unknown:
        parser.error(f"--only must name scripts of the plan, {', '.join(names)}. Got {', '.join(unknown)}.")
    began, before = time.monotonic(), machine_record()
    runner = Runner(options.budget, options.quick)
    scripts: dict[str, Any] = {}
    chosen = [script for script in PLAN if options.only is None or script.name in options.only]
    for number, script in enumerate(chosen):
        with tempfile.TemporaryDirectory() as place:
            record = runner.run(script, Path(place), chosen[number + 1 :])
        if record is not None:
            scripts[script.name] = record
    if options.quick:
        runner.notes.insert(0, "A run with --quick: few rounds and small sets.")
    if before["load"] > 0.5 * (before["cores"] or 1):
        told = f"The machine was busy (load {before['load']:g} on {before['cores']} cores): ratios are rough."
        runner.notes.insert(0, told)
    run = {
        "schema": SCHEMA,
        "date": datetime.date.today().isoformat(),
        "machine": before,
        "seconds": round(time.monotonic() - began, 1),
        "notes": runner.notes,
        "scripts": scripts,
    }
    text = _page.markdown(run)
    if options.out is None:
        print(text)
    else:
        save(options.out, run, text)
    if runner.failed:
        raise SystemExit(f"benchmarks: no result of {', '.join(runner.failed)}")


def save(out: Path, run: dict[str, Any], text: str) -> None:
    """Write benchmarks_DATE.json, .md and .html."""
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"benchmarks_{run['date']}"
    lean = {**run, "scripts": {name: {**one, "text": ""} for name, one in run["scripts"].items()}}
    stem.with_suffix(".json").write_text(json.dumps(lean, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    stem.with_suffix(".html").write_text(_page.html(run), encoding="utf-8")
    print(f"\nwritten to {stem}.json, .md and .html after {run['seconds']:.0f} s")


if __name__ == "__main__":
    main()
