r"""Row losses whose candidates depend on the meta-data: who repels a row, and how much.

With logits s_ij = scale x_i . y_j and similarities w_ij, for each row i:

* ``weighted``: log sum_j exp(s_ij (1 - w_ij)), similar rows repel less;
* ``threshold``: sum_k a_ik log(1 + sum_{j: w_ij < w_ik} exp(s_ij - s_ik)), a_ik = w_ik / sum_k w_ik: the pair
  (i, k) is held against rows that are less similar to i than k is.

``weighted`` walks over tiles, once for the sums and once for the gradient. For ``threshold`` each row's
candidates are sorted by similarity; the sum for k is then a running log-sum-exp up to the first candidate as
similar as k: a block of rows at a time, made again in the backward. Both in float64.

Shapes: N samples, n own rows, M = copies * N candidates, B rows of a block, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from spherometer.pairs import _second
from spherometer.pairs._conditional import Similarity, without_self
from spherometer.pairs._gaussian import dot
from spherometer.pairs._tiles import LOG2_E, Block, Walk, accumulator, full_precision, outside_graphs

Repulsion = Literal["weighted", "threshold"]

_RANGE = 600.0  # exp(-600) is a normal number in float64
_BLOCK = 1 << 17  # pairs of a block of rows; sorting keeps about ten such matrices


@dataclass(frozen=True)
class _Job:
    kind: Repulsion
    similarity: Similarity
    start: int  # sample number of the first own row
    copies: int  # the candidates are so many views of the N samples, one behind the other
    skip: int | None  # candidate that row 0 does not have (itself); row i does not have skip + i

    def values(self, x_BD: Tensor, y_MD: Tensor, scale: Tensor | float, at: int) -> Tensor:
        """Row losses [B] of the own rows from ``at`` on; plain differentiable torch."""
        logits_BM = scale * (x_BD @ y_MD.T)
        first, num = self.start + at, len(self.similarity)
        apart_BN = self.similarity.apart(first, first + len(x_BD), 0, num).double()
        apart_BN.diagonal(first).fill_(0)  # the views of the row's own sample
        itself_BM = torch.zeros_like(logits_BM, dtype=torch.bool)
        if self.skip is not None:
            itself_BM.diagonal(self.skip + at).fill_(True)
        if self.kind == "threshold":
            return _against_less_similar(logits_BM, apart_BN, itself_BM)
        logits_BM = (logits_BM * apart_BN.repeat(1, self.copies)).masked_fill(itself_BM, -math.inf)
        return torch.logsumexp(logits_BM, 1)


def _against_less_similar(logits_BM: Tensor, apart_BN: Tensor, itself_BM: Tensor) -> Tensor:
    """sum_k a_ik log(1 + sum_{j: w_ij < w_ik} exp(s_ij - s_ik)) for every row."""
    (num, columns), copies = apart_BN.shape, logits_BM.shape[1] // apart_BN.shape[1]
    sorted_BN, order_BN = apart_BN.sort(dim=1, descending=True)  # the least similar first
    order_BCN = order_BN[:, None].expand(num, copies, columns)

    def arranged(values_BM: Tensor) -> Tensor:
        """By similarity, the views of a sample side by side."""
        found_BCN = values_BM.view(num, copies, columns).gather(2, order_BCN)
        return found_BCN.transpose(1, 2).reshape(num, copies * columns)

    s_BM = arranged(logits_BM)
    w_BM = arranged((1 - apart_BN).repeat(1, copies).masked_fill_(itself_BM, 0.0))
    running_BM = _running_log_sums(s_BM)
    # where the samples as similar as k begin: none of them is less similar
    places = torch.arange(1, columns, device=s_BM.device)
    begin_BN = torch.zeros_like(order_BN)
    begin_BN[:, 1:] = torch.where(sorted_BN[:, 1:] != sorted_BN[:, :-1], places, 0).cummax(dim=1).values
    begin_BM = (begin_BN * copies).repeat_interleave(copies, dim=1)
    against_BM = running_BM.gather(1, (begin_BM - 1).clamp_(min=0))
    losses_BM = -functional.logsigmoid(s_BM - against_BM)
    losses_BM = losses_BM.masked_fill(begin_BM == 0, 0.0)  # nobody is less similar: a sum over nothing
    return (losses_BM * w_BM).sum(dim=1) / w_BM.sum(dim=1)


def _running_log_sums(s_BM: Tensor) -> Tensor:
    """log sum_{j <= k} exp(s_j) for every k."""
    top_B1 = s_BM.detach().amax(dim=1, keepdim=True)
    shifted_BM = s_BM - top_B1
    if shifted_BM.numel() and float(shifted_BM.detach().amin()) < -_RANGE:
        return torch.logcumsumexp(s_BM, dim=1)  # slower, and without second derivatives where sums are unused
    return shifted_BM.exp().cumsum(dim=1).log() + top_B1


class _RowLosses(torch.autograd.Function):
    """A block of rows or a tile at a time, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, scale: Tensor | float, job: _Job) -> Tensor:
        ctx.scale, ctx.job = scale, job
        if job.kind == "weighted":
            values = _weighted(x, y, float(scale), job)
        else:  # written into one array: small results between freed blocks would scatter the memory
            values = x.new_empty(len(x), dtype=torch.float64)
            for at, rows in _row_blocks(x, y):
                values[at : at + len(rows)] = job.values(rows, y, scale, at)
        ctx.save_for_backward(x, y, scale if isinstance(scale, Tensor) else None, values)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, y, scale, values = ctx.saved_tensors
        given, job, needs = (ctx.scale if scale is None else scale), ctx.job, ctx.needs_input_grad[:3]
        with full_precision(x.device):
            if torch.is_grad_enabled() and _second.is_small(len(x), len(y)):
                found = _second.gradients(lambda: job.values(x, y, given, 0), (x, y, scale), needs, (grad,))
                return (*found, None)
            totals: list[Tensor | None]
            if job.kind == "weighted":
                with torch.no_grad():
                    totals = _weighted_gradients(x, y, given, job, values, grad)
            else:
                inputs = zip((x, y, scale), needs, strict=True)
                totals = [torch.zeros_like(one) if need else None for one, need in inputs]
                for at, rows in _row_blocks(x, y):
                    _add(totals, (x, y, given), grad, job, at, len(rows))
            totals = [total if need else None for total, need in zip(totals, needs, strict=True)]
            found = _second.refuse_twice("repelled_rows", (x, y, scale), totals, needs)
        return (*found, None)


def _row_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    size = max(1, _BLOCK // max(len(y), 1))
    return ((at, x[at : at + size]) for at in range(0, len(x), size))


def _exponents(x: Tensor, y: Tensor, scale: float, job: _Job) -> Iterator[tuple[int, Block, Tensor]]:
    """Tiles of s_ij (1 - w_ij), -inf for a row with itself, with 1 - w and the number of their view."""
    num = len(job.similarity)
    for copy in range(job.copies):
        candidates = y[copy * num : (copy + 1) * num]
        left = lambda a, b: x[a:b] * (scale * LOG2_E)
        for block in Walk(left, candidates, len(x), symmetric=False, raw=True):
            first = job.start + block.a
            apart = job.similarity.apart(first, job.start + block.b, block.c, block.d)
            apart = without_self(apart.double(), first, block.c)
            block.values.mul_(apart)
            if job.skip is not None:
                offset = job.skip - copy * num + block.a - block.c
                if -len(block.values) < offset < block.values.shape[1]:
                    block.values.diagonal(offset).fill_(-math.inf)
            yield copy, block, apart


def _weighted(x: Tensor, y: Tensor, scale: float, job: _Job) -> Tensor:
    sums = x.new_full((len(x),), -math.inf)
    for _, block, _ in _exponents(x, y, scale, job):
        here = sums[block.a : block.b]
        torch.logaddexp(here, torch.logsumexp(block.values, dim=1), out=here)
    return sums


def _weighted_gradients(
    x: Tensor, y: Tensor, scale: Tensor | float, job: _Job, sums: Tensor, grad: Tensor
) -> list[Tensor | None]:
    """For x, y and the scale: a pair has the weight g_i (1 - w_ij) exp(s_ij (1 - w_ij) - sum_i)."""
    num, known = len(job.similarity), sums.clamp(min=-1e300)  # a sum over nothing has no gradient
    to_x, to_y = accumulator(x, x.shape[1], len(x)), accumulator(y, y.shape[1], len(y))
    left, right = x.T, y.T
    for copy, block, apart in _exponents(x, y, float(scale), job):
        k = block.values.sub_(known[block.a : block.b, None]).exp_().mul_(apart)
        k.mul_(grad[block.a : block.b, None])
        view = slice(copy * num, (copy + 1) * num)
        block.add_products(left, right[:, view], to_x, to_y[:, view])
    slope = dot(x, to_x.T)
    if isinstance(scale, Tensor):
        slope = slope.to(scale.dtype).to(scale.device).reshape(scale.shape)
    return [to_x.T.contiguous().mul_(float(scale)), to_y.T.contiguous().mul_(float(scale)), slope]


def _add(
    totals: list[Tensor | None],
    given: tuple[Tensor, Tensor, Any],
    grad: Tensor,
    job: _Job,
    at: int,
    size: int,
) -> None:
    """Add the gradients of one block of rows."""
    x, y, scale = given
    with torch.enable_grad():
        leaves = [x[at : at + size].detach(), y.detach(), scale]
        leaves[2] = scale.detach() if isinstance(scale, Tensor) else scale
        wanted = [i for i, total in enumerate(totals) if total is not None]
        for i in wanted:
            leaves[i].requires_grad_()
        values = job.values(leaves[0], leaves[1], leaves[2], at)
        found = torch.autograd.grad(values, [leaves[i] for i in wanted], grad[at : at + size].detach())
    for i, gradient in zip(wanted, found, strict=True):
        total = totals[i]
        assert total is not None
        (total[at : at + size] if i == 0 else total).add_(gradient)


@outside_graphs
def repelled_rows(
    kind: Repulsion,
    x: Tensor,
    y: Tensor,
    scale: float | Tensor,
    similarity: Similarity,
    *,
    start: int = 0,
    skip: int | None = None,
) -> Tensor:
    """Row losses with candidates by meta-data; see above for the two kinds.

    Args:
        kind: "weighted" or "threshold".
        x: [n, D] rows of the samples start ... start + n - 1.
        y: [M, D] candidates: one or more views of all N samples, one behind the other.
        scale: inverse temperature, a number or a 0-dim tensor.
        similarity: of the N samples; between views of one sample it is 1.
        start: number of the first sample.
        skip: number of the candidate that is row 0 itself and left out; row i leaves out skip + i.

    Returns:
        float64 [n], differentiable in ``x``, ``y`` and ``scale`` (twice for at most 2^20 pairs).

    Cost: n M D and, for "threshold", n M log M; O((n + M) D) memory, for "threshold" and a block of rows.
    """
    job = _Job(kind, similarity, start, len(y) // len(similarity), skip)
    with full_precision(x.device):
        return _RowLosses.apply(x.double(), y.double(), scale, job)  # type: ignore[no-any-return, no-untyped-call]
