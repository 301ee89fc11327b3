"""The walk over all pairs: one tile of exponents at a time, in one reused buffer.

A tile is ``left(a, b) @ right[c:d].T``, exponents to the base 2, followed by ``exp2`` in place: on some CPUs
that is three times faster than ``exp``; factors carry log2(e). A symmetric walk visits the tiles on and
above the diagonal only; an entry above the diagonal stands for its mirror image too.

Shapes: N rows, M columns, P width of the GEMM.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

TILE = (256, 512)  # rows x columns; on a CPU 256 x 256 to 512 x 1024 are equally fast
WIDE_TILE = (1024, 1024)  # on devices where a launch costs as much as a small tile
SINGLE = 384  # sets up to here are one tile

LOG2_E = math.log2(math.e)

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(slots=True)
class Block:
    """One visited tile: rows a:b, columns c:d and their values (valid until the next step of the walk).

    Three kinds: on the diagonal of a symmetric walk; above it (``mirrored``), which stands for its transpose
    too; or of two sets. For the last two ``both`` is true: the sums down its columns count as well.
    """

    a: int
    b: int
    c: int
    d: int
    values: Tensor  # [b - a, d - c]
    mirrored: bool
    symmetric: bool = True
    weights: Tensor | None = None  # what the values were multiplied with [b - a, d - c]

    @property
    def both(self) -> bool:
        """Whether the sums down the columns count too."""
        return self.mirrored or not self.symmetric

    def add_sums(self, rows: Tensor, columns: Tensor, values: Tensor | None = None) -> None:
        """Add sums of the values, or of others, to ``rows`` [N] and ``columns`` [M] (one set: the same)."""
        k = self.values if values is None else values
        rows[self.a : self.b] += k.sum(dim=1)
        if self.both:
            columns[self.c : self.d] += k.sum(dim=0)

    def add_log_sums(self, rows: Tensor, columns: Tensor) -> None:
        """As ``add_sums`` for tiles of raw exponents: log-sum-exps, each with a shift of its own."""
        here = rows[self.a : self.b]
        torch.logaddexp(here, torch.logsumexp(self.values, dim=1).double(), out=here)
        if self.both:
            there = columns[self.c : self.d]
            torch.logaddexp(there, torch.logsumexp(self.values, dim=0).double(), out=there)

    def add_products(
        self,
        rows: Tensor,
        columns: Tensor,
        to_rows: Tensor | None,
        to_columns: Tensor | None,
        values: Tensor | None = None,
    ) -> None:
        """Add sum_j k_ij ``columns``_j to ``to_rows``, and sum_i k_ij ``rows``_i to ``to_columns``.

        All four transposed, [P, N] or [P, M] (this GEMM is the faster one); one set: the same twice.
        """
        k = self.values if values is None else values
        if to_columns is not None:
            to_columns[:, self.c : self.d].addmm_(rows[:, self.a : self.b], k)
        if to_rows is not None and self.both:
            to_rows[:, self.a : self.b].addmm_(columns[:, self.c : self.d], k.T)


class Weighing(Protocol):
    """Weights of pairs, from 0 to about 1, tile by tile."""

    @property
    def diagonal(self) -> int:
        """j - i of a row with itself, which is left out."""
        ...

    def weights(self, a: int, b: int, c: int, d: int) -> Tensor:
        """Weights [b - a, d - c] of the rows a:b with the columns c:d, a new tensor; 0 on the diagonal."""
        ...


def accumulator(like: Tensor, width: int, num: int) -> Tensor:
    """Zeros [width, num] whose rows do not lie a power of two apart: that costs cache, 4 % of everything."""
    return like.new_zeros(width, num + 16)[:, :num]


def tile_for(device: torch.device) -> tuple[int, int]:
    """Rows and columns of a tile on a device."""
    return TILE if device.type == "cpu" else WIDE_TILE


def _even(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut start:stop into as few spans of at most ``step`` as possible, of nearly equal length."""
    num = max(0, stop - start)
    count = -(-num // step)
    for k in range(count):
        yield start + num * k // count, start + num * (k + 1) // count


def spans(num: int, columns: int, tile: tuple[int, int], symmetric: bool) -> Iterator[tuple[int, ...]]:
    """Tiles (a, b, c, d) that cover all pairs once, or (``symmetric``) the upper triangle once."""
    for a, b in _even(0, num, tile[0]):
        if symmetric:
            yield a, b, a, b
        for c, d in _even(b if symmetric else 0, columns, tile[1]):
            yield a, b, c, d


class Total:
    """A sum over all pairs: sums of tiles in their own precision, combined in float64 in the end."""

    def __init__(self, like: Tensor, num: int) -> None:
        self.parts = like.new_zeros(num)  # one tensor: small ones between tiles would scatter these
        self._times: list[float] = []

    def add(self, block: Block, value: Tensor) -> None:
        """Add the sum of a tile, twice where it stands for its mirror image."""
        self.parts[len(self._times)] = value
        self._times.append(2.0 if block.mirrored else 1.0)

    def value(self) -> Tensor:
        """0-dim float64."""
        times = torch.tensor(self._times, dtype=torch.float64, device=self.parts.device)
        return self.parts[: len(times)].double() @ times


class Walk:
    """Visit every pair once, a tile at a time, and keep what is added up in one scale, exp(-shift).

    Iterating makes the tiles. What a quantity adds up is asked of ``total`` or given to ``keep`` first.

    Args:
        left: ``left(a, b)`` gives the factor [b - a, P] of rows a:b, times log2(e).
        right: [M, P] factor of the columns.
        num: number of rows N.
        symmetric: rows and columns are the same set and the exponents are symmetric.
        skip: diagonals j - i whose value becomes 0 (or -inf in raw exponents): never subtracted afterwards.
        tile: rows and columns of a tile; None: by the device.
        online: the exponents are too wide for exp: ``shift`` is the largest met so far (-inf: none), and
            what was added before is scaled down whenever a larger one comes.
        weighing: multiplies every pair by a weight of its own; its diagonal is left out too.
        raw: give out the natural exponents as they are.
    """

    def __init__(
        self,
        left: Callable[[int, int], Tensor],
        right: Tensor,
        num: int,
        *,
        symmetric: bool,
        skip: Sequence[int] = (),
        tile: tuple[int, int] | None = None,
        online: bool = False,
        weighing: Weighing | None = None,
        raw: bool = False,
    ) -> None:
        self._left, self._right, self._num = left, right, num
        self._symmetric, self._tile = symmetric, tile or tile_for(right.device)
        self._skip = tuple(skip) if weighing is None else (*skip, weighing.diagonal)
        self._weighing, self._online, self._raw = weighing, online, raw
        self.shift = -math.inf if online else 0.0
        self._kept: list[tuple[Tensor, int]] = []

    def total(self, power: int = 1) -> Total:
        """A new sum over all pairs, of values to the power of ``power``."""
        tiles = spans(self._num, len(self._right), self._tile, self._symmetric)
        total = Total(self._right, sum(1 for _ in tiles))
        if power:
            self.keep(total.parts, power=power)
        return total

    def keep(self, *sums: Tensor | None, power: int = 1) -> None:
        """Keep sums in the scale exp(-power * shift)."""
        for one in sums:
            if one is not None and not any(one is other for other, _ in self._kept):
                self._kept.append((one, power))

    def __iter__(self) -> Iterator[Block]:
        right, num, symmetric = self._right, self._num, self._symmetric
        rows, columns = self._tile[0], (max(self._tile) if symmetric else self._tile[1])
        buffer = right.new_empty(min(rows, num) * min(columns, max(len(right), 1)))
        exponents = self._raw or self._online
        fill = -math.inf if exponents else 0.0
        last, factor, weights = -1, right, None
        for a, b, c, d in spans(num, len(right), self._tile, symmetric):
            if a != last:
                last, factor = a, self._left(a, b)
            values = buffer[: (b - a) * (d - c)].view(b - a, d - c)
            torch.mm(factor, right[c:d].T, out=values)
            if exponents:
                values.mul_(1 / LOG2_E)
            else:
                values.exp2_()
            for offset in self._skip:
                inside = offset + a - c
                if a - b < inside < d - c:
                    values.diagonal(inside).fill_(fill)
            if self._weighing is not None:
                weights = self._weighing.weights(a, b, c, d)
                if exponents:
                    values.add_(weights.log())
                else:
                    values.mul_(weights)
            if self._online:
                self._scale(values)
            yield Block(a, b, c, d, values, symmetric and c != a, symmetric, weights)

    def _scale(self, values: Tensor) -> None:
        """Exponents become values, scaled by the largest exponent so far, as all that is kept."""
        top = float(values.max()) if values.numel() else -math.inf
        if top == -math.inf:
            values.zero_()
            return
        if not top <= self.shift:
            fade = math.exp(self.shift - top) if math.isfinite(self.shift) else 0.0
            for sums, power in self._kept:
                sums.mul_(fade**power)
            self.shift = top
        values.sub_(self.shift).exp_()


def walk(
    left: Callable[[int, int], Tensor],
    right: Tensor,
    num: int,
    *,
    symmetric: bool,
    skip: Sequence[int],
    tile: tuple[int, int] | None,
    exponentiate: bool = True,
) -> Iterator[Block]:
    """The tiles of a ``Walk`` without a shift: exp(exponents), or the natural exponents themselves."""
    return iter(Walk(left, right, num, symmetric=symmetric, skip=skip, tile=tile, raw=not exponentiate))


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Switch autocast off: sums over pairs are never taken in half precision."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def outside_graphs(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Break the graph of torch.compile around a function: compiled tiles were slower (1.1 to 1.75 times).

    As ``torch.compiler.disable``, which would import the compiler (seconds) before anybody compiles.
    """
    disabled: list[Callable[_P, _R]] = []

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not disabled:
            if "torch._dynamo" not in sys.modules:
                return function(*args, **kwargs)
            disabled.append(_disable(function, call))
        return disabled[0](*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # not inlined into a traced frame
    return call


def _disable(function: Callable[_P, _R], call: Callable[_P, _R]) -> Callable[_P, _R]:
    torch._dynamo.decorators.skip(call)  # nor traced itself
    return torch.compiler.disable(function)  # type: ignore[no-any-return, no-untyped-call]
