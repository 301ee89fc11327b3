"""Drift: whether two sets of one encoder come from the same law, and where they differ.

Every p-value of a set as a whole, or of a class, is that of random regroupings: rows change places between
the two sets (those of one sample only with each other, where rows correspond). That is exact for any law.

Shapes: N, M rows, D dimensions, P regroupings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spherometer import pairs
from spherometer._compare._differences import Side
from spherometer._compare._verdicts import LEVEL, holm, student_p
from spherometer.metrics import _similarity

MOST = 2048  # rows of each set in the regroupings
SHOWN = 20  # dimensions of the table
_LEAST = 8  # rows of a class in each set, for a p-value


def drift_of(
    a: Side,
    b: Side,
    labels: tuple[Sequence[Any], Sequence[Any]] | None,
    *,
    paired: bool,
    t: float,
    k: int,
    seed: int,
    num_permutations: int,
) -> dict[str, Any]:
    """The drift part of a comparison, as plain values.

    Args:
        a: one set.
        b: the other, of as many dimensions unless ``paired``.
        labels: classes of the rows of each.
        paired: whether rows correspond.
        t: sharpness of the Gaussian potential.
        k: neighbours of the overlap.
        seed: of the subset and of the regroupings.
        num_permutations: P.
    """
    generator = torch.Generator().manual_seed(seed)
    same = a.dim == b.dim
    table: list[dict[str, Any]] = []
    shifted = 0
    if same:
        table, shifted = _dimensions(a, b, paired)
    return {
        "mmd": _mmd(a, b, paired, t, num_permutations, generator) if same else None,
        "dimensions": table,
        "num_shifted": shifted,
        "classes": _classes(a, b, labels, paired, num_permutations, generator) if labels and same else [],
        "neighbor_overlap": _overlap(a, b, k) if paired and len(a.unit) > 2 else None,
        "cka": _cka(a, b) if paired else None,
    }


def members(num: int, other: int, count: int, paired: bool, generator: torch.Generator) -> Tensor:
    """Regroupings [P, N + M]: True for rows that count as the first set."""
    if paired:
        flip = torch.rand(count, num, generator=generator) < 0.5
        return torch.cat([~flip, flip], dim=1)
    order = torch.rand(count, num + other, generator=generator).argsort(dim=1)
    picked = torch.zeros(count, num + other, dtype=torch.bool)
    picked.scatter_(1, order[:, :num], True)
    return picked


def _p_value(value: float, regrouped: Tensor) -> float:
    """Share of regroupings that are at least as far apart, the true one among them."""
    above = regrouped >= value - 1e-12 * max(abs(value), float(regrouped.abs().max()))
    return (1 + int(above.sum())) / (1 + len(regrouped))


def _some(num: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(num, generator=generator)
    return order[:MOST].sort().values


def _mmd(
    a: Side, b: Side, paired: bool, t: float, count: int, generator: torch.Generator
) -> dict[str, Any] | None:
    num, other = len(a.unit), len(b.unit)
    if min(num, other) < 2:
        return None
    first = _some(num, generator)
    second = first if paired else _some(other, generator)
    rows = torch.cat([a.unit[first].double(), b.unit[second].double()])
    picked = members(len(first), len(second), count, paired, generator)
    found = pairs.discrepancy(rows, len(first), picked, t)
    p_value = _p_value(found.value, found.regrouped)
    return {
        "value": found.value,
        "null_mean": float(found.regrouped.mean()),
        "p_value": p_value,
        "num_permutations": count,
        "num": [len(first), len(second)],
        "verdict": "drift" if p_value < LEVEL else "no drift shown",
    }


def _dimensions(a: Side, b: Side, paired: bool) -> tuple[list[dict[str, Any]], int]:
    """Shift of every dimension in units of its standard deviation, the most certain first."""
    x, y = a.rows.double(), b.rows.double()
    num, other = len(x), len(y)
    if min(num, other) < 3:
        return [], 0
    apart = y.mean(dim=0) - x.mean(dim=0)
    spread = ((x.var(dim=0) + y.var(dim=0)) / 2).sqrt()
    if paired:
        parts = (y - x).var(dim=0)[None] / num
        each = torch.tensor([num - 1.0])
    else:
        parts = torch.stack([x.var(dim=0) / num, y.var(dim=0) / other])
        each = torch.tensor([num - 1.0, other - 1.0])
    variance = parts.sum(dim=0)
    freedom = 1 / ((parts / variance).square() / each[:, None]).sum(dim=0)
    # means of identical rows differ by rounding, or by what no variance explains
    scale = torch.maximum(x.abs().amax(dim=0), y.abs().amax(dim=0))
    nothing = apart.abs() <= 1e-6 * scale
    p_values = []
    for place in range(len(apart)):
        error = math.sqrt(float(variance[place]))
        if bool(nothing[place]):
            p_values.append(1.0)
        elif error == 0:
            p_values.append(0.0)
        else:
            p_values.append(student_p(float(apart[place]) / error, float(freedom[place])))
    adjusted = holm(p_values)
    shift = torch.where(spread > 0, apart / spread, 0.0).nan_to_num(posinf=0.0, neginf=0.0).tolist()
    order = sorted(range(len(shift)), key=lambda place: (p_values[place], -abs(shift[place]), place))
    table = [
        {"dimension": place, "shift": shift[place], "p_holm": adjusted[place]} for place in order[:SHOWN]
    ]
    return table, sum(p < LEVEL for p in adjusted)


def _classes(
    a: Side,
    b: Side,
    labels: tuple[Sequence[Any], Sequence[Any]],
    paired: bool,
    count: int,
    generator: torch.Generator,
) -> list[dict[str, Any]]:
    """Rows of every class in each set, and how far its centre on the sphere has moved."""
    sides = [_places(one) for one in labels]
    names = sorted(sides[0].keys() | sides[1].keys(), key=lambda name: (len(name), name))
    table, p_values = [], []
    for name in names:
        places = [torch.tensor(side.get(name, []), dtype=torch.int64) for side in sides]
        shift = p_value = None
        if all(map(len, places)):
            one, two = (side.unit[place].double() for side, place in zip((a, b), places, strict=True))
            shift = float((two.mean(dim=0) - one.mean(dim=0)).norm())
            matched = paired and torch.equal(*places)
            if min(len(one), len(two)) >= _LEAST and (matched or not paired):
                p_value = _centres(one, two, matched, count, generator)
        table.append({"label": name, "num": [len(place) for place in places], "shift": shift})
        p_values.append(p_value)
    adjusted = iter(holm([p for p in p_values if p is not None]))
    for row, p_value in zip(table, p_values, strict=True):
        row["p_holm"] = None if p_value is None else next(adjusted)
    return table


def _centres(one: Tensor, two: Tensor, paired: bool, count: int, generator: torch.Generator) -> float:
    order = [torch.randperm(len(rows), generator=generator)[:MOST] for rows in (one, two)]
    if paired:
        order[1] = order[0]
    one, two = one[order[0]], two[order[1]]
    rows, num = torch.cat([one, two]), len(one)
    own = torch.zeros(1, len(rows), dtype=torch.bool)
    own[:, :num] = True
    picked = torch.cat([own, members(num, len(two), count, paired, generator)]).double()
    sums = picked @ rows
    apart = (rows.sum(dim=0) - sums) / len(two) - sums / num
    size = apart.square().sum(dim=1)
    return _p_value(float(size[0]), size[1:])


def _places(labels: Sequence[Any]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        found.setdefault(str(label), []).append(place)
    return found


def _overlap(a: Side, b: Side, k: int) -> dict[str, Any]:
    found = _similarity.neighbor_overlap(a.unit, b.unit, k=k)
    interval = None if found.interval is None else list(found.interval)
    return {"value": found.value, "interval": interval, "baseline": found.baseline, "k": found.k}


def _cka(a: Side, b: Side) -> dict[str, Any] | None:
    plain = _similarity.linear_cka(a.rows, b.rows)
    value = _similarity.debiased_cka(a.rows, b.rows)
    return None if plain is None or value is None else {"value": value, "plain": plain}
