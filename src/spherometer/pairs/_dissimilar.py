r"""Gaussian potentials over pairs of dissimilar samples.

Weights v = 1 - w multiply the tiles of ``_gaussian.py``, one pass for value and gradient. They are divided by
the largest of them first, so that a kernel as wide as it may be loses nothing.

Shapes: N rows, n own rows (``own``), D dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError
from spherometer.pairs import _dense, _second
from spherometer.pairs._conditional import Own, Similarity, span_of, weight_tiles, without_self
from spherometer.pairs._gaussian import _sums as gaussian_sums
from spherometer.pairs._tiles import full_precision, outside_graphs

_LOOK = (32, 256)  # rows and columns that are looked at for the size of the weights
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
    for a, b, c, d, _ in weight_tiles(similarity, own, tile):
        v = without_self(similarity.apart(a, b, c, d, threshold), a, c)
        if v.numel():
            largest = torch.maximum(largest, v.max())
    return float(largest)


class _ConditionalPotential(torch.autograd.Function):
    """log of the weighted sum, with its gradient from the same pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, t: Tensor | float, weighing: _Apart, own: Own, tile: tuple[int, int] | None
    ) -> tuple[Tensor, Tensor]:
        needs = ctx.needs_input_grad
        rows, others = (x, None) if own is None else (x[own[0] : own[0] + own[1]], x)
        sums = gaussian_sums(rows, others, float(t), False, (needs[0], needs[0], needs[1]), tile, weighing)
        raw = sums.raw[0]
        if own is not None and needs[0]:
            assert raw is not None
            whole = sums.raw[1]
            assert whole is not None
            whole[own[0] : own[0] + own[1]] += raw
            raw = whole
        ctx.save_for_backward(x, t if isinstance(t, Tensor) else None, raw, sums.factor, sums.slope)
        ctx.t, ctx.weighing, ctx.own = t, weighing, own
        assert sums.mass is not None
        log_mass = sums.mass.log() + math.log(weighing.largest)
        ctx.mark_non_differentiable(log_mass)
        return sums.log_total + math.log(weighing.largest), log_mass

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
        x, t, raw, factor, slope = ctx.saved_tensors
        needs = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() and _second.is_small(len(x), len(x)):
            given = ctx.t if t is None else t

            def definition() -> Tensor:
                return _written_out(x, given, ctx.weighing, ctx.own)

            with full_precision(x.device):
                return (*_second.gradients(definition, (x, t), needs, (grad,)), None, None, None)
        found = [
            None if raw is None else (raw * (grad * factor)).to(x.dtype),
            None if slope is None else (slope * grad).to(t.dtype).to(t.device).reshape(t.shape),
        ]
        return (*_second.refuse_twice("conditional_potential", (x, t), found, needs), None, None, None)


def _written_out(x: Tensor, t: Tensor | float, weighing: _Apart, own: Own) -> Tensor:
    """The same through the whole matrix."""
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
    with full_precision(x.device):
        largest = _largest_apart(similarity, threshold, own, tile)
        if largest == 0:
            nothing = (x.sum().double() + t) * 0 - math.inf
            return nothing, nothing.detach()
        weighing = _Apart(similarity, threshold, span_of(len(x), own)[0], largest)
        return _ConditionalPotential.apply(x, t, weighing, own, tile)  # type: ignore[no-any-return, no-untyped-call]


@torch.no_grad()
def conditional_row_sums(
    x: Tensor, t: float, similarity: Similarity, *, threshold: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Sums over j != i of v_ij exp(-t \|x_i - x_j\|^2) and of v_ij for every row, float64 [N] and [N].

    Each up to a common factor, so that neither leaves the range of numbers: what an interval of the log of
    their ratio needs.
    """
    centred = x - x.mean(dim=0)
    squares = centred.square().sum(dim=1)
    wide = 4 * t * float(squares.max()) > _EXPONENTS
    if wide:
        centred, squares = centred.double(), squares.double()
    potentials = x.new_zeros(len(x), dtype=torch.float64)
    weights, shift = torch.zeros_like(potentials), -math.inf if wide else 0.0
    with full_precision(x.device):
        largest = _largest_apart(similarity, threshold, None, None)
        weighing = _Apart(similarity, threshold, 0, largest or 1.0)
        for a, b, c, d, mirrored in weight_tiles(similarity, None, None):
            v = weighing.weights(a, b, c, d)
            e = torch.addmm(squares[c:d], centred[a:b], centred[c:d].T, alpha=-2).add_(squares[a:b, None])
            e.clamp_(min=0).mul_(-t)
            top = float(e.masked_fill(v == 0, -math.inf).max()) if wide and e.numel() else shift
            if top > shift:
                potentials.mul_(math.exp(shift - top))
                shift = top
            if shift == -math.inf:
                continue
            k = e.sub_(shift).clamp_(max=0).exp_().mul_(v)
            for sums, values in ((potentials, k), (weights, v)):
                sums[a:b] += values.sum(dim=1)
                if mirrored:
                    sums[c:d] += values.sum(dim=0)
    return potentials, weights


def refuse_all_alike(function: str, num: int) -> None:
    """Refuse meta-data under which no pair is dissimilar."""
    _checks.refuse(
        UndefinedError, function, "metadata", "differ between rows",
        "conditional uniformity is a mean over pairs with dissimilar meta-data",
        f"{num} rows, all alike under the kernel", "Use uniformity(z), or a smaller bandwidth or threshold",
    )  # fmt: skip
