"""A weighted sum of losses.

Shapes: N rows, V views, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks, pairs
from spherometer.errors import InputError
from spherometer.losses import _views


class CombinedLoss(nn.Module):
    """Weighted sum of losses of the same views, for instance alignment + uniformity + InfoNCE.

    sum_k weight_k * loss_k(z1, z2)

    Args:
        parts: a sequence of (weight, loss) with weights >= 0, not all 0, and modules called as
            ``loss(z1, z2)`` or ``loss(z)``. ``gather=`` and ``queue=`` are settings of each.

    ``terms`` holds the detached parts of the last call: the unweighted value of each loss under its name
    (``align_uniform``, ``info_nce``, ``nt_xent``, otherwise its class), and its own terms as
    ``name.term``. A second loss of the same name is ``name_2``.

    Raises:
        InputError: no parts, a part that is not (weight, module), or unusable weights.

    Cost: the sum of its parts.

    Example:
        >>> from spherometer.losses import AlignUniformLoss, InfoNCELoss
        >>> loss = CombinedLoss([(1.0, AlignUniformLoss()), (0.5, InfoNCELoss(0.5))])
        >>> value = loss(torch.eye(4), torch.eye(4))
        >>> sorted(loss.terms)[:3]
        ['align_uniform', 'align_uniform.alignment', 'align_uniform.uniformity']
    """

    name = "combined"

    def __init__(self, parts: Sequence[tuple[float, nn.Module]]) -> None:
        super().__init__()
        listed = _listed(parts)
        for index, (weight, _) in enumerate(listed):
            _views.check_weight("CombinedLoss", f"parts[{index}][0]", weight)
        self.weights = [float(weight) for weight, _ in listed]
        _views.check_weights("CombinedLoss", "the weights of parts", self.weights)
        self.losses = nn.ModuleList(loss for _, loss in listed)
        self._names = _names(self.losses)
        self.terms: dict[str, Tensor] = {}

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None) -> Tensor:
        """The loss of two views [N, D], or of one [N, V, D] tensor."""
        views = (z1,) if z2 is None else (z1, z2)
        total: Tensor | None = None
        terms: dict[str, Tensor] = {}
        for name, weight, loss in zip(self._names, self.weights, self.losses, strict=True):
            # a loss without weight is measured, and left out of the graph
            with torch.set_grad_enabled(torch.is_grad_enabled() and weight != 0):
                value = loss(*views)
            terms[name] = value.detach()
            terms.update({f"{name}.{term}": part for term, part in getattr(loss, "terms", {}).items()})
            if weight != 0:
                total = weight * value if total is None else total + weight * value
        self.terms = terms
        assert total is not None  # the weights are not all 0
        return total

    def extra_repr(self) -> str:
        """The weights."""
        return f"weights={self.weights}"


def _listed(parts: Any) -> list[tuple[float, nn.Module]]:
    listed = list(parts) if isinstance(parts, (list, tuple)) else []
    usable = bool(listed) and all(
        isinstance(part, (list, tuple)) and len(part) == 2 and isinstance(part[1], nn.Module)
        for part in listed
    )
    if not usable:
        _checks.refuse(
            InputError,
            "CombinedLoss",
            "parts",
            "be a list of (weight, loss) with at least one entry",
            "each loss module needs its weight",
            repr(parts)[:80],
            "Pass for instance [(1.0, AlignUniformLoss()), (0.5, InfoNCELoss())]",
        )
    return [(part[0], part[1]) for part in listed]


def _names(losses: nn.ModuleList) -> list[str]:
    names: list[str] = []
    for loss in losses:
        name = str(getattr(loss, "name", type(loss).__name__))
        count = 1 + sum(seen == name or seen.startswith(f"{name}_") for seen in names)
        names.append(name if count == 1 else f"{name}_{count}")
    return names
