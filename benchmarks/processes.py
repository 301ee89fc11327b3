"""Do two processes find what one finds, and do they share the work?

Run: python benchmarks/processes.py [--quick] [--num N] [--out benchmarks/results]

Two gloo processes with uneven shards of one set, one thread each. Values and gradients are compared with one
process in float64; work is each process's own CPU time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from _timing import Median, given, machine, parser, promises, shown, table, unit_rows, write
from spherometer import losses, pairs

DIM, T, WORLD = 128, 2.0, 2
EXACT, ROUNDS = 1000, 4


def ring(shard: Tensor) -> Tensor:
    return pairs.ring_gaussian_potential(shard, T)


def moments(shard: Tensor) -> Tensor:
    return torch.tensor(pairs.ring_moments(shard, T).log_mean, dtype=torch.float64)


def uniform_loss(shard: Tensor) -> Tensor:
    return losses.uniform_loss(shard, T)


def ring_loss(shard: Tensor) -> Tensor:
    return losses.uniform_loss(shard, T, gather="ring")


def nt_xent(shard: Tensor) -> Tensor:
    return losses.NTXentLoss(0.5)(shard, shard.flip(1))  # type: ignore[no-any-return]


def ring_nt_xent(shard: Tensor) -> Tensor:
    return losses.NTXentLoss(0.5, gather="ring")(shard, shard.flip(1))  # type: ignore[no-any-return]


def ring_info_nce(shard: Tensor) -> Tensor:
    return losses.InfoNCELoss(0.5, gather="ring")(shard, shard.flip(1))  # type: ignore[no-any-return]


def info_nce(shard: Tensor) -> Tensor:
    return losses.InfoNCELoss(0.5)(shard, shard.flip(1))  # type: ignore[no-any-return]


QUANTITIES: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {  # and whether it has a gradient
    "ring, uniformity with gradient": (ring, True),
    "ring, moments": (moments, False),
    "ring, uniform_loss": (ring_loss, True),
    "uniform_loss, gathered": (uniform_loss, True),
    "ring, NTXentLoss": (ring_nt_xent, True),
    "NTXentLoss, gathered": (nt_xent, True),
    "ring, InfoNCELoss": (ring_info_nce, True),
    "InfoNCELoss, gathered": (info_nce, True),
}
AGAINST = {  # the ring and the gather of one loss
    "ring, uniform_loss": "uniform_loss, gathered",
    "ring, NTXentLoss": "NTXentLoss, gathered",
    "ring, InfoNCELoss": "InfoNCELoss, gathered",
}


def shard(num: int, rank: int, world: int, dtype: torch.dtype) -> Tensor:
    """Three quarters of the rows on rank 0, the rest divided among the others."""
    x = unit_rows(num, DIM).to(dtype)
    if world == 1:
        return x
    first = 3 * num // 4
    bounds = [0, *(first + (num - first) * k // (world - 1) for k in range(world))]
    return x[bounds[rank] : bounds[rank + 1]]


def call(function: Callable[[Tensor], Tensor], rows: Tensor, gradient: bool) -> tuple[float, Tensor | None]:
    if not gradient:
        with torch.no_grad():
            return float(function(rows)), None
    leaf = rows.clone().requires_grad_()
    value = function(leaf)
    value.backward()
    return float(value.detach()), leaf.grad


def work(num: int, exact: int, rank: int, world: int) -> dict[str, Any]:
    """Values, gradients (norms) in float64 of few rows; CPU seconds in float32 of many."""
    found: dict[str, Any] = {}
    for name, (function, gradient) in QUANTITIES.items():
        value, slope = call(function, shard(exact, rank, world, torch.float64), gradient)
        many = shard(num, rank, world, torch.float32)
        call(function, many, gradient)
        seconds = []
        for _ in range(ROUNDS):
            if world > 1:
                distributed.barrier()
            start = time.process_time()
            call(function, many, gradient)
            seconds.append(time.process_time() - start)
        found[name] = {"value": value, "seconds": seconds}
        if slope is not None:
            found[name]["gradient"] = slope.div(world).flatten().tolist()
    return found


def child(place: str, rank: int, num: int, exact: int) -> None:
    store = distributed.FileStore(f"{place}/store", WORLD)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=120)
    )
    try:
        found = work(num, exact, rank, WORLD)
    finally:
        distributed.destroy_process_group()
    Path(place, f"{rank}.json").write_text(json.dumps(found))


def peak() -> int:
    """Largest resident memory of this process since it was last reset, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def memory(name: str, num: int, rank: int, world: int) -> float:
    """MiB that one call adds to a process whose shard is even; libraries and connections are there before."""
    function, gradient = QUANTITIES[name]
    call(function, unit_rows(64, DIM), gradient)
    rows = unit_rows(num, DIM)[num * rank // world : num * (rank + 1) // world].clone()
    distributed.barrier()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    call(function, rows, gradient)
    return (peak() - before) / 2**20


def child_of_memory(place: str, rank: int, world: int, num: int, name: str) -> None:
    store = distributed.FileStore(f"{place}/store", world)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    found = memory(name, num, rank, world)
    distributed.barrier()
    distributed.destroy_process_group()
    Path(place, f"{rank}.json").write_text(json.dumps(found))


def most_memory(name: str, num: int, world: int) -> float:
    """MiB of the process that takes most."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, __file__, "--place", place, "--held", name, "--world", str(world)]
        command += ["--num", str(num), "--rank"]
        started = [subprocess.Popen([*command, str(rank)]) for rank in range(world)]
        try:
            codes = [process.wait(timeout=300) for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
        if any(codes):
            raise SystemExit(f"processes: exit codes {codes}")
        return float(max(json.loads(Path(place, f"{rank}.json").read_text()) for rank in range(world)))


def ranks(num: int, exact: int) -> list[dict[str, Any]]:
    """What every process found."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, __file__, "--place", place, "--num", str(num), str(exact), "--rank"]
        started = [subprocess.Popen([*command, str(rank)]) for rank in range(WORLD)]
        try:
            codes = [process.wait(timeout=300) for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
        if any(codes):
            raise SystemExit(f"processes: exit codes {codes}")
        return [json.loads(Path(place, f"{rank}.json").read_text()) for rank in range(WORLD)]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--place")
    arguments.add_argument("--rank", type=int)
    arguments.add_argument("--held")
    arguments.add_argument("--world", type=int, default=WORLD)
    options = given(arguments)
    if options.held is not None:
        child_of_memory(options.place, options.rank, options.world, options.num[0], options.held)
        return
    if options.rank is not None:
        child(options.place, options.rank, *options.num)
        return
    num = options.num[0] if options.num else 2048 if options.quick else 8192
    exact = min(num, EXACT)
    one, many = work(num, exact, 0, 1), ranks(num, exact)
    numbers: dict[str, dict[str, object]] = {}
    rows, verdicts = [], []
    for name in QUANTITIES:
        wanted = one[name]
        apart = max(abs(each[name]["value"] - wanted["value"]) for each in many)
        apart /= max(1.0, abs(wanted["value"]))
        gap = 0.0
        if "gradient" in wanted:
            whole = torch.tensor(wanted["gradient"], dtype=torch.float64)
            parts = torch.tensor([v for each in many for v in each[name]["gradient"]], dtype=torch.float64)
            gap = float((whole - parts).norm() / whole.norm())
        series = list(zip(*(each[name]["seconds"] for each in many), strict=True))
        balance = Median.of(min(each) / max(each) for each in series)
        share = Median.of(max(each) / own for each, own in zip(series, wanted["seconds"], strict=True))
        numbers[name] = {"apart": apart, "gradient apart": gap, "balance": balance, "share": share}
        rows.append([name, f"{apart:.1e}", f"{gap:.1e}", shown(balance), shown(share)])
        verdicts.append((f"{name}: 1e-12 / difference", min(100.0, 1e-12 / max(apart, 1e-300)), 1.0))
        if name.startswith("ring"):  # gathered: every process takes its own rows, however many, with all
            verdicts.append((f"{name}: least work / most work", balance, 0.9))
        print(" ".join(rows[-1]), flush=True)
    held, costs = [], []
    for ringed, gathered in AGAINST.items():
        seconds = [
            [max(pair) for pair in zip(*(each[name]["seconds"] for each in many), strict=True)]
            for name in (ringed, gathered)
        ]
        cost = Median.of(a / b for a, b in zip(*seconds, strict=True))
        total = [
            [sum(pair) for pair in zip(*(each[name]["seconds"] for each in many), strict=True)]
            for name in (ringed, gathered)
        ]
        work_cost = Median.of(a / b for a, b in zip(*total, strict=True))
        numbers[ringed].update({"busier / gathered": cost, "all / gathered": work_cost})
        costs.append([ringed, shown(cost), shown(work_cost)])
        print(" ".join(costs[-1]), flush=True)
        for world in () if options.no_memory else (2, 4):
            size = 4 * num
            mib = [most_memory(name, size, world) for name in (ringed, gathered)]
            numbers[ringed][f"MiB, {world} processes, {size} rows"] = mib
            held.append(
                [ringed, str(world), str(size), f"{mib[0]:.0f}", f"{mib[1]:.0f}", f"{mib[0] / mib[1]:.2f}"]
            )
            print(" ".join(held[-1]), flush=True)
    text = [
        "# Two processes",
        "",
        f"{machine()} each; gloo; {3 * num // 4} and {num - 3 * num // 4} rows, D = {DIM}, t = {T}.",
        f"`value` and `gradient`: relative distance from one process, in float64, {exact} rows in the same",
        "uneven shards. `balance`: CPU time of the less busy process / of the busier, float32; `share`:",
        "of the busier / of one process that holds all rows (0.5 would be perfect).",
        "",
        table(["quantity", "value", "gradient", "balance", "share"], rows),
        "",
        "CPU time of the ring / of the gather, of the busier process and of both together (the shards are",
        "uneven: with the gather a process has the work of the rows it holds):",
        "",
        table(["loss", "busier", "both"], costs),
        "",
    ]
    if held:
        text += [
            "Memory that one call with its gradient adds to a process, MiB, even shards, float32 (the",
            "process that takes most; inputs and libraries are there before):",
            "",
            table(["loss", "processes", "rows of all", "ring", "gathered", "ratio"], held),
            "",
        ]
    text.append(promises(verdicts))
    write(options.out, "processes", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
