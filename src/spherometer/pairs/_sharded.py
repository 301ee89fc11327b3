r"""Quantities of a set whose rows lie on many processes, exactly, in memory that falls with their number.

Every process calls these with its own rows, as many as it has, and all get the same value. ``_ring.py`` says
how every two rows meet; here is what happens when they do.

Shapes: N rows of all processes, n own ones, D dimensions, W processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.pairs import _gaussian, _second
from spherometer.pairs._gaussian import Widened, gaussian_potential, widen
from spherometer.pairs._moments import RANGE, GaussianMoments, add_moments, gaussian_moments
from spherometer.pairs._processes import Group
from spherometer.pairs._ring import Met, Ring, Totals
from spherometer.pairs._tiles import LOG2_E, Walk, accumulator, full_precision, outside_graphs

_DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class _Block:
    """This process's block of the rows of all, in the form the GEMM wants."""

    ring: Ring
    rows: Widened
    span: float  # bound of t d^2 over the pairs of all rows


def _blocks(group: Group, shard: Tensor, t: float, most: dict[torch.dtype, float]) -> _Block:
    """Agree on what all hold, deal the rows into even blocks and centre them.

    Args:
        group: two processes or more.
        shard: own rows [n, D], float32 or float64.
        t: sharpness > 0.
        most: largest range of exponents that a precision bears without a shift.
    """
    headers = group.rows_of([len(shard), shard.shape[1], _DTYPES.index(shard.dtype), t])
    _check(group.function, headers)
    counts = [int(count) for count in headers[:, 0].tolist()]
    ring = Ring(group, counts)
    rows = ring.deal(shard)
    # added in the order of the processes
    centre = group.rows_of(rows.sum(dim=0, dtype=torch.float64).tolist()).sum(dim=0) / ring.num
    centre = centre.to(rows.device)
    block = widen(rows, centre.to(rows.dtype), t)
    span = _span(group, block)
    if span > most[rows.dtype] and rows.dtype == torch.float32:  # too wide for float32
        block = widen(rows.double(), centre, t)
        span = _span(group, block)
    return _Block(ring, block, span)


def _span(group: Group, block: Widened) -> float:
    """Bound of t d^2 over the pairs of all processes; NaN where some row has it."""
    own = float(-block.z[:, -1].min()) if len(block.z) else 0.0
    return 4 * float(group.rows_of([own]).max()) / LOG2_E


def _check(function: str, headers: Tensor) -> None:
    for column, what, error in (
        (1, "columns", ShapeError),
        (2, "precision", InputError),
        (3, "t", InputError),
    ):
        if bool((headers[:, column] != headers[0, column]).any()):
            found = headers[:, column].tolist()
            shown = [str(_DTYPES[int(v)])[6:] if column == 2 else f"{v:g}" for v in found]
            _checks.refuse(
                error, function, "t" if column == 3 else "shard",
                "be the same on every process" if column == 3 else f"have the same {what} on every process",
                "its rows meet those of all others", f"{', '.join(shown)} on processes 0 to {len(found) - 1}",
                "Pass parts of one set and one t",
            )  # fmt: skip
    num = int(headers[:, 0].sum())
    if num < 2:
        _checks.refuse(
            UndefinedError, function, "shard", "have at least 2 rows over all processes",
            "a mean over pairs needs a pair",
            f"{num} row{'s' if num != 1 else ''} over {len(headers)} processes",
            "Pass the whole set, in parts",
        )  # fmt: skip


def _together(group: Group, totals: Totals) -> Totals:
    """The sums of all processes, added in their order: the same on all."""
    every, found = group.rows_of([totals.shift, *totals.numbers]), Totals(len(totals.numbers))
    for shift, *numbers in every.tolist():
        found.add(shift, numbers)
    return found


@dataclass(frozen=True)
class _Potential:
    log_mean: float
    gradient: Tensor | None  # of log S with respect to the own rows [n, D]
    slope: float | None  # and with respect to t


def _potential(
    group: Group, shard: Tensor, t: float, own: bool, wanted: tuple[bool, bool], tile: tuple[int, int] | None
) -> _Potential:
    """One journey around the ring; ``wanted``: gradients for the rows and for t. ``own`` adds self pairs."""
    # all carry sums, or none
    either, slope_wanted = group.rows_of([any(wanted), wanted[1]]).amax(dim=0).bool().tolist()
    block = _blocks(group, shard, t, _gaussian._RANGE)
    one, ring = block.rows, block.ring

    def meet(here: Tensor, there: Tensor, same: bool) -> Met:
        sums = [accumulator(z, here.shape[1] - 1, len(z)) if either else None for z in (here, there)]
        if same:
            sums[1] = sums[0]
        left, right = Widened(here, t), Widened(there, t)
        found, shift, _ = _gaussian._tiled(
            left, left if same else right, sums[1], sums[0], same, block.span, tile
        )
        total = float(found)
        return Met(shift if total != 0 else -math.inf, [total], sums[0], None if same else sums[1])

    totals, load = ring.go_round(one.z, meet, 1, one.z.shape[1] - 1 if either else 0)
    found = _together(group, totals)
    log_total = math.log(found.numbers[0]) + found.shift if found.numbers[0] > 0 else math.nan
    if own:
        log_total = float(torch.tensor([log_total, math.log(ring.num)], dtype=torch.float64).logsumexp(0))
    log_mean = log_total - math.log(ring.num * (ring.num if own else ring.num - 1))
    if not either:
        return _Potential(log_mean, None, None)
    raw = one.differences(load.values)
    # d log S / d x_i = 4t raw_i / S
    factor = 4 * t * math.exp(load.shift - log_total)
    slope = None
    if slope_wanted:  # log S depends on sqrt(t) x alone
        parts = group.rows_of([float(_gaussian.dot(one.x, raw)) * factor / (2 * t)])
        slope = float(parts.sum())
    gradient = ring.give_back(raw.mul_(factor).to(shard.dtype))
    return _Potential(log_mean, gradient, slope)


class _RingPotential(torch.autograd.Function):
    """Log of the mean with its gradient from the same journey; the backward exchanges nothing."""

    @staticmethod
    def forward(
        ctx: Any, shard: Tensor, t: Tensor | float, own: bool, tile: tuple[int, int] | None, group: Group
    ) -> Tensor:
        needs = ctx.needs_input_grad
        found = _potential(group, shard, float(t), own, (needs[0], needs[1]), tile)
        ctx.save_for_backward(shard, t if isinstance(t, Tensor) else None, found.gradient)
        ctx.slope, ctx.group = found.slope, group
        return torch.tensor(found.log_mean, dtype=torch.float64, device=shard.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        shard, t, gradient = ctx.saved_tensors
        needs = ctx.needs_input_grad[:2]
        world = ctx.group.world
        rows = (gradient * (grad * world)).to(shard.dtype) if needs[0] else None
        slope = (grad * ctx.slope).to(t.dtype).to(t.device).reshape(t.shape) if needs[1] else None
        found = _second.refuse_twice(ctx.group.function, (shard, t), (rows, slope), needs, processes=world)
        return (*found, None, None, None)


@outside_graphs
def ring_gaussian_potential(
    shard: Tensor,
    t: float | Tensor,
    *,
    estimator: str = "u",
    function: str = "ring_gaussian_potential",
    tile: tuple[int, int] | None = None,
) -> Tensor:
    r"""``gaussian_potential`` of the rows of all processes, none of which holds them all.

    log mean_{i != j} exp(-t \|x_i - x_j\|^2) over the rows of all; ``estimator="v"`` with self pairs.

    Args:
        shard: own rows [n, D], n >= 0, float32 or float64 (the same on all), anywhere in space.
        t: sharpness > 0, a number or a 0-dim tensor, the same on all processes.
        estimator: "u" without self pairs, "v" with them.
        function: whose name messages carry.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        A 0-dim float64 tensor, the same on every process, to the last bit for any shards of the same rows in
        the same order. Differentiable once, in the convention of the losses: the mean over processes of the
        gradients of parameters is the gradient that one process would have. So the gradient of the own rows
        is W times that of one process, and the gradient of ``t``, alike on all, is that of one process.

    Raises:
        InputError, ShapeError: other columns, precision or ``t`` on another process.
        UndefinedError: fewer than 2 rows over all processes.
        LostProcessError: a process has died or does not answer.

    Cost: N^2 / (2 W) pairs on every process, whatever the shards; about 9 N D / W numbers of memory with
    gradient, 4 without. W / 2 exchanges of N / W rows, and of as many sums; none in the backward.
    In a single process this is ``gaussian_potential``.
    """
    group = Group(function, "auto")
    if group.world == 1:
        return gaussian_potential(shard, t, estimator=estimator, tile=tile)
    shard = shard if shard.dtype in _DTYPES else shard.float()
    own = estimator == "v"
    with full_precision(shard.device):
        return _RingPotential.apply(shard, t, own, tile, group)  # type: ignore[no-any-return, no-untyped-call]


@torch.no_grad()
def ring_moments(
    shard: Tensor,
    t: float | Tensor,
    *,
    function: str = "ring_moments",
    tile: tuple[int, int] | None = None,
) -> GaussianMoments:
    """``gaussian_moments`` of the rows of all processes, none of which holds them all; without gradient.

    Args:
        shard: own rows [n, D], n >= 0, float32 or float64 (the same on all).
        t: sharpness > 0, the same on all.
        function: whose name messages carry.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        The same on every process, to the last bit for any shards. Its ``rows`` are those of all, N numbers.

    Raises:
        As ``ring_gaussian_potential``.

    Cost: as ``ring_gaussian_potential`` without gradient, and 16 N bytes.
    """
    group, t = Group(function, "auto"), float(t)
    if group.world == 1:
        return gaussian_moments(shard, t, tile=tile)
    shard = shard.detach() if shard.dtype in _DTYPES else shard.detach().float()
    with full_precision(shard.device):
        block = _blocks(group, shard, t, RANGE)
        one, ring = block.rows, block.ring
        online = not block.span <= RANGE[one.z.dtype]

        def meet(here: Tensor, there: Tensor, same: bool) -> Met:
            sums = [torch.zeros(len(z), dtype=torch.float64, device=z.device) for z in (here, there)]
            if same:
                sums[1] = sums[0]
            skip = (0,) if same else ()
            walk = Walk(
                Widened(here, t).left, there, len(here), symmetric=same, skip=skip, tile=tile, online=online
            )
            squares = add_moments(walk, sums[0], sums[1])
            return Met(walk.shift, [0.0, squares], sums[0][None], None if same else sums[1][None])

        like = one.z.new_empty(0, dtype=torch.float64)
        totals, load = ring.go_round(one.z, meet, 2, 1, like)
        found = _together(group, totals)
        top = found.shift
        rows = torch.zeros(ring.num, dtype=torch.float64, device=shard.device)
        start = sum(ring.even[: group.rank])
        rows[start : start + len(one.z)] = load.values[0] * math.exp(load.shift - top)
        rows = group.add_up(rows)
    return GaussianMoments(ring.num, top, float(rows.sum()), found.numbers[1], rows)
