"""What all kernels have in common.

A kernel is w = exp(-e), its exponent e in [0, inf] growing with the difference of two samples. Meta-data are
encoded once, as float64 columns; tiles are computed from ``rows``, in the precision of the features.

Shapes: N samples, K encoded columns, P columns of what tiles are made of; n, m rows of a tile.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, Self

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, UndefinedError

Missing = Literal["refuse", "neutral", "drop"]
MISSING: tuple[Missing, ...] = ("refuse", "neutral", "drop")


class Kernel(ABC):
    """Similarity w in [0, 1] of two samples by their meta-data; 1 for a sample with itself.

    Missing entries (NaN, None) are refused by default. ``missing="drop"``: such rows are left out.
    ``missing="neutral"``: a column that is missing on one side of a pair says nothing about that pair; a pair
    that has no column left has weight 0, as in the unconditional losses. This rule is ours.
    """

    missing: Missing

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """Whether every bandwidth is a number."""

    @abstractmethod
    def fit(self, metadata: Any) -> Self:
        """The same kernel with numbers for bandwidth rules and scales, taken from ``metadata``."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """The same kernel with all bandwidths times ``factor``."""

    @abstractmethod
    def with_missing(self, missing: Missing) -> Self:
        """The same kernel with another meaning of missing entries."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Kind, bandwidths and where they come from, for results."""

    @abstractmethod
    def _encoded(self, metadata: Any, function: str) -> Tensor:
        """Columns [N, K] float64, NaN where missing."""

    @abstractmethod
    def _rows(self, encoded: Tensor, dtype: torch.dtype) -> Tensor:
        """What tiles are made of, from encoded meta-data."""

    @abstractmethod
    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarities w [n, m] between slices of ``rows``; nothing is checked."""

    @abstractmethod
    def complements(self, a: Tensor, b: Tensor) -> Tensor:
        """1 - w [n, m] between slices of ``rows``, accurate where w is nearly 1."""

    def encode(self, metadata: Any, function: str = "Kernel.encode") -> Tensor:
        """Meta-data as columns [N, K] of float64: what losses and metrics compare. Do it once for a table.

        Args:
            metadata: tensor, array or list [N] or [N, K]; or a mapping (or data frame) column -> N values.
                Strings become codes that depend on the string alone. What is encoded already passes.
            function: that messages name.

        Returns:
            float64, on the device of the tensors; missing entries NaN.

        Raises:
            InputError: unknown columns, other kinds of values, infinity, or entries missing that may not be.
            ShapeError: columns of different length.
        """
        encoded = self._encoded(metadata, function)
        if self.missing == "refuse" and not math.isfinite(float(encoded.sum())):
            absent = torch.isnan(encoded).any(dim=1)
            if bool(absent.any()):
                _checks.refuse(
                    InputError, function, "metadata", "be there for every row",
                    "missing values have no similarity",
                    f"{int(absent.sum())} of {len(absent)} rows with a missing entry, "
                    f"the first is row {int(absent.nonzero()[0])}",
                    'Remove those rows, or pass a kernel with missing="neutral" or missing="drop"',
                )  # fmt: skip
        return encoded

    def keep(self, encoded: Tensor) -> Tensor:
        """True [N] where a row stays: all of them but those that ``missing="drop"`` leaves out."""
        if self.missing == "drop":
            return ~torch.isnan(encoded).any(dim=1)
        return torch.ones(len(encoded), dtype=torch.bool, device=encoded.device)

    def check_fitted(self, function: str) -> None:
        """Refuse a kernel whose bandwidth is still a rule."""
        if not self.fitted:
            _checks.refuse(
                UndefinedError, function, "kernel", "have numbers as bandwidths",
                "a rule that looked at one batch after the other would compare with another kernel each time",
                str(self), "Pass kernel.fit(metadata), fitted on the whole set",
            )  # fmt: skip

    def rows(self, encoded: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """What tiles are made of, [N, P] in ``dtype``: slices of it go into ``weights``.

        Only rows of one call are comparable with each other.
        """
        self.check_fitted("Kernel.rows")
        complete = math.isfinite(float(encoded.sum()))  # one that is missing would have spoilt the sum
        if self.missing != "neutral" and not complete and bool(torch.isnan(encoded).any()):
            _checks.refuse(
                InputError, "Kernel.rows", "encoded", "hold no missing entry",
                f"missing={self.missing!r} leaves no row with one", "NaN",
                "Take the rows of kernel.keep(encoded)",
            )  # fmt: skip
        return self._rows(encoded, dtype)

    def __call__(self, metadata: Any, other: Any = None) -> Tensor:
        """Dense similarities [N, N], or [N, M] with ``other``, float64: for small sets.

        Example:
            >>> from spherometer.kernels import Gaussian
            >>> [[round(w, 4) for w in row] for row in Gaussian(5.0)([20.0, 25.0, 40.0]).tolist()]
            [[1.0, 0.6065, 0.0003], [0.6065, 1.0, 0.0111], [0.0003, 0.0111, 1.0]]
        """
        one = self.encode(metadata, "Kernel")
        if other is None:
            rows = self.rows(one)
            found = self.weights(rows, rows)
            found.fill_diagonal_(1)
            return found
        two = self.encode(other, "Kernel")
        rows = self.rows(torch.cat([one, two.to(one.device)]))
        return self.weights(rows[: len(one)], rows[len(one) :])


def check_missing(name: str, missing: Any) -> None:
    """Refuse another word than the three."""
    _checks.one_of(name, "missing", missing, MISSING)
