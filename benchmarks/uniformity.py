"""How fast is the uniformity of N rows, with and without its gradient, against the usual ways to write it?

Run: python benchmarks/uniformity.py [--quick] [--out benchmarks/results]
"""

from __future__ import annotations

import torch
from torch import Tensor

from _timing import (
    ROUNDS,
    Median,
    Work,
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
from spherometer.pairs import _tiles

DIM, T = 128, 2.0
# What the last line of the table must reach: (contender, rows) -> ratio, forward + backward.
TARGETS = {
    ("full", 256): 1.0,
    ("pdist", 4096): 6.0,
    ("full", 4096): 3.0,
    ("pdist", 16384): 20.0,
    ("full", 16384): 5.0,
}


def ours(x: Tensor) -> Tensor:
    return pairs.gaussian_potential(x, T)


def pdist(x: Tensor) -> Tensor:
    return torch.pdist(x, p=2).pow(2).mul(-T).exp().mean().log()


def cdist(x: Tensor) -> Tensor:
    n = len(x)
    kernel = torch.cdist(x, x).pow(2).mul(-T).exp()
    return ((kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))).log()


def full(x: Tensor) -> Tensor:
    n = len(x)
    kernel = (x @ x.T).mul(2 * T).sub(2 * T).exp()
    return ((kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))).log()


CONTENDERS = {"ours": ours, "pdist": pdist, "cdist": cdist, "full": full}


def end_to_end() -> dict[str, object]:
    """The public loss against the reference formula, both normalising."""
    from spherometer.losses import uniform_loss

    return {
        "ours": uniform_loss,
        "pdist": lambda x: pdist(torch.nn.functional.normalize(x, dim=1)),
        "full": lambda x: full(torch.nn.functional.normalize(x, dim=1)),
    }


def compare(num: int, contenders: dict[str, Work], quick: bool) -> tuple[dict[str, Median], Median]:
    rounds = max(2, ROUNDS.get(num, 3) // (4 if quick else 1))
    times = interleave(contenders, rounds, max(1, min(20, 4096 // num)))
    return ratios(times, "ours"), Median.of(times["ours"])


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
    rows, verdicts = [], []
    for num in sizes:
        x = unit_rows(num, DIM)
        for label, mode, gemms in (("forward", forward, (0, 0, 1)), ("forward + backward", both, (1, 2, 1))):
            contenders = {name: mode(function, x) for name, function in CONTENDERS.items()}
            if options.seconds and num > 4096 and mode is both:
                del contenders["cdist"]  # 15 s a call, and neither the usual formula nor the leanest
            contenders["floor"] = floor(num, DIM, gemms)
            found, seconds = compare(num, contenders, options.quick)
            numbers[f"{label} {num}"] = {**found, "milliseconds": seconds.over(1e-3)}
            rows.append(
                [
                    f"{num}",
                    label,
                    *(shown(found[name]) if name in found else "-" for name in ("pdist", "cdist", "full")),
                    shown(found["floor"]),
                    f"{seconds * 1e3:.2f}",
                ]
            )
            print(" ".join(rows[-1]), flush=True)
            if label != "forward":
                for (name, at), least in TARGETS.items():
                    if at == num:
                        verdicts.append((f"N = {num}: {name} / ours", found[name], least))
                if num >= 4096:
                    verdicts.append((f"N = {num}: share of the floor", found["floor"], 0.65))
    text = [
        "# Uniformity: ours against pdist, cdist and the full matrix",
        "",
        f"{machine()}; float32, D = {DIM}, t = {T}, unit rows for everybody.",
        "Contenders take turns in one process; each figure is the median over rounds of contender / ours in",
        "process CPU time (above 1: ours is faster), with its spread. `floor`: time of the same GEMMs and",
        "exp alone / ours.",
        "",
        table(["N", "pass", "pdist", "cdist", "full", "floor", "ours, ms"], rows),
        "",
    ]
    losses = []
    try:
        losses_of = end_to_end()
    except ImportError:
        losses_of = {}
    for num in sizes if losses_of else []:
        if num > 4096:
            continue
        raw = torch.randn(num, DIM, generator=torch.Generator().manual_seed(1))
        found, _ = compare(num, {n: both(f, raw) for n, f in losses_of.items()}, options.quick)  # type: ignore[arg-type]
        numbers[f"uniform_loss {num}"] = found
        losses.append([f"{num}", shown(found["pdist"]), shown(found["full"])])
    if losses:
        text += [
            "`spherometer.losses.uniform_loss` from raw rows, against `F.normalize` and the formula, "
            "forward + backward:",
            "",
            table(["N", "pdist", "full"], losses),
            "",
        ]
    memory = []
    for num in [n for n in sizes if n >= 768 and not options.no_memory]:
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
    text += [
        "Memory added at the peak of forward + backward, MiB (gradient included; a fresh process each):",
        "",
        table(["N", *CONTENDERS, "allowed: 6 N D 4 bytes + 2 tiles"], memory),
        "",
        promises(verdicts),
    ]
    write(options.out, "uniformity", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
