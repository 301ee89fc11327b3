"""Same-run comparisons: contenders take turns A B A B in one process, on process CPU time, and only their
ratios are reported; memory is the peak of a fresh child process."""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from spherometer.pairs import _tiles

Work = Callable[[], object]
ROUNDS = {256: 60, 768: 40, 4096: 9, 16384: 2}


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


def interleave(contenders: dict[str, Work], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of CPU time per call, one per round: every contender runs in every round, in turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for work in contenders.values():
        work()
    gc.collect()
    gc.disable()
    try:
        for k in range(rounds):
            order = list(contenders)
            if k % 2:
                order.reverse()
            for name in order:
                work = contenders[name]
                start = time.process_time()
                for _ in range(repeats):
                    work()
                times[name].append((time.process_time() - start) / repeats)
    finally:
        gc.enable()
    return times


def ratios(times: dict[str, list[float]], ours: str) -> dict[str, float]:
    """Median over the rounds of contender / ours."""
    return {
        name: statistics.median(a / b for a, b in zip(series, times[ours], strict=True))
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


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{model} ({capability}), torch {torch.__version__}, Python {platform.python_version()}, 1 thread"


def arguments(question: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--out", type=Path, help="folder for a dated results file")
    parser.add_argument("--quick", action="store_true", help="few rounds, at most 4096 rows")
    parser.add_argument("--num", type=int, nargs="*", help="numbers of rows")
    parser.add_argument("--memory", nargs=2, metavar=("CONTENDER", "NUM"), help=argparse.SUPPRESS)
    return parser.parse_args()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines)


def promises(verdicts: Sequence[tuple[str, float, float]]) -> str:
    """A table of (name, found, least): kept or missed."""
    return table(
        ["promise", "found", "least", ""],
        [[n, f"{v:.2f}", f"{least:g}", "kept" if v >= least else "MISSED"] for n, v, least in verdicts],
    )


def write(out: Path | None, name: str, text: str, numbers: object) -> None:
    print(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        stem = f"{name}_{datetime.date.today().isoformat()}"
        (out / f"{stem}.md").write_text(text + "\n")
        (out / f"{stem}.json").write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")
        print(f"\nwritten to {out / stem}.md and .json")
