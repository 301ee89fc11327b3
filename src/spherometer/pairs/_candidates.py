"""Candidates for the nearest neighbours: the roughly nearest rows, and how far away all others are at least.

Distances come from GEMMs of centred rows, |y|^2 - 2 x . y, in float32 or float64. The bound on the others
holds for any order of summation, so it holds whoever does the GEMM.

Shapes: N rows, D dimensions, B rows asked, M candidates.
"""

from __future__ import annotations

import math
import sys
import warnings
from types import ModuleType

import torch
from torch import Tensor

from spherometer.pairs._tiles import full_precision

FAISS_ROWS, FAISS_COLUMNS = 20_000, 64  # from which faiss is worth its import (benchmarks/neighbors.py)
_BLOCK = 1 << 20  # entries of one block of distances
_ROWS = 128  # of a block at least, where they are no longer than the rows themselves
_FAISS_BLOCK = 2048  # rows it is asked for at a time
_MOST_MEMBERS = 64  # of a group of columns


class Candidates:
    """The M roughly nearest others of rows, by a GEMM in ``dtype`` and a selection.

    Args:
        points: [N, D] float64, at most about 1 in size.
        dtype: float32 or float64, of the GEMM.

    Attributes:
        block: number of rows to ask for at a time.
    """

    def __init__(self, points: Tensor, dtype: torch.dtype) -> None:
        self.rows = (points - points.mean(dim=0)).to(dtype)
        self.squares = self.rows.square().sum(dim=1)
        lengths = self.squares.double().sqrt()
        # twice what rounding of the rows, of D products and of the sums can do to |x|^2 + |y|^2 - 2 x . y
        unit = (points.shape[1] + 8) * torch.finfo(dtype).eps
        self._slack = unit * (lengths + lengths.max()).square()
        self.block = max(1, _BLOCK // (len(points) + _MOST_MEMBERS), min(_ROWS, points.shape[1]))

    def find(self, asked: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """Candidates [B, num] of the rows ``asked`` [B], and a bound [B] below every other squared distance.

        ``num`` is less than N - 1; the bound is float64.
        """
        values, columns = self._nearest(asked, num + 1)
        rest = values[:, num].double() + self.squares[asked].double() - self._slack[asked]
        return columns[:, :num], rest

    def _nearest(self, asked: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """The ``num`` least values of |y|^2 - 2 x . y and their columns, without the rows themselves."""
        n = len(self.rows)
        # the nearest are among the members of the groups with the least minima
        members = min(1 << max(0, round(math.log2(math.sqrt(n / num)))), _MOST_MEMBERS)
        width = -(-n // members)
        rough = self.rows.new_empty(len(asked), members * width)
        rough[:, n:] = math.inf
        with full_precision(rough.device):
            torch.addmm(self.squares, self.rows[asked], self.rows.T, alpha=-2, out=rough[:, :n])
        rough.scatter_(1, asked[:, None], math.inf)
        if members == 1:
            found = rough.topk(num, dim=1, largest=False)
            return found.values, found.indices
        least = rough.view(len(asked), members, width).amin(dim=1)
        groups = least.topk(num, dim=1, largest=False, sorted=False).indices
        columns = (groups[:, :, None] + width * torch.arange(members, device=rough.device)).flatten(1)
        found = rough.gather(1, columns).topk(num, dim=1, largest=False)
        return found.values, columns.gather(1, found.indices)


class FaissCandidates(Candidates):
    """The same by faiss (exact, float32), which selects while it multiplies: rows asked many at a time."""

    def __init__(self, points: Tensor, faiss: ModuleType) -> None:
        super().__init__(points, torch.float32)
        self.block = _FAISS_BLOCK
        self._faiss = faiss
        self._index = faiss.IndexFlatL2(points.shape[1])
        self._index.add(self.rows.numpy())

    def _nearest(self, asked: Tensor, num: int) -> tuple[Tensor, Tensor]:
        threads = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(torch.get_num_threads())
        try:  # one more: most rows find themselves
            found = self._index.search(self.rows[asked].numpy(), num + 1)
        finally:
            self._faiss.omp_set_num_threads(threads)
        values, columns = map(torch.from_numpy, found)
        values = values.masked_fill(columns == asked[:, None], math.inf)
        order = values.sort(dim=1, stable=True).indices[:, :num]
        return values.gather(1, order) - self.squares[asked, None], columns.gather(1, order)


def first_candidates(points: Tensor) -> Candidates:
    """The quickest source of candidates: faiss for many long rows on the CPU, where it is installed."""
    n, d = points.shape
    # elsewhere than on Linux the OpenMP runtimes of torch and faiss do not bear each other
    if n >= FAISS_ROWS and d >= FAISS_COLUMNS and points.device.type == "cpu" and sys.platform == "linux":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what SWIG has to say of its own types
                import faiss
        except ImportError:
            pass
        else:
            return FaissCandidates(points, faiss)
    return Candidates(points, torch.float32 if _float32_is_kept() else torch.float64)


def _float32_is_kept() -> bool:
    """Whether GEMMs in float32 are what they say: the user may allow fewer digits, and the bound not."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set in two ways that contradict each other
        return False
