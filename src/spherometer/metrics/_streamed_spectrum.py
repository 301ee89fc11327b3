"""Singular values of rows that pass by once: from inner products added up in float64, unit by unit.

Inner products keep singular values down to 1e-8 of the largest. Rows of at most float32 carry more rounding
than that themselves, so what is lost is below what ``num_directions`` counts.

Shapes: N rows, D dimensions, G groups.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from spherometer.metrics._jackknife import MAX_DIRECTIONS, NUM_GROUPS

_PARTS = 4  # columns are taken in so many parts: half of the products below the diagonal are saved


def matrices_of(num: int, dim: int) -> int:
    """How many D x D matrices of float64 a ``Grams`` holds at most, its temporaries counted."""
    return (2 if num < 2 * NUM_GROUPS or dim > MAX_DIRECTIONS else NUM_GROUPS + 1) + 2


class Grams:
    """Inner products of the columns of rows around a fixed point, for each group of the jackknife.

    Args:
        num: number of rows N, with those that are left out.
        shift_D: the fixed point, near the mean of the rows: what is centred later loses few digits.

    ``add`` takes spans of rows that start at a multiple of their size; the same spans give the same bits.
    """

    def __init__(self, num: int, shift_D: Tensor) -> None:
        dim = len(shift_D)
        self._grouped = num >= 2 * NUM_GROUPS and dim <= MAX_DIRECTIONS
        many = NUM_GROUPS + 1 if self._grouped else 1
        self._last = num // NUM_GROUPS * NUM_GROUPS  # rows from here on are in no group
        self.shift = shift_D.to(torch.float64)
        self._grams = torch.zeros(many, dim, dim, dtype=torch.float64)
        self._sums = torch.zeros(many, dim, dtype=torch.float64)
        self._sizes = [0] * many
        edges = torch.linspace(0, dim, min(_PARTS, dim) + 1).round().long().tolist()
        self._spans = list(itertools.pairwise(edges))

    @property
    def num(self) -> int:
        """Rows that were added."""
        return sum(self._sizes)

    def add(self, start: int, rows_ND: Tensor, kept: Tensor | None = None) -> None:
        """Add rows start, start + 1, ...; ``kept`` [N]: False for those that are left out."""
        block = rows_ND.to(torch.float64) - self.shift
        if kept is not None:
            block[~kept] = 0  # adds nothing, and leaves the others where they are
        if not self._grouped:
            self._put(0, block, None if kept is None else kept)
            return
        end = min(max(self._last - start, 0), len(block))
        for group in range(NUM_GROUPS):
            places = slice((group - start) % NUM_GROUPS, end, NUM_GROUPS)
            self._put(group, block[places], None if kept is None else kept[places])
        if end < len(block):
            self._put(NUM_GROUPS, block[end:], None if kept is None else kept[end:])

    def _put(self, group: int, block: Tensor, kept: Tensor | None) -> None:
        if not len(block):
            return
        gram = self._grams[group]
        for index, (low, high) in enumerate(self._spans):
            for first, last in self._spans[index:]:
                gram[low:high, first:last].addmm_(block[:, low:high].T, block[:, first:last])
        self._sums[group] += block.sum(dim=0)
        self._sizes[group] += len(block) if kept is None else int(kept.sum())

    def _whole(self) -> tuple[Tensor, Tensor]:
        gram = self._grams[0].clone()
        for each in self._grams[1:]:
            gram += each
        return gram, self._sums.sum(dim=0)

    def singular_values(self, *, centred: bool) -> tuple[Tensor, list[Tensor] | None]:
        """Singular values, largest first, of all rows and without each group (None for few or wide rows)."""
        gram, total = self._whole()
        whole = self._values(gram.clone(), total, self.num, centred=centred).flip(0)
        if not self._grouped or self.num < 2 * NUM_GROUPS:
            return whole, None
        left_out = [
            self._values(gram - self._grams[group], total - self._sums[group], rest, centred=centred)
            for group, rest in enumerate(self.rests())
        ]
        return whole, left_out

    def rests(self) -> list[int]:
        """Rows that stay without each group; none where there are no groups."""
        return [self.num - size for size in self._sizes[:NUM_GROUPS]] if self._grouped else []

    def norm(self) -> float:
        """Frobenius norm of the rows, not centred."""
        squares = sum(float(gram.diagonal().sum()) for gram in self._grams)
        cross = 2 * float(self._sums.sum(dim=0) @ self.shift)
        return math.sqrt(max(squares + cross + self.num * float(self.shift @ self.shift), 0.0))

    def _values(self, gram: Tensor, total: Tensor, num: int, *, centred: bool) -> Tensor:
        """Square roots of the eigenvalues, ascending; only the upper half of ``gram`` is read."""
        if centred:
            gram -= torch.outer(total, total) / num
        else:
            mixed = torch.outer(total, self.shift)
            gram += mixed + mixed.T + num * torch.outer(self.shift, self.shift)
        values: Tensor = torch.linalg.eigvalsh(gram, UPLO="U")[-min(num, len(gram)) :]
        return values.clamp(min=0).sqrt()
