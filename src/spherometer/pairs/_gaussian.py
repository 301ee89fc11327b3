"""Log mean Gaussian potential over all pairs, its value and gradients in one pass.

With centred rows x, the exponent -t|x_i - x_j|^2 is one product of widened rows,
[2t x_i, -t|x_i|^2, 1] . [x_j, 1, -t|x_j|^2], so a tile of k_ij is one GEMM and one exp. The same tile times
[x_j, 1] gives sum_j k_ij x_j and the row sum r_i, hence the gradient 2t (sum_j k_ij x_j - r_i x_i) / S.
Centring changes no distance and keeps float32 precise on collapsed sets.

Shapes: N, M rows, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError
from spherometer.pairs import _dense, _triton
from spherometer.pairs._one_pass import Found, one_pass
from spherometer.pairs._tiles import (
    LOG2_E,
    SINGLE,
    Walk,
    Weighing,
    accumulator,
    full_precision,
    outside_graphs,
)

# Largest range of exponents without a shift: exp(-80) and exp(-600) are still normal numbers.
_RANGE = {torch.float32: 80.0, torch.float64: 600.0}


@dataclass(frozen=True)
class Widened:
    """Centred rows in the form the GEMM wants: [x, 1, -t|x|^2], t standing for t log2(e)."""

    z: Tensor  # [N, D + 2]
    t: float

    @property
    def x(self) -> Tensor:
        """Centred rows [N, D]."""
        return self.z[:, :-2]

    @property
    def summed(self) -> Tensor:
        """[x, 1]: what tiles are multiplied with."""
        return self.z[:, :-1]

    def left(self, a: int, b: int) -> Tensor:
        """The other factor, [2t x, -t|x|^2, 1], of rows a:b."""
        z = self.z[a:b]
        out = torch.mul(z, 2 * LOG2_E * self.t)
        out[:, -2] = z[:, -1]
        out[:, -1] = 1
        return out

    def differences(self, products: Tensor) -> Tensor:
        """sum_j k_ij (x_j - x_i) from the products sum_j k_ij [x_j, 1], [D + 1, N]."""
        raw = products[:-1].T.contiguous()
        return raw.addcmul_(self.x, products[-1].unsqueeze(1), value=-1)


def widen(x: Tensor, centre: Tensor, t: float, out: Tensor | None = None) -> Widened:
    """Centre the rows and add the two columns, in memory of their own or in ``out``."""
    n, d = x.shape
    z = x.new_empty(n, d + 2) if out is None else out
    rows = torch.sub(x, centre, out=z[:, :d])
    z[:, d] = 1
    z[:, d + 1] = rows.square().sum(dim=1).double().mul_(-t * LOG2_E)  # t is not rounded
    return Widened(z, t)


def exponent_range(one: Widened, two: Widened | None = None) -> float:
    """Bound of t d^2 over the pairs."""
    low = math.sqrt(max(0.0, -float(one.z[:, -1].min())))
    high = low if two is None else math.sqrt(max(0.0, -float(two.z[:, -1].min())))
    return (low + high) ** 2 / LOG2_E


class Sums(NamedTuple):
    """Log of S = sum of k_ij over ordered pairs, and d log S / d x in the form ``factor * raw``."""

    log_total: Tensor  # 0-dim float64
    raw: tuple[Tensor | None, Tensor | None]  # [N, D], [M, D]
    factor: Tensor  # 0-dim float64
    slope: Tensor | None  # d log S / d t, 0-dim float64
    mass: Tensor | None = None  # sum of the weights, 0-dim float64


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of a * b as float64, in blocks of rows: nothing of the size of ``a`` is made."""
    starts = range(0, max(len(a), 1), 4096)
    parts = [(a[s : s + 4096] * b[s : s + 4096]).sum(dtype=torch.float64) for s in starts]
    return torch.stack(parts).sum()


def _sums(
    x: Tensor,
    y: Tensor | None,
    t: float,
    own: bool,
    wanted: tuple[bool, bool, bool],
    tile: tuple[int, int] | None,
    weighing: Weighing | None = None,
) -> Sums:
    """One pass over the tiles; ``wanted``: gradients for x, y and t. ``own`` adds the N self pairs.

    ``weighing`` multiplies every pair by a weight of its own.
    """
    if tile is None and weighing is None and len(x) * (len(x) if y is None else len(y)) <= SINGLE * SINGLE:
        whole = _whole(x, t, own, wanted) if y is None else _whole_across(x, y, t, wanted)
        if whole is not None:
            return whole
    if tile is None and weighing is None:
        found = _triton.gaussian_pass(x, y, t, wanted)  # None where there is no GPU
        if found is not None:
            log_total = _with_own(found.total.log(), len(x) if own else 0)
            factor = (-log_total).exp() * ((4 if y is None else 2) * t)
            slope = found.moment * factor / (2 * t) if wanted[2] and found.moment is not None else None
            pulls = tuple(pull if want else None for pull, want in zip(found.pulls, wanted[:2], strict=True))
            return Sums(log_total, (pulls[0], pulls[1]), factor, slope)
    centre = x.mean(dim=0) if y is None else (x.mean(dim=0) + y.mean(dim=0)) / 2
    one = widen(x, centre, t)
    two = one if y is None else widen(y, centre, t)
    span = exponent_range(one, None if y is None else two)
    if span > _RANGE[x.dtype] and x.dtype == torch.float32:  # too wide for float32
        wide = _sums(x.double(), None if y is None else y.double(), t, own, wanted, tile, weighing)
        raw_x, raw_y = (None if raw is None else raw.mul_(wide.factor).float() for raw in wide.raw)
        return Sums(wide.log_total, (raw_x, raw_y), torch.ones_like(wide.factor), wide.slope, wide.mass)
    at = accumulator(x, x.shape[1] + 1, len(x)) if wanted[0] or wanted[2] else None
    bt = None
    if y is not None and (wanted[1] or wanted[2]):
        bt = accumulator(x, x.shape[1] + 1, len(two.z))
    total, shift, mass = _tiled(one, two, at if y is None else bt, at, y is None, span, tile, weighing)
    raw_x = None if at is None else one.differences(at)
    raw_y = None if bt is None else two.differences(bt)
    del at, bt
    # d log S / d x_i = 2t raw_i / S, twice that when row i is on both sides
    log_total = _with_own(total.log() + shift, len(x) if own else 0)
    factor = (shift - log_total).exp() * ((4 if y is None else 2) * t)
    slope = None
    if wanted[2]:  # log S depends on sqrt(t) x alone: 2 t d/dt = sum_i x_i . d/dx_i
        assert raw_x is not None
        slope = dot(one.x, raw_x)
        if raw_y is not None:
            slope = slope + dot(two.x, raw_y)
        slope = slope * factor / (2 * t)
    return Sums(log_total, (raw_x if wanted[0] else None, raw_y if wanted[1] else None), factor, slope, mass)


def _with_own(log_total: Tensor, num: int) -> Tensor:
    """Add ``num`` self pairs, each of value 1."""
    return torch.logaddexp(log_total, log_total.new_tensor(math.log(num))) if num else log_total


def _whole(
    x: Tensor, t: float, own: bool, wanted: tuple[bool, bool, bool], weights: Tensor | None = None
) -> Sums | None:
    """A small set as one tile without bookkeeping; None where the range of exponents needs more care.

    ``weights`` [N, N] of all pairs, 0 on the diagonal.
    """
    rows = x - x.mean(dim=0)
    left = rows * (2 * t * LOG2_E)
    half = torch.linalg.vecdot(left, rows).mul_(-0.5)
    if not -4 * float(half.amin()) <= _RANGE[x.dtype] * LOG2_E:
        return None
    k = torch.addmm(half, left, rows.T).add_(half.unsqueeze(1)).exp2_()
    k = k.fill_diagonal_(0) if weights is None else k.mul_(weights)
    log_total = _with_own(k.sum().double().log(), len(x) if own else 0)
    if not any(wanted):
        return Sums(log_total, (None, None), log_total, None)
    factor = (-log_total).exp() * (4 * t)
    raw = torch.addcmul(torch.mm(k, rows), k.sum(dim=1, keepdim=True), rows, value=-1)
    slope = dot(rows, raw) * factor / (2 * t) if wanted[2] else None
    return Sums(log_total, (raw if wanted[0] else None, None), factor, slope)


def _whole_across(x: Tensor, y: Tensor, t: float, wanted: tuple[bool, bool, bool]) -> Sums | None:
    """Two small sets as one tile; None where the range of exponents needs more care."""
    centre = (x.mean(dim=0) + y.mean(dim=0)) / 2
    one, two = x - centre, y - centre
    left = one * (2 * t * LOG2_E)
    half_one = torch.linalg.vecdot(left, one).mul_(-0.5)
    half_two = torch.linalg.vecdot(two, two).mul_(-t * LOG2_E)
    low, high = -float(half_one.amin()), -float(half_two.amin())
    if not (math.sqrt(low) + math.sqrt(high)) ** 2 <= _RANGE[x.dtype] * LOG2_E:
        return None
    k = torch.addmm(half_two, left, two.T).add_(half_one.unsqueeze(1)).exp2_()
    log_total = k.sum().double().log()
    if not any(wanted):
        return Sums(log_total, (None, None), log_total, None)
    factor = (-log_total).exp() * (2 * t)
    raw_x = raw_y = slope = None
    if wanted[0] or wanted[2]:
        raw_x = torch.addcmul(torch.mm(k, two), k.sum(dim=1, keepdim=True), one, value=-1)
    if wanted[1] or wanted[2]:
        raw_y = torch.addcmul(torch.mm(k.T, one), k.sum(dim=0).unsqueeze(1), two, value=-1)
    if wanted[2]:
        assert raw_x is not None
        assert raw_y is not None
        slope = (dot(one, raw_x) + dot(two, raw_y)) * factor / (2 * t)
    return Sums(log_total, (raw_x if wanted[0] else None, raw_y if wanted[1] else None), factor, slope)


def _tiled(
    one: Widened,
    two: Widened,
    down: Tensor | None,
    across: Tensor | None,
    symmetric: bool,
    span: float,
    tile: tuple[int, int] | None,
    weighing: Weighing | None = None,
) -> tuple[Tensor, float, Tensor]:
    """Total of all tiles times exp(-shift), the shift, and the sum of the weights.

    Adds the transposes of k^T [x, 1] to ``down`` and of k [y, 1] to ``across``.

    A range of exponents too wide for exp alone is shifted by the largest exponent met so far.
    """
    online = span > _RANGE[one.z.dtype] or math.isnan(span)
    skip = (0,) if symmetric and weighing is None else ()
    walk = Walk(
        one.left,
        two.z,
        len(one.z),
        symmetric=symmetric,
        skip=skip,
        tile=tile,
        online=online,
        weighing=weighing,
    )
    total, mass = walk.total(), walk.total(power=0)
    walk.keep(down, across)
    left, right = one.summed.T, two.summed.T
    for block in walk:
        total.add(block, block.values.sum())
        if block.weights is not None:
            mass.add(block, block.weights.sum())
        block.add_products(left, right, across, down)
    return total.value(), (walk.shift if math.isfinite(walk.shift) else 0.0), mass.value()


def _log_total(
    function: str, x: Tensor, y: Tensor | None, t: Tensor | float, own: bool, tile: tuple[int, int] | None
) -> Tensor:
    x = x if x.dtype in _RANGE else x.float()
    y = y if y is None or y.dtype in _RANGE else y.float()

    def compute(wanted: Sequence[bool]) -> Found:
        sums = _sums(x, y, float(t), own, (wanted[0], wanted[1], wanted[2]), tile)
        return Found(sums.log_total, (*sums.raw, sums.slope), sums.factor)

    def definition(x: Tensor, y: Tensor | None, t: Tensor | float) -> Tensor:
        value = _dense.log_sum_gaussian(x, t, y)
        return _with_own(value, len(x) if own else 0)

    with full_precision(x.device):
        return one_pass(function, compute, definition, x, y, t, columns=None if y is None else len(y))


@outside_graphs
def gaussian_potential(
    x: Tensor, t: float | Tensor, *, estimator: str = "u", tile: tuple[int, int] | None = None
) -> Tensor:
    r"""Log of the mean Gaussian potential over the pairs of one set.

    log mean_{i != j} exp(-t \|x_i - x_j\|^2); ``estimator="v"`` counts every row with itself too.

    Args:
        x: [N, D] float32 or float64 rows, anywhere in space; N >= 2 (1 for "v").
        t: sharpness > 0, a number or a 0-dim tensor.
        estimator: "u" without self pairs, "v" with them.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        A 0-dim float64 tensor, differentiable in ``x`` and ``t``; twice for at most 1024 rows.

    Cost: N^2 / 2 pairs; O(N D) memory. Value and gradient take one pass.
    """
    n = len(x)
    if estimator == "v":
        return _log_total("gaussian_potential", x, None, t, True, tile) - 2 * math.log(n)
    if n < 2:
        refuse_few("gaussian_potential", n)
    return _log_total("gaussian_potential", x, None, t, False, tile) - math.log(n * (n - 1))


@outside_graphs
def cross_gaussian_potential(
    x: Tensor, y: Tensor, t: float | Tensor, *, tile: tuple[int, int] | None = None
) -> Tensor:
    r"""Log of the mean Gaussian potential over all pairs of two sets: log mean_ij exp(-t \|x_i - y_j\|^2).

    Args:
        x: [N, D] rows.
        y: [M, D] rows of the same dtype.
        t: sharpness > 0, a number or a 0-dim tensor.
        tile: rows and columns of a tile; None: by the device.

    Returns:
        A 0-dim float64 tensor, differentiable in ``x``, ``y`` and ``t``; twice for at most 2^20 pairs.
    """
    if not len(x) or not len(y):
        refuse_few("cross_gaussian_potential", min(len(x), len(y)), 1)
    return _log_total("cross_gaussian_potential", x, y, t, False, tile) - math.log(len(x) * len(y))


def refuse_few(function: str, num: int, least: int = 2) -> NoReturn:
    """A mean over pairs of too few rows."""
    _checks.refuse(
        UndefinedError,
        function,
        "x",
        f"have at least {least} row{'s' if least > 1 else ''}",
        "a mean over pairs needs a pair",
        f"{num} row{'s' if num != 1 else ''}",
        "Pass the whole set at once",
    )
