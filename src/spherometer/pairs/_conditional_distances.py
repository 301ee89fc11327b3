r"""Distances from similar samples: sums over pairs, weighted by the similarity of their meta-data.

Those of powers other than 2 are taken in float64: distances are wanted, not products. Pairs so near that a
product of rows would lose their digits are taken by differences, and written into the tile.

Shapes: N rows, n own rows (``own``), D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from spherometer.pairs import _second
from spherometer.pairs._conditional import Own, Similarity, kernel_sums, span_of, without_self
from spherometer.pairs._conditional import _KernelSums as KernelSums
from spherometer.pairs._gaussian import Widened, widen
from spherometer.pairs._one_pass import Found, one_pass
from spherometer.pairs._tiles import Block, Walk, accumulator, full_precision, outside_graphs

_NEAR = 1e-8  # squared distance against squared length, below which differences are taken
_CHUNK = 1 << 19  # numbers of a block of differences
_LOST = 1e-2  # share of a variance in the squares it is left from, below which float32 is too coarse


class _Distances:
    """The tiles of w_ij d_ij^alpha, and of what its gradient weighs differences with."""

    def __init__(self, x: Tensor, y: Tensor, similarity: Similarity, alpha: float, start: int) -> None:
        centre = y.double().mean(dim=0)
        self.one, self.two = widen(x.double(), centre, 1.0), widen(y.double(), centre, 1.0)
        self._x, self._y = _squares(self.one), _squares(self.two)
        self._similarity, self._alpha, self._start = similarity, alpha, start

    def _tiles(self, tile: tuple[int, int] | None) -> Walk:
        return Walk(self.one.left, self.two.z, len(self.one.z), symmetric=False, tile=tile, raw=True)

    def _of(self, block: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Squared distances of a tile, their weights, and the places i, j (in the tile) of near pairs."""
        squared, a, b, c, d = block.values.neg_(), block.a, block.b, block.c, block.d
        w = self._similarity.between(a + self._start, b + self._start, c, d)
        w = without_self(w, a + self._start, c)
        i = j = torch.empty(0, dtype=torch.int64, device=squared.device)
        if float(squared.min()) <= _NEAR * float(self._x[a:b].max() + self._y[c:d].max()):
            near = squared <= (self._x[a:b, None] + self._y[c:d]).mul_(_NEAR)
            squared.masked_fill_(near, 0.0)
            i, j = near.logical_and_(w > 0).nonzero().T
            for some, others in self._split(i, j):
                squared[some, others] = self._between(block, some, others).square().sum(dim=1)
        return squared, w, i, j

    def _split(self, *places: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Places of pairs, so many at a time that their differences are a small block."""
        step = max(1, _CHUNK // max(self.one.x.shape[1], 1))
        return zip(*(torch.split(one, step) for one in places), strict=True)

    def _between(self, block: Block, i: Tensor, j: Tensor) -> Tensor:
        """x_i - y_j of places in a tile."""
        return self.one.x[block.a + i] - self.two.x[block.c + j]

    def sums(self, tile: tuple[int, int] | None) -> Tensor:
        """sum_j w_ij d_ij^alpha, float64 [n]."""
        found = self.one.z.new_zeros(len(self.one.z))
        for block in self._tiles(tile):
            squared, w, _, _ = self._of(block)
            found[block.a : block.b] += _power(squared, self._alpha / 2).mul_(w).sum(dim=1)
        return found

    def gradients(
        self, grad: Tensor, wanted: tuple[bool, bool], tile: tuple[int, int] | None
    ) -> list[Tensor | None]:
        """Of sum_i ``grad``_i times sum i: sums of k_ij (x_i - y_j), k = alpha g_i w_ij d^(alpha - 2)."""
        one, two = self.one, self.two
        at, bt = (
            accumulator(rows.z, rows.z.shape[1] - 1, len(rows.z)) if want else None
            for rows, want in zip((one, two), wanted, strict=True)
        )
        nearby: list[Tensor | None] = [None, None]
        left, right = one.summed.T, two.summed.T
        for block in self._tiles(tile):
            squared, w, i, j = self._of(block)
            zero = squared == 0
            k = _power(squared.masked_fill_(zero, 1.0), self._alpha / 2 - 1).masked_fill_(zero, 0.0)
            k.mul_(w).mul_(self._alpha * grad[block.a : block.b, None])
            for some, others in self._split(i, j):
                pull = self._between(block, some, others).mul_(k[some, others, None])
                for side, places, sign in ((0, block.a + some, 1), (1, block.c + others, -1)):
                    if wanted[side]:
                        if (to := nearby[side]) is None:
                            to = nearby[side] = torch.zeros_like((one, two)[side].x)
                        to.index_add_(0, places, pull, alpha=sign)
            if len(i):
                k[i, j] = 0.0
            block.add_products(left, right, at, bt, k)
        found: list[Tensor | None] = []
        for rows, products, extra in zip((one, two), (at, bt), nearby, strict=True):
            pulled = None if products is None else rows.differences(products).neg_()
            found.append(pulled if pulled is None or extra is None else pulled.add_(extra))
        return found


def _squares(rows: Widened) -> Tensor:
    return rows.x.square().sum(dim=1)


def _power(squared: Tensor, power: float) -> Tensor:
    """A power of a new tensor, or of ``squared`` itself where it is 1."""
    if power == 1:
        return squared
    return {0.5: torch.sqrt, 2: torch.square, -0.5: torch.rsqrt}.get(power, lambda each: each.pow(power))(
        squared
    )


class _ConditionalDistances(torch.autograd.Function):
    """A pass for the sums, and one for the gradient, which wants the upstream gradient of every row."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, similarity: Similarity, alpha: float, own: Own,
        tile: tuple[int, int] | None,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, y)
        ctx.given = (similarity, alpha, span_of(len(y), own)[0], tile)
        return _Distances(x, y, similarity, alpha, ctx.given[2]).sums(tile)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, y = ctx.saved_tensors
        similarity, alpha, start, tile = ctx.given
        needs = ctx.needs_input_grad[:2]
        nothing = (None, None, None, None)
        with full_precision(x.device):
            if torch.is_grad_enabled() and _second.is_small(len(x), len(y)):
                definition = lambda: written_out(x, y, similarity, alpha, start)
                return (*_second.gradients(definition, (x, y), needs, (grad,)), *nothing)
            found = _Distances(x, y, similarity, alpha, start).gradients(grad, needs, tile)
        found = [None if one is None else one.to(x.dtype) for one in found]
        return (*_second.refuse_twice("conditional_distances", (x, y), found, needs), *nothing)


def written_out(x: Tensor, y: Tensor, similarity: Similarity, alpha: float, start: int) -> Tensor:
    """The same sums through the whole matrix, differentiable any number of times; at 0 the gradient is 0."""
    centre = y.detach().double().mean(dim=0)
    x, y = x.double() - centre, y.double() - centre
    w = without_self(similarity.between(start, start + len(x), 0, len(y)), start, 0)
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    squared = squares - 2 * x @ y.T
    near = (squared <= _NEAR * squares).detach()
    sums = (power_of(squared.masked_fill(near, 0.0), alpha) * w).sum(dim=1)
    i, j = (near & (w > 0)).nonzero().T
    return sums.index_add(0, i, power_of((x[i] - y[j]).square().sum(dim=1), alpha) * w[i, j])


def power_of(squared: Tensor, alpha: float) -> Tensor:
    """d^alpha of squared distances; at 0 the gradient is 0."""
    zero = squared == 0
    return squared.masked_fill(zero, 1.0).pow(alpha / 2).masked_fill(zero, 0.0)


@outside_graphs
def conditional_distances(
    x: Tensor,
    y: Tensor,
    similarity: Similarity,
    alpha: float,
    *,
    own: Own = None,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    r"""sum_{j != i} w_ij \|x_i - y_j\|^alpha for the own rows i of ``x``, float64 [n].

    Args:
        x: [n, D] the own rows.
        y: [N, D] all rows of the other side.
        similarity: of the N samples.
        alpha: > 0. For 2, sums of rows are enough: see ``kernel_sums``.
        own: start and number of the own rows; None: n = N.
        tile: rows and columns of a tile; None: by the device.

    Cost: n N D in float64, once for the value and once for the gradient; O(N D) memory. Differentiable in
    both, twice for n N <= 2^20. Pairs nearer than 1e-4 of their length are taken by differences, one D-vector
    each.
    """
    with full_precision(x.device):
        return _ConditionalDistances.apply(x, y, similarity, float(alpha), own, tile)  # type: ignore[no-any-return, no-untyped-call]


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
        paired = power_of(paired, float(alpha))
        others = conditional_distances(x, y, similarity, float(alpha), own=own)
        totals = kernel_sums(similarity, y.detach()[:, :1], own=own)[1].double()
    return (paired + others) / (1 + totals)


@outside_graphs
def anchor_mean(x: Tensor, y: Tensor, similarity: Similarity, alpha: float) -> Tensor:
    """Mean of ``anchor_distances`` over all anchors, 0-dim float64; one pass for small sets."""
    if alpha != 2 or not similarity.small:
        return anchor_distances(x, y, similarity, alpha).mean()

    def compute(wanted: Sequence[bool]) -> Found:
        return _whole_mean(x, y, similarity, wanted)

    def definition(x: Tensor, y: Tensor) -> Tensor:
        return anchor_distances(x, y, similarity, alpha).mean()

    with full_precision(x.device):
        return one_pass("conditional_alignment", compute, definition, x, y)


def _whole_mean(x: Tensor, y: Tensor, similarity: Similarity, wanted: Sequence[bool]) -> Found:
    """The mean for alpha = 2 and its gradients, of a set whose weights are one tile; as ``_spread``."""
    weights, sums, _ = similarity.whole()
    w, totals, centre = weights.to(x.dtype), sums.double(), y.mean(dim=0)
    y_ND, x_ND, apart = y - centre, x - centre, x - y
    pulled = w @ y_ND
    squares = totals * torch.linalg.vecdot(x_ND, x_ND) + w @ torch.linalg.vecdot(y_ND, y_ND)
    rest = squares - 2 * torch.linalg.vecdot(x_ND, pulled).double()
    if x.dtype == torch.float32 and float(rest.sum()) < _LOST * float(squares.sum()):
        return _whole_mean(x.double(), y.double(), similarity, wanted)
    shares = 1 / (1 + totals)
    value = ((torch.linalg.vecdot(apart, apart) + rest.clamp_(min=0)) * shares).mean()
    gradients: list[Tensor | None] = [None, None]
    share = shares.to(x.dtype).unsqueeze(1)
    if wanted[0]:
        gradients[0] = torch.addcmul(apart, sums.to(x.dtype).unsqueeze(1), x_ND).sub_(pulled).mul_(share)
    if wanted[1]:
        held = (w @ share).mul(y_ND).addcmul_(share, apart, value=-1)
        gradients[1] = held.addmm_(w, share * x_ND, alpha=-1)
    return Found(value, gradients, value.new_full((), 2 / max(1, len(x))))


def _spread(x: Tensor, y: Tensor, similarity: Similarity, own: Own) -> tuple[Tensor, Tensor]:
    r"""sum_{j != i} w_ij \|x_i - y_j\|^2 and sum_{j != i} w_ij from sums of centred rows, float64 [n] each.

    Taken again in float64 where the former is small against the squares that it is the rest of: neighbours
    lie close together.
    """
    centre = y.detach().mean(dim=0)
    y_ND, x_nD = y - centre, x - centre
    with full_precision(x.device):
        widened = torch.cat([y_ND, y_ND.square().sum(dim=1, keepdim=True), y_ND.new_ones(len(y), 1)], dim=1)
        sums = KernelSums.apply(widened, similarity, own, False, None)  # type: ignore[no-untyped-call]
        totals = sums[:, -1].detach().double()
        squares = totals * x_nD.square().sum(dim=1, dtype=torch.float64) + sums[:, -2].double()
        rest = squares - 2 * (x_nD * sums[:, :-2]).sum(dim=1, dtype=torch.float64)
    if y.dtype == torch.float32 and float(rest.detach().sum()) < _LOST * float(squares.detach().sum()):
        return _spread(x.double(), y.double(), similarity, own)
    return rest.clamp(min=0), totals
