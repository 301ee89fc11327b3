"""How fast are the numbers and losses of cells against full matrices, and matching against a loop?

Run: python benchmarks/dense.py [--quick] [--out benchmarks/results]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from _timing import (
    Median,
    added_memory,
    arguments,
    both,
    forward,
    in_child,
    interleave,
    machine,
    promises,
    ratios,
    shown,
    table,
    write,
)
from spherometer.correspondence import match_cells
from spherometer.losses import DenseAlignUniformLoss, DenseInfoNCELoss
from spherometer.metrics import dense_uniformity

DIM, SIDE, T, TEMPERATURE = 128, 7, 2.0, 0.2
SIZE = SIDE * SIDE
ROUNDS = {32: 24, 64: 12, 168: 5}  # images: rounds; 168 images of 7 x 7 cells are 8232 cells

Function = Callable[..., Tensor]


def maps(num: int, channels: int = DIM) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    z1 = torch.randn(num, channels, SIDE, SIDE, generator=generator)
    return z1, z1 + 0.5 * torch.randn(z1.shape, generator=generator)


def rows(z: Tensor) -> Tensor:
    """Unit cells, as everybody makes them."""
    return functional.normalize(z, dim=1).flatten(2).mT.flatten(0, 1)


# --- uniformity -------------------------------------------------------------------------------------------


def across(z: Tensor) -> Tensor:
    return dense_uniformity(z, t=T)  # type: ignore[no-any-return]


def across_full(z: Tensor) -> Tensor:
    """The leanest full matrix: unit cells, so d^2 = 2 - 2 x . y; blocks of images are set to 0."""
    x, num = rows(z), len(z)
    k = torch.exp(2 * T * (x @ x.T) - 2 * T)
    blocks = torch.eye(num, dtype=torch.bool).repeat_interleave(SIZE, 0).repeat_interleave(SIZE, 1)
    return (k.masked_fill(blocks, 0.0).sum() / (num * (num - 1) * SIZE**2)).log()


def everything(z: Tensor) -> Tensor:
    return dense_uniformity(z, t=T, pairs="all")  # type: ignore[no-any-return]


def within(z: Tensor) -> Tensor:
    return dense_uniformity(z, t=T, pairs="within_image")  # type: ignore[no-any-return]


def within_full(z: Tensor) -> Tensor:
    """One batch of products, which is what there is to do."""
    x = functional.normalize(z, dim=1).flatten(2).mT
    k = torch.exp(2 * T * (x @ x.mT) - 2 * T)
    own = torch.eye(SIZE, dtype=torch.bool)
    return k.masked_fill(own, 0.0).sum().div(len(z) * SIZE * (SIZE - 1)).log()


def within_loop(z: Tensor) -> Tensor:
    """Image by image."""
    total = z.new_zeros(())
    for image in functional.normalize(z, dim=1).flatten(2).mT:
        k = torch.exp(2 * T * (image @ image.T) - 2 * T)
        total = total + k.sum() - k.diagonal().sum()
    return total.div(len(z) * SIZE * (SIZE - 1)).log()


# --- losses -----------------------------------------------------------------------------------------------


def align_uniform(z1: Tensor, z2: Tensor) -> Tensor:
    return DenseAlignUniformLoss(matching="index", t=T)(z1, z2)  # type: ignore[no-any-return]


def align_uniform_full(z1: Tensor, z2: Tensor) -> Tensor:
    align = (rows(z1) - rows(z2)).square().sum(dim=1).mean()
    return align + (across_full(z1) + across_full(z2)) / 2


def info_nce(z1: Tensor, z2: Tensor) -> Tensor:
    return DenseInfoNCELoss(TEMPERATURE, dense_weight=1.0)(z1, z2)  # type: ignore[no-any-return]


def info_nce_full(z1: Tensor, z2: Tensor) -> Tensor:
    """The usual way: matching by one batch of products, logits [N S, 1 + N] in one matrix."""
    one, two = (functional.normalize(z, dim=1).flatten(2).mT for z in (z1, z2))
    with torch.no_grad():
        partner = (one @ two.mT).argmax(dim=2)
    positives = (one * two.gather(1, partner[:, :, None].expand_as(two))).sum(dim=2)
    keys = functional.normalize(z2.flatten(2).mean(dim=2), dim=1)
    own = torch.eye(len(z1), dtype=torch.bool).repeat_interleave(SIZE, 0)
    negatives = (one.flatten(0, 1) @ keys.T).masked_fill(own, -torch.inf)
    logits = torch.cat([positives.flatten()[:, None], negatives], dim=1) / TEMPERATURE
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))


# --- matching ---------------------------------------------------------------------------------------------


def match(x: Tensor, y: Tensor) -> Tensor:
    return match_cells(len(x), ((SIDE, SIDE),) * 2, "similarity", features=(x, y)).second


def match_loop(x: Tensor, y: Tensor) -> Tensor:
    one, two = (functional.normalize(z, dim=1).flatten(2) for z in (x, y))
    return torch.cat([(a.T @ b).argmax(dim=1) for a, b in zip(one, two, strict=True)])


def agree(mine: Function, other: Function, *inputs: Tensor) -> None:
    with torch.no_grad():
        found, wanted = float(mine(*inputs).sum()), float(other(*inputs).sum())
    if abs(found - wanted) > 1e-4 * max(1.0, abs(wanted)):
        raise SystemExit(f"{mine.__name__}: {found} against {wanted}")


CASES: dict[str, tuple[Function, dict[str, Function], int, int]] = {  # ours, others, inputs, channels
    "uniformity, across images": (across, {"full": across_full, "all cells": everything}, 1, DIM),
    "uniformity, within images": (within, {"full": within_full, "loop": within_loop}, 1, DIM),
    "DenseAlignUniformLoss": (align_uniform, {"full": align_uniform_full}, 2, DIM),
    "DenseInfoNCELoss": (info_nce, {"full": info_nce_full}, 2, DIM),
    "matching by similarity, 1280 channels": (match, {"loop": match_loop}, 2, 1280),
}
OTHERS = ("full", "loop", "all cells")
MEMORY = ("across", "across_full", "align_uniform", "info_nce", "info_nce_full")


def memory_case(name: str, num: int) -> None:
    function = globals()[name]
    given = {n: maps(n)[: 1 if name.startswith("across") else 2] for n in (4, num)}
    work = {n: both(function, *inputs) for n, inputs in given.items()}
    work[4]()
    print(added_memory(work[num]))


def main() -> None:
    options = arguments(__doc__ or "")
    if options.memory:
        memory_case(options.memory[0], int(options.memory[1]))
        return
    sizes = options.num or ([32, 64] if options.quick else [32, 64, 168])
    lines, numbers, verdicts = [], {}, []
    for num in sizes:
        rounds = max(2, ROUNDS.get(num, 3) // (4 if options.quick else 1))
        for name, (mine, others, count, channels) in CASES.items():
            given = maps(num, channels)[:count]
            for label, other in others.items():
                if label != "all cells":
                    agree(mine, other, *given)
            make = forward if mine is match else both
            contenders = {"ours": mine, **others}
            times = interleave({key: make(each, *given) for key, each in contenders.items()}, rounds, 1)
            found = ratios(times, "ours")
            milliseconds = Median.of(times["ours"]).over(1e-3)
            numbers[f"{name} {num}"] = {**found, "milliseconds": milliseconds}
            cells = [shown(found[key]) if key in found else "-" for key in OTHERS]
            lines.append([f"{num} ({num * SIZE})", name, *cells, f"{milliseconds:.1f}"])
            print(" ".join(lines[-1]), flush=True)
            if num == 168 and "full" in found and name != "uniformity, within images":
                verdicts.append((f"{name}, {num * SIZE} cells: full / ours", found["full"], 1.0))
    memory = []
    for num in [each for each in sizes if each >= 64 and not options.no_memory]:
        found_bytes = {name: in_child(__file__, (name, str(num))) for name in MEMORY}
        numbers[f"memory {num}"] = {name: each for name, each in found_bytes.items() if each}
        cells = [f"{each / 2**20:.0f}" if each else "-" for each in found_bytes.values()]
        memory.append([f"{num} ({num * SIZE})", *cells, f"{num * SIZE * DIM * 4 / 2**20:.0f}"])
    text = [
        "# Numbers and losses of cells: ours against full matrices",
        "",
        f"{machine()}; float32, maps of {DIM} x {SIDE} x {SIDE}, forward + backward (matching: forward).",
        "Contenders take turns in one process; median over rounds of contender / ours in process",
        "CPU time (above 1: ours is faster) and its spread.",
        "`full`: one matrix of all pairs of cells; `loop`: image",
        "by image; `all cells`: our own uniformity of all pairs. `full` and `loop` give equal values.",
        "",
        table(["images (cells)", "what", *OTHERS, "ours, ms"], lines),
        "",
        "Memory added at the peak of forward + backward, MiB (gradients included; a fresh process each):",
        "",
        table(["images (cells)", *MEMORY, "one set of maps"], memory),
        "",
        *([promises(verdicts)] if verdicts else []),
    ]
    write(options.out, "dense", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
