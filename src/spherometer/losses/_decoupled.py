r"""Decoupled uniformity: the uniformity of the means of the views, which holds alignment within it.

The mean of V unit vectors is shorter than 1 by as much as they disagree: for two,
\|mu\|^2 = 1 - \|z1 - z2\|^2 / 4. So spreading the means out, as far as the ball lets them, pulls the
views of a sample together.

With a kernel of meta-data the mean of a sample is estimated from all samples, as kernel ridge regression
does: (K + ridge I)^-1 K mu, K the matrix of similarities. It is mu - ridge (K + ridge I)^-1 mu, one system of
equations with D right sides; K, the one N x N matrix of the losses, is refused above 8192 rows.

Shapes: V views, N rows of all ranks, n own rows, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks, pairs
from spherometer.errors import InputError, UndefinedError
from spherometer.kernels import Kernel
from spherometer.losses import _metadata, _ranks, _views
from spherometer.losses._align_uniform import _uniformity
from spherometer.losses._ranks import Gather

MOST_ROWS = 8192  # of a batch with a kernel: 0.5 GiB of similarities


@dataclass(frozen=True)
class _Settings:
    t: float | Tensor
    kernel: Kernel | None
    ridge: float
    gather: Gather


def _settings(function: str, t: Any, kernel: Any, ridge: Any, gather: Any) -> _Settings:
    _views.check_number(function, "t", t)
    _checks.positive(function, "ridge", ridge)
    return _Settings(t, None if kernel is None else _metadata.fitted(function, kernel), float(ridge), gather)


def _entered(
    function: str, z1: Any, z2: Any, metadata: Any, settings: _Settings
) -> tuple[list[Tensor], _metadata.Entered | None]:
    """The views of a call, and what its kernel compares."""
    kernel, gather = settings.kernel, settings.gather
    if kernel is not None:
        given = _metadata.entered(function, kernel, z1, z2, metadata, gather, two=False)
        return given.views, given
    z2, metadata = _metadata.split(z1, z2, metadata)
    views = _views.checked_views(function, z1, z2, gather=gather)
    if metadata is not None:
        _checks.refuse(
            InputError, function, "metadata", "be left out without a kernel", "nothing would compare them",
            "meta-data and kernel=None", "Pass for instance kernel=spherometer.kernels.kernel_for(metadata)",
        )  # fmt: skip
    return views, None


def _centroids(
    function: str, means: Tensor, given: _metadata.Entered, rows: _ranks.Rows, ridge: float
) -> Tensor:
    """Means [N, D] of all ranks, estimated from each other; the weights have no gradient."""
    num = rows.total
    if num > MOST_ROWS:
        _checks.refuse(
            UndefinedError, function, "z1", f"have at most {MOST_ROWS} rows when there is a kernel",
            "the means are estimated through the matrix of all similarities, in O(N^3)", f"{num} rows",
            "Use smaller batches, or no kernel",
        )  # fmt: skip
    similarity = given.similarity(function, rows, torch.float64)
    matrix = similarity.between(0, num, 0, num)
    matrix.fill_diagonal_(1 + ridge)
    wide = means.double()
    estimated: Tensor = wide - ridge * torch.linalg.solve(matrix, wide)
    return estimated.to(means.dtype)


def _decoupled(
    function: str, z1: Any, z2: Any, metadata: Any, settings: _Settings
) -> tuple[Tensor, dict[str, Tensor]]:
    gather = settings.gather
    with _ranks.refusals(gather, z1, z2, metadata):
        _ranks.check_gather(function, gather)
        views, given = _entered(function, z1, z2, metadata, settings)
    with _views.full_precision(views[0]):
        z = _views.on_sphere(views)
        means = z.mean(dim=0)
        rows = _ranks.spread(function, means[None], gather, min_rows=2)
        spread_out = rows
        if given is not None:
            spread_out = replace(
                rows, every=_centroids(function, rows.every[0], given, rows, settings.ridge)[None]
            )
        loss = _uniformity(spread_out.every.unbind(), spread_out, settings.t)
        with torch.no_grad():  # sum_v |z_v - mu|^2 is the sum over pairs of views of |z_v - z_w|^2, over V
            apart, share = (z[0] - z[1], 0.5) if len(z) == 2 else (z - means, 1.0)
            spread = torch.linalg.vecdot(apart, apart).sum(dtype=torch.float64) * share
            alignment = rows.mean(2 * spread, rows.total * (len(views) - 1))
    return _views.result(loss, views[0]), {"alignment": alignment, "uniformity": loss.detach()}


@pairs.outside_graphs
def decoupled_uniformity_loss(
    z1: Tensor,
    z2: Tensor | None = None,
    metadata: Any = None,
    *,
    t: float | Tensor = 2.0,
    kernel: Any = None,
    ridge: float = 0.01,
    gather: Gather = "auto",
) -> Tensor:
    r"""How far the means of the views are from being spread out, to be made small.

    log mean_{i < j} exp(-t \|mu_i - mu_j\|^2), mu_i the mean of the views of sample i, each scaled to
    length 1; the means are not scaled again. With a kernel they are replaced by (K + ridge I)^-1 K mu, K_ij
    the similarity of the meta-data of samples i and j, 1 for i = j.

    Args:
        z1: [N, D] tensor, or [N, V, D] with V >= 2 and no ``z2``; rows are scaled to length 1 inside.
        z2: [N, D], row i belongs to row i of ``z1``.
        metadata: with a kernel: [N] or [N, K] tensor, or a mapping column -> N values. After one [N, V, D]
            tensor they may be the second argument. No gradient.
        t: sharpness > 0, a number or a 0-dim tensor, which gets its gradient.
        kernel: a fitted kernel of ``spherometer.kernels``, or a dict column -> kernel; None: no meta-data.
        ridge: > 0, how little the means are trusted. A small bandwidth (distinct meta-data) gives mu / (1 +
            ridge).
        gather: "auto": under a process group of several ranks, the loss of the rows of all ranks, the same
            on every rank; N counts them all. False: of these rows alone, for calls that not every rank makes.

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: [-2 t N / (N - 1), 0], lower is better: lowest for aligned views on a simplex; 0 when collapsed,
    and also when the views of every sample cancel out. Aligned views give ``uniform_loss``.

    Raises:
        ShapeError, UndefinedError: wrong shapes, fewer than 2 rows, or more than 8192 with a kernel.
        InputError: wrong kind, dtype, t or ridge, meta-data without a kernel or a kernel without them. NaN
            and infinity are not refused: the loss becomes NaN.

    Cost: as ``uniform_loss`` of one view: O(N^2 D) time, O(V N D) memory. With a kernel, O(N^3) time and the
    N x N matrix of similarities in float64, on every rank. Differentiable twice up to 1024 rows.
    Source: Dufumier et al. 2023 (decoupled uniformity), and its code; ridge is its lambda.

    Example:
        >>> round(float(decoupled_uniformity_loss(torch.eye(4), torch.eye(4))), 4)
        -4.0
        >>> float(decoupled_uniformity_loss(torch.eye(4), -torch.eye(4)))
        0.0
    """
    function = "decoupled_uniformity_loss"
    return _decoupled(function, z1, z2, metadata, _settings(function, t, kernel, ridge, gather))[0]


class DecoupledUniformityLoss(nn.Module):
    r"""``decoupled_uniformity_loss`` as a module; see there for the formula, ranges and errors.

    Args:
        t: sharpness > 0; pass an ``nn.Parameter`` of shape () to learn it.
        kernel: None, or a fitted kernel: ``kernel.fit(metadata)`` once, on the whole set.
        ridge: > 0, with a kernel.
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

    def __init__(
        self, t: float | Tensor = 2.0, kernel: Any = None, ridge: float = 0.01, gather: Gather = "auto"
    ) -> None:
        super().__init__()
        settings = _settings("DecoupledUniformityLoss", t, kernel, ridge, gather)
        _ranks.check_gather("DecoupledUniformityLoss", gather)
        self.t = t
        self.kernel = settings.kernel
        self.ridge = settings.ridge
        self.gather: Gather = gather
        self.terms: dict[str, Tensor] = {}

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None, metadata: Any = None) -> Tensor:
        """The loss of two views [N, D], or of one [N, V, D] tensor; with a kernel, and the meta-data."""
        settings = _Settings(self.t, self.kernel, self.ridge, self.gather)
        loss, self.terms = _decoupled("DecoupledUniformityLoss", z1, z2, metadata, settings)
        return loss

    def extra_repr(self) -> str:
        """The settings."""
        kernel = "" if self.kernel is None else f", kernel={self.kernel}, ridge={self.ridge:g}"
        return f"t={_views.shown(self.t)}{kernel}{_ranks.shown(self.gather)}"
