"""Kernels of one column of meta-data, or of K numeric ones together.

Shapes: N samples, K columns of numbers; n, m rows of a tile.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError
from spherometer.kernels._kernel import Kernel, Missing, check_missing
from spherometer.kernels._rules import RULES, Rule, bandwidth_by
from spherometer.kernels._table import column, is_table, names_of, numbers

_FEW = 8  # columns whose differences are taken one by one


class Single(Kernel):
    """A kernel of one set of columns: alone, or one column of a mixture."""

    kind: ClassVar[str]
    categorical: ClassVar[bool] = False

    @abstractmethod
    def exponents(self, a: Tensor, b: Tensor) -> Tensor:
        """Exponents e in [0, inf], w = exp(-e), between slices of ``parts``; a new tensor."""

    @abstractmethod
    def parts(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """What tiles are made of, from values without gaps."""

    @abstractmethod
    def fit_values(self, values: Tensor, name: str) -> Self:
        """The kernel with numbers taken from values [N, K] (NaN where missing)."""

    def similarities(self, a: Tensor, b: Tensor) -> Tensor:
        """exp(-e)."""
        return self.exponents(a, b).neg_().exp_()

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """1 - exp(-e)."""
        return self.exponents(a, b).neg_().expm1_().neg_()

    def with_missing(self, missing: Missing) -> Self:
        return replace(self, missing=missing)  # type: ignore[type-var]

    def fit(self, metadata: Any) -> Self:
        function = f"{type(self).__name__}.fit"
        return self.fit_values(self.encode(metadata, function), "metadata")

    def _encoded(self, metadata: Any, function: str) -> Tensor:
        name = "metadata"
        if is_table(metadata):
            names = names_of(metadata)
            if len(names) != 1:
                _checks.refuse(
                    InputError, function, "kernel", "name its columns when the meta-data have several",
                    "it does not know which one to compare", f"{self} and columns {', '.join(names[:8])}",
                    f"Pass kernel={{{names[0] if names else 'age'!r}: {type(self).__name__}(...)}}",
                )  # fmt: skip
            name, metadata = names[0], column(function, metadata, names[0])
        return numbers(function, name, metadata, codes=self.categorical)

    def _rows(self, encoded: Tensor, dtype: torch.dtype) -> Tensor:
        if self.missing != "neutral":  # nothing is missing
            return self.parts(encoded, dtype)
        known = ~torch.isnan(encoded).any(dim=1, keepdim=True)
        rows = self.parts(torch.where(known, encoded, 0.0), dtype)
        return torch.cat([rows, known.to(rows.dtype)], dim=1)

    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        if self.missing != "neutral":
            return self.similarities(a, b)
        return self.similarities(a[:, :-1], b[:, :-1]).mul_(a[:, -1:]).mul_(b[:, -1])

    def complements(self, a: Tensor, b: Tensor) -> Tensor:
        if self.missing != "neutral":
            return self.distances(a, b)
        unknown = (a[:, -1:] * b[:, -1]) == 0
        return self.distances(a[:, :-1], b[:, :-1]).masked_fill_(unknown, 1.0)


@dataclass(frozen=True)
class _Banded(Single):
    """A kernel with a bandwidth, of differences of numbers.

    float32 rows carry the rounding error of every number beside it, so that differences of near values are as
    accurate as those of float64.
    """

    bandwidth: float | Rule = "median"
    _: KW_ONLY
    standardize: bool = False
    missing: Missing = "refuse"
    rule: str | None = None  # where a fitted bandwidth comes from
    scale: tuple[float, ...] | None = None  # what the columns are divided by

    def __post_init__(self) -> None:
        name = type(self).__name__
        if isinstance(self.bandwidth, str):
            _checks.one_of(name, "bandwidth", self.bandwidth, RULES)
        else:
            _checks.positive(name, "bandwidth", self.bandwidth)
        check_missing(name, self.missing)
        if not isinstance(self.standardize, bool):
            _checks.refuse(
                InputError, name, "standardize", "be True or False", "it is a switch",
                repr(self.standardize)[:60], "Pass standardize=True",
            )  # fmt: skip

    @property
    def fitted(self) -> bool:
        return not isinstance(self.bandwidth, str) and (self.scale is not None or not self.standardize)

    def fit_values(self, values: Tensor, name: str) -> Self:
        function = f"{type(self).__name__}.fit"
        known = values[~torch.isnan(values).any(dim=1)]
        scale = self.scale
        if self.standardize and scale is None:
            spread = known.std(dim=0, correction=0) if len(known) else known.new_zeros(values.shape[1])
            if not bool((spread > 0).all()):
                _checks.refuse(
                    InputError, function, name, "vary", "a constant column cannot be standardised",
                    f"{len(known)} rows with the same value in column {int((spread <= 0).nonzero()[0])}",
                    "Leave that column out",
                )  # fmt: skip
            scale = tuple(spread.tolist())
            known = known / spread
        elif scale is not None:
            known = known / known.new_tensor(scale)
        if isinstance(self.bandwidth, str):
            width = bandwidth_by(self.bandwidth, known, function, name)
            return replace(self, bandwidth=width, rule=self.bandwidth, scale=scale)
        return replace(self, scale=scale)

    def scaled(self, factor: float) -> Self:
        _checks.positive(f"{type(self).__name__}.scaled", "factor", factor)
        self.check_fitted(f"{type(self).__name__}.scaled")
        rule = None if self.rule is None else f"{factor:g} x {self.rule}"
        return replace(self, bandwidth=float(self.bandwidth) * factor, rule=rule)

    def to_dict(self) -> dict[str, Any]:
        unit = "standard deviations" if self.standardize else "the column's own"
        scale = None if self.scale is None else list(self.scale)
        found = {
            "kind": self.kind,
            "bandwidth": self.bandwidth,
            "rule": self.rule,
            "unit": unit,
            "scale": scale,
        }
        return found if self.missing == "refuse" else {**found, "missing": self.missing}

    def __str__(self) -> str:
        width = self.bandwidth if isinstance(self.bandwidth, str) else f"{self.bandwidth:g}"
        rule = "" if self.rule is None else f" by the {self.rule} rule"
        return f"{self.kind} kernel, bandwidth {width}{' SD' if self.standardize else ''}{rule}"

    def parts(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        if self.scale is not None:
            if len(self.scale) != values.shape[1]:
                _checks.refuse(
                    ShapeError, "Kernel.rows", "metadata", f"have {len(self.scale)} columns",
                    "the kernel was fitted on so many", f"{values.shape[1]} columns", "Pass the same columns",
                )  # fmt: skip
            values = values / values.new_tensor(self.scale)
        exact = self._positions((values - values.mean(dim=0)) if len(values) else values)
        rounded = exact.to(dtype)
        if dtype == torch.float64:
            return rounded
        return torch.cat(
            [rounded, (exact - rounded.double()).nan_to_num(posinf=0, neginf=0).to(dtype)], dim=1
        )

    def _positions(self, centred: Tensor) -> Tensor:
        return centred / float(self.bandwidth)

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared differences [n, m], in bandwidths."""
        if a.dtype == torch.float64:
            pieces, rest = a.shape[1], 0
        else:
            pieces = rest = a.shape[1] // 2
        if pieces > _FEW:
            return torch.cdist(
                a[:, :pieces], b[:, :pieces], compute_mode="donot_use_mm_for_euclid_dist"
            ).square_()
        total: Tensor | None = None
        for k in range(pieces):
            square = self._difference(a, b, k, rest).square_()
            total = square if total is None else total.add_(square)
        assert total is not None
        return total

    def _difference(self, a: Tensor, b: Tensor, k: int, rest: int) -> Tensor:
        difference = a[:, k, None] - b[:, k]
        if rest:
            difference.add_(a[:, rest + k, None]).sub_(b[:, rest + k])
        return difference


@dataclass(frozen=True)
class Gaussian(_Banded):
    r"""w = exp(-\|y - y'\|^2 / (2 bandwidth^2)), the kernel of y-Aware InfoNCE.

    Args:
        bandwidth: sigma > 0 in the unit of the column (years, not years squared), or the rule that takes it
            from data in ``fit``: "median", "scott" or "silverman".
        standardize: divide every column by its standard deviation first; the bandwidth is then in these.
        missing: "refuse", "neutral" or "drop"; see Kernel.

    Range: (0, 1]. For K columns the distance is Euclidean.
    Source: Dufumier et al. 2021 (y-Aware contrastive learning). Rules and other kernels are ours.

    Example:
        >>> round(float(Gaussian(5.0)([20.0, 25.0])[0, 1]), 4)  # exp(-1 / 2)
        0.6065
    """

    kind = "gaussian"

    def exponents(self, a: Tensor, b: Tensor) -> Tensor:
        return self.squares(a, b).mul_(0.5)


@dataclass(frozen=True)
class Laplace(_Banded):
    r"""w = exp(-\|y - y'\| / bandwidth); arguments as for Gaussian. Sharper near 0, with longer tails.

    Example:
        >>> round(float(Laplace(5.0)([20.0, 25.0])[0, 1]), 4)  # exp(-1)
        0.3679
    """

    kind = "laplace"

    def exponents(self, a: Tensor, b: Tensor) -> Tensor:
        return self.squares(a, b).sqrt_()


@dataclass(frozen=True)
class Epanechnikov(_Banded):
    r"""w = max(0, 1 - \|y - y'\|^2 / bandwidth^2); arguments as for Gaussian. 0 from one bandwidth on.

    Example:
        >>> Epanechnikov(10.0)([20.0, 25.0, 40.0])[0].tolist()
        [1.0, 0.75, 0.0]
    """

    kind = "epanechnikov"

    def exponents(self, a: Tensor, b: Tensor) -> Tensor:
        return self.squares(a, b).clamp_(max=1).neg_().log1p_().neg_()

    def similarities(self, a: Tensor, b: Tensor) -> Tensor:
        return self.squares(a, b).clamp_(max=1).neg_().add_(1)

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return self.squares(a, b).clamp_(max=1)


@dataclass(frozen=True)
class Periodic(Single):
    r"""w = exp(-2 sin^2(pi (y - y') / period) / b^2), b = 2 pi bandwidth / period: hours, angles, seasons.

    Args:
        period: after which values are the same again, > 0.
        bandwidth: > 0, in the unit of the column; small differences have the similarity that Gaussian gives.
        missing: see Kernel.

    Several columns multiply. Range: [exp(-2 / b^2), 1].

    Example:
        >>> Periodic(24.0, 2.0)([23.0, 1.0, 11.0])[0].round(decimals=4).tolist()
        [1.0, 0.6134, 0.0007]
    """

    period: float
    bandwidth: float
    _: KW_ONLY
    missing: Missing = "refuse"
    kind = "periodic"

    def __post_init__(self) -> None:
        _checks.positive("Periodic", "period", self.period)
        _checks.positive("Periodic", "bandwidth", self.bandwidth)
        check_missing("Periodic", self.missing)

    @property
    def fitted(self) -> bool:
        return True

    def fit_values(self, values: Tensor, name: str) -> Self:
        return self

    def scaled(self, factor: float) -> Self:
        _checks.positive("Periodic.scaled", "factor", factor)
        return replace(self, bandwidth=self.bandwidth * factor)

    def to_dict(self) -> dict[str, Any]:
        found = {
            "kind": self.kind, "period": self.period, "bandwidth": self.bandwidth, "unit": "the column's own",
        }  # fmt: skip
        return found if self.missing == "refuse" else {**found, "missing": self.missing}

    def __str__(self) -> str:
        return f"periodic kernel, period {self.period:g}, bandwidth {self.bandwidth:g}"

    def parts(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        angles = values.remainder(self.period) * (math.pi / self.period)
        return torch.cat([angles.sin(), angles.cos()], dim=1).to(dtype)

    def exponents(self, a: Tensor, b: Tensor) -> Tensor:
        half = a.shape[1] // 2
        width = 2 * math.pi * self.bandwidth / self.period
        total = a.new_zeros(len(a), len(b))
        for k in range(half):  # sin(u - v) = sin u cos v - cos u sin v
            sine = a[:, k, None] * b[:, half + k] - a[:, half + k, None] * b[:, k]
            total.add_(sine.square_())
        return total.mul_(2 / width**2)


@dataclass(frozen=True)
class Categorical(Single):
    """w = 1 where the values are equal, else 0: sex, site, scanner. Numbers or strings.

    Example:
        >>> Categorical()(["f", "m", "f"])[0].tolist()
        [1.0, 0.0, 1.0]
    """

    _: KW_ONLY
    missing: Missing = "refuse"
    kind = "categorical"
    categorical = True

    def __post_init__(self) -> None:
        check_missing("Categorical", self.missing)

    @property
    def fitted(self) -> bool:
        return True

    def fit_values(self, values: Tensor, name: str) -> Self:
        return self

    def scaled(self, factor: float) -> Self:
        return self

    def to_dict(self) -> dict[str, Any]:
        return (
            {"kind": self.kind} if self.missing == "refuse" else {"kind": self.kind, "missing": self.missing}
        )

    def __str__(self) -> str:
        return "categorical kernel"

    def parts(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        codes = torch.unique(values, dim=0, return_inverse=True)[1] if len(values) else values[:, 0]
        return codes[:, None].to(dtype)

    def exponents(self, a: Tensor, b: Tensor) -> Tensor:
        found = a.new_zeros(len(a), len(b))
        return found.masked_fill_(a[:, :1] != b[:, 0], math.inf)

    def similarities(self, a: Tensor, b: Tensor) -> Tensor:
        return (a[:, :1] == b[:, 0]).to(a.dtype)

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return (a[:, :1] != b[:, 0]).to(a.dtype)
