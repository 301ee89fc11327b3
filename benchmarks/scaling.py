"""How does the time of each quantity grow with the number of rows?

Run: python benchmarks/scaling.py [--quick] [--num 256 512 ...] [--out benchmarks/results]

Each curve ends where a point would take longer than its share of the time; an exponent is the slope of log
time over log N, fitted to the points from 2048 rows on (to all, where there are fewer than three of them).
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from _timing import Median, Work, arguments, both, forward, machine, plain, shown, table, unit_rows, write
from conditional import ages, potential
from info_nce import ours as nt_xent
from spherometer import pairs
from spherometer.metrics import neighbor_purity, relative_local_density
from uniformity import ours as uniformity

DIM = 128
SIZES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
FROM = 2048  # rows from which overheads are small
MOST = {"uniformity, forward": 12.0, "uniformity, forward + backward": 30.0}  # seconds of the last point
OTHERWISE = 4.0
ENOUGH = 1.0  # seconds of the rounds of a point


def labels(x: Tensor) -> Tensor:
    return torch.arange(len(x)) % 10


def with_ages(x: Tensor) -> Tensor:
    return potential(x, ages(len(x)))


def moments(x: Tensor) -> Tensor:
    return torch.tensor(pairs.gaussian_moments(x, 2.0).log_mean)


def density(x: Tensor) -> Tensor:
    return relative_local_density(x, labels(x), temperature=0.1, normalize=False)  # type: ignore[no-any-return]


def purity(x: Tensor) -> Tensor:
    return neighbor_purity(x, labels(x), k=10, normalize=False)  # type: ignore[no-any-return]


def curves() -> dict[str, tuple[object, bool]]:
    """Name -> function of unit rows, and whether its gradient is taken too."""
    return {
        "uniformity, forward": (uniformity, False),
        "uniformity with interval": (moments, False),
        "uniformity, forward + backward": (uniformity, True),
        "NT-Xent, forward + backward": (nt_xent, True),
        "conditional uniformity, forward + backward": (with_ages, True),
        "relative local density": (density, False),
        "neighbor purity, k = 10": (purity, False),
    }


def timed(work: Work) -> Median:
    """CPU seconds of a call: medians of up to nine rounds; a call that takes long enough is enough."""
    start = time.process_time()
    work()
    first = time.process_time() - start
    if first > ENOUGH:
        return Median.of([first])
    repeats = max(1, int(0.02 / max(first, 1e-6)))
    found = []
    for _ in range(max(2, min(9, int(ENOUGH / (first * repeats))))):
        start = time.process_time()
        for _ in range(repeats):
            work()
        found.append((time.process_time() - start) / repeats)
    return Median.of(found)


def exponent(points: dict[int, float]) -> float:
    """Slope of log time over log N."""
    chosen = {num: seconds for num, seconds in points.items() if num >= FROM}
    chosen = chosen if len(chosen) >= 3 else points
    xs, ys = [math.log(num) for num in chosen], [math.log(seconds) for seconds in chosen.values()]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    across = sum((x - x_mean) ** 2 for x in xs)
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / across if across else 0.0


def main() -> None:
    options = arguments(__doc__ or "")
    sizes = options.num or [num for num in SIZES if num <= (8192 if options.quick else SIZES[-1])]
    numbers: dict[str, dict[str, object]] = {}
    rows = []
    for name, (function, gradient) in curves().items():
        most = 1.0 if options.quick else MOST.get(name, OTHERWISE)
        points: dict[int, Median] = {}
        for num in sizes:
            if points and next(reversed(points.values())) * (num / next(reversed(points))) ** 2 > most:
                break
            x = unit_rows(num, DIM)
            points[num] = timed((both if gradient else forward)(function, x))  # type: ignore[arg-type]
        slope = exponent(points)
        seconds = {str(num): plain(each) for num, each in points.items()}
        numbers[name] = {"exponent": slope, "seconds": seconds}
        cells = [shown(points[num].over(1e-3), 1) if num in points else "-" for num in sizes]
        rows.append([name, *cells, f"{slope:.2f}"])
        print(" ".join(rows[-1]), flush=True)
    text = [
        "# Growth with the number of rows",
        "",
        f"{machine()}; float32, D = {DIM}, unit rows.",
        f"Milliseconds of process CPU time, ours; exponents fitted from N = {FROM} on.",
        "",
        table(["quantity", *map(str, sizes), "exponent"], rows),
    ]
    write(options.out, "scaling", "\n".join(text), numbers)


if __name__ == "__main__":
    main()
