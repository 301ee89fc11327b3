r"""Sums over pairs that are weighted by the similarity of their meta-data.

Weights are made tile by tile from the kernel's rows, next to the tile they weigh, and carry no gradient. The
diagonal is never computed: what a row weighs with itself is the caller's to add.

Shapes: N rows, n own rows (``own``), D dimensions, P columns of the kernel's rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spherometer.kernels import Kernel
from spherometer.pairs._one_pass import Found, one_pass
from spherometer.pairs._tiles import (
    Block,
    Weighing,
    accumulator,
    full_precision,
    outside_graphs,
    spans,
    tile_for,
)

_SMALL = 512  # rows up to which the weights of all pairs are one tile, made once for all that want it

Own = tuple[int, int] | None  # start and number of the rows that sums are wanted for; None: all of them


class Whole(NamedTuple):
    """Weights of all pairs of a small set, shared by all who ask: not to be changed."""

    weights: Tensor  # [N, N], 0 on the diagonal
    sums: Tensor  # of rows [N]
    mean: float


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

    @property
    def small(self) -> bool:
        """Whether all pairs are one tile, see ``whole``."""
        return len(self.rows) <= _SMALL

    def whole(self, *, apart: bool = False, threshold: float | None = None) -> Whole:
        """w of all pairs of a small set, or (``apart``) what ``apart`` gives; made once."""
        found = self._wholes.get((apart, threshold))
        if found is None:
            num = len(self)
            w = self.apart(0, num, 0, num, threshold) if apart else self.between(0, num, 0, num)
            sums = w.fill_diagonal_(0).sum(dim=1)
            found = self._wholes[apart, threshold] = Whole(w, sums, float(sums.sum()) / max(1, num * num))
        return found

    @functools.cached_property
    def _wholes(self) -> dict[tuple[bool, float | None], Whole]:
        return {}

    @functools.cached_property
    def _columns(self) -> Tensor:
        """The rows, stored column by column: what kernels take them by."""
        return self.rows.T.contiguous().T


@dataclass(frozen=True)
class Alike:
    """Weights w of pairs as the engine takes them; row i of its tiles is start + i."""

    similarity: Similarity
    start: int

    @property
    def diagonal(self) -> int:
        """j - i of a row with itself."""
        return self.start

    def weights(self, a: int, b: int, c: int, d: int) -> Tensor:
        """w of a tile, 0 on the diagonal."""
        a, b = a + self.start, b + self.start
        return without_self(self.similarity.between(a, b, c, d), a, c)


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
    weighing: Weighing, similarity: Similarity, own: Own, tile: tuple[int, int] | None
) -> Iterator[Block]:
    """The weights alone, tile by tile: of the own rows with all rows."""
    num, symmetric = span_of(len(similarity), own)[1], own is None
    for a, b, c, d in spans(num, len(similarity), tile or tile_for(similarity.rows.device), symmetric):
        yield Block(a, b, c, d, weighing.weights(a, b, c, d), symmetric and c != a, symmetric)


class _KernelSums(torch.autograd.Function):
    """sum_{j != i} w_ij z_j for the own rows i, or (``back``) sum over own rows i != j of w_ij z_i for all j.

    Linear in z, and each direction is the gradient of the other, so it is differentiable any number of times.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, similarity: Similarity, own: Own, back: bool, tile: tuple[int, int] | None
    ) -> Tensor:
        ctx.similarity, ctx.own, ctx.back, ctx.tile = similarity, own, back, tile
        if similarity.small and own is None and tile is None:
            with full_precision(z.device):  # a backward may run under autocast
                return similarity.whole().weights.to(z.dtype) @ z
        start, num = span_of(len(similarity), own)
        sums = accumulator(z, z.shape[1], len(similarity) if back else num)
        to_rows = sums if own is None or not back else None
        to_columns = sums if own is None or back else None
        for block in weight_tiles(Alike(similarity, start), similarity, own, tile):
            block.add_products(z.T, z.T, to_rows, to_columns, block.values.to(z.dtype))
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
        if similarity.small and own is None and tile is None:
            return _KernelSums.apply(z, similarity, own, False, tile), similarity.whole().sums  # type: ignore[no-untyped-call]
        widened = torch.cat([z, z.new_ones(len(z), 1)], dim=1)
        sums = _KernelSums.apply(widened, similarity, own, False, tile)  # type: ignore[no-untyped-call]
    return sums[:, :-1], sums[:, -1].detach()


@outside_graphs
def mean_gap(x: Tensor, y: Tensor, similarity: Similarity) -> Tensor:
    r"""How much nearer a row is to its partner than to its positives: what y-Aware InfoNCE adds to NT-Xent.

    Mean over both views of z_i . (z_p - sum_j a_ij z_j), j over both views of all samples but i itself, p the
    other view of i, a_ij = w_ij / sum_k w_ik; 0 where the kernel tells all samples apart.

    Args:
        x: [N, D] one view.
        y: [N, D] the other.
        similarity: of the N samples.

    Returns:
        0-dim float64, differentiable in both; twice for at most 1024 rows.

    Cost: as ``kernel_sums``, value and gradient together twice that; O(N D) memory.
    """

    def compute(wanted: Sequence[bool]) -> Found:
        centre = (x.mean(dim=0) + y.mean(dim=0)) / 2
        one, two, both = x - centre, y - centre, x + y
        spread, sums = kernel_sums(similarity, one + two)
        weights = 2 * sums.double()
        shares = 1 / (1 + weights)
        across, back = (torch.addcmul(-spread, rows, weights.to(x.dtype).unsqueeze(1)) for rows in (two, one))
        gaps = torch.linalg.vecdot(x, across).double() + torch.linalg.vecdot(y, back)
        gradients: list[Tensor | None] = [None, None]
        if any(wanted):
            share, weight = (each.to(x.dtype).unsqueeze(1) for each in (shares, shares * weights))
            pulled = kernel_sums(similarity, both.mul_(share))[0]
            for side, (gap, other) in enumerate(((across, y), (back, x))):
                if wanted[side]:
                    gradients[side] = gap.mul_(share).addcmul_(other, weight).sub_(pulled)
        return Found((gaps * shares).mean() / 2, gradients, shares.new_full((), 0.5 / max(1, len(x))))

    def definition(x: Tensor, y: Tensor) -> Tensor:
        centre = (x + y).detach().mean(dim=0) / 2
        spread, sums = kernel_sums(similarity, x + y - 2 * centre)
        spread, weights = spread.double(), 2 * sums.double()[:, None]
        gaps = [(weights * (rows - centre).double() - spread) / (1 + weights) for rows in (y, x)]
        return (x.double() * gaps[0] + y.double() * gaps[1]).sum(dim=1).mean() / 2

    with full_precision(x.device):
        return one_pass("mean_gap", compute, definition, x, y)
