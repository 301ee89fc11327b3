"""How fast and how large is relative local density against full matrices?

Run: python benchmarks/local_density.py [--quick] [--out benchmarks/results]
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

import torch
from torch import Tensor

from _timing import (
    ROUNDS,
    Median,
    added_memory,
    arguments,
    forward,
    interleave,
    machine,
    promises,
    ratios,
    shown,
    table,
    write,
)
from spherometer.metrics import relative_local_density

DIM, CLASSES = 128, 10
TEMPERATURES = {"one": (0.1,), "five": (1.0, 0.5, 0.2, 0.1, 0.05)}
# distance of a row from the centre of its class, against that of two centres
SPREADS = {"mixture": 1.0, "tight": 0.3, "collapsed": 0.02}


def labels(num: int) -> Tensor:
    return torch.randint(0, CLASSES, (num,), generator=torch.Generator().manual_seed(1))


def rows(num: int, kind: str = "mixture") -> Tensor:
    """Unit rows around ten centres."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, DIM, generator=generator)
    x = centres[labels(num)] + SPREADS[kind] * torch.randn(num, DIM, generator=generator)
    return torch.nn.functional.normalize(x, dim=1)


def ours(x: Tensor, y: Tensor, temperatures: tuple[float, ...]) -> Tensor:
    found = relative_local_density(x, y, temperature=temperatures, normalize=False)
    return torch.stack(found)


def dense(x: Tensor, y: Tensor, temperatures: tuple[float, ...]) -> Tensor:
    """The leanest full matrices: one product, everything in place, distances shared by the temperatures."""
    num, squares = len(x), x.square().sum(dim=1)
    d = torch.addmm(squares[:, None] + squares, x, x.T, alpha=-2).clamp_(min=0).sqrt_().fill_diagonal_(0)
    mean = float(d.sum(dtype=torch.float64)) / (num * (num - 1))
    d.fill_diagonal_(torch.inf)
    members = torch.nn.functional.one_hot(y, CLASSES).float()
    found = []
    for temperature in temperatures:
        weights = (d * (-1 / (temperature * mean))).exp_()
        sums = weights.sum(dim=1)
        weights.square_().div_(sums[:, None]).div_(sums)
        edges = (members.T @ (weights @ members)).double()
        edges /= edges.sum()
        found.append((edges.diagonal() - edges.sum(dim=1).square()).sum())
    return torch.stack(found).float()


def as_written(x: Tensor, y: Tensor, temperatures: tuple[float, ...]) -> Tensor:
    """The steps of the definition, one after the other."""
    num = len(x)
    distances = torch.pdist(x)
    d = torch.zeros(num, num)
    upper = torch.triu_indices(num, num, 1)
    d[upper[0], upper[1]] = distances / -distances.mean()
    d = (d + d.T).fill_diagonal_(-torch.inf)
    same = (y[:, None] == y).float()
    found = []
    for temperature in temperatures:
        e = torch.exp(d / temperature)
        weights = num**2 * e * e / e.sum(dim=1, keepdim=True) / e.sum(dim=0, keepdim=True)
        strengths, total = weights.sum(dim=1), weights.sum()
        found.append(((weights - torch.outer(strengths, strengths) / total) * same).sum() / total)
    return torch.stack(found)


CONTENDERS = {"ours": ours, "dense": dense, "as written": as_written}


def measured(contender: str, kind: str, count: str, num: int) -> tuple[float, int]:
    """Seconds of processor time and bytes added at the peak, in a fresh process."""
    case = (f"{contender},{kind},{count}", str(num))
    done = subprocess.run(
        [sys.executable, __file__, "--memory", *case], capture_output=True, text=True, check=True
    )
    seconds, added = done.stdout.split()[-2:]
    return float(seconds), int(added)


def child(case: str, num: int) -> None:
    contender, kind, count = case.split(",")
    function, temperatures = CONTENDERS[contender], TEMPERATURES[count]
    function(rows(64), labels(64), temperatures)
    x, y = rows(num, kind), labels(num)
    seconds: list[float] = []

    def work() -> None:
        start = time.process_time()
        function(x, y, temperatures)
        seconds.append(time.process_time() - start)

    added = added_memory(work)
    print(seconds[0], added)


def main() -> None:
    options = arguments(__doc__ or "")
    if options.memory:
        child(options.memory[0], int(options.memory[1]))
        return
    numbers: dict[str, dict[str, float]] = {}
    duels, large, verdicts = [], [], []
    for num in options.num or (1000, 4000):
        for kind in ("mixture", "collapsed") if options.seconds else SPREADS:
            for count, temperatures in TEMPERATURES.items():
                x, y = rows(num, kind), labels(num)
                for name, each in CONTENDERS.items():
                    gap = float((each(x, y, temperatures) - ours(x, y, temperatures)).abs().max())
                    if gap > 1e-3:  # float32 distances of near rows: theirs are rough
                        raise SystemExit(f"{name}: off by {gap}")
                contenders = {
                    name: forward(partial(each, y=y, temperatures=temperatures), x)
                    for name, each in CONTENDERS.items()
                    if kind == "mixture" or name != "as written"
                }
                rounds = max(3, ROUNDS.get(num, 11 if num > 1000 else 31) // (4 if options.quick else 1))
                times = interleave(contenders, rounds, 1)
                found = ratios(times, "ours")
                numbers[f"{num} {kind} {count}"] = {
                    **found,
                    "milliseconds": Median.of(times["ours"]).over(1e-3),
                }
                cells = [shown(found[name]) if name in found else "-" for name in ("dense", "as written")]
                cells.append(shown(Median.of(times["ours"]).over(1e-3), 1))
                duels.append([f"{num}", kind, f"{len(temperatures)}", *cells])
                print(" ".join(duels[-1]), flush=True)
                if num == 4000 and kind != "collapsed":
                    name = f"N = 4000, {kind}, temperatures: {len(temperatures)}: dense / ours"
                    verdicts.append((name, found["dense"], 3.0))
    cases = [] if options.no_memory else [("dense", "mixture", "one", 4000), ("ours", "mixture", "one", 4000)]
    for num in () if options.no_memory else (10_000,) if options.quick else (10_000, 50_000):
        for kind in ("mixture", "collapsed"):
            cases += [("ours", kind, count, num) for count in TEMPERATURES]
    for contender, kind, count, num in cases:
        seconds, added = measured(contender, kind, count, num)
        numbers[f"{contender} {kind} {count} {num}"] = {"seconds": seconds, "bytes": added}
        large.append(
            [f"{num}", contender, kind, f"{len(TEMPERATURES[count])}", f"{seconds:.2f}", f"{added / 1e6:.0f}"]
        )
        print(" ".join(large[-1]), flush=True)
        if num >= 10_000 and count == "one":
            allowed = 2.0 if num == 10_000 else 60.0
            verdicts.append((f"N = {num}, {kind}: {allowed:g} s / processor time", allowed / seconds, 1.0))
        if num == 50_000:
            verdicts.append((f"N = {num}, {kind}, {count}: 400 MB / memory added", 400e6 / added, 1.0))
    text = [
        "# Relative local density: ours against full matrices",
        "",
        f"{machine()}; float32, D = {DIM}, unit rows around {CLASSES} centres",
        "(`tight`, `collapsed`: nearer to them). Contenders take turns in one process; each figure is the",
        "median over rounds of contender / ours in process CPU time, with its spread (above 1: ours is",
        "faster).",
        "`dense` is",
        "the leanest full matrix (one product, in place, class sums by products), `as written` follows the",
        "steps of the definition with `pdist`. All of them give equal values up to the rounding of float32",
        "distances (checked).",
        "",
        table(["N", "rows", "temperatures", "dense", "as written", "ours, ms"], duels),
        "",
        "In a fresh process each: seconds of processor time of the first call on such a set, and memory",
        "added at its peak.",
        "",
        table(["N", "", "rows", "temperatures", "s", "MB added"], large),
        "",
        promises(verdicts),
    ]
    write(options.out, "local_density", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
