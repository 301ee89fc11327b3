"""How fast are all pairs of rows on disk, and what does the estimate cost that stands in for them?

Run: python benchmarks/streamed.py [--quick] [--out benchmarks/results]
"""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from _timing import (
    Median,
    Work,
    added_memory,
    arguments,
    floor,
    in_child,
    interleave,
    machine,
    promises,
    shown,
    table,
    write,
)
from spherometer import pairs
from spherometer.rows import UNIT, Dtype

DIM, T = 384, 2.0
FLOOR = 0.65  # share of the floor that is promised
LARGE = 20_000
BUDGETS = {"1 GiB": 1 << 30, "64 MiB": 1 << 26}


class FileRows:
    """Rows of a file of float32, read by position."""

    dtype: Dtype = "float32"

    def __init__(self, path: Path) -> None:
        self.name, self._path = path.name, path
        self.shape = (path.stat().st_size // (4 * DIM), DIM)

    def read(self, start: int, stop: int) -> Tensor:
        block = bytearray(4 * DIM * (stop - start))
        with self._path.open("rb", buffering=0) as file:
            done = os.preadv(file.fileno(), [block], 4 * DIM * start)
        assert done == len(block)
        return torch.frombuffer(block, dtype=torch.float32).view(-1, DIM)


def written(folder: str, num: int) -> FileRows:
    """A file of ``num`` rows of a normal law, with the first coordinate moved."""
    path = Path(folder) / f"{num}.f32"
    generator = torch.Generator().manual_seed(0)
    with path.open("wb") as file:
        for start in range(0, num, UNIT):
            rows = torch.randn(min(UNIT, num - start), DIM, generator=generator)
            rows[:, 0] += 5.0
            file.write(rows.numpy().tobytes())
    return FileRows(path)


def alternate(source: FileRows, budgets: dict[str, int]) -> dict[str, list[float]]:
    """CPU seconds of each budget and of the floor, in turns; large sets, which take minutes, unwarmed."""
    works: dict[str, Work] = {"floor": floor(source.shape[0], DIM, (0, 0, 1))}
    for name, budget in budgets.items():
        works[name] = partial(pairs.streamed_moments, source, T, budget=budget)
    if source.shape[0] <= LARGE:
        return interleave(works, 4, 1)
    times: dict[str, list[float]] = {name: [] for name in works}
    for name in [*works, *reversed(works)]:
        start = time.process_time()
        works[name]()
        times[name].append(time.process_time() - start)
    return times


def main() -> None:
    options = arguments(__doc__ or "")
    if options.memory:
        name, num = options.memory[0], int(options.memory[1])
        with tempfile.TemporaryDirectory() as folder:
            warm, source = written(folder, 300), written(folder, num)
            pairs.streamed_moments(warm, T)
            print(added_memory(lambda: pairs.streamed_moments(source, T, budget=BUDGETS[name])))
        return
    sizes = options.num or ([16384] if options.quick else [16384, 100_000])
    numbers: dict[str, dict[str, float]] = {}
    rows, verdicts, memory = [], [], []
    for num in sizes:
        with tempfile.TemporaryDirectory() as folder:
            source = written(folder, num)
            times = alternate(source, {"64 MiB": BUDGETS["64 MiB"]} if num > LARGE else BUDGETS)
        shares = {
            name: Median.of(a / b for a, b in zip(times["floor"], series, strict=True))
            for name, series in times.items()
            if name != "floor"
        }
        seconds = {name: Median.of(series) for name, series in times.items()}
        numbers[f"{num}"] = {f"share {name}": share for name, share in shares.items()}
        numbers[f"{num}"] |= {f"seconds {name}": each for name, each in seconds.items()}
        rows += [[f"{num}", name, shown(shares[name]), f"{seconds[name]:.1f}"] for name in shares]
        verdicts += [(f"N = {num}, {name}: share of the floor", shares[name], FLOOR) for name in shares]
        print("\n".join(map(" ".join, rows)), flush=True)
        for name in () if options.no_memory else shares:
            budget = BUDGETS[name]
            added = in_child(__file__, (name, str(num)))
            memory.append([f"{num}", name, "not measured" if added is None else f"{added / 2**20:.0f}"])
            if added is not None:
                numbers[f"{num}"][f"memory {name}"] = added
                verdicts.append((f"N = {num}, {name}: memory allowed / added", budget / max(added, 1), 1.0))
    estimates = []
    for num in (20_001,) if options.num and max(options.num) < 16384 else (20_001, 1_000_000):
        start = time.process_time()
        plan = pairs.estimate_plan(num, DIM)
        planned = time.process_time() - start
        picked = torch.nn.functional.normalize(torch.randn(len(plan.wanted), DIM), dim=1)
        start = time.process_time()
        found = pairs.estimate(plan, picked, T)
        seconds_taken = time.process_time() - start
        numbers[f"estimate {num}"] = {"plan": planned, "estimate": seconds_taken}
        estimates.append(
            [
                f"{num}",
                f"{len(plan.wanted)}",
                f"{planned * 1e3:.0f}",
                f"{seconds_taken * 1e3:.0f}",
                f"{found.standard_error:.1e}",
            ]
        )
    text = [
        "# All pairs of rows on disk",
        "",
        f"{machine()}; float32, D = {DIM}, t = {T}.",
        "`streamed_moments` of a file, with row sums and squares, and the GEMMs and exp of its tiles alone",
        "(`floor`) take turns in one process; share = floor / ours in CPU time, median of the rounds.",
        "",
        table(["N", "budget", "share of the floor", "ours, s"], rows),
        "",
        "Memory added at the peak, MiB (a fresh process each):",
        "",
        table(["N", "budget", "added"], memory),
        "",
        "The estimate (uniform rows): milliseconds of CPU time next to what reading the file takes.",
        "",
        table(["N", "rows wanted", "plan, ms", "estimate, ms", "standard error"], estimates),
        "",
        promises(verdicts),
    ]
    write(options.out, "streamed", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
