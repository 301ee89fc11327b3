"""Hyperspherical energy as a loss: rows repel each other as charges do.

Shapes: V views, N rows of all ranks, D dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks, pairs
from spherometer.losses import _ranks, _views
from spherometer.losses._ranks import Gather, Rows


def _checked(function: str, z1: Any, z2: Any, gather: Gather) -> list[Tensor]:
    """The views of a call; one set alone is enough: energy needs no pairs of views."""
    if z2 is None and isinstance(z1, Tensor) and (z1.ndim == 2 or (z1.ndim == 3 and z1.shape[1] == 1)):
        return _checks.tensor_set(function, ("z1",), (z1.flatten(1) if z1.ndim == 3 else z1,), min_rows=0)
    return _views.checked_views(function, z1, z2, gather=gather)


def _mean_energy(rows: Rows, power: float, eps: float) -> Tensor:
    """Mean over views of the mean over pairs within the view, float64."""
    if rows.world == 1:
        values = [pairs.riesz_energy(view, power, floor=eps) for view in rows.every.unbind()]
        return values[0] if len(values) == 1 else torch.stack(values).mean()
    sums = [
        pairs.riesz_sum(own, every, power, floor=eps, skip=rows.start)
        for own, every in zip(rows.own.unbind(), rows.every.unbind(), strict=True)
    ]
    return rows.mean(torch.stack(sums), rows.total * (rows.total - 1)).mean()


def _energy(
    function: str, z1: Any, z2: Any, power: float, eps: float, gather: Gather
) -> tuple[Tensor, dict[str, Tensor]]:
    with _ranks.refusals(gather, z1, z2):
        _ranks.check_gather(function, gather)
        _checks.exponent(function, "power", power)
        _checks.positive(function, "eps", eps)
        views = _checked(function, z1, z2, gather)
    with _views.full_precision(views[0]):
        rows = _ranks.spread(function, _views.on_sphere(views), gather, min_rows=2)
        loss = _mean_energy(rows, float(power), float(eps))
    return _views.result(loss, views[0]), {"energy": loss.detach()}


@pairs.outside_graphs
def hyperspherical_energy_loss(
    z1: Tensor,
    z2: Tensor | None = None,
    *,
    power: float = 1.0,
    eps: float = 1e-6,
    gather: Gather = "auto",
) -> Tensor:
    r"""How strongly the rows would repel each other as charges on the sphere, to be made small.

    mean_{i < j} \|z_i - z_j\|^-power within each view, averaged over views; for power 0 the mean of
    log(1 / \|z_i - z_j\|).

    Args:
        z1: [N, D] tensor, or [N, V, D] with V >= 1 and no ``z2``; rows are scaled to length 1 inside. One
            set alone is enough (the weights of a layer, for instance).
        z2: [N, D], a second view, with an energy of its own: views do not repel each other.
        power: exponent >= 0: the larger, the more the nearest pairs count.
        eps: least squared distance: nearer pairs count as if they were sqrt(eps) apart and have no
            gradient, so that coinciding rows (and their gradient) stay finite.
        gather: "auto": under a process group of several ranks, the loss of the rows of all ranks, the same
            on every rank; N counts them all. False: of these rows alone, for calls that not every rank makes.

    It says nothing about positive pairs: add ``align_loss``, as ``CombinedLoss`` does.

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: [2^-power, eps^(-power / 2)], lower is better ([-log 2, -log(eps) / 2] for power 0); evenly
    spread rows give about 2^(-power / 2) in many dimensions, exactly ``sphere.expected_energy(D, power)``.

    Raises:
        ShapeError, UndefinedError: wrong shapes, or fewer than 2 rows.
        InputError: wrong kind, dtype, power or eps. NaN and infinity are not refused: the loss becomes NaN.

    Cost: V times O(N^2 D) time, O(N D) memory; value and gradient in one pass: 1.5 times the time of
    ``uniform_loss`` in 128 dimensions, 4 times in 16 or where many rows are near each other. Differentiable
    twice up to 1024 rows.
    Source: Liu et al. 2018 (minimum hyperspherical energy), equation 1, divided by the number of pairs.
    ``eps`` is ours.

    Example:
        >>> round(float(hyperspherical_energy_loss(torch.eye(4), power=2.0)), 4)
        0.5
    """
    return _energy("hyperspherical_energy_loss", z1, z2, power, eps, gather)[0]


class HypersphericalEnergyLoss(nn.Module):
    """``hyperspherical_energy_loss`` as a module; see there for the formula, ranges and errors.

    Args:
        power: exponent >= 0; 0 is the logarithmic energy.
        eps: least squared distance.
        gather: "auto" or False, as there.

    ``terms`` holds the detached ``energy`` of the last call (float64, shape ()).

    Example:
        >>> loss = HypersphericalEnergyLoss(power=0)
        >>> round(float(loss(torch.eye(4), torch.eye(4))), 4)  # log(1 / sqrt 2)
        -0.3466
    """

    name = "hyperspherical_energy"

    def __init__(self, power: float = 1.0, eps: float = 1e-6, gather: Gather = "auto") -> None:
        super().__init__()
        _checks.exponent("HypersphericalEnergyLoss", "power", power)
        _checks.positive("HypersphericalEnergyLoss", "eps", eps)
        _ranks.check_gather("HypersphericalEnergyLoss", gather)
        self.power, self.eps = power, eps
        self.gather: Gather = gather
        self.terms: dict[str, Tensor] = {}

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None) -> Tensor:
        """The loss of two views [N, D], of one [N, V, D] tensor, or of one set [N, D]."""
        loss, self.terms = _energy("HypersphericalEnergyLoss", z1, z2, self.power, self.eps, self.gather)
        return loss

    def extra_repr(self) -> str:
        """The settings."""
        return f"power={self.power}, eps={self.eps}{_ranks.shown(self.gather)}"
