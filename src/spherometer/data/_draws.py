"""Random numbers that are a function of where they are used, not of how many were drawn before.

A counter-based generator (as Salmon et al. 2011 argue for): number ``slot`` of sample ``index`` is a mix of
(seed, epoch, index, view, slot), computed for a whole batch with integer arithmetic. The mixing function is
the finaliser of SplitMix64 (Steele, Lea & Flood 2014), applied once per counter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BITS = (1 << 64) - 1


def _signed(value: int) -> int:
    """The same 64 bits as torch's int64 shows them."""
    value &= _BITS
    return value - (1 << 64) if value >> 63 else value


def _shifted(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # torch shifts the sign in; the mask takes it out


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 (products wrap around, as they should)."""
    x = x + _signed(_GOLDEN)
    x = (x ^ _shifted(x, 30)) * _signed(_FIRST)
    x = (x ^ _shifted(x, 27)) * _signed(_SECOND)
    return x ^ _shifted(x, 31)


def _mix_number(value: int) -> int:
    return int(_mix(torch.tensor(_signed(value), dtype=torch.int64)))


@dataclass(frozen=True)
class Draws:
    """Random numbers of the samples ``index`` [B] under one (seed, epoch, view).

    Example:
        >>> import torch
        >>> whole = Draws(seed=0, epoch=3, view=1).uniform(torch.arange(4), 2)
        >>> part = Draws(seed=0, epoch=3, view=1).uniform(torch.tensor([2]), 2)
        >>> torch.equal(whole[2:3], part)
        True
    """

    seed: int
    epoch: int = 0
    view: int = 0

    def uniform(self, index: Tensor, num: int, *, first: int = 0) -> Tensor:
        """Numbers in (0, 1), float64 [B, num]: the slots ``first`` ... ``first + num - 1`` of each sample."""
        stream = _mix_number(_mix_number(_mix_number(self.seed) ^ self.epoch) ^ self.view)
        rows = _mix(index.to(torch.int64) ^ stream)
        slots = torch.arange(first, first + num, dtype=torch.int64, device=index.device)
        bits = _shifted(_mix(rows[:, None] ^ _mix(slots)[None, :]), 11)  # 53 bits
        return (bits.to(torch.float64) + 0.5) * 2.0**-53

    def normal(self, index: Tensor, num: int, *, first: int = 0) -> Tensor:
        """Standard normal numbers, float64 [B, num], by inversion."""
        return math.sqrt(2) * torch.erfinv(2 * self.uniform(index, num, first=first) - 1)


def permutation(num: int, *, seed: int, epoch: int = 0) -> Tensor:
    """Order of ``num`` rows in one epoch, int64 [num]: a function of (seed, epoch) alone."""
    keys = Draws(seed, epoch, view=-1).uniform(torch.arange(num), 1)[:, 0]
    return torch.argsort(keys, stable=True)
