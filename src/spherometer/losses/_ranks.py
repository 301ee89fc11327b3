"""The rows of all processes: what makes a loss over W ranks the loss of one process.

A loss is not a mean over ranks of what each rank computes from its own rows: the negatives lie on the
other ranks, and shards differ in length. Here every rank takes its own rows against the rows of all, and:

* the rows are gathered by an all-gather whose backward sums the gradients of all ranks and cuts out the
  own slice (without the sum, or with detached copies, gradients are wrong by 1/W or worse);
* a sum over rows is summed over ranks for the value, and has the gradient W / N of the own sum, so that
  the mean over ranks, which DistributedDataParallel takes, is the single-process gradient;
* the log of a sum is taken of the sum over ranks, with the gradient W S_r / S of the own part.

Lengths and shapes are exchanged first, and what does not fit is refused on every rank. The number of
exchanges does not depend on anybody's rows; a rank without rows takes part. In one process, and with
``gather=False``, nothing here is in the graph.

Shapes: V views, N rows of all ranks, n own rows, D dimensions, W ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, distributed

from spherometer import _checks, pairs
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.kernels import Kernel

Gather = Literal["auto", False]
RingGather = Literal["auto", "ring", False]  # of losses whose rows need not come together on one rank

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_REFUSED = -1  # in place of the number of rows: this rank has raised already


@dataclass(frozen=True)
class Rows:
    """The rows a loss is taken over, and which of them are this rank's own."""

    every: Tensor  # [V, N, D] in rank order; of ``count``: the own rows alone
    start: int
    num: int
    counts: tuple[int, ...]  # rows of each rank
    function: str

    @property
    def world(self) -> int:
        """Number of ranks the loss is taken over, 1 in one process."""
        return len(self.counts)

    @property
    def total(self) -> int:
        """Rows of all ranks, N."""
        return sum(self.counts)

    @property
    def own(self) -> Tensor:
        """This rank's rows [V, n, D], a differentiable slice of ``every``."""
        if self.num == self.every.shape[1]:
            return self.every
        return self.every[:, self.start : self.start + self.num]

    @property
    def others(self) -> Tensor:
        """The rows of all other ranks [V, N - n, D]."""
        parts = (self.every[:, : self.start], self.every[:, self.start + self.num :])
        return torch.cat(parts, dim=1)

    def mean(self, row_sum: Tensor, count: int) -> Tensor:
        """A mean over the rows of all ranks, from this rank's sum (any shape, element by element).

        Value: sum over ranks / ``count``, the same on every rank. Gradient: W / ``count`` of the own sum.
        """
        if self.world == 1:
            return row_sum / count
        return _Mean.apply(row_sum, self.world, count, self.function)  # type: ignore[no-any-return, no-untyped-call]

    def average(self, values: Tensor, num: int = 1) -> Tensor:
        """The mean of ``values``, ``num`` for each row, over the rows of all ranks, as ``mean`` gives it."""
        if self.world == 1:
            return values.mean()
        return self.mean(values.sum(), num * self.total)

    def log_sum(self, log_s: Tensor) -> Tensor:
        """Log of the sum over ranks of exp(log_s) (any shape, element by element).

        Value: the same on every rank. Gradient: W S_r / S of the own ``log_s``. -inf is a sum of nothing.
        """
        if self.world == 1:
            return log_s
        return _LogSum.apply(log_s, self.world, self.function)  # type: ignore[no-any-return, no-untyped-call]


def check_gather(function: str, gather: Any, *, ring: bool = False) -> None:
    """Check the ``gather`` argument of a loss; ``ring``: whether "ring" is one of its ways."""
    if gather is not False and gather != "auto" and not (ring and gather == "ring"):
        _checks.refuse(
            InputError,
            function,
            "gather",
            'be "auto", "ring" or False' if ring else 'be "auto" or False',
            "a loss is taken over the rows of all ranks, or of one rank alone",
            repr(gather)[:80],
            'Pass gather="auto", or gather=False in calls that only some ranks make',
        )


def shown(gather: RingGather) -> str:
    """The argument as ``extra_repr`` shows it: where it is not the default."""
    return "" if gather == "auto" else f", gather={gather!r}"


def num_ranks(gather: RingGather) -> int:
    """Number of ranks a loss is taken over: those of the default process group, or 1."""
    if gather is False or not distributed.is_available() or not distributed.is_initialized():
        return 1
    return distributed.get_world_size()


def spread(function: str, views: Tensor, gather: RingGather, *, min_rows: int, name: str = "z1") -> Rows:
    """The rows of all ranks, differentiable.

    Args:
        function: whose name the messages carry.
        views: this rank's rows [V, n, D], n >= 0, any V and D that all ranks share.
        gather: "auto" or False.
        min_rows: least number of rows of all ranks together.
        name: the argument that messages about rows name.

    One process and ``gather=False``: no exchange, no copy. Otherwise two exchanges here, one in the
    backward.
    """
    return _rows(function, views, gather, min_rows, name, together=True)


def count(function: str, views: Tensor, gather: RingGather, *, min_rows: int, name: str = "z1") -> Rows:
    """As ``spread`` for losses without pairs across ranks: lengths are exchanged, rows are not."""
    return _rows(function, views, gather, min_rows, name, together=False)


def _rows(function: str, views: Tensor, gather: RingGather, min_rows: int, name: str, together: bool) -> Rows:
    num = views.shape[1]
    world = num_ranks(gather)
    if world == 1:
        _checks.enough_rows(function, name, num, min_rows)
        return Rows(views, 0, num, (num,), function)
    needs = together and torch.is_grad_enabled() and views.requires_grad
    header = [num, views.shape[0], views.shape[2], _DTYPES.index(views.dtype), int(needs)]
    headers = _exchange(function, header, views.device)
    _check_headers(function, name, headers)
    counts = tuple(row[0] for row in headers)
    _checks.enough_rows(function, name, sum(counts), min_rows, f" over {world} ranks")
    if not together:
        return Rows(views, 0, num, counts, function)
    rank = distributed.get_rank()
    every = _Gather.apply(views, counts, rank, function)  # type: ignore[no-untyped-call]
    return Rows(every, sum(counts[:rank]), num, counts, function)


def spread_labels(function: str, labels: Tensor, rows: Rows) -> Tensor:
    """The labels [N] of all ranks, in the order of ``rows.every``; without gradient.

    Args:
        function: whose name the message carries.
        labels: this rank's labels [n] of any integer dtype, one for each own row.
        rows: what ``spread`` gave.
    """
    if rows.world == 1:
        return labels
    return _collect(function, labels.detach().long()[None], rows.counts)[0]


def spread_metadata(function: str, encoded: Tensor, kernel: Kernel, rows: Rows) -> Tensor:
    """The encoded meta-data [N, K] of all ranks, in the order of ``rows.every``; without gradient.

    Args:
        function: whose name the messages carry.
        encoded: this rank's columns [n, K], float64, one row for each own row.
        kernel: that compares them; it must be the same on every rank.
        rows: what ``spread`` gave.
    """
    if rows.world == 1:
        return encoded
    digest = hashlib.sha256(repr(kernel.to_dict()).encode()).digest()
    headers = _exchange(function, [int.from_bytes(digest[:7], "big"), encoded.shape[1]], encoded.device)
    if any(row[0] != headers[0][0] for row in headers):
        _checks.refuse(
            InputError, function, "kernel", "be the same on every rank",
            "rows of one rank are compared with those of another",
            f"on this one {kernel}, on another one different numbers",
            "Fit one kernel on the whole set and give it to all ranks",
        )  # fmt: skip
    widths = [row[1] for row, num in zip(headers, rows.counts, strict=True) if num]
    if len(set(widths)) > 1:
        _checks.refuse(
            ShapeError, function, "metadata", "have the same columns on every rank",
            "rows of one rank are compared with those of another",
            f"{', '.join(map(str, widths))} columns", "Pass the same columns on all ranks",
        )  # fmt: skip
    own = encoded if rows.num else encoded.new_zeros(0, widths[0])
    return _collect(function, own[None], rows.counts)[0]


def add_up(numbers: Sequence[int], gather: RingGather, device: torch.device) -> list[int]:
    """Sums of numbers over ranks, the same on every rank; all call it, after ``spread`` or ``count``."""
    if num_ranks(gather) == 1:
        return list(numbers)
    return [sum(column) for column in zip(*_exchange("loss", list(numbers), device), strict=True)]


@contextmanager
def refusals(gather: RingGather, *arguments: Any) -> Iterator[None]:
    """Tell the other ranks when this rank refuses its input: they raise too, instead of waiting.

    Put around the checks that come before ``spread``.
    """
    try:
        yield
    except InputError:
        if num_ranks(gather) > 1:
            devices = [value.device for value in arguments if isinstance(value, Tensor)]
            _exchange("loss", [_REFUSED, 0, 0, 0, 0], devices[0] if devices else torch.device("cpu"))
        raise


def _exchange(function: str, header: list[int], device: torch.device) -> list[list[int]]:
    mine = torch.tensor(header, dtype=torch.int64, device=device)
    every = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    with pairs.exchanging(function):
        distributed.all_gather(every, mine)
    return [row.tolist() for row in every]


def _check_headers(function: str, name: str, headers: Sequence[Sequence[int]]) -> None:
    refused = [rank for rank, row in enumerate(headers) if row[0] == _REFUSED]
    if refused:
        _checks.refuse(
            InputError,
            function,
            name,
            "be usable on every rank",
            "the loss is taken over the rows of all ranks",
            f"a refusal on rank {', '.join(map(str, refused))}, whose message says why",
            "Correct the input there",
        )
    if any(list(row[1:4]) != list(headers[0][1:4]) for row in headers):
        listed = "; ".join(
            f"rank {rank} [{row[1]}, {row[0]}, {row[2]}] {_DTYPES[row[3]]}".replace("torch.", "")
            for rank, row in enumerate(headers)
        )
        _checks.refuse(
            ShapeError,
            function,
            name,
            "have the same views, columns and precision on every rank",
            "the loss is taken over the rows of all ranks",
            f"[V, N, D] {listed}",
            "Use one encoder and one precision on all ranks, or pass gather=False",
        )
    if any(row[4] != headers[0][4] for row in headers):
        without = ", ".join(str(rank) for rank, row in enumerate(headers) if not row[4])
        _checks.refuse(
            InputError,
            function,
            name,
            "need a gradient on every rank or on none",
            "the backward of the loss is an exchange that all ranks take part in",
            f"no gradient on rank {without}",
            "Call the loss under no_grad on all ranks, or pass gather=False",
        )


def _collect(function: str, own: Tensor, counts: Sequence[int]) -> Tensor:
    """All-gather of shards [V, n, ...] of different lengths, padded to the longest and cut again."""
    longest = max(counts)
    if not longest:
        return own
    padded = own.contiguous()
    if own.shape[1] < longest:
        padded = own.new_zeros(len(own), longest, *own.shape[2:])
        padded[:, : own.shape[1]] = own
    shards = [torch.empty_like(padded) for _ in counts]
    with pairs.exchanging(function):
        distributed.all_gather(shards, padded)
    return torch.cat([shard[:, :num] for shard, num in zip(shards, counts, strict=True)], dim=1)


class _Gather(torch.autograd.Function):
    """All-gather; the backward sums the gradients of all ranks and cuts out the own slice."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, counts: tuple[int, ...], rank: int, function: str) -> Tensor:
        ctx.start, ctx.num, ctx.function = sum(counts[:rank]), counts[rank], function
        return _collect(function, own, counts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        total = grad.detach().clone(memory_format=torch.contiguous_format)
        with pairs.exchanging(ctx.function):
            distributed.all_reduce(total)
        own = total[:, ctx.start : ctx.start + ctx.num]
        return _once(ctx.function, own, grad), None, None, None


class _Mean(torch.autograd.Function):
    """Value: sum over ranks / count. Gradient: W / count of the own sum."""

    @staticmethod
    def forward(ctx: Any, row_sum: Tensor, world: int, count: int, function: str) -> Tensor:
        ctx.factor = world / count
        total = row_sum.detach().clone(memory_format=torch.contiguous_format)
        with pairs.exchanging(function):
            distributed.all_reduce(total)
        return total.div_(count)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return grad * ctx.factor, None, None, None


class _LogSum(torch.autograd.Function):
    """Value: log sum over ranks of exp. Gradient: W S_r / S."""

    @staticmethod
    def forward(ctx: Any, log_s: Tensor, world: int, function: str) -> Tensor:
        mine = log_s.detach().contiguous()
        every = [torch.empty_like(mine) for _ in range(world)]
        with pairs.exchanging(function):
            distributed.all_gather(every, mine)
        total = torch.stack(every).logsumexp(dim=0)
        share = torch.exp(mine - total)  # a sum of nothing over nothing: the loss has refused it before
        ctx.save_for_backward(share * world, log_s)
        ctx.function = function
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        factor, log_s = ctx.saved_tensors
        return _once(ctx.function, grad.detach() * factor, grad, log_s), None, None


def _once(function: str, gradient: Tensor, *depends_on: Tensor) -> Tensor:
    """A gradient that refuses to be differentiated again."""
    if not torch.is_grad_enabled():
        return gradient
    return _Once.apply(function, gradient, *depends_on)  # type: ignore[no-any-return, no-untyped-call]


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: str, gradient: Tensor, *depends_on: Tensor) -> Tensor:
        ctx.function = function
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        _checks.refuse(
            UndefinedError,
            ctx.function,
            "gather",
            "be False to differentiate twice",
            "second derivatives are not taken across ranks",
            'gather="auto" with more than one rank',
            "Differentiate once, or pass gather=False",
        )
