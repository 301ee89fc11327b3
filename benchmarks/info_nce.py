"""How fast are NT-Xent and InfoNCE of N rows with their gradients against the usual ways to write them?

Run: python benchmarks/info_nce.py [--quick] [--out benchmarks/results]
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
    floor,
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
from spherometer.pairs import _tiles

DIM, TEMPERATURE = 128, 0.5


def positives(x: Tensor) -> Tensor:
    half = len(x) // 2
    return (x[:half] * x[half:]).sum(dim=1).repeat(2) / TEMPERATURE


def ours(x: Tensor) -> Tensor:
    rows, _ = pairs.masked_logsumexp(x, None, 1 / TEMPERATURE, (0,))
    return rows.mean() - positives(x).mean()


def cross_entropy(x: Tensor) -> Tensor:
    """Full logits, the diagonal masked, cross-entropy: the usual code."""
    n = len(x)
    logits = (x @ x.T) / TEMPERATURE
    logits.fill_diagonal_(-torch.inf)
    return functional.cross_entropy(logits, torch.arange(n).roll(n // 2))


def logsumexp(x: Tensor) -> Tensor:
    """The leanest full matrix: one log-sum-exp and the positives on their own."""
    logits = (x @ x.T) / TEMPERATURE
    logits.fill_diagonal_(-torch.inf)
    return torch.logsumexp(logits, dim=1).mean() - positives(x).mean()


def cdist(x: Tensor) -> Tensor:
    """Through distances, x . y = 1 - d^2 / 2."""
    n = len(x)
    logits = (1 - torch.cdist(x, x).pow(2) / 2) / TEMPERATURE
    logits = logits.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)
    return functional.cross_entropy(logits, torch.arange(n).roll(n // 2))


CONTENDERS = {"ours": ours, "cross_entropy": cross_entropy, "logsumexp": logsumexp, "cdist": cdist}


def cross_ours(x: Tensor) -> Tensor:
    """InfoNCE between two views, both directions."""
    z1, z2 = x.chunk(2)
    rows, columns = pairs.masked_logsumexp(z1, z2, 1 / TEMPERATURE, ())
    return (rows.mean() + columns.mean()) / 2 - (z1 * z2).sum(dim=1).mean() / TEMPERATURE


def cross_plain(x: Tensor) -> Tensor:
    z1, z2 = x.chunk(2)
    logits = z1 @ z2.T / TEMPERATURE
    own = torch.arange(len(z1))
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def loss_ours(raw: Tensor) -> Tensor:
    from spherometer.losses import NTXentLoss

    z1, z2 = raw.chunk(2)
    return NTXentLoss(temperature=TEMPERATURE)(z1, z2)  # type: ignore[no-any-return]


def loss_plain(raw: Tensor) -> Tensor:
    return cross_entropy(functional.normalize(raw, dim=1))


def main() -> None:
    options = arguments(__doc__ or "")
    if options.memory:
        name, num = options.memory[0], int(options.memory[1])
        if name != "ours" and num > 4096:  # several GiB each, and minutes
            raise SystemExit("not measured")
        both(CONTENDERS[name], unit_rows(64, DIM))()
        print(added_memory(both(CONTENDERS[name], unit_rows(num, DIM))))
        return
    sizes = options.num or ([256, 768, 4096] if options.quick else [256, 768, 4096, 16384])
    numbers: dict[str, dict[str, float]] = {}
    rows, others, memory, verdicts = [], [], [], []
    for num in sizes:
        rounds = max(2, ROUNDS.get(num, 3) // (4 if options.quick else 1))
        repeats = max(1, min(20, 4096 // num))
        x = unit_rows(num, DIM)
        names = ("ours", "cross_entropy") if num > 4096 else tuple(CONTENDERS)  # minutes, and many GiB
        work = {name: both(CONTENDERS[name], x) for name in names}
        # forward: one tile; backward: the tile again (kept where it is the only one) and its products
        work["floor"] = floor(num, DIM, (1, 2, 1 if num <= _tiles.SINGLE else 2))
        times = interleave(work, rounds, repeats)
        found = ratios(times, "ours")
        numbers[f"NT-Xent {num}"] = {**found, "milliseconds": Median.of(times["ours"]).over(1e-3)}
        rows.append(
            [f"{num}", *(shown(found[n]) if n in found else "-" for n in (*list(CONTENDERS)[1:], "floor"))]
        )
        rows[-1].append(f"{numbers[f'NT-Xent {num}']['milliseconds']:.2f}")
        print(" ".join(rows[-1]), flush=True)
        if num == 4096:
            verdicts.append(("NT-Xent, N = 4096: cross_entropy / ours", found["cross_entropy"], 4.0))
        if num >= 4096:
            verdicts.append((f"NT-Xent, N = {num}: share of the floor", found["floor"], 0.65))
        if num <= 4096:
            cells = [f"{num}"]
            raw = torch.randn(num, DIM, generator=torch.Generator().manual_seed(1))
            for label, given, mine, plain in (
                ("InfoNCE", x, cross_ours, cross_plain),
                ("NTXentLoss", raw, loss_ours, loss_plain),
            ):
                duel = {"ours": both(mine, given), "plain": both(plain, given)}
                found = ratios(interleave(duel, rounds, repeats), "ours")
                numbers[f"{label} {num}"] = found
                cells.append(shown(found["plain"]))
            others.append(cells)
        if num >= 768 and not options.no_memory:
            allowed = 6 * num * DIM * 4 + 2 * _tiles.TILE[0] * _tiles.TILE[1] * 4
            cells = []
            for name in CONTENDERS:
                added = in_child(__file__, (name, str(num)))
                cells.append("not measured" if added is None else f"{added / 2**20:.1f}")
                if added is not None:
                    numbers.setdefault(f"memory {num}", {})[name] = added
                    if name == "ours" and num >= 4096:
                        verdicts.append((f"N = {num}: memory allowed / added", allowed / max(added, 1), 1.0))
            memory.append([f"{num}", *cells, f"{allowed / 2**20:.1f}"])
    text = [
        "# NT-Xent and InfoNCE: ours against full matrices",
        "",
        f"{machine()}; float32, D = {DIM}, temperature {TEMPERATURE}; N counts the rows of both views.",
        "Contenders take turns in one process; each figure is the median over rounds of contender / ours in",
        "process CPU time (above 1: ours is faster), with its spread. `floor`: time of the same GEMMs and",
        "exp alone / ours.",
        "",
        "NT-Xent of unit rows, forward + backward:",
        "",
        table(["N", *list(CONTENDERS)[1:], "floor", "ours, ms"], rows),
        "",
        "Plain / ours, forward + backward: InfoNCE of unit rows (N / 2 x N / 2, both directions, two",
        "cross-entropies); `spherometer.losses.NTXentLoss` from raw rows, against `F.normalize` and the",
        "cross-entropy:",
        "",
        table(["N", "InfoNCE", "NTXentLoss"], others),
        "",
        "Memory added at the peak of forward + backward, MiB (gradient included; a fresh process each):",
        "",
        table(["N", *CONTENDERS, "allowed: 6 N D 4 bytes + 2 tiles"], memory),
        "",
        promises(verdicts),
    ]
    write(options.out, "info_nce", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
