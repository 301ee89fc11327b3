"""Metrics for torchmetrics: update / compute / reset, the same value for any batches and any number of ranks.

Alignment is a mean, so a sum and a count are enough. Uniformity and the ranks belong to a set of rows and
cannot be merged from numbers: their state is the rows, which grow with the data.

Shapes: B rows of a batch, D dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spherometer import _checks, metrics, sphere
from spherometer._checks import Features, NanPolicy
from spherometer.errors import ShapeError, UndefinedError
from spherometer.metrics import _alignment

_torchmetrics = _checks.extra("torchmetrics", "lightning", "integrations.torchmetrics")
_Metric: Any = _torchmetrics.Metric


class Alignment(_Metric):  # type: ignore[misc]
    """``sm.alignment`` of all pairs seen: the mean distance to the power ``alpha``, in float64.

    Args:
        alpha: power of the distance, > 0.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" the pair.
        kwargs: of ``torchmetrics.Metric``.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(
        self, *, alpha: float = 2.0, normalize: bool = True, nan: NanPolicy = "refuse", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        _checks.positive("Alignment", "alpha", alpha)
        self.alpha, self.normalize, self.nan = float(alpha), normalize, nan
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add the pairs of a batch, [B, D] each."""
        sides = _alignment.checked_pairs(
            "Alignment.update", x, y, self.alpha, normalize=self.normalize, nan=self.nan
        )
        first, second = (side.rows.detach() for side in sides)
        distances = _alignment.pair_distances(first, second, self.alpha, normalize=self.normalize)
        self.total += distances.sum()
        self.count += len(distances)

    def compute(self) -> Tensor:
        """The mean over all pairs, float64."""
        if not int(self.count):
            _refuse_empty("Alignment.compute", 1)
        return self.total / self.count


class _OfRows(_Metric):  # type: ignore[misc]
    """A metric of a set of rows: it keeps them all, as they come."""

    higher_is_better: bool | None = None
    is_differentiable = False
    full_state_update = False
    rows: list[Tensor] | Tensor
    fewest = 1

    def __init__(self, *, normalize: bool, nan: NanPolicy, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalize, self.nan = normalize, nan
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, z: Tensor) -> None:
        """Add the rows of a batch, [B, D]."""
        checked = self._checked(z)
        assert isinstance(self.rows, list)
        self.rows.append(checked.rows.detach().clone())

    def compute(self) -> Tensor:
        """The value of all rows."""
        # a list on one rank, joined already after an exchange between several
        rows = [self.rows] if isinstance(self.rows, Tensor) else self.rows
        if sum(map(len, rows)) < self.fewest:
            if self._is_synced:
                self.unsync()  # the rows of this rank come back before the error leaves
            _refuse_empty(f"{type(self).__name__}.compute", self.fewest)
        return self._value(torch.cat([part for part in rows if len(part)]))

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        """Exchange the rows; a rank without any first learns their width and dtype from the others."""
        gather = dist_sync_fn or _torchmetrics.utilities.distributed.gather_all_tensors
        assert isinstance(self.rows, list)
        own = (self.rows[0].shape[1], int(self.rows[0].dtype == torch.float64)) if self.rows else (0, 0)
        kinds = gather(torch.tensor(own, device=self.device), group=process_group or self.process_group)
        found = sorted({tuple(kind.tolist()) for kind in kinds} - {(0, 0)})
        if len(found) > 1:
            name = f"{type(self).__name__}.compute"
            shown = ", ".join(f"{width} columns of float{64 if double else 32}" for width, double in found)
            _checks.refuse(
                ShapeError,
                name,
                "z",
                "have one width and dtype on all ranks",
                "the rows of all ranks are one set",
                shown,
                "Pass the output of one encoder everywhere",
            )
        if found and not self.rows:
            dtype = torch.float64 if found[0][1] else torch.float32
            self.rows = [torch.empty(0, found[0][0], dtype=dtype, device=self.device)]
        super()._sync_dist(gather, process_group)

    def _checked(self, z: Tensor) -> Features:
        return _checks.features(f"{type(self).__name__}.update", "z", z, nan=self.nan)

    def _value(self, z: Tensor) -> Tensor:
        raise NotImplementedError


class Uniformity(_OfRows):
    """``sm.uniformity`` of all rows seen, as one set: not a mean over batches.

    Args:
        t: sharpness of the potential, > 0.
        estimator: "u" leaves self pairs out, "v" keeps them.
        normalize: scale rows to length 1 first; False says that they have length 1, and that is checked.
        nan: "refuse" rows with NaN or infinity, or "drop" them.
        kwargs: of ``torchmetrics.Metric``.

    Cost: memory of all rows; ``compute`` takes O(N^2 D).
    """

    higher_is_better = False
    fewest = 2

    def __init__(
        self,
        *,
        t: float = 2.0,
        estimator: str = "u",
        normalize: bool = True,
        nan: NanPolicy = "refuse",
        **kwargs: Any,
    ) -> None:
        super().__init__(normalize=normalize, nan=nan, **kwargs)
        _checks.positive("Uniformity", "t", t)
        _checks.one_of("Uniformity", "estimator", estimator, ("u", "v"))
        self.t, self.estimator = float(t), estimator

    def _checked(self, z: Tensor) -> Features:
        checked = super()._checked(z)
        sphere.unit_rows("Uniformity.update", "z", checked, scale=self.normalize)
        return checked

    def _value(self, z: Tensor) -> Tensor:
        value: Tensor = metrics.uniformity(
            z, t=self.t, estimator="v" if self.estimator == "v" else "u", normalize=self.normalize
        )
        return value


class EffectiveRank(_OfRows):
    """``sm.effective_rank`` of all rows seen.

    Args:
        normalize: scale rows to length 1 first.
        nan: "refuse" rows with NaN or infinity, or "drop" them.
        kwargs: of ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def __init__(self, *, normalize: bool = False, nan: NanPolicy = "refuse", **kwargs: Any) -> None:
        super().__init__(normalize=normalize, nan=nan, **kwargs)

    def _value(self, z: Tensor) -> Tensor:
        value: Tensor = metrics.effective_rank(z, normalize=self.normalize)
        return value


class RankMe(EffectiveRank):
    """``sm.rankme`` of all rows seen; arguments as ``EffectiveRank``."""

    def _value(self, z: Tensor) -> Tensor:
        value: Tensor = metrics.rankme(z, normalize=self.normalize)
        return value


def _refuse_empty(function: str, fewest: int) -> None:
    _checks.refuse(
        UndefinedError,
        function,
        "state",
        f"hold at least {fewest} row{'s' if fewest > 1 else ''}",
        "nothing is defined without",
        "fewer on all ranks together",
        "Call update first",
    )
