"""Are sets of a few hundred rows no slower than the full matrix that one would write down?

Run: python benchmarks/small.py [--quick] [--out benchmarks/results] [--only WORD ...]

Small sets are where checks, copies and bookkeeping cost as much as the mathematics. Each public function is
held against the plain form in the usual torch calls, without checks, from the same raw rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

import spherometer as sm
from _timing import (
    Median,
    both,
    forward,
    given,
    interleave,
    machine,
    parser,
    promises,
    ratios,
    shown,
    table,
    write,
)
from spherometer import losses, pairs

DIM, T, TEMPERATURE, CLASSES = 128, 2.0, 0.5, 10


def log_mean(z: Tensor) -> Tensor:
    """Log mean potential over the pairs of unit rows."""
    k = ((z @ z.T - 1) * (2 * T)).exp()
    return ((k.sum() - k.diagonal().sum()) / (len(z) * (len(z) - 1))).log()


def uniformity(z: Tensor) -> Tensor:
    return log_mean(functional.normalize(z))


def align(x: Tensor, y: Tensor) -> Tensor:
    return (functional.normalize(x) - functional.normalize(y)).norm(dim=1).pow(2).mean()


def align_uniform(x: Tensor, y: Tensor) -> Tensor:
    x, y = functional.normalize(x), functional.normalize(y)
    return (x - y).norm(dim=1).pow(2).mean() + (log_mean(x) + log_mean(y)) / 2


def cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = functional.normalize(x), functional.normalize(y)
    return ((x @ y.T - 1) * (2 * T)).exp().mean().log()


def info_nce(x: Tensor, y: Tensor) -> Tensor:
    logits = functional.normalize(x) @ functional.normalize(y).T / TEMPERATURE
    own = torch.arange(len(x))
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def nt_xent(x: Tensor, y: Tensor) -> Tensor:
    z, n = torch.cat([functional.normalize(x), functional.normalize(y)]), len(x)
    logits = (z @ z.T / TEMPERATURE).masked_fill(torch.eye(2 * n, dtype=torch.bool), -math.inf)
    return functional.cross_entropy(logits, torch.arange(2 * n).roll(n))


def labels_of(num: int) -> Tensor:
    return torch.arange(num) % CLASSES


def sup_con(x: Tensor, y: Tensor) -> Tensor:
    z, labels = torch.cat([functional.normalize(x), functional.normalize(y)]), labels_of(len(x)).repeat(2)
    own = torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / TEMPERATURE).masked_fill(own, -math.inf)
    positive = (labels[:, None] == labels) & ~own
    log_share = torch.log_softmax(logits, dim=1).masked_fill(~positive, 0)
    return -(log_share.sum(dim=1) / positive.sum(dim=1)).mean()


def interval(z: Tensor) -> Tensor:
    """Uniformity and its standard error, by the variance of a U-statistic."""
    z, n = functional.normalize(z), len(z)
    k = ((z @ z.T - 1) * (2 * T)).exp().fill_diagonal_(0)
    r, s2, pairs_ = k.sum(dim=1), k.square().sum(), n * (n - 1)
    s1, r2 = r.sum(), r.square().sum()
    a, b = (r2 - s2) / (pairs_ * (n - 2)), s2 / pairs_
    c = (s1.square() - 4 * r2 + 2 * s2) / (pairs_ * (n - 2) * (n - 3))
    variance = (4 * (n - 2) * (a - c) + 2 * (b - c)) / pairs_
    floor = 2 * (b - c) / pairs_  # the exact variance may be estimated below that of the pairs
    return torch.stack([(s1 / pairs_).log(), torch.maximum(variance, floor).sqrt() * pairs_ / s1])


def our_interval(z: Tensor) -> Tensor:
    found = pairs.gaussian_moments(sm.sphere.normalize(z), T)
    return torch.tensor([found.log_mean, found.standard_error])


def energy(z: Tensor) -> Tensor:
    z, n = functional.normalize(z), len(z)
    squared = (2 - 2 * (z @ z.T)).fill_diagonal_(math.inf)
    return squared.rsqrt().sum() / (n * (n - 1))


def energy_double(z: Tensor) -> Tensor:
    return energy(z.double()).float()


@dataclass(frozen=True)
class Case:
    """A public function of raw rows, and the plain form of the same value."""

    ours: Callable[..., Tensor]
    plain: Callable[..., Tensor]
    sides: int = 2
    gradient: bool = True
    labels: bool = False
    within: float = 1e-5


CASES = {
    "uniformity": Case(sm.uniformity, uniformity, 1),
    "uniform_loss": Case(losses.uniform_loss, uniformity, 1),
    "alignment": Case(sm.alignment, align),
    "align_loss": Case(losses.align_loss, align),
    "AlignUniformLoss": Case(losses.AlignUniformLoss(), align_uniform),
    "cross_uniformity": Case(sm.cross_uniformity, cross),
    "InfoNCELoss": Case(losses.InfoNCELoss(TEMPERATURE), info_nce),
    "NTXentLoss": Case(losses.NTXentLoss(TEMPERATURE), nt_xent),
    "SupConLoss": Case(losses.SupConLoss(TEMPERATURE), sup_con, labels=True),
    "interval of uniformity": Case(our_interval, interval, 1, gradient=False, within=1e-3),
    "hyperspherical_energy (float64)": Case(sm.hyperspherical_energy, energy_double, 1),
    "HypersphericalEnergyLoss": Case(losses.HypersphericalEnergyLoss(), energy, 1, within=1e-4),
}


def rows_of(num: int, sides: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(num, DIM, generator=generator)
    return [first, first + 0.5 * torch.randn(num, DIM, generator=generator)][:sides]


def race(case: Case, num: int, gradient: bool, rounds: int) -> tuple[Median, Median]:
    """Plain / ours, and seconds of ours; the values are compared first."""
    given_rows = rows_of(num, case.sides)
    extra = [labels_of(num)] if case.labels else []
    ours: Callable[..., Tensor] = lambda *sides: case.ours(*sides, *extra)
    torch.testing.assert_close(ours(*given_rows), case.plain(*given_rows), rtol=case.within, atol=case.within)
    mode = both if gradient else forward
    contenders = {"ours": mode(ours, *given_rows), "plain": mode(case.plain, *given_rows)}
    times = interleave(contenders, rounds, max(2, 4096 // num))
    return ratios(times, "ours")["plain"], Median.of(times["ours"])


def main() -> None:
    wanted = parser(__doc__ or "")
    wanted.add_argument("--only", nargs="*", default=[""], help="cases whose names have one of these words")
    options = given(wanted)
    numbers: dict[str, dict[str, float]] = {}
    lines, verdicts = [], []
    for name, case in CASES.items():
        if not any(word.lower() in name.lower() for word in options.only):
            continue
        for num in options.num or (64, 256, 512):
            cells = []
            for label, gradient in (("forward", False), ("forward + backward", True)):
                if gradient and not case.gradient:
                    cells.append("-")
                    continue
                ratio, seconds = race(case, num, gradient, 9 if options.quick else 31)
                numbers[f"{name}, {label} {num}"] = {"plain": ratio, "milliseconds": seconds.over(1e-3)}
                verdicts.append((f"{name}, N = {num}, {label}: plain / ours", ratio, 1.0))
                cells.append(f"{shown(ratio)}, {seconds * 1e3:.2f} ms")
            lines.append([name, f"{num}", *cells])
            print(" ".join(lines[-1]), flush=True)
    text = [
        "# Small sets: ours against the plain full matrix",
        "",
        f"{machine()}; float32, D = {DIM}, from raw rows. Median over rounds of plain / ours in process CPU",
        "time (above 1: ours is faster), with its spread, and the time of ours.",
        "",
        table(["function", "N", "forward", "forward + backward"], lines),
        "",
        promises(verdicts),
    ]
    write(options.out, "small", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
