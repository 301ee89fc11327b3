"""What does the monitor add to a training step, at its default interval?

Run: python benchmarks/monitor.py [--quick] [--out benchmarks/results]
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

import spherometer as sm
from _timing import (
    arguments,
    machine,
    promises,
    table,
    write,
)
from spherometer._monitor import Monitor

DIM = 128
# (name, channels of the two convolutions, side of the grey images, rows of a batch)
CASES = (
    ("small, 8 x 8", 16, 8, 256),
    ("small, 28 x 28", 16, 28, 256),
    ("wide, 28 x 28", 64, 28, 128),
)


def encoder(width: int, side: int) -> nn.Module:
    """Two convolutions, a hidden layer and a linear map: the smallest encoder one would train."""
    torch.manual_seed(0)
    flat = 2 * width * (side // 4) ** 2
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(flat, 128),
        nn.ReLU(),
        nn.Linear(128, DIM),
    )


class Run:
    """A training step on random images; making views and loading data would only add to it."""

    def __init__(self, width: int, side: int, batch: int) -> None:
        self.model = encoder(width, side)
        self.loss = sm.losses.AlignUniformLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.images = torch.randn(2 * batch, 1, side, side)

    def step(self) -> tuple[Tensor, Tensor]:
        z1, z2 = self.model(self.images).chunk(2)
        self.optimizer.zero_grad()
        self.loss(z1, z2).backward()
        self.optimizer.step()
        return z1, z2


def measure(case: tuple[str, int, int, int], rounds: int) -> dict[str, float]:
    """Median CPU seconds of a step, of an update between readings and of a reading, one run."""
    run, monitor = Run(*case[1:]), Monitor()
    steps, between, readings = [], [], []
    for step in range(-4, rounds * monitor.every + 1):  # a few to warm up
        start = time.process_time()
        z1, z2 = run.step()
        trained = time.process_time()
        if step < 0:
            Monitor().update(0, z1, z2)
            continue
        monitor.update(step, z1, z2)
        watched = time.process_time()
        steps.append(trained - start)
        full = step % monitor.every == 0 and step
        if full or step % monitor.every:
            (readings if full else between).append(watched - trained)
    found = {"step": steps, "between": between, "reading": readings}
    medians = {name: statistics.median(values) for name, values in found.items()}
    interval = (monitor.every - 1) * medians["between"] + medians["reading"]
    return {**medians, "share": interval / (monitor.every * medians["step"])}


def main() -> None:
    options = arguments(__doc__ or "")
    numbers, rows, verdicts = {}, [], []
    for case in CASES[: 1 if options.num else 2 if options.quick else 3]:  # the last takes minutes
        found = measure(case, 1 if options.num else 2 if options.quick else 6)
        numbers[f"{case[0]}, batch {case[3]}"] = found
        milliseconds = [f"{found[name] * 1e3:.2f}" for name in ("step", "between", "reading")]
        rows.append([case[0], f"{case[3]}", *milliseconds, f"{100 * found['share']:.2f} %"])
        print(" ".join(rows[-1]), flush=True)
        verdicts.append((f"{case[0]}, batch {case[3]}: 2 % / share", 0.02 / found["share"], 1.0))
    text = [
        "# The monitor: its share of a training step",
        "",
        f"{machine()}; float32, D = {DIM}, a reading of 1024 rows every 50 steps (the defaults).",
        "Encoders of two convolutions, both views in one pass, align + uniform, SGD; no data loading and no",
        "augmentation, so that every real step is longer. Medians in ms of process CPU time, one run:",
        "",
        table(["encoder", "batch", "step", "update between readings", "reading", "share of the steps"], rows),
        "",
        promises(verdicts),
    ]
    write(options.out, "monitor", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
