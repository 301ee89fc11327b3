"""How fast are losses and metrics weighted by meta-data against full matrices?

Run: python benchmarks/conditional.py [--quick] [--out benchmarks/results]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from _timing import (
    ROUNDS,
    Median,
    added_memory,
    arguments,
    both,
    floor,
    forward,
    in_child,
    interleave,
    machine,
    promises,
    ratios,
    shown,
    table,
    unit_rows,
    write,
)
from spherometer import pairs
from spherometer.kernels import Gaussian
from spherometer.losses import AlignUniformLoss, ConditionalAlignUniformLoss, NTXentLoss, YAwareInfoNCELoss
from spherometer.pairs import _tiles

DIM, T, TEMPERATURE, BANDWIDTH = 128, 2.0, 0.1, 5.0
KERNEL = Gaussian(BANDWIDTH)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # two views and ages


def ages(num: int) -> Tensor:
    return 20 + 60 * torch.rand(num, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


# --- one conditional uniformity ---------------------------------------------------------------------------


def potential(x: Tensor, age: Tensor) -> Tensor:
    found, weight = pairs.conditional_potential(
        x, T, pairs.Similarity(KERNEL, KERNEL.rows(KERNEL.encode(age), x.dtype))
    )
    return found - weight


def apart(age: Tensor) -> Tensor:
    """1 - w, in the precision and the way of a careful dense implementation."""
    age = age.float()
    return -torch.expm1((age[:, None] - age).square() * (-0.5 / BANDWIDTH**2))


def potential_dense(x: Tensor, age: Tensor) -> Tensor:
    """The leanest full matrix: unit rows, so d^2 = 2 - 2 x . y; 1 - w leaves the diagonal out by itself."""
    v = apart(age)
    return (v * torch.exp(2 * T * (x @ x.T) - 2 * T)).sum().log() - v.sum().log()


def potential_cdist(x: Tensor, age: Tensor) -> Tensor:
    """The formula as it is written."""
    v = apart(age)
    return (v * torch.cdist(x, x).pow(2).mul(-T).exp()).sum().log() - v.sum().log()


POTENTIALS = {"ours": potential, "dense": potential_dense, "cdist": potential_cdist}


# --- losses of two views ----------------------------------------------------------------------------------


def align_uniform(z1: Tensor, z2: Tensor, age: Tensor) -> Tensor:
    return ConditionalAlignUniformLoss(KERNEL, t=T)(z1, z2, age)  # type: ignore[no-any-return]


def align_uniform_dense(z1: Tensor, z2: Tensor, age: Tensor) -> Tensor:
    """Both terms share one matrix of weights."""
    z1, z2 = functional.normalize(z1, dim=1), functional.normalize(z2, dim=1)
    v = apart(age)
    w = 1 - v
    align = ((w / w.sum(dim=1, keepdim=True)) * (2 - 2 * z1 @ z2.T)).sum(dim=1).mean()
    logs = [(v * torch.exp(2 * T * (z @ z.T) - 2 * T)).sum().log() for z in (z1, z2)]
    return align + (logs[0] + logs[1]) / 2 - v.sum().log()


def y_aware(z1: Tensor, z2: Tensor, age: Tensor) -> Tensor:
    return YAwareInfoNCELoss(KERNEL, TEMPERATURE)(z1, z2, age)  # type: ignore[no-any-return]


def y_aware_dense(z1: Tensor, z2: Tensor, age: Tensor) -> Tensor:
    """Cross-entropy of the logits of all 2N rows with the weights of their meta-data as targets."""
    z = functional.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T) / TEMPERATURE
    w = (1 - apart(age)).repeat(2, 2).fill_diagonal_(0)
    positives = ((w / w.sum(dim=1, keepdim=True)) * logits).sum(dim=1)
    own = torch.eye(len(z), dtype=torch.bool)
    return (torch.logsumexp(logits.masked_fill(own, -torch.inf), dim=1) - positives).mean()


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "ConditionalAlignUniformLoss": (align_uniform, align_uniform_dense),
    "YAwareInfoNCELoss": (y_aware, y_aware_dense),
}


PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "AlignUniformLoss": AlignUniformLoss(),
    "NTXentLoss": NTXentLoss(TEMPERATURE),
}


def with_ages(function: Callable[..., Tensor], num: int) -> Callable[..., Tensor]:
    """The function of features alone."""
    age = ages(num)
    return lambda *features: function(*features, age)


def agree(mine: Callable[..., Tensor], others: list[Callable[..., Tensor]], *inputs: Tensor) -> None:
    """Contenders compute the same number."""
    wanted = float(mine(*inputs))
    for other in others:
        found = float(other(*inputs))
        if abs(found - wanted) > 1e-4 * max(1.0, abs(wanted)):
            raise SystemExit(f"{found} against {wanted}")


def views(num: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    z1 = torch.randn(num, DIM, generator=generator)
    return z1, z1 + 0.5 * torch.randn(num, DIM, generator=generator)


MEMORY = ("ours", "dense", *LOSSES, *PLAIN)


def memory_case(name: str, num: int) -> None:
    if name in PLAIN:
        work = {n: both(PLAIN[name], *views(n)) for n in (64, num)}
    elif name in LOSSES:
        work = {n: both(with_ages(LOSSES[name][0], n), *views(n)) for n in (64, num)}
    else:
        if name != "ours" and num > 4096:  # several GiB, and minutes
            raise SystemExit("not measured")
        work = {n: both(with_ages(POTENTIALS[name], n), unit_rows(n, DIM)) for n in (64, num)}
    work[64]()
    print(added_memory(work[num]))


def main() -> None:
    options = arguments(__doc__ or "")
    if options.memory:
        memory_case(options.memory[0], int(options.memory[1]))
        return
    sizes = options.num or ([256, 768, 4096] if options.quick else [256, 768, 4096, 16384])
    numbers: dict[str, dict[str, float]] = {}
    alone, duels, memory, verdicts = [], [], [], []
    for num in sizes:
        rounds = max(2, ROUNDS.get(num, 3) // (4 if options.quick else 1))
        repeats = max(1, min(20, 4096 // num))
        x = unit_rows(num, DIM)
        contenders = {
            name: with_ages(each, num) for name, each in POTENTIALS.items() if num <= 4096 or name == "ours"
        }
        with torch.no_grad():
            agree(contenders["ours"], list(contenders.values()), x)
        for label, make in (("forward", forward), ("forward + backward", both)):
            work = {name: make(each, x) for name, each in contenders.items()}
            if make is both:
                work["floor"] = floor(num, DIM, (1, 2, 1))
            times = interleave(work, rounds, repeats)
            found = ratios(times, "ours")
            numbers[f"potential {num} {label}"] = found
            numbers[f"potential {num} {label}"]["milliseconds"] = Median.of(times["ours"]).over(1e-3)
            cells = [shown(found[name]) if name in found else "-" for name in ("dense", "cdist", "floor")]
            alone.append([f"{num}", label, *cells, shown(found["milliseconds"])])
            print(" ".join(alone[-1]), flush=True)
            if num == 4096 and make is both:
                verdicts.append(("conditional uniformity, N = 4096: dense / ours", found["dense"], 4.0))
        if num <= 4096:
            for name, (mine, dense) in LOSSES.items():
                given = views(num)
                duel = {"ours": with_ages(mine, num), "dense": with_ages(dense, num)}
                with torch.no_grad():
                    agree(duel["ours"], [duel["dense"]], *given)
                times = interleave(
                    {key: both(each, *given) for key, each in duel.items()}, max(2, rounds // 2), repeats
                )
                found = ratios(times, "ours")
                numbers[f"{name} {num}"] = {**found, "milliseconds": Median.of(times["ours"]).over(1e-3)}
                duels.append([f"{num}", name, shown(found["dense"])])
                duels[-1].append(f"{numbers[f'{name} {num}']['milliseconds']:.2f}")
                print(" ".join(duels[-1]), flush=True)
                if num == 4096:
                    verdicts.append((f"{name}, N = 4096: dense / ours", found["dense"], 4.0))
        if num >= 768 and not options.no_memory:
            memory.append(_memory(num, numbers, verdicts))
    text = [
        "# Conditional losses: ours against full matrices",
        "",
        f"{machine()}; float32, D = {DIM}, Gaussian kernel of bandwidth {BANDWIDTH:g} on ages from 20 to 80.",
        "Contenders take turns in one process; median over rounds of contender / ours in process",
        "CPU time (above 1: ours is faster) and its spread.",
        "`floor`: time of the GEMMs and exp of features alone,",
        "without a kernel of meta-data / ours. `dense` makes one matrix of weights and one of potentials by",
        "a product, and shares the weights between terms and views. All of them give equal values (checked).",
        "",
        f"Conditional uniformity of unit rows (t = {T:g}, its weights made in every call):",
        "",
        table(["N", "", "dense", "cdist", "floor", "ours, ms"], alone),
        "",
        "Dense / ours, forward + backward of the losses from two views [N, D] of raw rows (conditional",
        "alignment and two conditional uniformities; y-Aware InfoNCE over 2N rows, temperature",
        f"{TEMPERATURE}):",
        "",
        table(["N", "loss", "dense", "ours, ms"], duels),
        "",
        "Memory added at the peak of forward + backward, MiB (gradients included; a fresh process each): the",
        "conditional uniformity of N rows, and losses of two views of N raw rows, beside those without",
        "meta-data:",
        "",
        table(["N", *MEMORY, "allowed for N rows: 6 N D 4 bytes + 2 tiles"], memory),
        "",
        promises(verdicts),
    ]
    write(options.out, "conditional", "\n".join(text), numbers, verdicts)


def _memory(
    num: int, numbers: dict[str, dict[str, float]], verdicts: list[tuple[str, float, float]]
) -> list[str]:
    allowed = 6 * num * DIM * 4 + 2 * _tiles.TILE[0] * _tiles.TILE[1] * 4
    cells = [f"{num}"]
    for name in MEMORY:
        added = in_child(__file__, (name, str(num)))
        cells.append("not measured" if added is None else f"{added / 2**20:.1f}")
        if added is not None:
            numbers.setdefault(f"memory {num}", {})[name] = added
            if name == "ours" and num >= 4096:
                verdicts.append((f"N = {num}: memory allowed / added", allowed / max(added, 1), 1.0))
    return [*cells, f"{allowed / 2**20:.1f}"]


if __name__ == "__main__":
    main()
