r"""Sums over pairs that are weighted by the similarity of their meta-data.

Weights are made tile by tile from the kernel's rows, next to the tile they weigh, and carry no gradient. The
diagonal is never computed: what a row weighs with itself is the caller's to add.

Shapes: N rows, n own rows (``own``), D dimensions, P columns of the kernel's rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from spherometer import _checks
from spherometer.errors import UndefinedError
from spherometer.kernels import Kernel
from spherometer.pairs import _dense, _second
from spherometer.pairs._gaussian import _sums as gaussian_sums
from spherometer.pairs._tiles import accumulator, full_precision, outside_graphs, spans, tile_for

Own = tuple[int, int] | None  # start and number of the rows that sums are wanted for; None: all of them

_BLOCK = 1 << 20  # pairs of a block of rows


@dataclass(frozen=True)
class Similarity:
    """Similarities w of N samples, given out in tiles.

    Args:
        kernel: fitted.
        rows: [N, P] of ``kernel.rows(encoded, dtype)``, in the dtype of the features they go with.
    """

    kernel: Kernel
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def between(self, a: int, b: int, c: int, d: int) -> Tensor:
        """w [b - a, d - c] of the rows a:b with the rows c:d; a new tensor."""
        return self.kernel.weights(self.rows[a:b], self.rows[c:d])

    def apart(self, a: int, b: int, c: int, d: int, threshold: float | None = None) -> Tensor:
        """1 - w, or 1 where w < ``threshold`` and 0 elsewhere."""
        if threshold is None:
            return self.kernel.complements(self.rows[a:b], self.rows[c:d])
        return (self.between(a, b, c, d) < threshold).to(self.rows.dtype)


def _span(num: int, own: Own) -> tuple[int, int]:
    return (0, num) if own is None else own


def _without_self(values: Tensor, a: int, c: int) -> Tensor:
    """The tile of the rows from a on and the columns from c on, 0 where they are the same sample."""
    offset = a - c
    if -len(values) < offset < values.shape[1]:
        values.diagonal(offset).fill_(0)
    return values


def _weight_tiles(
    similarity: Similarity, own: Own, tile: tuple[int, int] | None
) -> Iterator[tuple[int, int, int, int, bool]]:
    """Tiles of own rows a:b (global numbers) with rows c:d, and whether they stand for their mirror."""
    start, num = _span(len(similarity), own)
    symmetric = own is None
    for a, b, c, d in spans(num, len(similarity), tile or tile_for(similarity.rows.device), symmetric):
        yield a + start, b + start, c, d, symmetric and c != a


class _KernelSums(torch.autograd.Function):
    """sum_{j != i} w_ij z_j for the own rows i, or (``back``) sum over own rows i != j of w_ij z_i for all j.

    Linear in z, and each direction is the gradient of the other, so it is differentiable any number of times.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, similarity: Similarity, own: Own, back: bool, tile: tuple[int, int] | None
    ) -> Tensor:
        ctx.similarity, ctx.own, ctx.back, ctx.tile = similarity, own, back, tile
        start, num = _span(len(similarity), own)
        sums = accumulator(z, z.shape[1], len(similarity) if back else num)
        for a, b, c, d, mirrored in _weight_tiles(similarity, own, tile):
            w = _without_self(similarity.between(a, b, c, d), a, c).to(z.dtype)
            i, j = slice(a - start, b - start), slice(c, d)
            if back:
                sums[:, j].addmm_(z[i].T, w)
            else:
                sums[:, i].addmm_(z[j].T, w.T)
            if mirrored:  # own is None: rows and columns have the same numbers
                (sums[:, i] if back else sums[:, j]).addmm_((z[j] if back else z[i]).T, w.T if back else w)
        return sums.T.contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        found = _KernelSums.apply(grad, ctx.similarity, ctx.own, not ctx.back, ctx.tile)  # type: ignore[no-untyped-call]
        return found, None, None, None, None


@outside_graphs
def kernel_sums(
    similarity: Similarity, z: Tensor, *, own: Own = None, tile: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Sums over all other rows, weighted by their similarity.

    Args:
        similarity: of the N samples.
        z: [N, D] float32 or float64 rows.
        own: start and number of the rows i that sums are wanted for; None: all.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        sum_{j != i} w_ij z_j [n, D], differentiable in ``z`` any number of times, and sum_{j != i} w_ij [n].

    Cost: n N D (half of it for all rows); O(N D) memory.
    """
    with full_precision(z.device):
        widened = torch.cat([z, z.new_ones(len(z), 1)], dim=1)
        sums = _KernelSums.apply(widened, similarity, own, False, tile)  # type: ignore[no-untyped-call]
    return sums[:, :-1], sums[:, -1].detach()


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
        """v / largest of a tile; the diagonal is the engine's to leave out."""
        found = self.similarity.apart(a + self.start, b + self.start, c, d, self.threshold)
        return found if self.largest == 1 else found.mul_(1 / self.largest)


def _total_apart(
    similarity: Similarity, threshold: float | None, own: Own, tile: tuple[int, int] | None
) -> tuple[Tensor, float]:
    """Sum of v over ordered pairs with an own row, float64, and the largest v."""
    parts, largest = [], similarity.rows.new_zeros(())
    for a, b, c, d, mirrored in _weight_tiles(similarity, own, tile):
        v = _without_self(similarity.apart(a, b, c, d, threshold), a, c)
        if v.numel():
            parts.append(v.sum(dtype=torch.float64) * (2 if mirrored else 1))
            largest = torch.maximum(largest, v.max())
    total = torch.stack(parts).sum() if parts else similarity.rows.new_zeros((), dtype=torch.float64)
    return total, float(largest)


class _ConditionalPotential(torch.autograd.Function):
    """log of the weighted sum, with its gradient from the same pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, t: Tensor | float, weighing: _Apart, own: Own, tile: tuple[int, int] | None
    ) -> Tensor:
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
        return sums.log_total + math.log(weighing.largest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
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
    start, num = _span(len(x), own)
    rows = x[start : start + num]
    v = _without_self(weighing.similarity.apart(start, start + num, 0, len(x), weighing.threshold), start, 0)
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

    Cost: a pass over the meta-data for the weights' sum, one over the pairs for value and gradient; O(N D)
    memory.
    """
    x = x if x.dtype == torch.float64 else x.float()
    with full_precision(x.device):
        total, largest = _total_apart(similarity, threshold, own, tile)
        if largest == 0:
            nothing = (x.sum().double() + t) * 0 - math.inf
            return nothing, total.log()
        weighing = _Apart(similarity, threshold, _span(len(x), own)[0], largest)
        found = _ConditionalPotential.apply(x, t, weighing, own, tile)  # type: ignore[no-untyped-call]
    return found, total.log()


@torch.no_grad()
def conditional_row_sums(
    x: Tensor, t: float, similarity: Similarity, *, threshold: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Sums over j != i of v_ij exp(-t \|x_i - x_j\|^2) and of v_ij for every row, float64 [N] and [N].

    What an interval of the weighted mean needs. Squared distances come from centred products, clamped at 0.
    """
    centred = x - x.mean(dim=0)
    squares = centred.square().sum(dim=1)
    potentials = x.new_zeros(len(x), dtype=torch.float64)
    weights = torch.zeros_like(potentials)
    with full_precision(x.device):
        for a, b, c, d, mirrored in _weight_tiles(similarity, None, None):
            v = _without_self(similarity.apart(a, b, c, d, threshold), a, c)
            k = torch.addmm(squares[c:d], centred[a:b], centred[c:d].T, alpha=-2).add_(squares[a:b, None])
            k.clamp_(min=0).mul_(-t).exp_().mul_(v)
            potentials[a:b] += k.sum(dim=1)
            weights[a:b] += v.sum(dim=1)
            if mirrored:
                potentials[c:d] += k.sum(dim=0)
                weights[c:d] += v.sum(dim=0)
    return potentials, weights


@outside_graphs
def conditional_distances(
    x: Tensor, y: Tensor, similarity: Similarity, alpha: float, *, own: Own = None
) -> Tensor:
    r"""sum_{j != i} w_ij \|x_i - y_j\|^alpha for the own rows i of ``x``, float64 [n].

    Args:
        x: [n, D] the own rows.
        y: [N, D] all rows of the other side.
        similarity: of the N samples.
        alpha: > 0. For 2, sums of rows are enough: see ``kernel_sums``.
        own: start and number of the own rows; None: n = N.

    Cost: n N D in float64; a block of rows at a time, made again in the backward. Differentiable in both.
    """
    start, num = _span(len(y), own)
    size = max(1, _BLOCK // max(len(y), 1))
    centre = y.detach().double().mean(dim=0)
    y_ND = y.double() - centre

    def block(x_BD: Tensor, y_ND: Tensor, a: int) -> Tensor:
        squared = x_BD.square().sum(dim=1)[:, None] + y_ND.square().sum(dim=1) - 2 * x_BD @ y_ND.T
        near = squared <= 0  # equal rows, up to rounding: distance and gradient 0
        power = squared.masked_fill(near, 1.0).pow(alpha / 2).masked_fill(near, 0.0)
        w = _without_self(similarity.between(a, a + len(x_BD), 0, len(y_ND)), a, 0)
        return (power * w).sum(dim=1)

    with full_precision(x.device):
        parts = []
        for at in range(0, num, size):
            rows = x[at : at + size].double() - centre
            parts.append(checkpoint(block, rows, y_ND, start + at, use_reentrant=False))
        return torch.cat(parts) if parts else (x.sum(dim=1) + y.sum() * 0).double()


@outside_graphs
def anchor_distances(
    x: Tensor, y: Tensor, similarity: Similarity, alpha: float | Tensor, *, own: Own = None
) -> Tensor:
    r"""Mean distance of every anchor from the other side, by similarity: what conditional alignment averages.

    sum_j a_ij \|x_i - y_j\|^alpha, a_ij = w_ij / sum_k w_ik over all rows j of ``y``, w_ii = 1.

    Args:
        x: [n, D] the own rows.
        y: [N, D] all rows of the other side.
        similarity: of the N samples.
        alpha: >= 1 for finite gradients everywhere.
        own: start and number of the own rows; None: n = N.

    Returns:
        float64 [n], differentiable in ``x`` and ``y``. The own pair is taken by differences, so a kernel that
        tells all samples apart gives plain alignment, digit for digit.
    """
    start, num = _span(len(y), own)
    paired = (x - y[start : start + num]).square().sum(dim=1).double()
    if alpha == 2:
        centre = y.detach().mean(dim=0)
        y_ND, x_nD = y - centre, (x - centre).double()
        widened = torch.cat([y_ND, y_ND.square().sum(dim=1, keepdim=True)], dim=1)
        sums, totals = (each.double() for each in kernel_sums(similarity, widened, own=own))
        others = totals * x_nD.square().sum(dim=1) - 2 * (x_nD * sums[:, :-1]).sum(dim=1) + sums[:, -1]
        others = others.clamp(min=0)
    else:
        same = paired == 0
        paired = paired.masked_fill(same, 1.0).pow(alpha / 2).masked_fill(same, 0.0)
        others = conditional_distances(x, y, similarity, float(alpha), own=own)
        totals = kernel_sums(similarity, y.detach()[:, :1], own=own)[1].double()
    return (paired + others) / (1 + totals)


def refuse_all_alike(function: str, num: int) -> None:
    """Refuse meta-data under which no pair is dissimilar."""
    _checks.refuse(
        UndefinedError, function, "metadata", "differ between rows",
        "conditional uniformity is a mean over pairs with dissimilar meta-data",
        f"{num} rows, all alike under the kernel", "Use uniformity(z), or a smaller bandwidth or threshold",
    )  # fmt: skip
