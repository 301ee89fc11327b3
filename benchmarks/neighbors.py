"""How fast are exact neighbours of N rows, with our own candidates and with those of faiss?

Run: python benchmarks/neighbors.py [--quick] [--out benchmarks/results]
"""

from __future__ import annotations

import subprocess
import sys
import time

import torch
from torch import Tensor

from _timing import (
    Median,
    Work,
    added_memory,
    arguments,
    interleave,
    machine,
    promises,
    ratios,
    shown,
    table,
    unit_rows,
    write,
)
from spherometer import metrics, pairs
from spherometer.pairs import _candidates

KS = [1, 10, 100, 500, 1000]  # of the curve of purity
LARGE = 50_000
ORDER = ("with faiss", "faiss alone", "dense", "scikit-learn", "differences")
FAISS_ROWS, FAISS_COLUMNS = _candidates.FAISS_ROWS, _candidates.FAISS_COLUMNS


def use_faiss(yes: bool) -> None:
    _candidates.FAISS_ROWS = 0 if yes else sys.maxsize
    _candidates.FAISS_COLUMNS = 0


def search(x: Tensor, k: int, *, faiss: bool) -> Work:
    def work() -> None:
        use_faiss(faiss)
        for _ in pairs.nearest_blocks(x, k):
            pass

    return work


def dense(x: Tensor, k: int) -> Work:
    """All distances at once in float32, by GEMM: near neighbours in another order, N^2 memory."""

    def work() -> None:
        squares = x.square().sum(dim=1)
        d = torch.addmm(squares, x, x.T, alpha=-2)
        d.fill_diagonal_(float("inf"))
        d.topk(k, dim=1, largest=False)

    return work


def by_differences(x: Tensor, k: int) -> Work:
    """All distances at once in float64, by differences: as exact as ours, N^2 memory."""

    def work() -> None:
        d = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
        d.fill_diagonal_(float("inf"))
        d.topk(k, dim=1, largest=False)

    return work


def scikit_learn(x: Tensor, k: int) -> Work:
    from sklearn.neighbors import NearestNeighbors

    def work() -> None:
        rows = x.numpy()
        NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=1).fit(rows).kneighbors()

    return work


def bare_faiss(x: Tensor, k: int) -> Work:
    import faiss

    def work() -> None:
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x.numpy())
        index.search(x.numpy(), k + 1)

    return work


def purity(faiss: bool, num: int) -> Work:
    x, labels = unit_rows(num, 128), torch.arange(num) % 10

    def work() -> None:
        use_faiss(faiss)
        metrics.neighbor_purity(x, labels, k=KS)

    return work


def main() -> None:
    options = arguments(__doc__ or "")
    if options.memory:
        name, num = options.memory[0], int(options.memory[1])
        purity(name == "faiss", 2200)()
        work = purity(name == "faiss", num)
        start = time.process_time()
        added = added_memory(work)
        print(time.process_time() - start, added)
        return
    shapes = [(1000, 128), (4000, 128), (10_000, 32), (10_000, 64), (10_000, 128)]
    shapes += [] if options.quick else [(20_000, 64), (20_000, 128)]
    numbers: dict[str, dict[str, float]] = {}
    rows, verdicts = [], []
    if options.num:
        shapes = [each for each in shapes if each[0] in options.num] or [(num, 32) for num in options.num]
    for num, dim in shapes:
        x = unit_rows(num, dim)
        for k in (10, 100):
            contenders = {
                "ours": search(x, k, faiss=False),
                "with faiss": search(x, k, faiss=True),
                "faiss alone": bare_faiss(x, k),
                "scikit-learn": scikit_learn(x, k),
            }
            if num <= 10_000:
                contenders["dense"] = dense(x, k)
            if num <= 4000:
                contenders["differences"] = by_differences(x, k)
            times = interleave(
                contenders, 2 if num > 4000 else 3 if options.quick else 5, max(1, 4000 // num)
            )
            found = ratios(times, "ours")
            seconds = Median.of(times["ours"])
            numbers[f"{num} x {dim}, k = {k}"] = {**found, "seconds": seconds}
            cells = [shown(found[name]) if name in found else "-" for name in ORDER]
            used = "yes" if num >= FAISS_ROWS and dim >= FAISS_COLUMNS else "no"
            rows.append([f"{num} x {dim}", f"{k}", *cells, f"{seconds:.3f}", used])
            print(" ".join(rows[-1]), flush=True)
            if used == "yes":
                verdicts.append((f"{num} x {dim}, k = {k}: ours / with faiss", 1 / found["with faiss"], 1.0))
            if num == 4000:
                verdicts.append((f"{num} x {dim}, k = {k}: differences / ours", found["differences"], 3.0))
    text = [
        "# Exact nearest neighbours: ours, with candidates by faiss, and the usual ways",
        "",
        f"{machine()}; float32, unit rows.",
        "Contenders take turns in one process; median over rounds of contender / ours in process",
        "CPU time (above 1: ours is faster) and its spread.",
        "`ours` finds candidates by its own GEMM, `with faiss`",
        "by `IndexFlatL2`; both then order them by differences in float64, and give the same bits. `dense`,",
        "`faiss alone` and `scikit-learn` keep the rounding of GEMMs in float32 and break ties as they fall;",
        "`dense` and `differences` (float64, exact) hold N^2 distances.",
        f"faiss is asked from {FAISS_ROWS} rows of {FAISS_COLUMNS} columns on: importing it takes 0.3 s.",
        "",
        table(
            ["rows", "k", *ORDER, "ours, s", "faiss used"],
            rows,
        ),
        "",
    ]
    large = []
    for name in () if options.no_memory else ("ours", "faiss"):
        num = 10_000 if options.quick else LARGE
        command = [sys.executable, __file__, "--memory", name, str(num)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            seconds, added = map(float, done.stdout.split())
            numbers[f"purity {num}, {name}"] = {"bytes": added, "seconds": seconds}
            whole = num * (max(KS) + 1) * 8 / 2**20
            large.append([name, f"{num} x 128", f"{seconds:.0f}", f"{added / 2**20:.0f}", f"{whole:.0f}"])
            verdicts.append((f"N = {num}, {name}: 400 MB / memory added", 400e6 / added, 1.0))
    text += [
        f"Neighbor purity at k = {', '.join(map(str, KS))} in one search, a fresh process each: memory added",
        "at the peak, beside what a table of all neighbours alone would take.",
        "",
        table(["candidates", "rows", "processor time, s", "added, MiB", "table of neighbours, MiB"], large),
        "",
        promises(verdicts),
    ]
    write(options.out, "neighbors", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
