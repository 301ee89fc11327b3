"""One kernel for each column, multiplied or summed.

Shapes: N samples, C columns; n, m rows of a tile.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError
from spherometer.kernels._kernel import Kernel, Missing, check_missing
from spherometer.kernels._kinds import Single
from spherometer.kernels._table import column, is_table, numbers


class Mixture(Kernel):
    """Named columns with a kernel each."""

    def __init__(self, columns: Mapping[str, Any], missing: Missing) -> None:
        name = type(self).__name__
        check_missing(name, missing)
        usable = isinstance(columns, Mapping) and bool(columns)
        if not usable or not all(isinstance(each, Single) for each in columns.values()):
            got = (
                ", ".join(type(each).__name__ for each in columns.values()) if usable else repr(columns)[:60]
            )
            _checks.refuse(
                InputError, name, "columns", "map column names to kernels of one column",
                "each column is compared in its own way", got,
                f"Pass for instance {name}({{'age': Gaussian(5.0), 'sex': Categorical()}})"
                if name == "Product" else f"Pass for instance {name}({{'age': (0.7, Gaussian(5.0)), ...}})",
            )  # fmt: skip
        for label, each in columns.items():
            if each.missing != "refuse":
                _checks.refuse(
                    InputError, name, f"columns[{label!r}]", "leave missing to the whole",
                    "what a gap means depends on the other columns", f"missing={each.missing!r}",
                    f"Pass missing={each.missing!r} to {name}",
                )  # fmt: skip
        self.columns: dict[str, Single] = {str(label): each for label, each in columns.items()}
        self.missing = missing

    @abstractmethod
    def _with(self, columns: dict[str, Single], missing: Missing | None = None) -> Self:
        """The same mixture of other kernels."""

    def with_missing(self, missing: Missing) -> Self:
        return self._with(self.columns, missing)

    @property
    def fitted(self) -> bool:
        return all(each.fitted for each in self.columns.values())

    def fit(self, metadata: Any) -> Self:
        encoded = self.encode(metadata, f"{type(self).__name__}.fit")
        parts = zip(self.columns.items(), torch.split(encoded, 1, dim=1), strict=True)
        return self._with({name: each.fit_values(values, name) for (name, each), values in parts})

    def scaled(self, factor: float) -> Self:
        return self._with({name: each.scaled(factor) for name, each in self.columns.items()})

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self._kind(),
            "columns": {name: each.to_dict() for name, each in self.columns.items()},
            "missing": self.missing,
        }

    @abstractmethod
    def _kind(self) -> str:
        """Its name in results."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mixture) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.columns}, missing={self.missing!r})"

    def _encoded(self, metadata: Any, function: str) -> Tensor:
        if not is_table(metadata):
            found = numbers(
                function, "metadata", metadata, codes=all(each.categorical for each in self._kernels())
            )
            if found.shape[1] != len(self.columns):
                _checks.refuse(
                    ShapeError, function, "metadata", f"have {len(self.columns)} columns",
                    f"the kernel compares {', '.join(self.columns)}", f"shape {tuple(found.shape)}",
                    "Pass a mapping column -> values, or kernel.encode(table)",
                )  # fmt: skip
            return found
        parts: list[Tensor] = []
        for name, each in self.columns.items():
            values = numbers(function, name, column(function, metadata, name), codes=each.categorical)
            if values.shape[1] != 1 or (parts and len(values) != len(parts[0])):
                _checks.refuse(
                    ShapeError, function, name, "have one entry for each sample",
                    "row i of every column belongs to sample i",
                    f"shape {tuple(values.shape)}" + (f" beside {len(parts[0])} rows" if parts else ""),
                    "Use one named column for each number",
                )  # fmt: skip
            parts.append(values.to(parts[0].device) if parts else values)
        return torch.cat(parts, dim=1)

    def _kernels(self) -> Iterator[Single]:
        return iter(self.columns.values())

    def _rows(self, encoded: Tensor, dtype: torch.dtype) -> Tensor:
        known = ~torch.isnan(encoded)
        filled = torch.where(known, encoded, 0.0)
        parts = [each.parts(filled[:, [c]], dtype) for c, each in enumerate(self._kernels())]
        if self.missing == "neutral":
            parts.append(known.to(dtype))
        return torch.cat(parts, dim=1)

    def _slices(self, a: Tensor, b: Tensor) -> Iterator[tuple[Single, Tensor, Tensor, Tensor | None]]:
        """Kernel, its two slices, and where the column is known on both sides (None: everywhere)."""
        starts = a.shape[1] - len(self.columns)
        place = 0
        for c, each in enumerate(self._kernels()):
            width = _width(each, a.dtype)
            known = None
            if self.missing == "neutral":
                known = (a[:, starts + c, None] * b[:, starts + c]) > 0
            yield each, a[:, place : place + width], b[:, place : place + width], known
            place += width


def _width(kernel: Single, dtype: torch.dtype) -> int:
    """Columns that ``parts`` makes of one column."""
    return kernel.parts(torch.zeros(0, 1, dtype=torch.float64), dtype).shape[1]


class Product(Mixture):
    """The product of one kernel for each column: samples are similar that are similar in all of them.

    Args:
        columns: column name -> kernel; a plain dict stands for it wherever a kernel is taken.
        missing: "refuse", "neutral" (a column missing on one side of a pair is left out of its product) or
            "drop"; see Kernel.

    Example:
        >>> from spherometer.kernels import Categorical, Gaussian
        >>> kernel = Product({"age": Gaussian(5.0), "sex": Categorical()})
        >>> kernel({"age": [20, 25, 25], "sex": ["f", "f", "m"]})[0].round(decimals=4).tolist()
        [1.0, 0.6065, 0.0]
    """

    def __init__(self, columns: Mapping[str, Any], *, missing: Missing = "refuse") -> None:
        super().__init__(columns, missing)

    def _with(self, columns: dict[str, Single], missing: Missing | None = None) -> Self:
        return type(self)(columns, missing=missing or self.missing)

    def _kind(self) -> str:
        return "product"

    def __str__(self) -> str:
        return " x ".join(f"{name}: {each}" for name, each in self.columns.items())

    def _exponents(self, a: Tensor, b: Tensor) -> Tensor:
        total: Tensor | None = None
        any_known: Tensor | None = None
        for each, left, right, known in self._slices(a, b):
            found = each.exponents(left, right)
            if known is not None:
                found.masked_fill_(~known, 0.0)
                any_known = known if any_known is None else any_known | known
            total = found if total is None else total.add_(found)
        assert total is not None
        return total if any_known is None else total.masked_fill_(~any_known, math.inf)

    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        return self._exponents(a, b).neg_().exp_()

    def complements(self, a: Tensor, b: Tensor) -> Tensor:
        return self._exponents(a, b).neg_().expm1_().neg_()


class WeightedSum(Mixture):
    """The weighted mean of one kernel for each column: similar in one of them is similar in part.

    Args:
        columns: column name -> (weight > 0, kernel); weights are scaled to add up to 1.
        missing: "refuse", "neutral" (the mean is over the columns that both sides have) or "drop".

    Example:
        >>> from spherometer.kernels import Categorical, Gaussian
        >>> kernel = WeightedSum({"age": (3, Gaussian(5.0)), "sex": (1, Categorical())})
        >>> kernel({"age": [20, 25, 25], "sex": ["f", "f", "m"]})[0].round(decimals=4).tolist()
        [1.0, 0.7049, 0.4549]
    """

    def __init__(self, columns: Mapping[str, tuple[float, Single]], *, missing: Missing = "refuse") -> None:
        usable = isinstance(columns, Mapping) and all(
            isinstance(each, tuple) and len(each) == 2 for each in columns.values()
        )
        super().__init__({name: each[1] for name, each in columns.items()} if usable else {}, missing)
        for name, (weight, _) in columns.items():
            _checks.positive("WeightedSum", f"columns[{name!r}]", weight)
        total = sum(float(weight) for weight, _ in columns.values())
        self.shares = {str(name): float(weight) / total for name, (weight, _) in columns.items()}

    def _with(self, columns: dict[str, Single], missing: Missing | None = None) -> Self:
        weighted = {name: (self.shares[name], each) for name, each in columns.items()}
        return type(self)(weighted, missing=missing or self.missing)

    def _kind(self) -> str:
        return "weighted sum"

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "shares": dict(self.shares)}

    def __str__(self) -> str:
        return " + ".join(f"{self.shares[name]:g} ({name}: {each})" for name, each in self.columns.items())

    def _mean(self, a: Tensor, b: Tensor, *, apart: bool) -> Tensor:
        total: Tensor | None = None
        shares: Tensor | None = None
        for (each, left, right, known), share in zip(self._slices(a, b), self.shares.values(), strict=True):
            found = (each.distances if apart else each.similarities)(left, right).mul_(share)
            if known is not None:
                found.masked_fill_(~known, 0.0)
                held = known.to(found.dtype).mul_(share)
                shares = held if shares is None else shares.add_(held)
            total = found if total is None else total.add_(found)
        assert total is not None
        if shares is None:
            return total
        nothing = shares == 0
        return total.div_(shares.masked_fill_(nothing, 1.0)).masked_fill_(nothing, 1.0 if apart else 0.0)

    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        return self._mean(a, b, apart=False)

    def complements(self, a: Tensor, b: Tensor) -> Tensor:
        return self._mean(a, b, apart=True)
