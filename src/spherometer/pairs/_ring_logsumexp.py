r"""Log-sum-exps of the InfoNCE family for a set whose rows lie on many processes, exactly.

Blocks of samples travel around half of the ring of ``_ring.py`` twice. On the first journey a visitor carries
the log-sum-exps of its rows, to which every meeting adds: those of the tile's rows stay, those of its columns
travel on and are sent home. On the second, in the backward, it brings its finished log-sum-exps and the
gradients that arrived for them, and carries the gradients of its rows. The pair (i, j) has the weight
exp(s_ij) (g_i exp(-sum_i) + g_j exp(-sum_j)) there, so nothing needs a shift.

Shapes: V views, N samples of all processes, n own ones, m and k those of two blocks, D dimensions,
W processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError
from spherometer.pairs import _second
from spherometer.pairs._gaussian import dot
from spherometer.pairs._logsumexp import _PLAIN, _gradients, _Logits, _longest, _sums, _Weights
from spherometer.pairs._processes import Group
from spherometer.pairs._ring import Load, Met, Ring
from spherometer.pairs._tiles import full_precision, outside_graphs

_DTYPES = (torch.float32, torch.float64)


class LogSums(Load):
    """Log-sum-exps [width, n] for the rows of a block: each has a scale of its own."""

    def __init__(self, width: int, num: int, like: Tensor) -> None:
        super().__init__(width, num, like)
        self.flat.fill_(-math.inf)
        self.flat[-1] = 0.0

    def add(self, shift: float, values: Tensor, rows: slice = slice(None)) -> None:
        """Add to the sums, all in logarithms."""
        here = self.values[:, rows]
        here.copy_(torch.logaddexp(here, values + shift))


@dataclass(frozen=True)
class _Meetings:
    """Which views of two blocks meet, and how."""

    views: int
    dim: int
    across: bool
    scale: float
    bound: float
    tile: tuple[int, int] | None

    def of(self, block: Tensor) -> Tensor:
        """The views [V, m, D] of a block [m, V D and more]."""
        rows = block[:, : self.views * self.dim].reshape(len(block), self.views, self.dim)
        return rows.transpose(0, 1).contiguous()

    def products(self, here: Tensor, there: Tensor, same: bool) -> Iterator[tuple[slice, slice, _Logits]]:
        """Views of the own block, views of the visitor, and the logits between them."""
        mine, theirs, num = self.of(here), self.of(there), len(here)
        every = slice(0, self.views)
        if self.across:
            ways = [(slice(0, 1), slice(1, 2)), (slice(1, 2), slice(0, 1))]
            skip: tuple[int, ...] = (0,)
            ways = ways[:1] if same else ways  # a block with itself: the columns are the other way
        else:
            ways = [(every, every)]
            skip = tuple(range(-(self.views - 1) * num, self.views * num, num))
        for own, other in ways:
            y = None if same and not self.across else theirs[other].flatten(0, 1)
            x = mine[own].flatten(0, 1)
            yield own, other, _Logits(x, y, self.scale, skip if same else (), self.tile, self.bound)

    def sums(self, here: Tensor, there: Tensor, same: bool) -> Met:
        """Log-sum-exps [V, m] and [V, k] of a meeting."""
        found = [LogSums(self.views, len(z), z.new_empty(0, dtype=torch.float64)) for z in (here, there)]
        for own, other, logits in self.products(here, there, same):
            rows, columns, _ = _sums(logits)
            found[0].values[own] = rows.view(-1, len(here))
            if not logits.symmetric:
                found[0 if same else 1].values[other] = columns.view(-1, len(there))
        return Met(0.0, [], found[0].values, None if same else found[1].values)

    def gradients(self, here: Tensor, there: Tensor, same: bool) -> Met:
        """What a meeting adds to the gradients [V D, m] and [V D, k], without the scale."""
        found = [z.new_zeros(self.views, self.dim, len(z)) for z in (here, there)]
        known = [self._known(here), self._known(there)]
        target = found[0] if same else found[1]
        for own, other, logits in self.products(here, there, same):
            (rows, g), (columns, h) = [
                [part[side].flatten() for part in one] for one, side in zip(known, (own, other), strict=True)
            ]
            if logits.symmetric:
                columns, h = rows, g
            wx, wy = _gradients(logits, _Weights(logits, rows, columns, g, h), None, (True, True, False))
            assert wx is not None
            found[0][own] += wx.view(-1, len(here), self.dim).transpose(1, 2)
            if wy is not None:
                target[other] += wy.view(-1, len(there), self.dim).transpose(1, 2)
        width = self.views * self.dim
        return Met(0.0, [], found[0].view(width, -1), None if same else found[1].view(width, -1))

    def _known(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Log-sum-exps and their gradients [V, m], float64, that a block brings."""
        packed = block[:, self.views * self.dim :].clone(memory_format=torch.contiguous_format)
        packed = packed.view(torch.float64).T
        return packed[: self.views], packed[self.views :]

    def brings(self, rows: Tensor, sums: Tensor, grads: Tensor) -> Tensor:
        """A block [m, V D] with its log-sum-exps and their gradients [V, m], whose bits float32 keeps."""
        packed = torch.cat((sums, grads)).T.contiguous()
        return torch.cat((rows, packed.view(rows.dtype)), dim=1)


def _agree(group: Group, views: Tensor, scale: float, needs: bool) -> tuple[Ring, float]:
    """What all hold, and the length that no row of any process exceeds; refuses what does not fit."""
    longest = _longest(views.flatten(0, 1))
    header = [
        views.shape[1],
        views.shape[0],
        views.shape[2],
        _DTYPES.index(views.dtype),
        scale,
        needs,
        longest,
    ]
    headers = group.rows_of([float(value) for value in header])
    last = f"processes 0 to {group.world - 1}"
    for column, name, what, error, fix in (
        (1, "views", "have the same number of views on every process", ShapeError, "Pass parts of one set"),
        (2, "views", "have the same columns on every process", ShapeError, "Pass parts of one set"),
        (3, "views", "have the same precision on every process", InputError, "Pass parts of one set"),
        (4, "scale", "be the same on every process", InputError, "Pass one temperature"),
        (5, "views", "need a gradient on every process or on none", InputError,
         "Call it under no_grad on all, or on none"),
    ):  # fmt: skip
        found = headers[:, column]
        if bool((found != found[0]).any()):
            listed = [str(_DTYPES[int(v)])[6:] if column == 3 else f"{v:g}" for v in found.tolist()]
            why = "the backward is an exchange of all" if column == 5 else "its rows meet those of all others"
            _checks.refuse(error, group.function, name, what, why, f"{', '.join(listed)} on {last}", fix)
    counts = [int(count) for count in headers[:, 0].tolist()]
    return Ring(group, counts), float(headers[:, 6].max())


class _RingLogSumExp(torch.autograd.Function):
    """One journey for the sums, another one for the gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        views: Tensor,
        scale: Tensor | float,
        across: bool,
        tile: tuple[int, int] | None,
        group: Group,
        needs: bool,
    ) -> Tensor:
        number = float(scale)
        ring, longest = _agree(group, views, number, needs)
        meetings = _Meetings(len(views), views.shape[2], across, number, abs(number) * longest**2, tile)
        wide = views.dtype == torch.float32 and meetings.bound > _PLAIN[torch.float32]
        rows = ring.deal(views.transpose(0, 1).flatten(1))  # [m, V D]
        rows = rows.double() if wide else rows
        like = rows.new_empty(0, dtype=torch.float64)
        _, load = ring.go_round(rows, meetings.sums, 0, len(views), like, LogSums)
        ctx.save_for_backward(views, scale if isinstance(scale, Tensor) else None)
        ctx.kept = (ring, meetings, rows if needs else None, load.values)
        return ring.give_back(load.values.T.contiguous()).T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        views, scale = ctx.saved_tensors
        ring, meetings, rows, sums = ctx.kept
        needs = ctx.needs_input_grad[:2]
        group = ring.group
        with full_precision(views.device), torch.no_grad():
            arrived = ring.deal(grad.detach().double().T.contiguous()).T
            block = meetings.brings(rows, sums, arrived)
            width = meetings.views * meetings.dim
            _, load = ring.go_round(block, meetings.gradients, 0, width)
            raw = load.values
            slope = None
            # every logit is in the gradient of both of its rows; all processes get one slope
            part = group.rows_of([float(dot(rows, raw.T)) / 2])
            if needs[1] and scale is not None:
                slope = (part.sum() / group.world).to(scale.dtype).to(scale.device).reshape(scale.shape)
            found = None
            if needs[0]:
                home = ring.give_back((raw.T * meetings.scale).to(views.dtype).contiguous())
                found = home.view(-1, meetings.views, meetings.dim).transpose(0, 1)
            elif ring.counts != ring.even:
                ring.give_back(views.new_zeros(len(rows), width))  # the others may wait for it
        out = _second.refuse_twice(
            group.function, (views, scale), (found, slope), needs, processes=group.world
        )
        return (*out, None, None, None, None)


@outside_graphs
def ring_logsumexp(
    views: Tensor,
    scale: float | Tensor,
    *,
    across: bool = False,
    function: str = "ring_logsumexp",
    tile: tuple[int, int] | None = None,
) -> Tensor:
    r"""Log-sum-exps over the rows of all processes, none of which holds them all, for each own row.

    For row i of view v: log sum exp(scale * z_vi . z_wj) over the samples j != i of all processes and over
    all views w; with ``across`` over the other one of two views.

    Args:
        views: own rows [V, n, D], n >= 0, float32 or float64 (the same on all); ``across``: V = 2.
        scale: inverse temperature, a number or a 0-dim tensor, the same on all processes.
        across: between the two views alone (InfoNCE), instead of within all rows (NT-Xent).
        function: whose name messages carry.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        [V, n] float64, in the order of the own rows; -inf where there is no other sample. Differentiable
        once. Gradients are those of the sum over processes of what each makes of its own rows; that of
        ``scale`` is divided by W, for the mean over processes that is taken of the gradients of parameters.

    Raises:
        InputError, ShapeError: other views, columns, precision or ``scale`` on another process.
        LostProcessError: a process has died or does not answer.

    Cost: (V N)^2 / (2 W) pairs on every process forward, as many backward (``across``: N^2 / W), whatever the
    shards; about 20 V N D / W numbers of memory. W / 2 exchanges of N / W samples each time. float64 inside
    where ``scale`` times the longest rows is above 40. Needs a process group of several processes.
    """
    group = Group(function, "auto")
    views = views if views.dtype in _DTYPES else views.float()
    given = (views, scale)
    needs = torch.is_grad_enabled() and any(isinstance(one, Tensor) and one.requires_grad for one in given)
    with full_precision(views.device):
        return _RingLogSumExp.apply(views, scale, across, tile, group, needs)  # type: ignore[no-any-return, no-untyped-call]
