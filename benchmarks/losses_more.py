"""How fast are SupCon, decoupled uniformity and hyperspherical energy against plain full-matrix code?

Run: python benchmarks/losses_more.py [--quick] [--out benchmarks/results]
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from _timing import (
    ROUNDS,
    Median,
    added_memory,
    arguments,
    both,
    in_child,
    interleave,
    machine,
    promises,
    ratios,
    table,
    write,
)
from spherometer import losses

DIM, TEMPERATURE, NUM_CLASSES = 128, 0.1, 10


def raw_rows(num: int) -> Tensor:
    """Rows of both views, [num, DIM]: the second half belongs to the first."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(num // 2, DIM, generator=generator)
    return torch.cat([centre + 0.5 * torch.randn(num // 2, DIM, generator=generator) for _ in range(2)])


def labels(num: int) -> Tensor:
    return torch.arange(num // 2) % NUM_CLASSES


def sup_con(raw: Tensor) -> Tensor:
    z1, z2 = raw.chunk(2)
    return losses.sup_con_loss(z1, z2, labels(len(raw)), temperature=TEMPERATURE)


def sup_con_plain(raw: Tensor) -> Tensor:
    """The usual code: logits and a mask of positives, both N x N."""
    z = functional.normalize(raw, dim=1)
    classes = labels(len(raw)).repeat(2)
    own = torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / TEMPERATURE).masked_fill(own, -torch.inf)
    positive = ((classes[:, None] == classes) & ~own).float()
    log_share = (logits - torch.logsumexp(logits, dim=1, keepdim=True)).masked_fill(own, 0)
    return -((positive * log_share).sum(dim=1) / positive.sum(dim=1)).mean()


def decoupled(raw: Tensor) -> Tensor:
    return losses.decoupled_uniformity_loss(*raw.chunk(2))


def decoupled_plain(raw: Tensor) -> Tensor:
    z1, z2 = functional.normalize(raw, dim=1).chunk(2)
    return torch.pdist((z1 + z2) / 2).square().mul(-2).exp().mean().log()


def energy(raw: Tensor) -> Tensor:
    return losses.hyperspherical_energy_loss(*raw.chunk(2))


def energy_plain(raw: Tensor) -> Tensor:
    z1, z2 = functional.normalize(raw, dim=1).chunk(2)
    return (torch.pdist(z1).reciprocal().mean() + torch.pdist(z2).reciprocal().mean()) / 2


DUELS = {
    "SupCon": (sup_con, sup_con_plain),
    "decoupled uniformity": (decoupled, decoupled_plain),
    "energy": (energy, energy_plain),
}


def main() -> None:
    options = arguments(__doc__ or "")
    if options.memory:
        name, which = options.memory[0].rsplit(":", 1)
        function = DUELS[name][int(which)]
        both(function, raw_rows(64))()
        print(added_memory(both(function, raw_rows(int(options.memory[1])))))
        return
    sizes = options.num or ([256, 4096] if options.quick else [256, 1024, 4096])
    numbers: dict[str, dict[str, float]] = {}
    rows, memory, verdicts = [], [], []
    for num in sizes:
        rounds = max(2, ROUNDS.get(num, 9) // (4 if options.quick else 1))
        repeats = max(1, min(20, 4096 // num))
        cells, bytes_added = [f"{num}"], [f"{num}"]
        for name, (mine, plain) in DUELS.items():
            raw = raw_rows(num)
            times = interleave({"ours": both(mine, raw), "plain": both(plain, raw)}, rounds, repeats)
            found = ratios(times, "ours")
            numbers[f"{name} {num}"] = {**found, "milliseconds": Median.of(times["ours"]).over(1e-3)}
            cells.append(f"{found['plain']:.2f} ({numbers[f'{name} {num}']['milliseconds']:.1f} ms)")
            if num == 4096:
                verdicts.append((f"{name}, N = 4096: plain / ours", found["plain"], 1.0))
            if num >= 1024 and not options.no_memory:
                for which in (0, 1):
                    added = in_child(__file__, (f"{name}:{which}", str(num)))
                    bytes_added.append("not measured" if added is None else f"{added / 2**20:.1f}")
        rows.append(cells)
        if num >= 1024 and not options.no_memory:
            memory.append(bytes_added)
        print(" ".join(cells), flush=True)
    header = [f"{name}, {which}" for name in DUELS for which in ("ours", "plain")]
    text = [
        "# SupCon, decoupled uniformity and energy: ours against plain code",
        "",
        f"{machine()}; float32, D = {DIM}, two views, {NUM_CLASSES} classes, temperature {TEMPERATURE};",
        "N counts the rows of both views. From raw rows, forward + backward; contenders take turns in one",
        "process; median over rounds of plain / ours in process CPU time (above 1: ours is faster), and ours",
        "in milliseconds.",
        "",
        table(["N", *DUELS], rows),
        "",
        "Memory added at the peak of forward + backward, MiB (a fresh process each):",
        "",
        table(["N", *header], memory),
        "",
        promises(verdicts),
    ]
    write(options.out, "losses_more", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
