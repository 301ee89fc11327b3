r"""y-Aware InfoNCE: every sample attracts every other as far as their meta-data are similar.

With weights a_ij that add up to 1 over the positives j of row i, the loss of a row is
log sum_k e^{s_ik} - sum_j a_ij s_ij. It is computed as the loss of the row's own positive p, as in InfoNCE
and NT-Xent, plus sum_j a_ij (s_ip - s_ij), a product of the row with the difference of its partner from a
weighted mean: exactly 0 where the kernel knows nobody else, so the limit of a small bandwidth holds to the
last bit.

The similarities weigh sums of rows, so all views of a sample share one pass over its meta-data.

Shapes: N samples of all ranks, n own samples, two views, D dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spherometer import _checks, pairs
from spherometer.errors import InputError
from spherometer.kernels import Kernel
from spherometer.losses import _metadata, _ranks, _views
from spherometer.losses._info_nce import _cosines, _log_likelihoods, _negatives, _scale, _terms
from spherometer.losses._metadata import own_rows
from spherometer.losses._ranks import Gather, Rows

Views = Literal["both", "cross"]
Repulsion = Literal["all", "threshold", "expw"]


@dataclass(frozen=True)
class _Settings:
    kernel: Kernel
    temperature: float | Tensor
    views: Views
    compat: Literal["reference"] | None
    repulsion: Repulsion
    gather: Gather

    @property
    def both(self) -> bool:
        """Whether candidates come from both views."""
        return self.views == "both"


def _check(function: str, settings: _Settings) -> None:
    _checks.one_of(function, "views", settings.views, ("both", "cross"))
    _checks.one_of(function, "repulsion", settings.repulsion, ("all", "threshold", "expw"))
    if settings.compat not in (None, "reference"):
        _checks.refuse(
            InputError, function, "compat", 'be None or "reference"', "nothing else is reproduced",
            repr(settings.compat)[:80], "Leave it out",
        )  # fmt: skip
    if settings.compat and (not settings.both or settings.repulsion != "all"):
        _checks.refuse(
            InputError, function, "compat", 'be None unless views="both" and repulsion="all"',
            "the published code has that form alone",
            f"views={settings.views!r}, repulsion={settings.repulsion!r}", "Leave compat out",
        )  # fmt: skip


def _gaps(rows: Rows, similarity: pairs.Similarity, both: bool) -> Tensor:
    """Partner minus weighted mean of the positives, for the own rows [2, n, D], float64.

    With W = sum_j w_ij over the other positives: (W z_p - sum_j w_ij z_j) / (1 + W), from centred rows.
    """
    centred = rows.every - rows.every.detach().mean(dim=(0, 1))
    partners = centred[:, rows.start : rows.start + rows.num].flip(0).double()
    if both:
        sums, weights = pairs.kernel_sums(similarity, centred.sum(dim=0), own=own_rows(rows))
        weights = 2 * weights.double()
        spread = sums.double()[None]
    else:
        width = centred.shape[2]
        sides = centred.flip(0).transpose(0, 1).reshape(rows.total, 2 * width)
        sums, weights = pairs.kernel_sums(similarity, sides, own=own_rows(rows))
        weights = weights.double()
        spread = sums.double().view(rows.num, 2, width).transpose(0, 1)
    return (weights[:, None] * partners - spread) / (1 + weights[:, None])


def _by_columns(rows: Rows, similarity: pairs.Similarity) -> tuple[Tensor, Tensor]:
    """The same of the published code, whose weights a_ij = w_ij / sum_k w_kj add up to 1 over i instead.

    With d_j = 1 + 2 sum_k w_jk: the sum of row i's weights, b_i = 1 / d_i + 2 sum_j w_ij / d_j, and
    b_i z_p minus the weighted sum of its positives.
    """
    centred = rows.every - rows.every.detach().mean(dim=(0, 1))
    _, weights = pairs.kernel_sums(similarity, centred.new_zeros(rows.total, 1))
    shares = 1 / (1 + 2 * weights)
    values = torch.cat([centred.sum(dim=0), centred.new_ones(rows.total, 1)], dim=1) * shares[:, None]
    sums, _ = pairs.kernel_sums(similarity, values, own=own_rows(rows))
    own = slice(rows.start, rows.start + rows.num)
    others = 2 * sums[:, -1].detach().double()
    partners = centred[:, own].flip(0).double()
    return shares[own].double() + others, others[:, None] * partners - sums[:, :-1].double()


def _rests(rows: Rows, both: bool, scale: float | Tensor) -> Tensor:
    """Log-sum-exps [2, n] over the candidates of the own rows but their partners."""
    if both:
        return _negatives(rows, 2, scale)
    x, y = rows.every.unbind()
    if rows.world == 1:
        return torch.stack(pairs.masked_logsumexp(x, y, scale, skip=(0,)))
    own, skip = rows.own.unbind(), (rows.start,)
    sides = zip(own, (y, x), strict=True)
    return torch.stack([pairs.masked_logsumexp(z, every, scale, skip=skip)[0] for z, every in sides])


def _repelled(rows: Rows, similarity: pairs.Similarity, settings: _Settings, scale: float | Tensor) -> Tensor:
    """Row losses [2, n] of a repulsion by meta-data (for "expw" without the attraction)."""
    kind: Literal["threshold", "weighted"] = "threshold" if settings.repulsion == "threshold" else "weighted"
    found = []
    for v, own in enumerate(rows.own.unbind()):
        candidates = rows.every.flatten(0, 1) if settings.both else rows.every[1 - v]
        skip = v * rows.total + rows.start if settings.both else None
        found.append(
            pairs.repelled_rows(kind, own, candidates, scale, similarity, start=rows.start, skip=skip)
        )
    return torch.stack(found)


def _y_aware(
    function: str, z1: Any, z2: Any, metadata: Any, settings: _Settings
) -> tuple[Tensor, dict[str, Tensor]]:
    gather, both = settings.gather, settings.both
    with _ranks.refusals(gather, z1, z2, metadata):
        _ranks.check_gather(function, gather)
        scale = _scale(function, settings.temperature)
        given = _metadata.entered(function, settings.kernel, z1, z2, metadata, gather)
    like = given.views[0]
    with _views.full_precision(like):
        rows = _ranks.spread(function, _views.on_sphere(given.views), gather, min_rows=2)
        dtype = rows.every.dtype if settings.repulsion == "all" else torch.float64
        similarity = given.similarity(function, rows, dtype)
        own = rows.own.unbind()
        partner = _cosines(*own) * scale  # [n], the same for both views
        alone = both and settings.repulsion == "all" and not settings.compat and rows.world == 1
        if alone:
            pulls = pairs.mean_gap(own[0], own[1], similarity) * scale
            loss = pulls - _log_likelihoods(_rests(rows, both, scale), partner).mean()
            attraction, factor = partner.detach().mean() - pulls.detach(), 1
        else:
            loss, attraction, factor = _by_rows(rows, similarity, settings, scale, partner)
    candidates = 2 * rows.total - 1 if both else rows.total
    return _views.result(loss, like), _parts(loss, attraction, candidates, factor)


def _by_rows(
    rows: Rows, similarity: pairs.Similarity, settings: _Settings, scale: float | Tensor, partner: Tensor
) -> tuple[Tensor, Tensor, int]:
    """The loss, the attraction in it (detached) and the factor of both, from the losses of rows."""
    both = settings.both
    if settings.compat:
        shares, gaps = _by_columns(rows, similarity)
    else:
        shares, gaps = None, _gaps(rows, similarity, both)
    pulls = (rows.own.double() * gaps).sum(dim=2) * scale  # b_i s_ip - sum_j a_ij s_ij
    attraction = (partner if shares is None else shares * partner) - pulls
    if settings.repulsion == "all":
        likelihoods = _log_likelihoods(_rests(rows, both, scale), partner)
        values = pulls - (likelihoods if shares is None else shares * likelihoods)
    else:
        values = _repelled(rows, similarity, settings, scale)
        if settings.repulsion == "expw":
            values = values - attraction
    factor = 1 if shares is None else 2  # the published code divides a sum over 2 N rows by N
    return rows.average(values, 2) * factor, rows.average(attraction.detach(), 2) * factor, factor


def _parts(loss: Tensor, attraction: Tensor, candidates: int, factor: int) -> dict[str, Tensor]:
    if factor == 1:
        return _terms(loss, attraction, candidates)
    log_candidates = loss.new_full((), factor * math.log(candidates)).detach()
    uniformity = loss.detach() + attraction - log_candidates
    return {"alignment": -attraction, "uniformity": uniformity, "log_candidates": log_candidates}


@pairs.outside_graphs
def y_aware_info_nce_loss(
    z1: Tensor,
    z2: Tensor | None = None,
    metadata: Any = None,
    *,
    kernel: Any,
    temperature: float | Tensor = 0.1,
    views: Views = "both",
    compat: Literal["reference"] | None = None,
    repulsion: Repulsion = "all",
    gather: Gather = "auto",
) -> Tensor:
    r"""The contrastive loss in which samples attract each other by the similarity of their meta-data.

    With s_ik = z_i . z_k / temperature and similarities w of the meta-data, for every row i:
    log sum_k e^{s_ik} - sum_j a_ij s_ij, a_ij = w_ij / sum_k w_ik, averaged over rows. Weights have no
    gradient.

    Args:
        z1: [N, D] tensor, or [N, 2, D] and no ``z2``; rows are scaled to length 1 inside.
        z2: [N, D], row i belongs to row i of ``z1``.
        metadata: [N] or [N, K] tensor, or a mapping column -> N values; entry i belongs to row i of both
            views. After one [N, 2, D] tensor they may be the second argument.
        kernel: a fitted kernel of ``spherometer.kernels``, or a dict column -> kernel. The two views of a
            sample have similarity 1; rows that ``missing="drop"`` leaves out are left out of the loss.
        temperature: > 0, a number or a 0-dim tensor, which gets its gradient.
        views: "both": i, j and k run over the 2 N rows of both views, j and k over all but i. "cross": i over
            one view, j and k over all N rows of the other; the mean of both directions.
        compat: "reference": the value of the published code, whose weights are divided by the sums of their
            columns, not of their rows, and which divides the sum over 2 N rows by N.
        repulsion: "all": as above. "threshold": in the term of (i, j) the candidates k are j itself and those
            with w_ik < w_ij; a pair without such k adds 0. "expw": e^{s_ik (1 - w_ik)} in place of e^{s_ik}.
        gather: "auto": under a process group of several ranks, the loss of the rows and meta-data of all
            ranks, the same on every rank; N counts them all. False: of these rows alone, for calls that not
            every rank makes.

    A small bandwidth (distinct meta-data) gives ``nt_xent_loss`` for "both" and ``info_nce_loss`` for
    "cross", with repulsion "all" and "threshold"; a large one, where all are equally similar, mean_i log
    sum_k e^{s_ik} minus the mean of s over the positives. Equal categories give the supervised loss.

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: lower is better; "all" is log(2 N - 1) ("cross": log N) when collapsed. Positives compete with each
    other, so 0 is out of reach; "threshold" is at least 0.

    Raises:
        ShapeError, UndefinedError: wrong shapes, fewer than 2 rows, or a kernel without numbers as
            bandwidths.
        InputError: wrong kind, dtype or temperature, unknown columns, or missing meta-data that the kernel
            does not allow. NaN and infinity in rows are not refused: the loss becomes NaN.

    Cost: "all": as ``nt_xent_loss``, and one more pass of N^2 D for the weighted sums; O(N D) memory. The
    others work in float64 in blocks of rows, "threshold" sorts each row's candidates.
    Source: Dufumier et al. 2021 (y-Aware InfoNCE), whose formula is "cross" in one direction and whose code
    is "both". Threshold and expw: Barbano et al. 2023 (contrastive learning for regression in multi-site
    brain age prediction). Deviations: there a pair of "threshold" is not among its own candidates, which
    leaves log 0 for the least similar; the published code of "expw" subtracts the row's largest logit
    before it multiplies.

    Example:
        >>> from spherometer.kernels import Gaussian
        >>> z, age = torch.ones(4, 3), torch.tensor([20.0, 25.0, 40.0, 60.0])
        >>> round(float(y_aware_info_nce_loss(z, z, age, kernel=Gaussian(5.0))), 4)  # log 7
        1.9459
    """
    function = "y_aware_info_nce_loss"
    settings = _Settings(_metadata.fitted(function, kernel), temperature, views, compat, repulsion, gather)
    _check(function, settings)
    return _y_aware(function, z1, z2, metadata, settings)[0]


class YAwareInfoNCELoss(nn.Module):
    """``y_aware_info_nce_loss`` as a module; see there for the formula, ranges and errors.

    Args:
        kernel: a fitted kernel, or a dict column -> kernel: ``kernel.fit(metadata)`` once, on the whole set.
        temperature: > 0; pass an ``nn.Parameter`` of shape () to learn it.
        views: "both" or "cross".
        compat: None or "reference".
        repulsion: "all", "threshold" or "expw".
        gather: "auto" or False, as there.

    ``terms`` holds the detached parts of the last call (float64, shape ()), which add up to the loss:

    * ``alignment`` = -mean_i sum_j a_ij s_ij: conditional alignment;
    * ``uniformity``, the rest: for repulsion "all" it is mean_i log mean_k e^{s_ik}, which knows no
      meta-data;
    * ``log_candidates`` = log(2 N - 1), or log N for "cross"; twice that for compat="reference".

    Example:
        >>> from spherometer.kernels import Gaussian
        >>> loss = YAwareInfoNCELoss(Gaussian(5.0), temperature=0.5)
        >>> value = loss(torch.ones(4, 3), torch.ones(4, 3), torch.arange(4.0))
        >>> {name: round(float(term), 4) for name, term in loss.terms.items()}
        {'alignment': -2.0, 'uniformity': 2.0, 'log_candidates': 1.9459}
    """

    name = "y_aware"

    def __init__(
        self,
        kernel: Any,
        temperature: float | Tensor = 0.1,
        views: Views = "both",
        compat: Literal["reference"] | None = None,
        *,
        repulsion: Repulsion = "all",
        gather: Gather = "auto",
    ) -> None:
        super().__init__()
        name = "YAwareInfoNCELoss"
        self.kernel = _metadata.fitted(name, kernel)
        _views.check_number(name, "temperature", temperature)
        _ranks.check_gather(name, gather)
        self.temperature = temperature
        self.views: Views = views
        self.compat: Literal["reference"] | None = compat
        self.repulsion: Repulsion = repulsion
        self.gather: Gather = gather
        self.terms: dict[str, Tensor] = {}
        _check(name, self._settings())

    def _settings(self) -> _Settings:
        return _Settings(self.kernel, self.temperature, self.views, self.compat, self.repulsion, self.gather)

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None, metadata: Any = None) -> Tensor:
        """The loss of two views [N, D], or of one [N, 2, D] tensor, and the meta-data of the rows."""
        loss, self.terms = _y_aware("YAwareInfoNCELoss", z1, z2, metadata, self._settings())
        return loss

    def extra_repr(self) -> str:
        """The settings."""
        shown = f"{self.kernel}; temperature={_views.shown(self.temperature)}, views={self.views!r}"
        shown += "" if self.compat is None else f", compat={self.compat!r}"
        shown += "" if self.repulsion == "all" else f", repulsion={self.repulsion!r}"
        return shown + _ranks.shown(self.gather)
