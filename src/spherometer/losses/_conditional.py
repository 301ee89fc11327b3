r"""Alignment and uniformity conditional on meta-data, as losses.

Conditional alignment pulls a row to the rows of the other view in proportion to the similarity of their
meta-data; conditional uniformity repels rows of a view in proportion to 1 - similarity. They are those of
``metrics``, from the same sums in ``pairs``, taken over the rows of all ranks.

Shapes: N samples of all ranks, n own samples, two views, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks, pairs
from spherometer.kernels import Kernel
from spherometer.losses import _metadata, _ranks, _views
from spherometer.losses._align_uniform import _alignment, _uniformity
from spherometer.losses._metadata import own_rows
from spherometer.losses._ranks import Gather, Rows
from spherometer.metrics._conditional import Form, checked_form

_NAMES = ("align_weight", "uniform_weight", "instance_align_weight", "global_uniform_weight")


@dataclass(frozen=True)
class _Settings:
    kernel: Kernel
    weights: tuple[float, float, float, float]  # as _NAMES
    alpha: float
    t: float | Tensor
    form: Form
    threshold: float | None
    gather: Gather


def _check(function: str, settings: _Settings) -> None:
    for name, weight in zip(_NAMES, settings.weights, strict=True):
        _views.check_weight(function, name, weight)
    _views.check_weights(function, "the four weights", settings.weights)
    _checks.positive(function, "alpha", settings.alpha, at_least=1)
    _views.check_number(function, "t", settings.t)
    checked_form(function, settings.form, settings.threshold)


def _conditional_alignment(
    rows: Rows, views: Sequence[Tensor], similarity: pairs.Similarity, alpha: float
) -> Tensor:
    """mean_i sum_j a_ij |x_i - y_j|^alpha, float64: x the first view, y the second."""
    if rows.world == 1:
        return pairs.anchor_mean(views[0], views[1], similarity, alpha)
    own = rows.own[0]
    return rows.average(pairs.anchor_distances(own, views[1], similarity, alpha, own=own_rows(rows)))


def _conditional_uniformity(
    function: str, rows: Rows, views: Sequence[Tensor], similarity: pairs.Similarity, settings: _Settings
) -> Tensor:
    """Mean over views of the log of the mean potential of dissimilar samples, float64."""
    threshold = checked_form(function, settings.form, settings.threshold)
    (first, mass), (second, _) = (
        pairs.conditional_potential(view, settings.t, similarity, threshold=threshold, own=own_rows(rows))
        for view in views
    )
    if rows.world > 1:
        first, second, mass = rows.log_sum(torch.stack([first, second, mass])).unbind()
    if float(mass.detach()) == -math.inf:  # the same on every rank
        pairs.refuse_all_alike(function, rows.total)
    count = math.log(rows.total * (rows.total - 1)) if settings.form == "mean" else mass.detach()
    return (first + second) / 2 - count


def _conditional(
    function: str, z1: Any, z2: Any, metadata: Any, settings: _Settings
) -> tuple[Tensor, dict[str, Tensor]]:
    with _ranks.refusals(settings.gather, z1, z2, metadata):
        _ranks.check_gather(function, settings.gather)
        _check(function, settings)
        given = _metadata.entered(function, settings.kernel, z1, z2, metadata, settings.gather)
    like = given.views[0]
    terms: dict[str, Tensor] = {}
    with _views.full_precision(like):
        rows = _ranks.spread(function, _views.on_sphere(given.views), settings.gather, min_rows=2)
        similarity, views = given.similarity(function, rows, rows.every.dtype), rows.every.unbind()
        align, uniform, instance_align, global_uniform = settings.weights
        total = like.new_zeros((), dtype=torch.float64)
        if align:
            terms["conditional_alignment"] = _conditional_alignment(rows, views, similarity, settings.alpha)
            total = total + align * terms["conditional_alignment"]
        if uniform:
            terms["conditional_uniformity"] = _conditional_uniformity(
                function, rows, views, similarity, settings
            )
            total = total + uniform * terms["conditional_uniformity"]
        if instance_align:
            terms["alignment"] = _alignment(rows.own.unbind(), rows, settings.alpha)
            total = total + instance_align * terms["alignment"]
        if global_uniform:
            terms["uniformity"] = _uniformity(views, rows, settings.t)
            total = total + global_uniform * terms["uniformity"]
    return _views.result(total, like), {name: term.detach() for name, term in terms.items()}


@pairs.outside_graphs
def conditional_align_uniform_loss(
    z1: Tensor,
    z2: Tensor | None = None,
    metadata: Any = None,
    *,
    kernel: Any,
    align_weight: float = 1.0,
    uniform_weight: float = 1.0,
    instance_align_weight: float = 0.0,
    global_uniform_weight: float = 0.0,
    alpha: float = 2.0,
    t: float | Tensor = 2.0,
    form: Form = "normalized",
    threshold: float | None = None,
    gather: Gather = "auto",
) -> Tensor:
    r"""Weighted sum of conditional and plain alignment and uniformity, to be made small.

    With similarities w_ij of the meta-data, a_ij = w_ij / sum_k w_ik and v_ij = 1 - w_ij:

    * conditional alignment, mean_i sum_j a_ij \|z1_i - z2_j\|^alpha, j over all rows: rows of the first view
      are pulled to those rows of the second whose meta-data are similar;
    * conditional uniformity, log( sum_{i<j} v_ij e^{-t \|z_i - z_j\|^2} / sum_{i<j} v_ij ) within each
      view, the mean of both: only samples with dissimilar meta-data repel each other;
    * alignment and uniformity as in ``align_uniform_loss``, which know no meta-data.

    Args:
        z1: [N, D] tensor, or [N, 2, D] and no ``z2``; rows are scaled to length 1 inside.
        z2: [N, D], row i belongs to row i of ``z1``.
        metadata: [N] or [N, K] tensor, or a mapping column -> N values; entry i belongs to row i of both
            views. After one [N, 2, D] tensor they may be the second argument. No gradient.
        kernel: a fitted kernel of ``spherometer.kernels``, or a dict column -> kernel. Rows that
            ``missing="drop"`` leaves out are left out of the loss.
        align_weight: weight of conditional alignment, >= 0.
        uniform_weight: weight of conditional uniformity, >= 0.
        instance_align_weight: weight of alignment, >= 0.
        global_uniform_weight: weight of uniformity, >= 0. A term of weight 0 is not computed.
        alpha: power of the distance, at least 1.
        t: sharpness > 0, a number or a 0-dim tensor, which gets its gradient.
        form: of conditional uniformity. "normalized": as above. "mean": the sum of v is replaced by the
            number of pairs, another constant for the same meta-data. "threshold": v_ij = 1 where w_ij <
            ``threshold``, else 0, normalised.
        threshold: of the similarity, in (0, 1]; 0.5 if left out.
        gather: "auto": under a process group of several ranks, the loss of the rows and meta-data of all
            ranks, the same on every rank; N counts them all. False: of these rows alone, for calls that not
            every rank makes.

    A small bandwidth (distinct meta-data) gives ``align_uniform_loss``, whose two terms are the limits of the
    conditional ones. A large one gives the mean over all pairs, and pairs weighted by the square of their
    difference (Gaussian).

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: lower is better. Conditional alignment is in [0, 2^alpha], conditional uniformity ("normalized" and
    "threshold") in [-4 t, 0]. The uniform law does not minimise it: samples with the same meta-data may
    coincide.

    Raises:
        ShapeError, UndefinedError: wrong shapes, fewer than 2 rows, a kernel without numbers as bandwidths,
            or conditional uniformity of meta-data that are all alike.
        InputError: wrong kind, dtype, weights, alpha, t or threshold, unknown columns, or missing meta-data
            that the kernel does not allow. NaN and infinity in rows are not refused: the loss becomes NaN.

    Cost: O(N^2 D) time; O(N D) memory. For alpha other than 2, conditional alignment takes every pair's
    distance in float64.
    Source: Dufumier et al. 2021 (conditional alignment and uniformity for contrastive learning with
    continuous proxy labels), its idea: the paper's formulas were not seen, and these, the three forms among
    them, are ours.

    Example:
        >>> from spherometer.kernels import Categorical
        >>> z, sex = torch.eye(4)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])
        >>> round(float(conditional_align_uniform_loss(z, z, sex, kernel=Categorical())), 4)
        -4.0
    """
    function = "conditional_align_uniform_loss"
    weights = (align_weight, uniform_weight, instance_align_weight, global_uniform_weight)
    settings = _Settings(_metadata.fitted(function, kernel), weights, alpha, t, form, threshold, gather)
    return _conditional(function, z1, z2, metadata, settings)[0]


class ConditionalAlignUniformLoss(nn.Module):
    """``conditional_align_uniform_loss`` as a module; see there for the formulas, ranges and errors.

    Args:
        kernel: a fitted kernel, or a dict column -> kernel: ``kernel.fit(metadata)`` once, on the whole set.
        align_weight: weight of conditional alignment, >= 0.
        uniform_weight: weight of conditional uniformity, >= 0.
        instance_align_weight: weight of alignment, >= 0.
        global_uniform_weight: weight of uniformity, >= 0.
        alpha: power of the distance, at least 1.
        t: sharpness > 0; pass an ``nn.Parameter`` of shape () to learn it.
        form: "normalized", "mean" or "threshold".
        threshold: of the similarity, for form="threshold".
        gather: "auto" or False, as there.

    ``terms`` holds the detached parts of the last call, unweighted (float64, shape ()), those that have a
    weight: ``conditional_alignment``, ``conditional_uniformity``, ``alignment`` and ``uniformity``.

    Example:
        >>> from spherometer.kernels import Gaussian
        >>> loss = ConditionalAlignUniformLoss(Gaussian(5.0), 0.0, 1.0, instance_align_weight=1.0)
        >>> value = loss(torch.eye(4), torch.eye(4), torch.tensor([20.0, 25.0, 40.0, 60.0]))
        >>> {name: round(float(term), 4) for name, term in loss.terms.items()}
        {'conditional_uniformity': -4.0, 'alignment': 0.0}
    """

    name = "conditional_align_uniform"

    def __init__(
        self,
        kernel: Any,
        align_weight: float = 1.0,
        uniform_weight: float = 1.0,
        *,
        instance_align_weight: float = 0.0,
        global_uniform_weight: float = 0.0,
        alpha: float = 2.0,
        t: float | Tensor = 2.0,
        form: Form = "normalized",
        threshold: float | None = None,
        gather: Gather = "auto",
    ) -> None:
        super().__init__()
        name = "ConditionalAlignUniformLoss"
        self.kernel = _metadata.fitted(name, kernel)
        _ranks.check_gather(name, gather)
        self.align_weight = align_weight
        self.uniform_weight = uniform_weight
        self.instance_align_weight = instance_align_weight
        self.global_uniform_weight = global_uniform_weight
        self.alpha = alpha
        self.t = t
        self.form: Form = form
        self.threshold = threshold
        self.gather: Gather = gather
        self.terms: dict[str, Tensor] = {}
        _check(name, self._settings())

    def _settings(self) -> _Settings:
        weights = (
            self.align_weight,
            self.uniform_weight,
            self.instance_align_weight,
            self.global_uniform_weight,
        )
        return _Settings(self.kernel, weights, self.alpha, self.t, self.form, self.threshold, self.gather)

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None, metadata: Any = None) -> Tensor:
        """The loss of two views [N, D], or of one [N, 2, D] tensor, and the meta-data of the rows."""
        loss, self.terms = _conditional("ConditionalAlignUniformLoss", z1, z2, metadata, self._settings())
        return loss

    def extra_repr(self) -> str:
        """The settings."""
        weights = ", ".join(
            f"{name}={value}" for name, value in zip(_NAMES, self._settings().weights, strict=True) if value
        )
        shown = f"{self.kernel}; {weights}, alpha={self.alpha}, t={_views.shown(self.t)}, form={self.form!r}"
        shown += "" if self.threshold is None else f", threshold={self.threshold}"
        return shown + _ranks.shown(self.gather)
