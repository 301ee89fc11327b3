"""How long does the uniformity of N rows take on a GPU, with its gradient and without, by the usual ways too?

Run on a machine with CUDA: python benchmarks/gpu.py [--num 4096 65536 1000000] [--out benchmarks/results]

Checks first that the kernel and the torch path agree, then times both, a full matrix and pdist, where they
fit, in turns, with the device waited for. Without a GPU there is nothing to measure, and it says so.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from _timing import given, machine, parser, table, unit_rows, write
from spherometer import pairs
from spherometer.pairs._triton import gpu_kernel
from uniformity import full, pdist

DIM, T = 128, 2.0
MOST = {"full": 65536, "pdist": 32768}  # rows whose N x N matrix fits
SIZES = (4096, 16384, 65536, 262144, 1_000_000)


def by(mode: str) -> Callable[[Tensor], Tensor]:
    """Uniformity by the kernel or by torch."""

    def work(x: Tensor) -> Tensor:
        with gpu_kernel(mode):
            return pairs.gaussian_potential(x, T)

    return work


def seconds(function: Callable[[Tensor], Tensor], x: Tensor, backward: bool) -> float:
    """Wall time of one call, the device waited for before and after."""
    leaf = x.detach().requires_grad_(backward)
    torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.set_grad_enabled(backward):
        value = function(leaf)
        if backward:
            value.backward()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Compare, time, print."""
    found = given(parser(__doc__.splitlines()[0]))
    if not torch.cuda.is_available():
        print("No CUDA device here: nothing is measured.")
        return
    ways = {
        "kernel": by("auto"),
        "kernel, bfloat16": by("bf16"),
        "torch": by("off"),
        "full": full,
        "pdist": pdist,
    }
    numbers, rows = {}, []
    for num in found.num or SIZES[: 2 if found.quick else None]:
        x = unit_rows(num, DIM).cuda()
        apart = abs(float(ways["kernel"](x) - ways["torch"](x)))
        if apart > 1e-6 * abs(float(ways["torch"](x))):
            raise SystemExit(f"The kernel and the torch path differ by {apart:.1e} at {num} rows.")
        for backward in (False, True):
            taken: dict[str, list[float]] = {}
            for _ in range(2 if found.quick else 5):
                for name, way in ways.items():
                    if num <= MOST.get(name, num):
                        taken.setdefault(name, []).append(seconds(way, x, backward))
            what = f"{num} rows, {'forward + backward' if backward else 'forward'}"
            numbers[what] = {name: statistics.median(series[1:]) for name, series in taken.items()}
            cells = (f"{1e3 * numbers[what][name]:.2f}" if name in taken else "" for name in ways)
            rows.append([what, *cells])
    title = f"# GPU\n\n{torch.cuda.get_device_name()}; {machine()}. Milliseconds, D = {DIM}.\n\n"
    write(found.out, "gpu", title + table(["case", *ways], rows), numbers)


if __name__ == "__main__":
    main()
