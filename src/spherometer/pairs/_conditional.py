r"""Sums over pairs that are weighted by the similarity of their meta-data.

Weights are made tile by tile from the kernel's rows, next to the tile they weigh, and carry no gradient. The
diagonal is never computed: what a row weighs with itself is the caller's to add.

Shapes: N rows, n own rows (``own``), D dimensions, P columns of the kernel's rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from spherometer.kernels import Kernel
from spherometer.pairs._tiles import accumulator, full_precision, outside_graphs, spans, tile_for

Own = tuple[int, int] | None  # start and number of the rows that sums are wanted for; None: all of them

_BLOCK = 1 << 20  # pairs of a block of rows
_NEAR = 1e-8  # squared distance against squared length, below which differences are taken
_CHUNK = 1 << 22  # numbers of a block of differences
_LOST = 1e-2  # share of a variance in the squares it is left from, below which float32 is too coarse


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
        return self.kernel.weights(self._columns[a:b], self._columns[c:d])

    def apart(self, a: int, b: int, c: int, d: int, threshold: float | None = None) -> Tensor:
        """1 - w, or 1 where w < ``threshold`` and 0 elsewhere."""
        if threshold is None:
            return self.kernel.complements(self._columns[a:b], self._columns[c:d])
        return (self.between(a, b, c, d) < threshold).to(self.rows.dtype)

    @functools.cached_property
    def _columns(self) -> Tensor:
        """The rows, stored column by column: what kernels take them by."""
        return self.rows.T.contiguous().T


def span_of(num: int, own: Own) -> tuple[int, int]:
    """Start and number of the own rows."""
    return (0, num) if own is None else own


def without_self(values: Tensor, a: int, c: int) -> Tensor:
    """The tile of the rows from a on and the columns from c on, 0 where they are the same sample."""
    offset = a - c
    if -len(values) < offset < values.shape[1]:
        values.diagonal(offset).fill_(0)
    return values


def weight_tiles(
    similarity: Similarity, own: Own, tile: tuple[int, int] | None
) -> Iterator[tuple[int, int, int, int, bool]]:
    """Tiles of own rows a:b (global numbers) with rows c:d, and whether they stand for their mirror."""
    start, num = span_of(len(similarity), own)
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
        start, num = span_of(len(similarity), own)
        sums = accumulator(z, z.shape[1], len(similarity) if back else num)
        for a, b, c, d, mirrored in weight_tiles(similarity, own, tile):
            w = without_self(similarity.between(a, b, c, d), a, c).to(z.dtype)
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
    Pairs nearer than 1e-4 of their length are taken by differences, one D-vector each.
    """
    start, num = span_of(len(y), own)
    size = max(1, _BLOCK // max(len(y), 1))
    centre = y.detach().double().mean(dim=0)
    y_ND = y.double() - centre

    def block(x_BD: Tensor, y_ND: Tensor, a: int) -> Tensor:
        w = without_self(similarity.between(a, a + len(x_BD), 0, len(y_ND)), a, 0)
        squares = x_BD.square().sum(dim=1)[:, None] + y_ND.square().sum(dim=1)
        squared = squares - 2 * x_BD @ y_ND.T
        near = squared <= _NEAR * squares  # too near for products
        sums = (_power(squared.masked_fill(near, 0.0), alpha) * w).sum(dim=1)
        step = max(1, _CHUNK // x_BD.shape[1])
        for places in torch.split((near & (w > 0)).nonzero(), step):
            i, j = places.T
            values = _power((x_BD[i] - y_ND[j]).square().sum(dim=1), alpha) * w[i, j]
            sums = sums.index_add(0, i, values)
        return sums

    with full_precision(x.device):
        parts = []
        for at in range(0, num, size):
            rows = x[at : at + size].double() - centre
            parts.append(checkpoint(block, rows, y_ND, start + at, use_reentrant=False))
        return torch.cat(parts) if parts else (x.sum(dim=1) + y.sum() * 0).double()


def _power(squared: Tensor, alpha: float) -> Tensor:
    """d^alpha of squared distances; at 0 the gradient is 0."""
    zero = squared == 0
    return squared.masked_fill(zero, 1.0).pow(alpha / 2).masked_fill(zero, 0.0)


@outside_graphs
def anchor_distances(
    x: Tensor, y: Tensor, similarity: Similarity, alpha: float, *, own: Own = None
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
    start, num = span_of(len(y), own)
    paired = (x.double() - y[start : start + num].double()).square().sum(dim=1)
    if alpha == 2:
        others, totals = _spread(x, y, similarity, own)
    else:
        paired = _power(paired, float(alpha))
        others = conditional_distances(x, y, similarity, float(alpha), own=own)
        totals = kernel_sums(similarity, y.detach()[:, :1], own=own)[1].double()
    return (paired + others) / (1 + totals)


def _spread(x: Tensor, y: Tensor, similarity: Similarity, own: Own) -> tuple[Tensor, Tensor]:
    r"""sum_{j != i} w_ij \|x_i - y_j\|^2 and sum_{j != i} w_ij from sums of centred rows, float64 [n] each.

    Taken again in float64 where the former is small against the squares that it is the rest of: neighbours
    lie close together.
    """
    centre = y.detach().mean(dim=0)
    y_ND, x_nD = y - centre, x - centre
    with full_precision(x.device):
        widened = torch.cat([y_ND, y_ND.square().sum(dim=1, keepdim=True), y_ND.new_ones(len(y), 1)], dim=1)
        sums = _KernelSums.apply(widened, similarity, own, False, None)  # type: ignore[no-untyped-call]
        totals = sums[:, -1].detach().double()
        squares = totals * x_nD.square().sum(dim=1, dtype=torch.float64) + sums[:, -2].double()
        rest = squares - 2 * (x_nD * sums[:, :-2]).sum(dim=1, dtype=torch.float64)
    if y.dtype == torch.float32 and float(rest.detach().sum()) < _LOST * float(squares.detach().sum()):
        return _spread(x.double(), y.double(), similarity, own)
    return rest.clamp(min=0), totals
