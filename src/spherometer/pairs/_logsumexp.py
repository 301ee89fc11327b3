"""Row and column log-sum-exps of scaled inner products: the sums of InfoNCE and NT-Xent.

Two passes over the tiles: the sums, then the gradient, whose weight for the pair (i, j) is
exp(s_ij) (g_i exp(-row_i) + h_j exp(-column_j)), g and h being the gradients that arrive.

Shapes: N, M rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spherometer.pairs import _dense, _second
from spherometer.pairs._gaussian import dot
from spherometer.pairs._tiles import LOG2_E, Block, accumulator, full_precision, outside_graphs, walk

# Largest |logit| whose exp is taken without a shift. Above 40 float32 logits are off by more than 2e-6.
_PLAIN = {torch.float32: 40.0, torch.float64: 300.0}
_SMALL = 8.0  # scales up to here may be rounded to float32 (logits move by less than 5e-7)
_SINGLE = 512  # sets up to here are one tile, kept for the backward


class _Logits:
    """The exponents scale * x_i . y_j, tile by tile."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor | None,
        scale: float,
        skip: Sequence[int],
        tile: tuple[int, int] | None,
        bound: float | None = None,
    ) -> None:
        if bound is None:
            longest = _longest(x)
            bound = abs(scale) * longest * (longest if y is None else _longest(y))
        self.bound = bound
        self.scale, self.skip, self.tile, self.symmetric = scale, skip, tile, y is None
        self.double = x.dtype == torch.float32 and bound > _PLAIN[torch.float32]
        self.plain = bound <= _PLAIN[torch.float64]  # exp needs no shift
        # a factor as wide as the GEMM; float64 where float32 logits would be too coarse
        self.x = x.double() if self.double else x
        self.y = self.x if y is None else (y.double() if self.double else y)
        self.single = tile is None and self.plain and len(self.x) * len(self.y) <= _SINGLE * _SINGLE

    def left(self, a: int, b: int) -> Tensor:
        if abs(self.scale) <= _SMALL:
            return self.x[a:b] * (self.scale * LOG2_E)
        return (self.x[a:b].double() * (self.scale * LOG2_E)).to(self.x.dtype)

    def blocks(self) -> Any:
        return walk(
            self.left,
            self.y,
            len(self.x),
            symmetric=self.symmetric,
            skip=self.skip,
            tile=self.tile,
            exponentiate=self.plain,
        )

    def whole(self) -> Tensor:
        """All values as one tile, for small sets."""
        k = torch.mm(self.left(0, len(self.x)), self.y.T).exp2_()
        for offset in self.skip:
            if -len(self.x) < offset < len(self.y):
                k.diagonal(offset).zero_()
        return k


def _longest(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dim=1).max()) if len(x) else 0.0


def _sums(logits: _Logits) -> tuple[Tensor, Tensor, Tensor | None]:
    """Row and column log-sum-exps, float64, and the one tile of a small set."""
    n, m = len(logits.x), len(logits.y)
    if logits.single:
        k = logits.whole()
        rows = k.sum(dim=1).double().log_()
        return rows, rows if logits.symmetric else k.sum(dim=0).double().log_(), k
    start = 0.0 if logits.plain else -math.inf
    rows = torch.full((n,), start, dtype=torch.float64, device=logits.x.device)
    columns = rows if logits.symmetric else torch.full((m,), start, dtype=torch.float64, device=rows.device)
    for block in logits.blocks():
        if logits.plain:
            block.add_sums(rows, columns)
        else:
            block.add_log_sums(rows, columns)
    if logits.plain:
        rows.log_()
        if not logits.symmetric:
            columns.log_()
    return rows, columns, None


class _Weights:
    """Turns a tile of values into weights of the gradient."""

    def __init__(
        self,
        logits: _Logits,
        rows: Tensor,
        columns: Tensor,
        grad_rows: Tensor | None,
        grad_columns: Tensor | None,
    ) -> None:
        self.plain, dtype = logits.plain, logits.x.dtype
        # an empty set has log-sum -inf and no gradient: any finite value does, its values are all 0
        least = -_PLAIN[dtype] - 1 if logits.plain else -1e300
        self.rows = rows.clamp(min=least)
        self.columns = self.rows if columns is rows else columns.clamp(min=least)
        self.grads = (grad_rows, grad_columns)
        # In the plain form the factor exp(-row) rides on the gradient: one product per entry
        self.g = None if grad_rows is None else self._ride(grad_rows, self.rows).to(dtype)
        if grad_columns is grad_rows and columns is rows:
            self.h = self.g
        else:
            self.h = None if grad_columns is None else self._ride(grad_columns, self.columns).to(dtype)

    def _ride(self, grad: Tensor, sums: Tensor) -> Tensor:
        return grad * torch.exp(-sums) if self.plain else grad

    def of(self, block: Block, spare: Tensor | None) -> Tensor:
        """Weights of a tile; in place unless it is to be kept (``spare`` None)."""
        k = block.values
        g = None if self.g is None else self.g[block.a : block.b].unsqueeze(1)
        h = None if self.h is None else self.h[block.c : block.d]
        if not self.plain:
            zero = torch.zeros_like(k)
            if g is not None:
                zero += torch.exp(k - self.rows[block.a : block.b].unsqueeze(1).to(k.dtype)).mul_(g)
            if h is not None:
                zero += torch.exp(k - self.columns[block.c : block.d].to(k.dtype)).mul_(h)
            return zero
        if g is None or h is None:
            both = g if g is not None else h
            assert both is not None
            return k * both if spare is None else k.mul_(both)
        if spare is None:
            return torch.add(g, h).mul_(k)
        sums = spare[: k.numel()].view_as(k)
        torch.add(g, h, out=sums)
        return k.mul_(sums)


def _gradients(
    logits: _Logits, weights: _Weights, whole: Tensor | None, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """W y [N, D] and W^T x [M, D] without the scale (in the symmetric case the first alone)."""
    x, y = logits.x, logits.y
    n, m = len(x), len(y)
    need_x = needs[0] or needs[2]
    need_y = needs[1] and not logits.symmetric
    if whole is not None:
        w = weights.of(Block(0, n, 0, m, whole, False), None)
        return (w @ y if need_x else None), (w.T @ x if need_y else None)
    # transposed accumulators: the GEMM into them is the faster one, both ways
    across = accumulator(x, x.shape[1], n) if need_x else None
    down = across if logits.symmetric else (accumulator(x, x.shape[1], m) if need_y else None)
    left, right = x.T, y.T
    spare: Tensor | None = None
    for block in logits.blocks():
        if spare is None or spare.numel() < block.values.numel():
            spare = torch.empty_like(block.values).flatten()
        block.add_products(left, right, across, down, weights.of(block, spare))
    wx = None if across is None else across.T.contiguous()
    if logits.symmetric:
        return wx, None
    del across
    return wx, None if down is None else down.T.contiguous()


def _whole_gradients(
    x: Tensor,
    y: Tensor | None,
    scale: float,
    sums: tuple[Tensor, Tensor, Tensor | None],
    grads: tuple[Tensor | None, Tensor | None],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of a small set, whose one tile was kept."""
    rows, columns, k = sums
    assert k is not None
    least = -_PLAIN[k.dtype] - 1  # an empty set: all its values are 0

    def weight(grad: Tensor, log_sums: Tensor) -> Tensor:
        return grad.mul(scale).mul_(log_sums.clamp(min=least).neg_().exp_()).to(k.dtype)

    g = None if grads[0] is None else weight(grads[0], rows).unsqueeze(1)
    if y is None:
        assert g is not None
        return [torch.mm((g + g.squeeze(1)).mul_(k), x.to(k.dtype)).to(x.dtype), None, None]
    h = None if grads[1] is None else weight(grads[1], columns)
    both = h if g is None else g if h is None else g + h
    assert both is not None
    w = k * both
    return [
        torch.mm(w, y.to(w.dtype)).to(x.dtype) if needs[0] else None,
        torch.mm(w.T, x.to(w.dtype)).to(x.dtype) if needs[1] else None,
        None,
    ]


class _MaskedLogSumExp(torch.autograd.Function):
    """Sums in the forward, a second pass for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor | None,
        scale: Tensor | float,
        skip: tuple[int, ...],
        tile: tuple[int, int] | None,
        bound: float | None,
    ) -> Any:
        logits = _Logits(x, y, float(scale), skip, tile, bound)
        rows, columns, whole = _sums(logits)
        ctx.set_materialize_grads(False)
        keep = whole if any(ctx.needs_input_grad) else None
        ctx.save_for_backward(x, y, scale if isinstance(scale, Tensor) else None, rows, columns, keep)
        ctx.scale, ctx.skip, ctx.tile, ctx.bound = scale, skip, tile, logits.bound
        return rows if y is None else (rows, columns)

    @staticmethod
    def backward(ctx: Any, grad_rows: Tensor | None, grad_columns: Tensor | None = None) -> tuple[Any, ...]:
        x, y, scale, rows, columns, whole = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        if grad_rows is None and grad_columns is None:
            return None, None, None, None, None, None
        with full_precision(x.device):
            if torch.is_grad_enabled() and _second.is_small(len(x), len(x if y is None else y)):
                given = ctx.scale if scale is None else scale

                def definition() -> tuple[Tensor, ...]:
                    sums = _dense.masked_logsumexp(x, y, given, ctx.skip)
                    return sums[:1] if y is None else sums

                arrived = (grad_rows,) if y is None else (grad_rows, grad_columns)
                return (*_second.gradients(definition, (x, y, scale), needs, arrived), None, None, None)
            with torch.no_grad():
                found = _first(ctx, x, y, scale, (rows, columns, whole), (grad_rows, grad_columns))
            grads = _second.refuse_twice("masked_logsumexp", (x, y, scale), found, needs)
        return (*grads, None, None, None)


def _first(
    ctx: Any,
    x: Tensor,
    y: Tensor | None,
    scale: Tensor | None,
    sums: tuple[Tensor, Tensor, Tensor | None],
    grads: tuple[Tensor | None, Tensor | None],
) -> list[Tensor | None]:
    number = float(ctx.scale)
    needs = ctx.needs_input_grad[:3]
    if sums[2] is not None and not needs[2]:
        return _whole_gradients(x, y, number, sums, grads, needs)
    logits = _Logits(x, y, number, ctx.skip, ctx.tile, ctx.bound)
    rows, columns, whole = sums
    columns = rows if logits.symmetric else columns
    # symmetric: every pair is in the set of both of its rows
    weights = _Weights(logits, rows, columns, grads[0], grads[0] if logits.symmetric else grads[1])
    wx, wy = _gradients(logits, weights, whole, needs)
    slope = None
    if needs[2] and scale is not None and wx is not None:
        slope = dot(logits.x, wx) * (0.5 if logits.symmetric else 1.0)
        slope = slope.to(scale.dtype).to(scale.device).reshape(scale.shape)
    grad_x = wx.mul_(number).to(x.dtype) if needs[0] and wx is not None else None
    grad_y = wy.mul_(number).to(x.dtype) if wy is not None else None
    return [grad_x, grad_y, slope]


@outside_graphs
def masked_logsumexp(
    x: Tensor,
    y: Tensor | None,
    scale: float | Tensor,
    skip: Sequence[int] = (),
    *,
    longest: float | None = None,
    tile: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of ``scale * x_i . y_j`` over j for each i, and over i for each j.

    Args:
        x: [N, D] float32 or float64 rows.
        y: [M, D] rows; None: ``x`` with itself, both results are then the same tensor.
        scale: inverse temperature, a number or a 0-dim tensor.
        skip: diagonals j - i that are left out of the sums.
        longest: length that no row exceeds, but for rounding; None: it is looked for.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        Rows [N] and columns [M], float64, differentiable in ``x``, ``y`` and ``scale`` (twice for at most
        2^20 pairs). The log-sum of an empty set is -inf, with gradient 0.

    Cost: N M pairs once forward and once backward (half of them for ``y`` None); O((N + M) D) memory.
    float64 inside where ``scale`` times the longest rows is above 40.
    """
    x = x if x.dtype in _PLAIN else x.float()
    y = y if y is None or y.dtype in _PLAIN else y.float()
    skip = tuple(dict.fromkeys(skip))
    if y is None and set(skip) != {-offset for offset in skip}:
        y = x
    number = float(scale.detach() if isinstance(scale, Tensor) else scale)
    bound = None if longest is None else abs(number) * longest * longest
    tracked = torch.is_grad_enabled() and any(
        isinstance(one, Tensor) and one.requires_grad for one in (x, y, scale)
    )
    with full_precision(x.device):
        if not tracked:
            return _sums(_Logits(x, y, number, skip, tile, bound))[:2]
        if y is None:
            rows = _MaskedLogSumExp.apply(x, None, scale, skip, tile, bound)  # type: ignore[no-untyped-call]
            return rows, rows
        rows, columns = _MaskedLogSumExp.apply(x, y, scale, skip, tile, bound)  # type: ignore[no-untyped-call]
        return rows, columns
