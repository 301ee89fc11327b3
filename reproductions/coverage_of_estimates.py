"""How often do the intervals of ``estimate`` hold the value over all pairs? Nominally 95 % of the time.

    python reproductions/coverage_of_estimates.py                 # 400 trials of each: ten minutes of one CPU
    python reproductions/coverage_of_estimates.py --trials 2000
    python reproductions/coverage_of_estimates.py --only uniformity --trials 5000

Four kinds of rows on the sphere (2000 rows, 16 dimensions), fixed; a trial draws pairs with a fresh seed. The
value over all pairs comes from the exact function. Draws are small against the set, so that all pairs are
far from looked at: 16 draws of 48 rows, or 16 x 25 rows that meet all others. "any of four" pools the kinds.
Rates have Wilson's 95 % interval; ``low`` and ``high`` are the rates of values below and above the interval.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import spherometer as sm

NUM, DIM, GRID = 2000, 16, (2, 4)
NUM_DRAWS, ROWS, ANCHORS = 16, 48, 25
KINDS = ("uniform", "one cluster", "mixture", "collapsed")


def made(kind: str, num: int = NUM, dim: int = DIM, seed: int = 0) -> Tensor:
    """[num, dim] rows on the sphere.

    "one cluster": a von Mises-Fisher law. "mixture": 20 tight clusters of uneven sizes. "collapsed": nearly
    one point with heavy tails, one row in 20 anywhere, and one in 50 a duplicate of its neighbour.
    """
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(num, dim, generator=generator)
    one = torch.zeros(dim)
    one[0] = 1.0
    if kind == "one cluster":
        return sm.sphere.sample_vmf(num, one, 20.0, generator=generator).float()
    if kind == "mixture":
        centres = torch.nn.functional.normalize(torch.randn(20, dim, generator=generator), dim=1)
        sizes = 1.0 / torch.arange(1, 21)
        which = torch.multinomial(sizes, num, replacement=True, generator=generator)
        plain = centres[which] + 0.05 * plain
    if kind == "collapsed":
        tail = torch.rand(num, 1, generator=generator).clamp(min=1e-4).pow(-1 / 3)
        near = one + 0.03 * tail * plain
        far = torch.rand(num, 1, generator=generator) < 0.05
        plain = torch.where(far, plain, near)
        again = torch.arange(49, num, 50)
        plain[again] = plain[again - 1]
    return torch.nn.functional.normalize(plain, dim=1)


@dataclass(frozen=True)
class Case:
    """One quantity on one kind of rows."""

    name: str
    quantity: str
    arguments: tuple[Any, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    num_rows: int = ROWS
    exact: Callable[[], float] | None = None

    def truth(self) -> float:
        """The value over all pairs."""
        if self.exact is not None:
            return self.exact()
        function = getattr(sm, self.quantity, None) or getattr(sm.losses, self.quantity)
        return float(function(*self.arguments, **self.settings))

    def trial(self, seed: int) -> sm.Measurement:
        """One estimate."""
        generator = torch.Generator().manual_seed(seed)
        return sm.estimate(
            self.quantity, *self.arguments, num_draws=NUM_DRAWS, num_rows=self.num_rows, generator=generator,
            **self.settings,
        )  # fmt: skip


def cases(kind: str) -> list[Case]:
    """All quantities on one kind of rows; the second side is the first with noise."""
    generator = torch.Generator().manual_seed(7)
    z = made(kind).double()
    distinct = made(kind, seed=1)
    if kind == "collapsed":  # two rows in the same place have an infinite energy
        distinct = distinct + 1e-3 * torch.randn(distinct.shape, generator=generator)
    y = torch.nn.functional.normalize(z + 0.1 * torch.randn(z.shape, generator=generator), dim=1)
    other = made(kind, seed=2).double()
    ages = 50 * (z[:, 0] + 0.5 * torch.randn(NUM, generator=generator))
    labels = (4 * (z[:, 0].argsort().argsort()) // NUM + torch.randint(2, (NUM,), generator=generator)) % 4
    kernel, wide = sm.kernels.kernel_for(ages), sm.kernels.Gaussian(20.0)
    classes = sm.kernels.kernel_for([f"class {label}" for label in labels.tolist()])
    names = [f"class {label}" for label in labels.tolist()]
    maps = z.view(-1, math.prod(GRID), DIM).mT.reshape(-1, DIM, *GRID).contiguous()

    def uniformity_term(kind: Any) -> Callable[[], float]:
        def found() -> float:
            loss = kind(0.1)
            loss(z, y)
            return float(loss.terms["uniformity"])

        return found

    metadata, mean, threshold = {"kernel": kernel}, {"form": "mean"}, {"form": "threshold"}
    scale, part = {"temperature": 0.1}, {"term": "uniformity"}
    info_nce, nt_xent = (uniformity_term(each) for each in (sm.losses.InfoNCELoss, sm.losses.NTXentLoss))
    return [
        Case("uniformity", "uniformity", (z,)),
        Case("uniformity, t = 5", "uniformity", (z,), {"t": 5.0}),
        Case("uniformity, estimator v", "uniformity", (z,), {"estimator": "v"}),
        Case("normalized uniformity", "normalized_uniformity", (z,)),
        Case("cross-uniformity", "cross_uniformity", (z, other)),
        Case("cross-uniformity of pairs", "cross_uniformity", (z, y)),
        Case("conditional uniformity", "conditional_uniformity", (z, ages), metadata),
        Case("conditional uniformity, mean", "conditional_uniformity", (z, ages), {"kernel": wide, **mean}),
        Case(
            "conditional uniformity, threshold", "conditional_uniformity", (z, ages),
            {"kernel": wide, **threshold},
        ),
        Case("conditional uniformity, classes", "conditional_uniformity", (z, names), {"kernel": classes}),
        Case("dense uniformity", "dense_uniformity", (maps,)),
        Case("dense uniformity, all pairs", "dense_uniformity", (maps,), {"pairs": "all"}),
        Case("hyperspherical energy", "hyperspherical_energy", (distinct,)),
        Case("hyperspherical energy, power 0", "hyperspherical_energy", (distinct,), {"power": 0}),
        Case("conditional alignment", "conditional_alignment", (z, y, ages), metadata, ANCHORS),
        Case(
            "conditional alignment, alpha = 1", "conditional_alignment", (z, y, ages),
            {**metadata, "alpha": 1.0}, ANCHORS,
        ),
        Case("neighbor purity, k = 1", "neighbor_purity", (z, labels), {"k": 1}, ANCHORS),
        Case("neighbor purity, k = 10", "neighbor_purity", (z, labels), {"k": 10}, ANCHORS),
        Case("InfoNCE", "info_nce_loss", (z, y), scale, ANCHORS),
        Case("InfoNCE, uniformity term", "info_nce_loss", (z, y), {**scale, **part}, ANCHORS, info_nce),
        Case("NT-Xent", "nt_xent_loss", (z, y), scale, ANCHORS),
        Case("NT-Xent, uniformity term", "nt_xent_loss", (z, y), {**scale, **part}, ANCHORS, nt_xent),
    ]  # fmt: skip


@dataclass(frozen=True)
class Count:
    """Trials whose interval holds the truth, and those that lie wholly above or below it."""

    trials: int
    above: int
    below: int

    @property
    def rate(self) -> float:
        """Share of intervals that hold the truth."""
        return 1 - (self.above + self.below) / self.trials

    def __add__(self, other: Count) -> Count:
        return Count(self.trials + other.trials, self.above + other.above, self.below + other.below)

    def to_dict(self) -> dict[str, Any]:
        """Rate with Wilson's interval, and the two sides."""
        q, n, p = 1.959963984540054**2, self.trials, self.rate
        centre, half = p + q / (2 * n), math.sqrt(q * (p * (1 - p) + q / (4 * n)) / n)
        interval = [(centre + sign * half) / (1 + q / n) for sign in (-1, 1)]
        return {
            "coverage": round(p, 4),
            "interval": [round(end, 4) for end in interval],
            "above": round(self.above / n, 4),
            "below": round(self.below / n, 4),
            "trials": n,
        }


def count(case: Case, trials: int, seed: int = 0) -> Count:
    """Trials of one case, with seeds of its own."""
    truth, above, below = case.truth(), 0, 0
    for number in range(trials):
        low, high = case.trial(seed + number).interval or (-math.inf, math.inf)
        slack = 1e-12 * max(1.0, abs(truth))
        above += low > truth + slack
        below += high < truth - slack
    return Count(trials, above, below)


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seed", type=int, default=10_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    by_kind = {kind: cases(kind) for kind in KINDS}
    found: dict[str, Any] = {}
    print(f"{'quantity':36}" + "".join(f"{kind:>14}" for kind in (*KINDS, "any of four")), flush=True)
    for place, first in enumerate(by_kind["uniform"]):
        if given.only not in first.name:
            continue
        counts = {
            kind: count(by_kind[kind][place], given.trials, given.seed + (4 * place + number) * 1_000_000)
            for number, kind in enumerate(KINDS)
        }
        pooled = sum(list(counts.values())[1:], counts["uniform"])
        shown = {**counts, "any of four": pooled}
        found[first.name] = {name: each.to_dict() for name, each in shown.items()}
        print(f"{first.name:36}" + "".join(f"{each.rate:14.4f}" for each in shown.values()), flush=True)
    if not given.only:
        settings = {
            "rows": NUM, "dimensions": DIM, "draws": NUM_DRAWS, "rows of a draw": ROWS,
            "anchors": NUM_DRAWS * ANCHORS, "trials of each": given.trials, "seed": given.seed,
            "torch": torch.__version__,
        }  # fmt: skip
        text = json.dumps({"settings": settings, "coverage": found}, indent=1)
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
