"""The Gaussian potential on CUDA by Triton: chosen for float32 rows where it has shown that it agrees.

Everything else takes the torch path: other devices and types, ranges of exponents too wide for float32,
weighted pairs, small sets. ``docs/gpu.md`` says what is chosen when. Which path is taken, how the columns are
shared among programs and the order of all sums depend on shapes alone: the same bits every time.

Shapes: N, M rows, D dimensions.
"""

from __future__ import annotations

import functools
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.pairs import _triton_kernels
from spherometer.pairs._tiles import LOG2_E

MODES = ("auto", "off", "bf16")
VARIABLE = "SPHEROMETER_GPU_KERNEL"
RANGE = 80.0  # of t d^2: exp(-80) is still a normal number
LEAST = 385  # rows: smaller sets are one tile of the torch path
SHARED = 96 * 1024  # bytes of shared memory per block that the tiles below need, of 227 KiB on Hopper
PRECISION = "tf32x3"  # three products of 11-bit parts: what is left out is 2^-22 of |w_i| |w_j|
OPTIONS = {"num_warps": 8, "num_stages": 2, "enable_fp_fusion": True}

_mode: ContextVar[str | None] = ContextVar("gpu_kernel", default=None)


@dataclass(frozen=True)
class Pass:
    """What one pass over all ordered pairs finds."""

    total: Tensor  # 0-dim float64: sum of k_ij, without self pairs
    pulls: tuple[Tensor | None, Tensor | None]  # sum_j k_ij (x_j - x_i) [N, D], and for y [M, D]
    moment: Tensor | None  # 0-dim float64: sum_i x_i . pull_i over both sets, x from the common centre


@contextmanager
def gpu_kernel(mode: str) -> Iterator[None]:
    """Choose how the Gaussian potential of float32 rows is taken on CUDA, within a ``with`` block.

    Args:
        mode: "auto" (default) the Triton kernel where it can be used, as precise as the torch path;
            "off" always the torch path; "bf16" the kernel with rows rounded to bfloat16: fast, and the exact
            potential of those rounded rows. Outside of blocks the environment variable
            SPHEROMETER_GPU_KERNEL says the same.

    Raises:
        InputError: another mode.
    """
    token = _mode.set(_known("gpu_kernel", "mode", mode))
    try:
        yield
    finally:
        _mode.reset(token)


def _known(function: str, argument: str, mode: str) -> str:
    if mode not in MODES:
        _checks.refuse(
            InputError,
            function,
            argument,
            'be "auto", "off" or "bf16"',
            "these are the ways to take the Gaussian potential on a GPU",
            repr(mode),
            'Use "auto"',
        )
    return mode


def mode() -> str:
    """The mode in force: of the innermost block, else of the environment, else "auto"."""
    return _mode.get() or _known("gpu_kernel", VARIABLE, os.environ.get(VARIABLE) or "auto")


def gaussian_pass(x: Tensor, y: Tensor | None, t: float, wanted: tuple[bool, bool, bool]) -> Pass | None:
    """One pass by the kernel, or None where the torch path is to be taken; ``wanted``: of x, y and t."""
    if not _suits(x, y):
        return None
    chosen = mode()
    if chosen == "off" or not _agrees(x.device, x.shape[1], any(wanted), chosen == "bf16"):
        return None
    return run(x, y, t, wanted, half=chosen == "bf16")


def _suits(x: Tensor, y: Tensor | None) -> bool:
    """Whether rows are of the kind and number that the kernel is for."""
    if x.device.type != "cuda" or x.dtype != torch.float32 or not x.shape[1]:
        return False
    return min(len(x), len(x) if y is None else len(y)) >= LEAST and _able(x.device)


@functools.lru_cache(maxsize=64)
def _able(device: torch.device) -> bool:
    """Whether triton is there, and the device has tensor cores for tf32 and room for the tiles."""
    if torch.version.hip is not None:
        return False
    found = torch.cuda.get_device_properties(device)
    if found.major < 8 or getattr(found, "shared_memory_per_block_optin", 0) < SHARED:
        return False
    try:
        _triton_kernels.programs()
    except ImportError:
        return False
    return True


@functools.lru_cache(maxsize=256)
def _agrees(device: torch.device, dim: int, pulls: bool, half: bool) -> bool:
    """Whether the kernel compiles on this device and agrees with a full matrix on 300 rows of its own.

    Asked once per device, number of dimensions and mode. A kernel that fails is named in a warning.
    """
    generator = torch.Generator().manual_seed(dim)
    rows = torch.randn(300, dim, generator=generator, dtype=torch.float64).mul_(0.5 / math.sqrt(dim))
    wide = rows.bfloat16().double() if half else rows
    k = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist").square_().mul_(-2.0).exp_()
    k.fill_diagonal_(0)
    expected = k @ wide - k.sum(dim=1, keepdim=True) * wide
    allowed = 2e-2 if half else 1e-5
    try:
        found = run(rows.to(device, torch.float32), None, 2.0, (pulls, False, False), half=half)
        assert found is not None
        worst = abs(float(found.total) / float(k.sum()) - 1)
        if found.pulls[0] is not None:
            gap = (found.pulls[0].cpu().double() - expected).abs().max() / expected.abs().max()
            worst = max(worst, float(gap))
        problem = "" if worst < allowed else f"it is {worst:.1e} off, more than {allowed:g}"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
    if problem:
        warnings.warn(
            f"The GPU kernel is not used for {dim} dimensions on {device}: {problem}. "
            f'The torch path is taken. gpu_kernel("off") or {VARIABLE}=off chooses it from the start.',
            RuntimeWarning,
            stacklevel=2,
        )
    return not problem


def run(
    x: Tensor, y: Tensor | None, t: float, wanted: tuple[bool, bool, bool], *, half: bool = False
) -> Pass | None:
    """One pass over all pairs; None where the range of exponents is too wide for float32."""
    centre = x.mean(dim=0) if y is None else (x.mean(dim=0) + y.mean(dim=0)) / 2
    stretch = math.sqrt(2 * LOG2_E * t)
    one = _Scaled.of(x, centre, stretch, half)
    two = one if y is None else _Scaled.of(y, centre, stretch, half)
    span = (one.radius() + (one if y is None else two).radius()) ** 2 / (2 * LOG2_E)
    if not span <= RANGE:
        return None
    if not any(wanted):
        return Pass(_total(one, two, y is None), (None, None), None)
    total = moment = pull_x = pull_y = None
    if wanted[0] or wanted[2]:
        pull_x, total = _pulls(one, two, y is None)
        moment = one.moment(pull_x)
    if y is not None and (wanted[1] or wanted[2]):
        pull_y, again = _pulls(two, one, False)
        total = again if total is None else total
        moment = two.moment(pull_y) if moment is None else moment + two.moment(pull_y)
    assert total is not None
    assert moment is not None
    found = [None if pull is None else pull.div_(stretch) for pull in (pull_x, pull_y)]
    return Pass(total, (found[0], found[1]), moment / stretch**2)


@dataclass(frozen=True)
class _Scaled:
    """w = sqrt(2t log2 e) (x - centre) and -|w|^2 / 2, of the rows as they are multiplied."""

    w: Tensor  # [N, D] float32 or bfloat16
    half: Tensor  # [N] float32

    @staticmethod
    def of(x: Tensor, centre: Tensor, stretch: float, half: bool) -> _Scaled:
        w = torch.sub(x, centre).mul_(stretch)
        if half:
            w = w.bfloat16()
        squares = torch.linalg.vector_norm(w, dim=1, dtype=torch.float32).square_()
        return _Scaled(w.contiguous(), squares.mul_(-0.5))

    def radius(self) -> float:
        """Length of the longest row."""
        return math.sqrt(max(0.0, -2 * float(self.half.min())))

    def moment(self, pull: Tensor) -> Tensor:
        """sum_i w_i . pull_i, float64, in blocks of rows."""
        spans = range(0, len(pull), 65536)
        parts = [(self.w[a : a + 65536] * pull[a : a + 65536]).sum(dtype=torch.float64) for a in spans]
        return torch.stack(parts).sum()


def _power(num: int, most: int) -> int:
    """The smallest power of two from 16 to ``most`` that holds ``num``; ``most`` for more."""
    return min(most, max(16, 1 << (num - 1).bit_length()))


def _depth(one: _Scaled) -> dict[str, int | bool]:
    """How much of D is multiplied at a time.

    Of float32 rows 32 dimensions: each is split in two, and 64 spill out of the registers. Of bfloat16 rows
    all up to 128, so that a program keeps its block of rows, and 64 beyond.
    """
    dim = one.w.shape[1]
    if one.w.dtype == torch.float32:
        return {"BK": _power(dim, 32), "ONCE": dim <= 32}
    return {"BK": _power(dim, 128) if dim <= 128 else 64, "ONCE": dim <= 128}


def total_settings(one: _Scaled, same: bool) -> dict[str, object]:
    """What the program of values is compiled with: tiles of 128 x 128, 64 registers a thread."""
    return {"SAME": same, "PRECISION": PRECISION, "BM": 128, "BN": 128, **_depth(one)}


def pull_settings(one: _Scaled, same: bool) -> dict[str, object]:
    """What the program of gradients is compiled with.

    Tiles of 64 x 64 and 128 of the dimensions: a tile, its product and the sums stay in the registers of 8
    warps (128 rows spill). Longer rows are cut into chunks of 128, each of which makes the tiles again.
    """
    chunk = _power(one.w.shape[1], 128)
    return {"SAME": same, "PRECISION": PRECISION, "BM": 64, "BN": 64, "BD": chunk, "LEVEL": 64, **_depth(one)}


def _total(one: _Scaled, two: _Scaled, same: bool) -> Tensor:
    """Sum of k over all ordered pairs, float64.

    A program passes up to 32 tiles, fewer where that leaves less than about a thousand programs, some for
    each of the 132 multiprocessors of a Hopper card.
    """
    (n, d), m = one.w.shape, len(two.w)
    settings = total_settings(one, same)
    down, across = -(-n // 128), -(-m // 128)
    strip = max(1, min(32, down * across // 1024))
    grid = (down, -(-across // strip))
    parts = one.half.new_zeros(grid[1], grid[0])
    program = _triton_kernels.programs().total[grid]
    program(one.w, two.w, one.half, two.half, parts, n, m, d, strip * 128, **settings, **OPTIONS)
    return parts.sum(dtype=torch.float64)


def _pulls(one: _Scaled, two: _Scaled, same: bool) -> tuple[Tensor, Tensor]:
    """sum_j k_ij (w_j - w_i) [N, D] float32, and the sum of k in float64.

    Up to 4 programs share the columns of a block of rows where there are few blocks, each with an [N, D] of
    its own; beyond 16 896 rows there is one.
    """
    (n, d), m = one.w.shape, len(two.w)
    settings = pull_settings(one, same)
    down, chunks = -(-n // 64), -(-d // 128)
    shares = max(1, min(4, 264 // (down * chunks), -(-m // 64)))
    share = -(-m // (shares * 64)) * 64
    moved = one.half.new_zeros(shares, n, d)
    masses, totals = one.half.new_zeros(shares, n), one.half.new_zeros(shares, n)
    program = _triton_kernels.programs().pull[(down, chunks, shares)]
    given = (one.w, two.w, one.half, two.half, moved, masses, totals, n, m, d, share)
    program(*given, **settings, **OPTIONS)
    pull = moved[0] if shares == 1 else moved.sum(dim=0)
    pull.addcmul_(one.w.float(), masses.sum(dim=0).unsqueeze(1), value=-1)
    return pull, totals.sum(dtype=torch.float64)
