"""What enters a loss that compares meta-data: views, encoded columns, and the similarity of all rows.

Meta-data stand beside the views, one entry for each sample. Rows that ``missing="drop"`` leaves out are left
out of the whole loss, before anything is exchanged.

Shapes: N rows of all ranks, n own rows, D dimensions, K encoded columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks, pairs
from spherometer.errors import InputError, ShapeError
from spherometer.kernels import Kernel, as_kernel
from spherometer.losses import _ranks, _views


@dataclass(frozen=True)
class Entered:
    """The checked arguments of a call on this rank."""

    views: list[Tensor]  # V x [n, D]
    encoded: Tensor  # [n, K] float64, on the device of the views
    kernel: Kernel

    def similarity(self, function: str, rows: _ranks.Rows, dtype: torch.dtype) -> pairs.Similarity:
        """Similarity of the rows of all ranks, in tiles of ``dtype``."""
        everything = _ranks.spread_metadata(function, self.encoded, self.kernel, rows)
        return pairs.Similarity(self.kernel, self.kernel.rows(everything, dtype))


def own_rows(rows: _ranks.Rows) -> tuple[int, int] | None:
    """The own rows as ``pairs`` takes them; None, half of its work, where they are all rows."""
    return None if rows.world == 1 else (rows.start, rows.num)


def fitted(function: str, kernel: Any) -> Kernel:
    """The kernel of a loss: its bandwidths are numbers."""
    found = as_kernel(function, kernel)
    found.check_fitted(function)
    return found


def split(z1: Any, z2: Any, metadata: Any) -> tuple[Any, Any]:
    """The second view and the meta-data: after one [N, V, D] tensor the meta-data may come second."""
    if metadata is None and z2 is not None and isinstance(z1, Tensor) and z1.ndim == 3:
        return None, z2
    return z2, metadata


def entered(
    function: str, kernel: Kernel, z1: Any, z2: Any, metadata: Any, gather: _ranks.Gather, *, two: bool = True
) -> Entered:
    """Check views and meta-data of a call; ``two``: of exactly two views."""
    z2, metadata = split(z1, z2, metadata)
    views = _views.checked_views(function, z1, z2, gather=gather)
    if two and len(views) != 2:
        _checks.refuse(
            ShapeError, function, "z1", "hold two views", "rows of one view are compared with the other",
            f"{len(views)} views", "Pass z1 and z2, or two of the views",
        )  # fmt: skip
    if metadata is None:
        _checks.refuse(
            InputError, function, "metadata", "be given", "they say which samples are similar", "None",
            "Pass a tensor [N] or [N, K], or a mapping column -> N values",
        )  # fmt: skip
    encoded = kernel.encode(metadata, function).to(views[0].device)
    if len(encoded) != len(views[0]):
        _checks.refuse(
            ShapeError, function, "metadata", "have one entry for each row",
            "entry i belongs to row i of every view", f"{len(encoded)} entries for {len(views[0])} rows",
            "Pass the meta-data of this batch",
        )  # fmt: skip
    if kernel.missing == "drop":
        keep = kernel.keep(encoded)
        views, encoded = [view[keep] for view in views], encoded[keep]
    return Entered(views, encoded, kernel)
