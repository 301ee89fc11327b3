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
from spherometer.kernels import Gaussian

DIM, T, TEMPERATURE, CLASSES = 128, 2.0, 0.5, 10
BANDWIDTH = 5.0  # of ages
SIDE = 4  # of a map: the cells of N / 16 images are N rows
CELLS = SIDE * SIDE
KERNEL = Gaussian(BANDWIDTH)


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


def sup_con(x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
    z, labels = torch.cat([functional.normalize(x), functional.normalize(y)]), labels.repeat(2)
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


# --- with meta-data ---------------------------------------------------------------------------------------


def ages_of(num: int) -> Tensor:
    return 20 + 60 * torch.rand(num, generator=torch.Generator().manual_seed(5))


def apart(ages: Tensor) -> Tensor:
    """1 - w, 0 on the diagonal."""
    return -torch.expm1((ages[:, None] - ages).square() * (-0.5 / BANDWIDTH**2))


def conditional_log(z: Tensor, v: Tensor) -> Tensor:
    return (v * ((z @ z.T - 1) * (2 * T)).exp()).sum().log() - v.sum().log()


def conditional_uniformity(z: Tensor, ages: Tensor) -> Tensor:
    return conditional_log(functional.normalize(z), apart(ages))


def anchor_mean(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    w = 1 - v
    return (w / w.sum(dim=1, keepdim=True) * (2 - 2 * x @ y.T)).sum(dim=1).mean()


def conditional_alignment(x: Tensor, y: Tensor, ages: Tensor) -> Tensor:
    return anchor_mean(functional.normalize(x), functional.normalize(y), apart(ages))


def conditional_align_uniform(x: Tensor, y: Tensor, ages: Tensor) -> Tensor:
    x, y, v = functional.normalize(x), functional.normalize(y), apart(ages)
    return anchor_mean(x, y, v) + (conditional_log(x, v) + conditional_log(y, v)) / 2


def y_aware(x: Tensor, y: Tensor, ages: Tensor) -> Tensor:
    """Cross-entropy of the logits of all 2N rows with the weights of their meta-data as targets."""
    z = torch.cat([functional.normalize(x), functional.normalize(y)])
    logits = z @ z.T / TEMPERATURE
    w = (1 - apart(ages)).repeat(2, 2).fill_diagonal_(0)
    positives = (w / w.sum(dim=1, keepdim=True) * logits).sum(dim=1)
    own = torch.eye(len(z), dtype=torch.bool)
    return (torch.logsumexp(logits.masked_fill(own, -math.inf), dim=1) - positives).mean()


def decoupled(x: Tensor, y: Tensor) -> Tensor:
    means, n = (functional.normalize(x) + functional.normalize(y)) / 2, len(x)
    squares = means.square().sum(dim=1)
    k = ((squares[:, None] + squares - 2 * means @ means.T) * -T).exp()
    return ((k.sum() - k.diagonal().sum()) / (n * (n - 1))).log()


def local_density(z: Tensor, labels: Tensor) -> Tensor:
    z, n = functional.normalize(z), len(z)
    squares = z.square().sum(dim=1)
    d = torch.addmm(squares[:, None] + squares, z, z.T, alpha=-2).clamp_(min=0).sqrt_().fill_diagonal_(0)
    e = (d / -(d.sum() / (n * (n - 1)))).exp_().fill_diagonal_(0)
    sums = e.sum(dim=1)
    weights = e.square_() / sums[:, None] / sums
    members = functional.one_hot(labels, CLASSES).float()
    edges = members.T @ (weights @ members)
    edges = edges / edges.sum()
    return (edges.diagonal() - edges.sum(dim=1).square()).sum()


# --- cells of maps ----------------------------------------------------------------------------------------


def cells_of(maps: Tensor) -> Tensor:
    return functional.normalize(maps, dim=1).flatten(2).mT


def log_across(cells: Tensor) -> Tensor:
    z, num = cells.flatten(0, 1), len(cells)
    own = torch.eye(num, dtype=torch.bool).repeat_interleave(CELLS, 0).repeat_interleave(CELLS, 1)
    k = ((z @ z.T - 1) * (2 * T)).exp().masked_fill(own, 0.0)
    return (k.sum() / (num * (num - 1) * CELLS**2)).log()


def cells_across(maps: Tensor) -> Tensor:
    return log_across(cells_of(maps))


def cells_within(maps: Tensor) -> Tensor:
    z = cells_of(maps)
    k = ((z @ z.mT - 1) * (2 * T)).exp().masked_fill(torch.eye(CELLS, dtype=torch.bool), 0.0)
    return (k.sum() / (len(z) * CELLS * (CELLS - 1))).log()


def cells_align_uniform(x: Tensor, y: Tensor) -> Tensor:
    x, y = cells_of(x), cells_of(y)
    return (x - y).square().sum(dim=2).mean() + (log_across(x) + log_across(y)) / 2


def cells_info_nce(x: Tensor, y: Tensor) -> Tensor:
    """Matching by one batch of products, logits [cells, 1 + images] in one matrix."""
    one, two, num = cells_of(x), cells_of(y), len(x)
    with torch.no_grad():
        partner = (one @ two.mT).argmax(dim=2)
    positives = (one * two.gather(1, partner[:, :, None].expand_as(two))).sum(dim=2)
    keys = functional.normalize(y.flatten(2).mean(dim=2))
    own = torch.eye(num, dtype=torch.bool).repeat_interleave(CELLS, 0)
    negatives = (one.flatten(0, 1) @ keys.T).masked_fill(own, -math.inf)
    logits = torch.cat([positives.flatten()[:, None], negatives], dim=1) / TEMPERATURE
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))


def our_within(maps: Tensor) -> Tensor:
    return sm.dense_uniformity(maps, pairs="within_image")  # type: ignore[no-any-return]


def our_conditional_uniformity(z: Tensor, ages: Tensor) -> Tensor:
    return sm.conditional_uniformity(z, ages, kernel=KERNEL)  # type: ignore[no-any-return]


def our_conditional_alignment(x: Tensor, y: Tensor, ages: Tensor) -> Tensor:
    return sm.conditional_alignment(x, y, ages, kernel=KERNEL)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Case:
    """A public function of raw rows, and the plain form of the same value."""

    ours: Callable[..., Tensor]
    plain: Callable[..., Tensor]
    sides: int = 2
    gradient: bool = True
    extra: Callable[[int], Tensor] | None = None  # what stands beside the rows
    within: float = 1e-5
    maps: bool = False


CASES = {
    "uniformity": Case(sm.uniformity, uniformity, 1),
    "uniform_loss": Case(losses.uniform_loss, uniformity, 1),
    "alignment": Case(sm.alignment, align),
    "align_loss": Case(losses.align_loss, align),
    "AlignUniformLoss": Case(losses.AlignUniformLoss(), align_uniform),
    "cross_uniformity": Case(sm.cross_uniformity, cross),
    "InfoNCELoss": Case(losses.InfoNCELoss(TEMPERATURE), info_nce),
    "NTXentLoss": Case(losses.NTXentLoss(TEMPERATURE), nt_xent),
    "SupConLoss": Case(losses.SupConLoss(TEMPERATURE), sup_con, extra=labels_of),
    "interval of uniformity": Case(our_interval, interval, 1, gradient=False, within=1e-3),
    "hyperspherical_energy (float64)": Case(sm.hyperspherical_energy, energy_double, 1),
    "HypersphericalEnergyLoss": Case(losses.HypersphericalEnergyLoss(), energy, 1, within=1e-4),
    "ConditionalAlignUniformLoss": Case(
        losses.ConditionalAlignUniformLoss(KERNEL), conditional_align_uniform, extra=ages_of
    ),
    "YAwareInfoNCELoss": Case(losses.YAwareInfoNCELoss(KERNEL, TEMPERATURE), y_aware, extra=ages_of),
    "DecoupledUniformityLoss": Case(losses.DecoupledUniformityLoss(), decoupled),
    "conditional_uniformity": Case(our_conditional_uniformity, conditional_uniformity, 1, extra=ages_of),
    "conditional_alignment": Case(our_conditional_alignment, conditional_alignment, extra=ages_of),
    "relative_local_density": Case(
        sm.relative_local_density, local_density, 1, gradient=False, extra=labels_of
    ),
    "DenseInfoNCELoss": Case(
        losses.DenseInfoNCELoss(TEMPERATURE, dense_weight=1.0), cells_info_nce, maps=True
    ),
    "DenseAlignUniformLoss": Case(
        losses.DenseAlignUniformLoss(matching="index"), cells_align_uniform, maps=True
    ),
    "dense_uniformity across images": Case(sm.dense_uniformity, cells_across, 1, maps=True),
    "dense_uniformity within images": Case(our_within, cells_within, 1, maps=True),
}


def rows_of(num: int, sides: int, maps: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (max(2, num // CELLS), DIM, SIDE, SIDE) if maps else (num, DIM)
    first = torch.randn(shape, generator=generator)
    return [first, first + 0.5 * torch.randn(shape, generator=generator)][:sides]


def race(case: Case, num: int, gradient: bool, rounds: int) -> tuple[Median, Median]:
    """Plain / ours, and seconds of ours; the values are compared first."""
    given_rows = rows_of(num, case.sides, case.maps)
    extra = [] if case.extra is None else [case.extra(num)]
    ours: Callable[..., Tensor] = lambda *sides: case.ours(*sides, *extra)
    plain: Callable[..., Tensor] = lambda *sides: case.plain(*sides, *extra)
    torch.testing.assert_close(ours(*given_rows), plain(*given_rows), rtol=case.within, atol=case.within)
    mode = both if gradient else forward
    contenders = {"ours": mode(ours, *given_rows), "plain": mode(plain, *given_rows)}
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
