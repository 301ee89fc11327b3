r"""Gaussian potentials over pairs within groups of rows, between groups, or over all pairs.

"between" is that of dissimilar samples in ``_dissimilar.py``, with 0 and 1 for weights.
"within" takes many small groups at once: each is one square of a batch of matrix products.

Shapes: N rows, n own rows (``own``), D dimensions, G groups, M rows of the largest of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from spherometer.kernels import Categorical
from spherometer.pairs._conditional import Own, Similarity, span_of
from spherometer.pairs._dissimilar import conditional_potential, conditional_row_sums
from spherometer.pairs._gaussian import _RANGE as RANGE
from spherometer.pairs._gaussian import cross_gaussian_potential, dot, gaussian_potential
from spherometer.pairs._moments import gaussian_log_rows
from spherometer.pairs._one_pass import Found, one_pass
from spherometer.pairs._tiles import LOG2_E, full_precision, outside_graphs

Population = Literal["between", "within", "all"]

_ENTRIES = 1 << 20  # pairs of groups that are held at once
_BATCH = 1 << 17  # of groups of one size: what stays in the cache
_EXACT = 1 << 24  # whole numbers up to here are float32 numbers
_NO_SHIFT = 5.0  # t up to which sums over unit rows are never shifted


def partners(groups: Tensor, population: Population) -> Tensor:
    """How many rows j != i row i meets, int64 [N]: those of its group, of others, or all.

    Args:
        groups: [N] int64.
        population: "within", "between" or "all".
    """
    if population == "all":
        return torch.full_like(groups, len(groups) - 1)
    _, inverse, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    within: Tensor = sizes[inverse]
    return within - 1 if population == "within" else len(groups) - within


def num_meetings(groups: Tensor, population: Population) -> int:
    """The sum of ``partners``; groups ascending."""
    num = len(groups)
    within = 0
    if population != "all":
        _, sizes = torch.unique_consecutive(groups, return_counts=True)
        within = int(torch.dot(sizes, sizes))
    return within - num if population == "within" else num * num - (within or num)


@outside_graphs
def population_log_sum(
    x: Tensor, t: float | Tensor, groups: Tensor, population: Population, *, own: Own = None
) -> Tensor:
    r"""Log of the sum of exp(-t \|x_i - x_j\|^2) over own rows i and the rows j != i that they meet.

    Args:
        x: [N, D] float32 or float64 rows.
        t: sharpness > 0, a number or a 0-dim tensor.
        groups: [N] int64, ascending.
        population: "within" a group, "between" groups, or "all".
        own: start and number of the rows i, whole groups of them; None: all.

    Returns:
        A 0-dim float64 tensor, differentiable in ``x`` and ``t``; -inf (with gradient 0) without a pair.

    Cost: "within" sum of squares of the sizes of groups; the others n N (half of it for all rows).
    """
    start, num = span_of(len(x), own)
    if population == "within":
        return _within(x[start : start + num], t, groups[start : start + num])
    if population == "between":
        similarity = _similarity(groups, x.dtype)
        if float(similarity.rows[-1:].sum()) < len(x) - 1:  # a group has two rows
            return conditional_potential(x, t, similarity, own=own)[0]
    parts = []
    rows = x[start : start + num]
    if num > 1:
        parts.append(gaussian_potential(rows, t) + math.log(num * (num - 1)))
    if num and num < len(x):
        others = torch.cat([x[:start], x[start + num :]])
        parts.append(cross_gaussian_potential(rows, others, t) + math.log(num * len(others)))
    if not parts:
        return (x.sum().double() + t) * 0 - math.inf
    return parts[0] if len(parts) == 1 else torch.logaddexp(parts[0], parts[1])


def _similarity(groups: Tensor, dtype: torch.dtype) -> Similarity:
    """1 within groups, 0 between them; groups ascending."""
    codes = torch.unique_consecutive(groups, return_inverse=True)[1]
    return Similarity(Categorical(), codes.to(dtype if len(groups) < _EXACT else torch.float64)[:, None])


def _within(x: Tensor, t: float | Tensor, groups: Tensor) -> Tensor:
    """Log of the sum over all pairs within groups, with its gradients from the same squares."""
    x = x if x.dtype == torch.float64 else x.float()
    _, sizes = torch.unique_consecutive(groups, return_counts=True)

    def compute(wanted: Sequence[bool]) -> Found:
        found = _squares(x, float(t), sizes, wanted)
        return _differentiated(definition, (x, t), wanted) if found is None else found

    def definition(x: Tensor, t: float | Tensor) -> Tensor:
        logs = within_log_rows(x, t, groups)
        logs = logs[logs > -math.inf]
        return torch.logsumexp(logs, 0) if len(logs) else (x.sum().double() + t) * 0 - math.inf

    with full_precision(x.device):
        return one_pass("population_log_sum", compute, definition, x, t)


def _squares(x: Tensor, t: float, sizes: Tensor, wanted: Sequence[bool]) -> Found | None:
    """The same for groups of one size, in squares; None where they differ, or the range wants more care."""
    tall, num = int(sizes.max()) if len(sizes) else 0, len(sizes)
    if tall < 2 or tall * num != len(x) or tall * tall > _ENTRIES:
        return None
    groups_GMD = x.reshape(num, tall, x.shape[1])
    step = max(1, _BATCH // (tall * tall))
    total, slope = x.new_zeros((), dtype=torch.float64), None
    raw_GMD = torch.empty_like(groups_GMD) if any(wanted) else None
    for first in range(0, num, step):
        z = groups_GMD[first : first + step]
        z = z - z.mean(dim=1, keepdim=True)  # no distance changes
        left = z * (2 * t * LOG2_E)
        half = torch.linalg.vecdot(left, z).mul_(-0.5)
        if not -4 * float(half.amin()) <= RANGE[x.dtype] * LOG2_E:
            return None
        k = torch.baddbmm(half.unsqueeze(1), left, z.mT).add_(half.unsqueeze(2)).exp2_()
        k.diagonal(dim1=1, dim2=2).zero_()
        total += k.sum()
        if raw_GMD is not None:
            raw = torch.bmm(k, z, out=raw_GMD[first : first + step])
            raw.addcmul_(k.sum(dim=2, keepdim=True), z, value=-1)
            if wanted[1]:
                slope = dot(z.flatten(0, 1), raw.flatten(0, 1)) + (0 if slope is None else slope)
    factor = 4 * t / total
    raw_ND = raw_GMD.view_as(x) if raw_GMD is not None and wanted[0] else None
    return Found(total.log(), (raw_ND, None if slope is None else slope * factor / (2 * t)), factor)


def _differentiated(
    definition: Callable[..., Tensor], inputs: Sequence[Any], wanted: Sequence[bool]
) -> Found:
    """A value with its gradients by its definition, where one pass is not enough."""
    with torch.set_grad_enabled(any(wanted)):
        leaves = [
            one.detach().requires_grad_(want) if isinstance(one, Tensor) else one
            for one, want in zip(inputs, wanted, strict=True)
        ]
        value = definition(*leaves)
        picked = [leaf for leaf, want in zip(leaves, wanted, strict=True) if want]
        found = iter(torch.autograd.grad(value, picked) if picked else ())
    return Found(value.detach(), [next(found) if want else None for want in wanted])


@torch.no_grad()
def population_log_rows(x: Tensor, t: float, groups: Tensor, population: Population) -> Tensor:
    r"""Log of the sum of exp(-t \|x_i - x_j\|^2) over the rows j that row i meets, float64 [N]; no gradient.

    -inf where it meets none. Arguments as ``population_log_sum``; rows of length 1.
    """
    if population == "within":
        return within_log_rows(x, t, groups)
    if population == "all":
        return gaussian_log_rows(x, t) + math.log(len(x) - 1)
    sums = conditional_row_sums(x, t, _similarity(groups, x.dtype))[0].log()
    if t <= _NO_SHIFT:
        return sums
    whole = population_log_sum(x, t, groups, population)  # they share a factor, which this one lacks
    return sums + (whole - torch.logsumexp(sums, 0)) if bool(whole > -math.inf) else sums


@outside_graphs
def within_log_rows(x: Tensor, t: float | Tensor, groups: Tensor) -> Tensor:
    r"""Log of the sum of exp(-t \|x_i - x_j\|^2) over the other rows of the own group.

    Args:
        x: [N, D] float32 or float64 rows.
        t: sharpness > 0, a number or a 0-dim tensor.
        groups: [N] int64, ascending.

    Returns:
        float64 [N], differentiable in ``x`` and ``t`` any number of times; -inf for a row alone in its group.

    Cost: G M^2 D, at most 2^20 pairs (or one row of a group) at a time, made again in the backward where
    there are more.
    """
    x = x if x.dtype == torch.float64 else x.float()
    _, sizes = torch.unique_consecutive(groups, return_counts=True)
    tall = int(sizes.max()) if len(sizes) else 0
    step = max(1, _ENTRIES // max(1, tall * tall))  # groups at once
    rows = max(1, _ENTRIES // max(1, tall)) if step == 1 else tall  # of each
    starts = sizes.cumsum(0) - sizes
    many = step < len(sizes) or rows < tall
    parts = []
    with full_precision(x.device):
        for first in range(0, len(sizes), step):
            few = sizes[first : first + step]
            begin, num = int(starts[first]), int(few.sum())
            batch = x[begin : begin + num]
            if many:
                parts.append(checkpoint(_logs, batch, t, few, rows, use_reentrant=False))
            else:
                parts.append(_logs(batch, t, few, rows))
    return torch.cat(parts) if parts else x.sum(dim=1).double()


def _logs(x: Tensor, t: float | Tensor, sizes: Tensor, num_rows: int) -> Tensor:
    """The same for groups of these sizes, in squares of the largest of them."""
    tall = int(sizes.max())
    place = torch.arange(tall, device=x.device)
    real = place < sizes[:, None]  # [G, M]
    full = len(x) == len(sizes) * tall
    if full:
        padded = x.view(len(sizes), tall, x.shape[1])
    else:
        padded = x.new_zeros(len(sizes), tall, x.shape[1]).masked_scatter(real[:, :, None], x)
    centred = padded - padded.detach().sum(dim=1, keepdim=True) / sizes[:, None, None]  # no distance changes
    squares = centred.square().sum(dim=2)
    found = []
    for a in range(0, tall, num_rows):
        part = slice(a, a + num_rows)
        squared = (squares[:, part, None] + squares[:, None]).baddbmm(centred[:, part], centred.mT, alpha=-2)
        left_out = place[part, None] == place
        if full and tall > 1:
            exponents = (-t * squared.clamp(min=0)).masked_fill(left_out, -math.inf)
            found.append(torch.logsumexp(exponents, 2).double())
            continue
        left_out = left_out | ~real[:, None]
        empty = left_out.all(dim=2, keepdim=True)  # alone in its group: -inf, with gradient 0
        exponents = (-t * squared.clamp(min=0)).masked_fill(left_out & ~empty, -math.inf)
        found.append(torch.logsumexp(exponents, 2).double().masked_fill(empty[:, :, 0], -math.inf))
    logs = torch.cat(found, dim=1)
    return logs.flatten() if full else logs[real]
