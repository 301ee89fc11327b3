r"""Riesz energy over all pairs, its value and gradients in one pass: sums of d^-power, or of log(1 / d).

A tile of squared distances is one GEMM of widened, centred rows, [-2 x, |x|^2, 1] . [y, 1, |y|^2]. Its error
is a few roundings of |x|^2 + |y|^2 however small the distance is, and the nearest pairs weigh most here. So
pairs whose squared distance is below 1/4 of that sum (2^-13 of it in float64) are taken by differences, one
by one, and a float32 tile with more than a few of them is made again in float64: no pair is off by more than
about 1e-6 in float32 and 1e-11 in float64 (relative). With k = d^-power and w = d^-(power + 2), the tile w
times [y, 1] gives sum_j w_ij y_j and the row sum r_i, hence the gradient power * (sum_j w_ij y_j - r_i x_i).

Shapes: N, M rows, D dimensions, K near pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer.pairs import _dense
from spherometer.pairs._distances import left_of, widened
from spherometer.pairs._gaussian import refuse_few
from spherometer.pairs._one_pass import Found, one_pass
from spherometer.pairs._tiles import accumulator, full_precision, outside_graphs, spans, tile_for

# Share of |x|^2 + |y|^2 below which a squared distance of a GEMM is too coarse; grows with power / 2.
_NEAR = {torch.float32: 1 / 4, torch.float64: 2.0**-13}
_FLOORED = 2.0**-23  # with a floor above this share float64 products are off by less than 1e-8 everywhere
_SAME = 2.0**-50  # rows nearer than this share of the longest coincide: four roundings of float64
_WIDE = 100.0  # powers of two that float32 values may span
_FEW = 1 / 64  # share of near pairs up to which a float32 tile is kept
_CHUNK = 1 << 21  # entries of the differences taken at once


@dataclass(frozen=True)
class _Setting:
    """What is summed: exponent, floor of the squared distance, and the diagonal j - i that is left out."""

    power: float
    floor: float
    offset: int | None

    def near(self, dtype: torch.dtype) -> float:
        return _NEAR[dtype] * max(1.0, self.power / 2)

    def value(self, squared: Tensor) -> Tensor:
        """d^-power, or log(1 / d), of squared distances."""
        if self.power == 0:
            return squared.log().mul_(-0.5)
        if self.power == 1:
            return squared.rsqrt()
        return squared.reciprocal() if self.power == 2 else squared.pow(-self.power / 2)


@dataclass(frozen=True)
class _Rows:
    """Rows of one side: as given, and centred in the form of the GEMM's right factor, [x, 1, |x|^2]."""

    given: Tensor  # [N, D]
    centre: Tensor  # [D] float64
    z: Tensor  # [N, D + 2] in the dtype given

    def wide(self, a: int, b: int) -> Tensor:
        """Rows a:b centred in float64 and widened, [x, 1, |x|^2]."""
        return widened(self.given[a:b].double(), self.centre)


class _Walk:
    """One pass over the tiles: the total, and the transposes of w [y, 1] and of w^T [x, 1]."""

    def __init__(self, one: _Rows, two: _Rows, setting: _Setting, symmetric: bool) -> None:
        self.one, self.two, self.setting, self.symmetric = one, two, setting, symmetric
        self.total = one.centre.new_zeros(())
        self.across: Tensor | None = None  # [D + 1, N] float64
        self.down: Tensor | None = None  # [D + 1, M] float64
        longest = max((float(r.given.detach().abs().max()) if r.given.numel() else 0.0) for r in (one, two))
        self.same = (longest * math.sqrt(one.given.shape[1]) * _SAME) ** 2

    def run(self, tile: tuple[int, int]) -> None:
        one, two = self.one, self.two
        last, left = -1, one.z
        for a, b, c, d in spans(len(one.z), len(two.z), tile, self.symmetric):
            if a != last:
                last, left = a, left_of(one.z[a:b])
            rows, right = one.z[a:b], two.z[c:d]
            squared, near = self._distances(left, rows, right, a, c)
            if squared is None:  # float32 is too coarse
                rows, right = one.wide(a, b), two.wide(c, d)
                squared, near = self._distances(left_of(rows), rows, right, a, c)
            assert squared is not None
            self._add(squared, near, rows, right, (a, b, c, d))

    def _distances(
        self, left: Tensor, rows: Tensor, right: Tensor, a: int, c: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Squared distances of a tile, and the places [2, K] of near pairs, which are by differences.

        None in float32, where many pairs are near or the values span too much.
        """
        squared = self._fill_own(left @ right.T, a, c, math.inf)
        scale = float(rows[:, -1].max() + right[:, -1].max())
        bound, near = self.setting.near(squared.dtype) * scale, None
        single = squared.dtype == torch.float32
        if float(squared.min()) <= bound and (single or self.setting.floor < _FLOORED * scale):
            mask = squared <= bound
            if single and int(mask.sum()) > _FEW * squared.numel():
                return None, None
            near = mask.nonzero().T
            values = torch.cat([part.square().sum(dim=1) for part in self._differences(near, a, c)])
            if self.setting.floor == 0:
                values.masked_fill_(values <= self.same, 0.0)
            squared[near[0], near[1]] = values.to(squared.dtype)
        if single and self._is_wide(float(squared.min())):
            return None, None
        return squared, near

    def _fill_own(self, values: Tensor, a: int, c: int, fill: float) -> Tensor:
        """Overwrite the left-out diagonal of the tile that starts at (a, c)."""
        offset = 0 if self.symmetric else self.setting.offset
        if offset is not None and -values.shape[0] < offset + a - c < values.shape[1]:
            values.diagonal(offset + a - c).fill_(fill)
        return values

    def _is_wide(self, least: float) -> bool:
        """Whether values and weights leave the range of float32."""
        least = max(least, self.setting.floor)
        if not 0 < least < math.inf:
            return least == 0
        return (self.setting.power / 2 + 1) * max(abs(math.log2(least)), 2.0) > _WIDE

    def _differences(self, places: Tensor, a: int, c: int) -> Any:
        step = max(1, _CHUNK // self.one.given.shape[1])
        for part in torch.split(places, step, dim=1):
            yield self.one.given[a + part[0]].double() - self.two.given[c + part[1]].double()

    def _add(
        self,
        squared: Tensor,
        near: Tensor | None,
        rows: Tensor,
        right: Tensor,
        block: tuple[int, int, int, int],
    ) -> None:
        a, b, c, d = block
        setting = self.setting
        mirrored = self.symmetric and a != c
        floored = squared < setting.floor if float(squared.min()) < setting.floor else None
        if floored is not None:
            squared.clamp_(min=setting.floor)
        k = setting.value(squared)
        if setting.power == 0:
            self._fill_own(k, a, c, 0.0)
        self.total += k.sum(dtype=torch.float64) * (2 if mirrored else 1)
        if self.across is None and self.down is None:
            return
        w = squared.reciprocal() if setting.power == 0 else k.div_(squared)
        if floored is not None:
            w.masked_fill_(floored, 0.0)
        to_down = self.down is not None and (mirrored or not self.symmetric)
        if near is not None:
            weights = w[near[0], near[1]]
            w[near[0], near[1]] = 0
            start = 0
            for part in self._differences(near, a, c):
                stop = start + len(part)
                push = (part * weights[start:stop, None]).T
                if self.across is not None:
                    self.across[:-1].index_add_(1, a + near[0, start:stop], push, alpha=-1)
                if to_down:
                    assert self.down is not None
                    self.down[:-1].index_add_(1, c + near[1, start:stop], push)
                start = stop
        if self.across is not None:
            self.across[:, a:b] += right[:, :-1].T @ w.T
        if to_down:
            assert self.down is not None
            self.down[:, c:d] += rows[:, :-1].T @ w

    def finish(self, factor: float) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the sum for both sides (symmetric: the first alone)."""
        return _gradient(self.across, self.one, factor), _gradient(self.down, self.two, factor)


def _gradient(accumulated: Tensor | None, side: _Rows, factor: float) -> Tensor | None:
    """factor * (sum_j w_ij y_j - r_i x_i) from the accumulated [D + 1, N], in the dtype of the rows."""
    if accumulated is None:
        return None
    rows = side.given.double() - side.centre
    raw = torch.addcmul(accumulated[:-1].T, rows, accumulated[-1].unsqueeze(1), value=-1)
    return raw.mul_(factor).to(side.given.dtype)


def _sum(
    x: Tensor,
    y: Tensor | None,
    setting: _Setting,
    wanted: tuple[bool, bool],
    tile: tuple[int, int] | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Sum over the ordered pairs as float64, and its gradients for x and y."""
    sides = (x,) if y is None else (x, y)
    num = sum(len(side) for side in sides)
    centre = torch.stack([side.sum(dim=0, dtype=torch.float64) for side in sides]).sum(dim=0) / max(num, 1)
    centre = centre.to(x.dtype).double()  # the same shift in both precisions
    one = _Rows(x, centre, widened(x, centre))
    two = one if y is None else _Rows(y, centre, widened(y, centre))
    walk = _Walk(one, two, setting, y is None)
    if wanted[0]:
        walk.across = accumulator(centre, x.shape[1] + 1, len(x))
        walk.down = walk.across if y is None else None
    if y is not None and wanted[1]:
        walk.down = accumulator(centre, y.shape[1] + 1, len(y))
    walk.run(tile or tile_for(x.device))
    # an ordered pair and its mirror image both move row i
    factor = (setting.power or 1.0) * (2 if y is None else 1)
    raw_x, raw_y = walk.finish(factor)
    return walk.total, raw_x, None if y is None else raw_y


def _riesz_sum(
    function: str, x: Tensor, y: Tensor | None, setting: _Setting, tile: tuple[int, int] | None
) -> Tensor:
    x = x if x.dtype in _NEAR else x.float()
    y = y if y is None or y.dtype in _NEAR else y.float()

    def compute(wanted: Sequence[bool]) -> Found:
        total, *gradients = _sum(x, y, setting, (wanted[0], wanted[1]), tile)
        return Found(total, gradients)

    def definition(x: Tensor, y: Tensor | None) -> Tensor:
        offset = 0 if y is None else setting.offset
        return _dense.riesz_sum(x, x if y is None else y, setting.power, setting.floor, offset)

    with full_precision(x.device):
        return one_pass(function, compute, definition, x, y, columns=None if y is None else len(y))


@outside_graphs
def riesz_energy(
    x: Tensor, power: float = 1.0, *, floor: float = 0.0, tile: tuple[int, int] | None = None
) -> Tensor:
    r"""Mean over the pairs of one set of \|x_i - x_j\|^-power, or of log(1 / \|x_i - x_j\|) for power 0.

    Args:
        x: [N, D] float32 or float64 rows, anywhere in space; N >= 2.
        power: exponent >= 0.
        floor: least squared distance: nearer pairs count as if they were so far apart, and have no gradient.
            0: rows that coincide (to four roundings of float64) make the energy infinite.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        A 0-dim float64 tensor, differentiable in ``x``; twice for at most 1024 rows (second derivatives come
        from a Gram matrix in float64, whose smallest distances are rough).

    Cost: N^2 / 2 pairs; O(N D) memory. Value and gradient take one pass. Sets with many near pairs cost two
    to three times as much (float64), and D operations more for each pair that is taken by differences.
    """
    n = len(x)
    if n < 2:
        refuse_few("riesz_energy", n)
    return _riesz_sum("riesz_energy", x, None, _Setting(float(power), floor, 0), tile) / (n * (n - 1))


@outside_graphs
def riesz_sum(
    x: Tensor,
    y: Tensor,
    power: float = 1.0,
    *,
    floor: float = 0.0,
    skip: int | None = None,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    r"""Sum over the pairs of two sets of \|x_i - y_j\|^-power, or of log(1 / \|x_i - y_j\|) for power 0.

    Args:
        x: [N, D] rows; none at all give 0.
        y: [M, D] rows of the same dtype.
        power: exponent >= 0.
        floor: least squared distance, as in ``riesz_energy``.
        skip: the diagonal j - i that is left out: the start of ``x`` within ``y``, when they overlap.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        A 0-dim float64 tensor, differentiable in ``x`` and ``y``; twice for at most 2^20 pairs.
    """
    return _riesz_sum("riesz_sum", x, y, _Setting(float(power), floor, skip), tile)
