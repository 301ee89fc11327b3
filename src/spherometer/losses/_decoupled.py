r"""Decoupled uniformity: the uniformity of the means of the views, which holds alignment within it.

The mean of V unit vectors is shorter than 1 by as much as they disagree: for two,
\|mu\|^2 = 1 - \|z1 - z2\|^2 / 4. So spreading the means out, as far as the ball lets them, pulls the
views of a sample together.

Shapes: V views, N rows of all ranks, n own rows, D dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spherometer import pairs
from spherometer.losses import _ranks, _views
from spherometer.losses._align_uniform import _uniformity
from spherometer.losses._ranks import Gather


def _decoupled(
    function: str, z1: Tensor, z2: Tensor | None, t: float | Tensor, gather: Gather
) -> tuple[Tensor, dict[str, Tensor]]:
    with _ranks.refusals(gather, z1, z2):
        _ranks.check_gather(function, gather)
        _views.check_number(function, "t", t)
        views = _views.checked_views(function, z1, z2, gather=gather)
    with _views.full_precision(views[0]):
        z = _views.on_sphere(views)
        means = z.mean(dim=0)
        rows = _ranks.spread(function, means[None], gather, min_rows=2)
        loss = _uniformity((means,), rows, t)
        with torch.no_grad():  # sum_v |z_v - mu|^2 is the sum over pairs of views of |z_v - z_w|^2, over V
            spread = (z - means).square().sum(dim=2).double().sum()
            alignment = rows.mean(2 * spread, rows.total * (len(views) - 1))
    return _views.result(loss, views[0]), {"alignment": alignment, "uniformity": loss.detach()}


@pairs.outside_graphs
def decoupled_uniformity_loss(
    z1: Tensor, z2: Tensor | None = None, *, t: float | Tensor = 2.0, gather: Gather = "auto"
) -> Tensor:
    r"""How far the means of the views are from being spread out, to be made small.

    log mean_{i < j} exp(-t \|mu_i - mu_j\|^2), mu_i the mean of the views of sample i, each scaled to
    length 1; the means are not scaled again.

    Args:
        z1: [N, D] tensor, or [N, V, D] with V >= 2 and no ``z2``; rows are scaled to length 1 inside.
        z2: [N, D], row i belongs to row i of ``z1``.
        t: sharpness > 0, a number or a 0-dim tensor, which gets its gradient.
        gather: "auto": under a process group of several ranks, the loss of the rows of all ranks, the same
            on every rank; N counts them all. False: of these rows alone, for calls that not every rank makes.

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: [-2 t N / (N - 1), 0], lower is better: lowest for aligned views on a simplex; 0 when collapsed,
    and also when the views of every sample cancel out. Aligned views give ``uniform_loss``.

    Raises:
        ShapeError, UndefinedError: wrong shapes, or fewer than 2 rows.
        InputError: wrong kind, dtype or t. NaN and infinity are not refused: the loss becomes NaN.

    Cost: as ``uniform_loss`` of one view: O(N^2 D) time, O(V N D) memory. Differentiable twice up to 1024
    rows.
    Source: Dufumier et al. 2023 (decoupled uniformity), the form without kernel, as in its code.

    Example:
        >>> round(float(decoupled_uniformity_loss(torch.eye(4), torch.eye(4))), 4)
        -4.0
        >>> float(decoupled_uniformity_loss(torch.eye(4), -torch.eye(4)))
        0.0
    """
    return _decoupled("decoupled_uniformity_loss", z1, z2, t, gather)[0]


class DecoupledUniformityLoss(nn.Module):
    r"""``decoupled_uniformity_loss`` as a module; see there for the formula, ranges and errors.

    Args:
        t: sharpness > 0; pass an ``nn.Parameter`` of shape () to learn it.
        gather: "auto" or False, as there.

    ``terms`` holds the detached parts of the last call (float64, shape ()): ``uniformity``, the loss itself,
    and ``alignment``, the mean squared distance over pairs of views, which for two of them is
    4 (1 - mean \|mu\|^2).

    Example:
        >>> loss = DecoupledUniformityLoss()
        >>> value = loss(torch.eye(4), torch.eye(4).flip(0))
        >>> {name: round(float(term), 4) for name, term in loss.terms.items()}
        {'alignment': 2.0, 'uniformity': -0.8591}
    """

    name = "decoupled_uniformity"

    def __init__(self, t: float | Tensor = 2.0, gather: Gather = "auto") -> None:
        super().__init__()
        _views.check_number("DecoupledUniformityLoss", "t", t)
        _ranks.check_gather("DecoupledUniformityLoss", gather)
        self.t = t
        self.gather: Gather = gather
        self.terms: dict[str, Tensor] = {}

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None) -> Tensor:
        """The loss of two views [N, D], or of one [N, V, D] tensor."""
        loss, self.terms = _decoupled("DecoupledUniformityLoss", z1, z2, self.t, self.gather)
        return loss

    def extra_repr(self) -> str:
        """The settings."""
        return f"t={_views.shown(self.t)}{_ranks.shown(self.gather)}"
