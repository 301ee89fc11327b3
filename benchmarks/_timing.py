"""Same-run comparisons: contenders take turns A B A B in one process, on process CPU time, and only their
ratios are reported, as medians with their spread; memory is the peak of a fresh child process."""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer._version import __version__
from spherometer.pairs import _tiles

SCHEMA = "spherometer.benchmark/1"
Work = Callable[[], object]
ROUNDS = {256: 60, 768: 40, 4096: 9, 16384: 2}
LONG = 3.0  # seconds of a first round that is worth more than warming up
_began = time.time()
_limit = [float("inf")]  # seconds of one case, once every contender has had two rounds


def unit_rows(num: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(num, dim, generator=generator), dim=1)


def forward(function: Callable[..., Tensor], *inputs: Tensor) -> Work:
    def work() -> None:
        with torch.no_grad():
            function(*inputs)

    return work


def both(function: Callable[..., Tensor], *inputs: Tensor) -> Work:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]

    def work() -> None:
        for leaf in leaves:
            leaf.grad = None
        function(*leaves).backward()

    return work


class Median(float):
    """A median that remembers how far the rounds lay apart: the middle half, or all of fewer than five."""

    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Median:
        found = sorted(values)
        one = cls(statistics.median(found))
        one.rounds = len(found)
        one.low, one.high = found[0], found[-1]
        if len(found) >= 5:
            one.low, _, one.high = statistics.quantiles(found, n=4, method="inclusive")
        return one

    def over(self, least: float) -> Median:
        """The same in units of something else."""
        one = Median(self / least)
        one.rounds, one.low, one.high = self.rounds, self.low / least, self.high / least
        return one

    def record(self) -> dict[str, float]:
        return {"median": float(self), "low": self.low, "high": self.high, "rounds": self.rounds}


def interleave(
    contenders: dict[str, Work],
    rounds: int,
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds per call, one per round: every contender runs in every round, in turn.

    A first round warms up, and counts only where it is long. Rounds end early, after two, when the seconds
    of a case (``--seconds``) are spent.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    began = time.perf_counter()

    def turn(name: str, times_each: int) -> float:
        start = clock()
        for _ in range(times_each):
            contenders[name]()
        return (clock() - start) / times_each

    first = {name: turn(name, 1) for name in contenders}
    if repeats == 1 and time.perf_counter() - began > LONG:
        times = {name: [seconds] for name, seconds in first.items()}
    gc.collect()
    gc.disable()
    try:
        for k in range(len(next(iter(times.values()))), rounds):
            if k >= 2 and time.perf_counter() - began > _limit[0]:
                break
            for name in reversed(list(contenders)) if k % 2 else contenders:
                times[name].append(turn(name, repeats))
    finally:
        gc.enable()
    return times


def ratios(times: dict[str, list[float]], ours: str) -> dict[str, Median]:
    """Median over the rounds of contender / ours."""
    return {
        name: Median.of(a / b for a, b in zip(series, times[ours], strict=True))
        for name, series in times.items()
        if name != ours
    }


def floor(num: int, dim: int, gemms: tuple[int, int, int], tile: tuple[int, int] | None = None) -> Work:
    """The GEMMs and the exp of a symmetric walk over ``num`` rows, and nothing else.

    ``gemms``: products of a tile with rows, on the diagonal and above it, and how many times the tile
    itself (one GEMM and one exp) is made.
    """
    x = unit_rows(num, dim)
    single = num <= _tiles.SINGLE
    rows, columns = tile or _tiles.TILE
    buffer = torch.empty(max(num * num, 1) if single else rows * columns)
    out = torch.empty(dim, num)
    shapes = [(0, num, 0, num)] if single else list(_tiles.spans(num, num, (rows, columns), True))
    on, above, tiles = gemms

    def work() -> None:
        for a, b, c, d in shapes:
            k = buffer[: (b - a) * (d - c)].view(b - a, d - c)
            for _ in range(tiles):
                torch.mm(x[a:b], x[c:d].T, out=k)
                k.exp2_()
            for m in range(on if a == c else above):
                if m % 2:
                    torch.mm(x[a:b].T, k, out=out[:, c:d])
                else:
                    torch.mm(x[c:d].T, k.T, out=out[:, a:b])

    return work


# --- memory -------------------------------------------------------------------------------------------


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(key)


def added_memory(work: Work) -> int:
    """Bytes above the resident size before the call, at the peak of the call. Call it in a fresh process."""
    gc.collect()
    before = _status("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    work()
    return _status("VmHWM:") - before


def in_child(script: str, case: Sequence[str]) -> int | None:
    """Run one memory case of a benchmark in its own process; None where it cannot be measured."""
    done = subprocess.run([sys.executable, script, "--memory", *case], capture_output=True, text=True)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


# --- results ------------------------------------------------------------------------------------------


def model() -> str:
    """The name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if "model name" in line:
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{model()} ({capability}), torch {torch.__version__}, Python {platform.python_version()}, 1 thread"
    )


def machine_record() -> dict[str, Any]:
    """What a figure depends on beside the code."""
    return {
        "processor": model(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "spherometer": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def parser(question: str) -> argparse.ArgumentParser:
    """The arguments that every script has."""
    found = argparse.ArgumentParser(description=question)
    found.add_argument("--out", type=Path, help="folder for a dated results file")
    found.add_argument("--quick", action="store_true", help="few rounds, at most 4096 rows")
    found.add_argument("--num", type=int, nargs="*", help="numbers of rows")
    found.add_argument("--seconds", type=float, help="no further rounds of a case after so many, beyond two")
    found.add_argument("--no-memory", action="store_true", help="leave out what needs processes of its own")
    found.add_argument("--memory", nargs=2, metavar=("CONTENDER", "NUM"), help=argparse.SUPPRESS)
    return found


def given(found: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line; one thread from here on."""
    options = found.parse_args()
    torch.set_num_threads(1)
    _limit[0] = options.seconds or float("inf")
    return options


def arguments(question: str) -> argparse.Namespace:
    return given(parser(question))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines)


def shown(value: float, digits: int = 2) -> str:
    """A figure with its spread, where it has one."""
    if isinstance(value, Median) and value.rounds > 1:
        return f"{value:.{digits}f} ({value.low:.{digits}f}-{value.high:.{digits}f})"
    return f"{value:.{digits}f}"


Verdicts = Sequence[tuple[str, float, float]]


def promises(verdicts: Verdicts) -> str:
    """A table of (name, found, least): kept or missed."""
    return table(
        ["promise", "found", "least", ""],
        [[n, f"{v:.2f}", f"{least:g}", "kept" if v >= least else "MISSED"] for n, v, least in verdicts],
    )


def plain(value: Any) -> Any:
    """For JSON: medians with their spread."""
    if isinstance(value, Median):
        return value.record()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def write(out: Path | None, name: str, text: str, numbers: object, verdicts: Verdicts = ()) -> None:
    """Print, and keep ``name_DATE.md`` and ``.json``: the figures of each case, medians with their spread."""
    print(text)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    today = datetime.date.today().isoformat()
    stem = f"{name}_{today}"
    record = {
        "schema": SCHEMA,
        "name": name,
        "date": today,
        "machine": machine_record(),
        "seconds": round(time.time() - _began, 1),
        "numbers": plain(numbers),
        "promises": [{"name": n, "found": plain(v), "least": least} for n, v, least in verdicts],
    }
    (out / f"{stem}.md").write_text(text + "\n", encoding="utf-8")
    (out / f"{stem}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"\nwritten to {out / stem}.md and .json")
