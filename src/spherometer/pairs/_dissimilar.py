r"""Gaussian potentials over pairs of dissimilar samples.

Weights v = 1 - w multiply the tiles of ``_gaussian.py``, one pass for value and gradient. They are divided by
the largest of them first, so that a kernel as wide as it may be loses nothing.

Shapes: N rows, n own rows (``own``), D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError
from spherometer.pairs import _dense
from spherometer.pairs._conditional import Own, Similarity, span_of, weight_tiles, without_self
from spherometer.pairs._gaussian import _sums as gaussian_sums
from spherometer.pairs._gaussian import _whole as gaussian_whole
from spherometer.pairs._gaussian import exponent_range, widen
from spherometer.pairs._one_pass import Found, one_pass
from spherometer.pairs._tiles import Walk, full_precision, outside_graphs

_LOOK = (32, 256)  # rows and columns that are looked at for the size of the weights
_WHOLE = 480  # rows up to which one tile is faster than three
_NOT_FAR = 1e-3  # of 1: products with exp(-80) are normal numbers of float32
_EXPONENTS = 80.0  # exp(-80) is a normal number in float32


@dataclass(frozen=True)
class _Apart:
    """Weights v of pairs for the engine, divided by the largest of them; row i of its tiles is start + i."""

    similarity: Similarity
    threshold: float | None
    start: int
    largest: float

    @property
    def diagonal(self) -> int:
        """j - i of a row with itself."""
        return self.start

    def weights(self, a: int, b: int, c: int, d: int) -> Tensor:
        """v / largest of a tile, 0 on the diagonal."""
        a, b = a + self.start, b + self.start
        found = without_self(self.similarity.apart(a, b, c, d, self.threshold), a, c)
        return found if self.largest == 1 else found.mul_(1 / self.largest)


def _largest_apart(
    similarity: Similarity, threshold: float | None, own: Own, tile: tuple[int, int] | None
) -> float:
    """The largest v of a pair with an own row; 1 where a look at a few pairs says that it is not far off."""
    start, num = span_of(len(similarity), own)
    rows, columns = min(num, _LOOK[0]), min(len(similarity), _LOOK[1])
    few = similarity.apart(start, start + rows, len(similarity) - columns, len(similarity), threshold)
    few = without_self(few, start, len(similarity) - columns)
    if few.numel() and float(few.max()) >= _NOT_FAR:
        return 1.0
    largest = similarity.rows.new_zeros(())
    for block in weight_tiles(_Apart(similarity, threshold, start, 1.0), similarity, own, tile):
        if block.values.numel():
            largest = torch.maximum(largest, block.values.max())
    return float(largest)


def _written_out(x: Tensor, t: Tensor | float, weighing: _Apart, own: Own) -> Tensor:
    """Log of the weighted sum through the whole matrix, in differentiable torch."""
    start, num = span_of(len(x), own)
    rows = x[start : start + num]
    v = without_self(weighing.similarity.apart(start, start + num, 0, len(x), weighing.threshold), start, 0)
    exponents = -t * _dense.squared_distances(rows, x)
    there = v > 0
    logs = torch.where(there, v.double(), 1.0).log()
    return torch.logsumexp((exponents + logs)[there], 0)


@outside_graphs
def conditional_potential(
    x: Tensor,
    t: float | Tensor,
    similarity: Similarity,
    *,
    threshold: float | None = None,
    own: Own = None,
    tile: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Log sums over pairs of dissimilar samples: of v_ij exp(-t \|x_i - x_j\|^2), and of v_ij, i != j.

    Args:
        x: [N, D] float32 or float64 rows.
        t: sharpness > 0, a number or a 0-dim tensor.
        similarity: of the N samples; v = 1 - w.
        threshold: v = 1 where w < threshold, 0 elsewhere, instead.
        own: start and number of the rows i; None: all. j runs over all rows.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        0-dim float64 tensors; the first is differentiable in ``x`` and ``t``, twice for at most 1024 rows.
        Both are -inf (with gradient 0) where no pair has a weight.

    Cost: one pass over the pairs for both sums and the gradient (and one over the meta-data alone for the
    largest v, where the kernel is so wide that all of them are small); O(N D) memory.
    """
    x = x if x.dtype == torch.float64 else x.float()
    masses: list[Tensor] = []

    def compute(wanted: Sequence[bool]) -> Found:
        needs = wanted[0], wanted[0] and own is not None, wanted[1]
        sums = gaussian_whole(x, float(t), False, needs, whole.weights) if whole is not None else None
        if sums is None:
            rows, others = (x, None) if own is None else (x[own[0] : own[0] + own[1]], x)
            sums = gaussian_sums(rows, others, float(t), False, needs, tile, weighing)
            assert sums.mass is not None
            masses.append(sums.mass)
        raw, every = sums.raw
        if own is not None and raw is not None and every is not None:
            every[own[0] : own[0] + own[1]] += raw
            raw = every
        return Found(sums.log_total + math.log(weighing.largest), [raw, sums.slope], sums.factor)

    def definition(x: Tensor, t: Tensor | float) -> Tensor:
        return _written_out(x, t, weighing, own)

    with full_precision(x.device):
        whole = None
        if own is None and tile is None and len(x) <= _WHOLE:
            whole = similarity.whole(apart=True, threshold=threshold)
        if whole is not None and whole.mean >= _NOT_FAR:  # so is the largest
            largest = 1.0
        else:
            whole, largest = None, _largest_apart(similarity, threshold, own, tile)
        if largest == 0:
            nothing = (x.sum().double() + t) * 0 - math.inf
            return nothing, nothing.detach()
        weighing = _Apart(similarity, threshold, span_of(len(x), own)[0], largest)
        value = one_pass("conditional_potential", compute, definition, x, t)
    if whole is not None and not masses:
        masses.append(whole.sums.sum().double())
    return value, masses[0].log() + math.log(largest)


@torch.no_grad()
def conditional_row_sums(
    x: Tensor, t: float, similarity: Similarity, *, threshold: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Sums over j != i of v_ij exp(-t \|x_i - x_j\|^2) and of v_ij for every row, float64 [N] and [N].

    Each up to a common factor, so that neither leaves the range of numbers: what an interval of the log of
    their ratio needs.
    """
    with full_precision(x.device):
        rows = widen(x, x.mean(dim=0), t)
        wide = exponent_range(rows) > _EXPONENTS
        if wide:
            rows = widen(x.double(), x.double().mean(dim=0), t)
        largest = _largest_apart(similarity, threshold, None, None)
        weighing = _Apart(similarity, threshold, 0, largest or 1.0)
        walk = Walk(rows.left, rows.z, len(x), symmetric=True, online=wide, weighing=weighing)
        potentials = x.new_zeros(len(x), dtype=torch.float64)
        weights = torch.zeros_like(potentials)
        walk.keep(potentials)
        for block in walk:
            block.add_sums(potentials, potentials)
            block.add_sums(weights, weights, block.weights)
    return potentials, weights


def refuse_all_alike(function: str, num: int) -> None:
    """Refuse meta-data under which no pair is dissimilar."""
    _checks.refuse(
        UndefinedError, function, "metadata", "differ between rows",
        "conditional uniformity is a mean over pairs with dissimilar meta-data",
        f"{num} rows, all alike under the kernel", "Use uniformity(z), or a smaller bandwidth or threshold",
    )  # fmt: skip
