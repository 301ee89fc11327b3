"""The portrait of a set of features: distances, directions, density, groups, neighbours, as plain numbers.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import _uniform_law, pairs
from spherometer._group_tables import (
    GROUP_ROWS,
    Column,
    by_value,
    columns_of,
    group_table,
    plain_text,
    some_rows,
)
from spherometer._portrait_record import Portrait as Portrait
from spherometer.metrics._alignment import pair_distances

MOST_ROWS = 20_000
_NUM_PAIRS = 100_000  # random pairs of the histogram of distances
_BINS = 100
_NEIGHBORS = 10
_CLOSE = 0.99  # cosine from which two rows are called nearly equal
_EQUAL = 1e-6  # distance up to which two rows are called equal
_SHOWN = 20  # pairs and outliers


def portrait_of(
    unit_rows: Tensor,
    raw_rows: Tensor,
    *,
    ids: Sequence[Any] | None = None,
    labels: Any = None,
    metadata: Any = None,
    other: Tensor | None = None,
    seed: int = 0,
    positions: Sequence[int] | Tensor | None = None,
    num_total: int | None = None,
    t: float = 2.0,
    alpha: float = 2.0,
) -> Portrait:
    """Say what a set of features looks like, in numbers that a page can draw.

    Args:
        unit_rows: [N, D] finite rows of length 1, N >= 2; N <= 20 000 (draw a subset of larger sets).
        raw_rows: [N, D] the same rows before they were scaled.
        ids: N names of the rows, shown where rows are named.
        labels: N classes, numbers or texts; None or NaN where there is none.
        metadata: column -> N values, a table, or [N] or [N, K] numbers.
        other: [N, D] unit rows, the other side of positive pairs.
        seed: of the random pairs and of the random rows of large groups.
        positions: N places of the rows in the whole set, which name them where there are no ids.
        num_total: rows of the whole set; None: N.
        t: sharpness of the Gaussian potential; alpha: power of the distance in alignment.

    Returns:
        A Portrait. Texts are cut at 200 characters.

    Cost: one search for the nearest neighbours, O(N^2 D), of at most as many rows as make 2e11
    multiplications; O(N D^2) for the directions, of at most as many rows as make 2e10.
    """
    unit, raw = unit_rows.detach().cpu(), raw_rows.detach().cpu()
    num, dim = unit.shape
    whole = num if num_total is None else num_total
    generator = torch.Generator().manual_seed(seed)
    notes: list[str] = []
    named = _Names(ids, positions)
    with torch.no_grad():
        rows = unit.double()
        mean = rows.mean(dim=0)
        to_other = None if other is None else pair_distances(unit, other.detach().cpu(), 1.0, normalize=False)
        tables = columns_of(labels, metadata, notes)
        spectrum, directions = _spectrum(rows, generator)
        groups = tuple(group_table(one, rows, mean, to_other, generator, t, alpha) for one in tables)
        lengths = torch.linalg.vector_norm(raw.double(), dim=1)
        return Portrait(
            num=num,
            num_total=whole,
            num_pairs=0 if other is None else num,
            dim=dim,
            lengths={
                "least": float(lengths.min()),
                "median": float(lengths.median()),
                "most": float(lengths.max()),
            },
            mean_length=min(float(torch.linalg.vector_norm(mean)), 1.0),
            distances=_distances(rows, to_other, generator),
            spectrum=spectrum,
            density=_density(rows, directions, spectrum, tables),
            groups=groups,
            neighbors=_neighbors(unit, named, generator, notes),
            bands={
                "uniformity": list(_uniform_law.uniformity_band(whole, dim, t)),
                "alignment": None if other is None else list(_uniform_law.alignment_band(whole, dim, alpha)),
            },
            settings={"seed": seed, "t": float(t), "alpha": float(alpha), "group_rows": GROUP_ROWS},
            notes=tuple(notes),
        )


class _Names:
    """What rows are called: their ids, or their places in the set."""

    def __init__(self, ids: Sequence[Any] | None, positions: Sequence[int] | Tensor | None) -> None:
        self._ids, self._positions = ids, positions

    def __getitem__(self, row: int) -> str:
        if self._ids is not None:
            return plain_text(self._ids[row])
        return f"row {row if self._positions is None else int(self._positions[row])}"


# --- distances, directions, density ------------------------------------------------------------------------


def _distances(rows: Tensor, to_other: Tensor | None, generator: torch.Generator) -> dict[str, Any]:
    num, dim = rows.shape
    every = num * (num - 1) // 2 <= _NUM_PAIRS
    if every:
        first, second = torch.triu_indices(num, num, offset=1)
    else:
        first = torch.randint(num, (_NUM_PAIRS,), generator=generator)
        second = (first + torch.randint(1, num, (_NUM_PAIRS,), generator=generator)) % num
    size = max(1, (1 << 21) // dim)
    found = [
        torch.linalg.vector_norm(rows[a] - rows[b], dim=1)
        for a, b in zip(first.split(size), second.split(size), strict=True)
    ]
    edges = np.linspace(0.0, 2.0, _BINS + 1)
    drawn = torch.cat(found)
    return {
        "edges": _uniform_law.plain(edges),
        "random": _counts(drawn),
        "num_random": len(first),
        "every": every,
        "positive": None if to_other is None else _counts(to_other),
        "closer": None if to_other is None else _closer(to_other, drawn),
        "uniform": _uniform_law.plain(_uniform_law.distance_shares(dim, edges)),
    }


def _counts(distances: Tensor) -> list[int]:
    place = (distances * (_BINS / 2)).long().clamp(0, _BINS - 1)
    counts: list[int] = torch.bincount(place, minlength=_BINS).tolist()
    return counts


def _closer(near: Tensor, apart: Tensor) -> float:
    """How often a distance of the first is smaller than one of the second; a tie counts half."""
    ranked = apart.sort().values
    below, upto = (torch.searchsorted(ranked, near, right=right).double() for right in (False, True))
    return 1 - float((below + upto).mean()) / (2 * len(apart))


def _spectrum(rows: Tensor, generator: torch.Generator) -> tuple[dict[str, Any], Tensor]:
    """Shares of the variance along principal directions, and the two leading directions [2, D]."""
    dim = rows.shape[1]
    some = some_rows(len(rows), max(1024, int(2e10 / dim**2)), generator)
    rows = rows if some is None else rows[some]
    num = len(rows)
    centred = rows - rows.mean(dim=0)
    if num > dim:
        factor = centred[:0]
        for block in torch.split(centred, max(4096, dim)):
            factor = torch.linalg.qr(torch.cat([factor, block]), mode="r").R
        centred = factor
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    count = max(1, min(num - 1, dim))
    variance = values[:count].square().numpy()
    total = float(variance.sum())
    flat = total <= 1e-24 * num  # nothing but rounding
    shares = np.zeros(count) if flat else variance / total
    ranks = (
        np.unique(np.round(np.geomspace(1, count, 200)).astype(int)) if count > 200 else np.arange(count) + 1
    )
    uniform = _uniform_law.variance_shares(num, dim)
    leading = torch.zeros(2, dim, dtype=torch.float64)
    leading[: len(directions[:2])] = directions[:2]
    largest = leading.gather(1, leading.abs().argmax(dim=1, keepdim=True))
    found = {
        "num": num,
        "num_directions": count,
        "ranks": [int(rank) for rank in ranks],
        "shares": _uniform_law.plain(shares[ranks - 1]),
        "uniform": _uniform_law.plain(uniform[ranks - 1]),
        "half": 0 if flat else _reaching(shares, 0.5),
        "most": 0 if flat else _reaching(shares, 0.9),
        "uniform_half": _reaching(uniform, 0.5),
        "uniform_most": _reaching(uniform, 0.9),
    }
    return found, leading * torch.where(largest < 0, -1.0, 1.0)


def _reaching(shares: Any, part: float) -> int:
    """In how many leading directions so much of the variance lies."""
    return min(int(np.searchsorted(np.cumsum(shares), part - 1e-12)) + 1, len(shares))


def _density(
    rows: Tensor,
    directions: Tensor,
    spectrum: Mapping[str, Any],
    tables: Sequence[Column],
) -> dict[str, Any]:
    num, dim = rows.shape
    if dim == 2:
        kind, plane = "circle", rows
        across, up = np.linspace(-math.pi, math.pi, 73), np.array([])
        counts = np.histogram(torch.atan2(rows[:, 1], rows[:, 0]).numpy(), across)[0][None]
    elif dim == 3:
        kind, plane = "sphere", rows[:, :0]
        heights = min(24, max(6, round(math.sqrt(num / 16))))
        across, up = np.linspace(-math.pi, math.pi, 2 * heights + 1), np.linspace(-1, 1, heights + 1)
        angle = torch.atan2(rows[:, 1], rows[:, 0]).numpy()
        counts = np.histogram2d(rows[:, 2].clamp(-1, 1).numpy(), angle, (up, across))[0]
    else:
        kind, plane = "projection", rows @ directions.T
        low, high = plane.min(dim=0).values.numpy(), plane.max(dim=0).values.numpy()
        cell = max(float((high - low).max()) / min(60, max(12, round(0.6 * math.sqrt(num)))), 1e-9)
        across, up = (
            a + cell * np.arange(max(1, math.ceil((b - a) / cell - 1e-9)) + 1)
            for a, b in zip(low, high, strict=True)
        )
        across[-1], up[-1] = max(across[-1], high[0]), max(up[-1], high[1])
        counts = np.histogram2d(plane[:, 1].numpy(), plane[:, 0].numpy(), (up, across))[0]
    return {
        "kind": kind,
        "across": _uniform_law.plain(across),
        "up": _uniform_law.plain(up),
        "counts": [[int(value) for value in row] for row in counts],
        "shares": list(spectrum["shares"][:2]) if kind == "projection" else [],
        "uniform_radius": _uniform_law.projected_radius(dim) if kind == "projection" else None,
        "marks": _marks(plane, tables) if plane.shape[1] else [],
    }


def _marks(plane: Tensor, tables: Sequence[Column]) -> list[dict[str, Any]]:
    """Where the means of the ten largest classes are."""
    labels = next((one.values for one in tables if one.is_label), None)
    if labels is None:
        return []
    largest = sorted(by_value(labels), key=lambda item: (-len(item[1]), item[0]))[:10]
    return [{"name": name, "at": plane[index].mean(dim=0).tolist()} for name, index in sorted(largest)]


# --- neighbours --------------------------------------------------------------------------------------------


def _neighbors(
    unit: Tensor, named: _Names, generator: torch.Generator, notes: list[str]
) -> dict[str, Any] | None:
    """Nearest pairs, and rows far from their neighbours."""
    if len(unit) < 3:
        return None
    some = some_rows(len(unit), max(1024, int(math.sqrt(2e11 / unit.shape[1]))), generator)
    rows = unit if some is None else unit[some]
    place = range(len(rows)) if some is None else some.tolist()
    if some is not None:
        notes.append(f"Neighbours were looked for among {len(rows)} random rows of {len(unit)}.")
    k = min(_NEIGHBORS, len(rows) - 1)
    indices, squared = pairs.nearest(rows, k)
    distances = squared.double().clamp(min=0).sqrt()
    nearest, far = distances[:, 0], distances[:, -1]
    found: dict[tuple[int, int], float] = {}
    for row in nearest.sort(stable=True).indices.tolist():
        partner = int(indices[row, 0])
        found.setdefault((min(row, partner), max(row, partner)), float(nearest[row]))
        if len(found) == _SHOWN:
            break
    outliers = far.sort(stable=True, descending=True).indices[:_SHOWN].tolist()
    return {
        "num": len(rows),
        "k": k,
        "num_equal": int((nearest <= _EQUAL).sum()),
        "num_close": int((1 - nearest.square() / 2 >= _CLOSE).sum()),
        "close": _CLOSE,
        "duplicates": [
            {
                "ids": [named[place[one]], named[place[two]]],
                "cosine": 1 - distance * distance / 2,
                "distance": distance,
            }
            for (one, two), distance in found.items()
        ],
        "outliers": [{"id": named[place[row]], "distance": float(far[row])} for row in outliers],
        "median": float(far.median()),
    }
