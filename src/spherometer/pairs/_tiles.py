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
from typing import ParamSpec, TypeVar

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
    """One visited tile: rows a:b, columns c:d and their values (valid until the next step of the walk)."""

    a: int
    b: int
    c: int
    d: int
    values: Tensor  # [b - a, d - c]
    mirrored: bool  # True: the tile stands for its transpose too


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
    """Visit every pair; ``skip`` lists the diagonals j - i that are left out.

    Args:
        left: ``left(a, b)`` gives the factor [b - a, P] of rows a:b, times log2(e).
        right: [M, P] factor of the columns.
        num: number of rows N.
        symmetric: rows and columns are the same set and the exponents are symmetric.
        skip: diagonals whose value becomes 0 (or -inf in raw exponents): never subtracted afterwards.
        tile: rows and columns of a tile; None: by the device.
        exponentiate: yield exp(exponents); otherwise the natural exponents themselves.
    """
    tile = tile or tile_for(right.device)
    rows, columns = tile[0], (max(tile) if symmetric else tile[1])
    buffer = right.new_empty(min(rows, num) * min(columns, max(len(right), 1)))
    fill = 0.0 if exponentiate else -math.inf
    last, factor = -1, right
    for a, b, c, d in spans(num, len(right), tile, symmetric):
        if a != last:
            last, factor = a, left(a, b)
        values = buffer[: (b - a) * (d - c)].view(b - a, d - c)
        torch.mm(factor, right[c:d].T, out=values)
        if exponentiate:
            values.exp2_()
        else:
            values.mul_(1 / LOG2_E)
        for offset in skip:
            inside = offset + a - c
            if a - b < inside < d - c:
                values.diagonal(inside).fill_(fill)
        yield Block(a, b, c, d, values, symmetric and c != a)


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
