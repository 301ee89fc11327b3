"""How often does ``compare`` see a difference where there is none, and does it see one where there is?

    python reproductions/null_trials.py                 # 200 trials of each: about half an hour of one CPU
    python reproductions/null_trials.py --trials 1000   # as ``make nightly`` does
    python reproductions/null_trials.py --num 60 --trials 50

Null trials: both sets are drawn from one law (independent samples), or are the same samples with noise of
the same law on each (paired; b is rotated, as another encoder's features are), so no verdict should be given
but by chance, in 5 % of the trials. Different dimensions: rows of the uniform law, which have the same
normalized uniformity in any dimension, and partners at angles of one law. Rates are of each metric's own
p-value below 0.05, with Wilson's 95 % interval; "any" is the share of trials in which some verdict is given
after Holm's correction, "class drift" and "dimension drift" those in which a class or a dimension is said to
have moved. Power: b is drawn with less noise between the sides and one direction stretched.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from spherometer._compare import Comparison, compare

LAWS = ("isotropic", "clustered", "heavy-tailed", "low-rank")
SHOWN = (
    "overall", "any", "alignment", "normalized_uniformity", "wasserstein_uniformity", "rankme",
    "participation_ratio", "drift", "class drift", "dimension drift",
)  # fmt: skip


def rows(law: str, num: int, dim: int, generator: torch.Generator) -> Tensor:
    """[num, dim] rows of a law."""
    plain = torch.randn(num, dim, generator=generator)
    fixed = torch.Generator().manual_seed(99)
    if law == "clustered":
        centres = 1.5 * torch.randn(8, dim, generator=fixed)
        return centres[torch.randint(8, (num,), generator=generator)] + plain
    if law == "heavy-tailed":
        return plain / torch.rand(num, 1, generator=generator).pow(1 / 3) * torch.linspace(0.2, 1.5, dim)
    if law == "low-rank":
        basis = torch.randn(max(2, dim // 8), dim, generator=fixed)
        return torch.randn(num, len(basis), generator=generator) @ basis + 0.05 * plain
    return plain


def null_pair(
    law: str, num: int, dims: tuple[int, int], paired: bool, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """Two sets with positive pairs that differ by chance alone."""
    if paired and dims[0] == dims[1]:
        shared = rows(law, num, dims[0], generator)
        noise = [torch.randn(num, dims[0], generator=generator) for _ in range(2)]
        rotation = torch.linalg.qr(torch.randn(dims[0], dims[0], generator=generator)).Q
        sets = [shared + 0.7 * noise[0], (shared + 0.7 * noise[1])]
        others = [one + 0.5 * torch.randn(num, dims[0], generator=generator) for one in sets]
        return [(sets[0], others[0]), (sets[1] @ rotation, others[1] @ rotation)]
    if dims[0] != dims[1]:
        return [at_angles(num, dim, generator) for dim in dims]
    sets = [rows(law, num, dim, generator) for dim in dims]
    return [(one, one + 0.5 * torch.randn(num, one.shape[1], generator=generator)) for one in sets]


def at_angles(num: int, dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of the uniform law with partners at angles of a law that does not know the dimension."""
    x, y = (torch.randn(num, dim, generator=generator) for _ in range(2))
    x = x / x.norm(dim=1, keepdim=True)
    y = y - (x * y).sum(dim=1, keepdim=True) * x
    y = y / y.norm(dim=1, keepdim=True)
    angles = 0.2 + 0.8 * torch.rand(num, 1, generator=generator)
    return x, x * angles.cos() + y * angles.sin()


def true_pair(num: int, dim: int, paired: bool, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Two sets of which b is better aligned and less uniform."""
    (x, y), (u, v) = null_pair("isotropic", num, (dim, dim), paired, generator)
    stretch = torch.ones(dim)
    stretch[0] = 2.0
    return [(x, y), (u * stretch, (u + 0.7 * (v - u)) * stretch)]


def alarms(found: Comparison) -> dict[str, bool]:
    """Which p-values are below 0.05, which verdicts were given."""
    told = {name: one.p_value < 0.05 for name, one in found.metrics.items() if one.p_value is not None}
    told["any"] = any(one.verdict in ("better", "worse") for one in found.metrics.values())
    told["overall"] = found.verdict != "not distinguishable"
    if found.drift is not None and found.drift["mmd"] is not None:
        told["drift"] = found.drift["mmd"]["verdict"] == "drift"
        told["dimension drift"] = found.drift["num_shifted"] > 0
        tested = [row["p_holm"] for row in found.drift["classes"] if row["p_holm"] is not None]
        if tested:
            told["class drift"] = min(tested) < 0.05
    return told


def rates(make: Callable[[torch.Generator], Comparison], trials: int, seed: int) -> dict[str, list[int]]:
    """name -> [alarms, trials]."""
    generator, counts = torch.Generator().manual_seed(seed), dict[str, list[int]]()
    for _ in range(trials):
        for name, alarm in alarms(make(generator)).items():
            one = counts.setdefault(name, [0, 0])
            one[0] += alarm
            one[1] += 1
    return counts


def wilson(alarms: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z = 1.959963984540054
    share, scale = alarms / trials, 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def cases(nums: list[int], dim: int) -> Iterator[tuple[str, int, tuple[int, int], bool]]:
    """(law, rows, dimensions, paired) of every null trial."""
    for num in nums:
        for law in LAWS:
            for paired in (True, False):
                yield law, num, (dim, dim), paired
        for paired in (True, False):
            yield "isotropic", num, (dim, 2 * dim), paired


def trial(law: str, num: int, dims: tuple[int, int], paired: bool, generator: torch.Generator) -> Comparison:
    """One null trial."""
    a, b = null_pair(law, num, dims, paired, generator)
    drift = not paired and dims[0] == dims[1]
    classes = [[str(k) for k in torch.randint(3, (num,), generator=generator).tolist()] for _ in range(2)]
    labels = (classes[0], classes[1]) if drift else None
    return compare(a, b, paired=paired, drift=drift, labels=labels, num_permutations=199)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--num", type=int, nargs="+", default=[50, 200, 2000], help="rows of each set")
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--out", type=Path, help="also write the counts as JSON")
    given = parser.parse_args()
    kept: list[dict[str, object]] = []
    total: dict[str, list[int]] = {}

    def show(title: str, counts: dict[str, list[int]]) -> None:
        print(title)
        for name in SHOWN:
            if name in counts:
                alarm, trials = counts[name]
                low, high = wilson(alarm, trials)
                print(f"    {name:24} {alarm / trials:6.1%}  [{low:.1%}, {high:.1%}]", flush=True)
        kept.append({"case": title, "alarms": counts})

    for law, num, dims, paired in cases(given.num, given.dim):
        counts = rates(
            lambda generator, at=(law, num, dims, paired): trial(*at, generator), given.trials, num
        )
        for name, (alarm, trials) in counts.items():
            one = total.setdefault(name, [0, 0])
            one[0] += alarm
            one[1] += trials
        way = "paired" if paired else "independent"
        show(f"null: {law}, {num} rows, {dims[0]} and {dims[1]} dimensions, {way}", counts)
    show("all null trials", total)
    for num in given.num:
        for paired in (True, False):

            def differ(generator: torch.Generator, num: int = num, paired: bool = paired) -> Comparison:
                a, b = true_pair(num, given.dim, paired, generator)
                return compare(a, b, paired=paired, drift=not paired, num_permutations=199)

            way = "paired" if paired else "independent"
            show(f"power: {num} rows, {way}", rates(differ, given.trials, num))
    if given.out is not None:
        given.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
