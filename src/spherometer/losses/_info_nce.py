r"""Contrastive losses: InfoNCE (negatives from the other view) and NT-Xent (from both views).

Every row's loss is computed as log(1 + exp(r - s)): s the logit of its positive, r the log-sum-exp of all
other logits, from which the positive was left out, never subtracted. So a loss of 1e-17 is as accurate as
one of 1. The positive comes from the difference of its two unit vectors, x.y = 1 - \|x - y\|^2 / 2.

Shapes: N rows, V views, D dimensions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from spherometer import _checks, pairs
from spherometer.errors import InputError
from spherometer.losses import _ranks, _views
from spherometer.losses._queue import MemoryQueue, check_queue, check_sides, rows_of


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    """x_i . y_i of unit (or zero) rows, by differences, as float64 [N]."""
    # 1, or 0 for zeros
    lengths = torch.linalg.vector_norm(x.detach(), dim=1).round_()
    lengths += torch.linalg.vector_norm(y.detach(), dim=1).round_()
    cosine: Tensor = (lengths - (x - y).square().sum(dim=1).double()) / 2
    return cosine


def _log_likelihoods(rest: Tensor, positive: Tensor) -> Tensor:
    """-log(1 + exp(rest - positive)), accurate everywhere (softplus turns linear at 20)."""
    return functional.logsigmoid(positive - rest)


def _scale(function: str, temperature: float | Tensor) -> float | Tensor:
    _views.check_number(function, "temperature", temperature)
    return 1 / (temperature.double() if isinstance(temperature, Tensor) else float(temperature))


def _terms(loss: Tensor, positive: Tensor, num_candidates: int) -> dict[str, Tensor]:
    """The parts of the decomposition, which add up to the loss."""
    loss, alignment = loss.detach(), -positive.detach()
    log_candidates = loss.new_full((), math.log(num_candidates))
    return {
        "alignment": alignment,
        "uniformity": loss - alignment - log_candidates,
        "log_candidates": log_candidates,
    }


_Parts = tuple[Tensor, Tensor, int]  # what _terms takes


@dataclass(frozen=True)
class _Settings:
    temperature: float | Tensor
    gather: _ranks.RingGather
    queue: MemoryQueue | None = None


def _check_gather(function: str, gather: _ranks.RingGather, queue: MemoryQueue | None) -> None:
    _ranks.check_gather(function, gather, ring=True)
    if gather == "ring" and queue is not None:
        _checks.refuse(
            InputError, function, "gather", 'be "auto" or False with a queue',
            "every rank holds the whole queue and takes its own queries against it, so nothing could travel",
            "'ring' and a queue", 'Pass gather="auto", or no queue',
        )  # fmt: skip


def _entered(
    function: str, z1: Tensor, z2: Tensor | None, settings: _Settings
) -> tuple[list[Tensor], float | Tensor]:
    """The checked views of a call and the scale of its logits."""
    gather, queue = settings.gather, settings.queue
    with _ranks.refusals(gather, z1, z2):
        _check_gather(function, gather, queue)
        scale = _scale(function, settings.temperature)
        min_rows = 2 if queue is None else 1
        views = _views.checked_views(function, z1, z2, gather=gather, min_rows=min_rows)
        if queue is not None:
            check_sides(function, queue, views)
    return views, scale


def _info_nce(function: str, z1: Tensor, z2: Tensor | None, settings: _Settings) -> tuple[Tensor, _Parts]:
    views, scale = _entered(function, z1, z2, settings)
    if settings.queue is not None:
        return _info_nce_with(settings.queue, function, views, scale, settings.gather)
    with _views.full_precision(views[0]):
        spread = _ranks.count if settings.gather == "ring" else _ranks.spread
        rows = spread(function, _views.on_sphere(views), settings.gather, min_rows=2)
        every = rows.every.unbind()
        own = every if rows.world == 1 else rows.own.unbind()
        likelihoods, positives = [], []
        for v, w in itertools.combinations(range(len(views)), 2):
            positive = _cosines(own[v], own[w]) * scale
            if rows.world == 1:
                both = pairs.masked_logsumexp(every[v], every[w], scale, skip=(0,), longest=1.0)
            elif settings.gather == "ring":
                there, back = pairs.ring_logsumexp(rows.own[[v, w]], scale, across=True, function=function)
                both = there, back
            else:  # the own rows of each side against all of the other
                there, _ = pairs.masked_logsumexp(own[v], every[w], scale, skip=(rows.start,), longest=1.0)
                back, _ = pairs.masked_logsumexp(own[w], every[v], scale, skip=(rows.start,), longest=1.0)
                both = there, back
            likelihoods.append(_log_likelihoods(torch.stack(both), positive))
            positives.append(positive.detach())
        num = len(positives)
        loss = -rows.average(likelihoods[0] if num == 1 else torch.stack(likelihoods), 2 * num)
        positive = rows.average(positives[0] if num == 1 else torch.stack(positives), num)
    return _views.result(loss, views[0]), (loss.detach(), positive, rows.total)


def _info_nce_with(
    queue: MemoryQueue,
    function: str,
    views: Sequence[Tensor],
    scale: float | Tensor,
    gather: _ranks.RingGather,
) -> tuple[Tensor, _Parts]:
    """Queries against their own key and the rows of the queue, one direction."""
    with _views.full_precision(views[0]):
        z = _views.on_sphere(views)
        rows = _ranks.count(function, z, gather, min_rows=1)
        others = rows_of(queue, z)
        queries, keys = z.unbind()
        positive = _cosines(queries, keys) * scale
        rest, _ = pairs.masked_logsumexp(queries, others, scale, longest=1.0)
        loss = -rows.average(_log_likelihoods(rest, positive))
        positive = rows.average(positive.detach())
    return _views.result(loss, views[0]), (loss.detach(), positive, 1 + len(others))


def _nt_xent(function: str, z1: Tensor, z2: Tensor | None, settings: _Settings) -> tuple[Tensor, _Parts]:
    views, scale = _entered(function, z1, z2, settings)
    num_views = len(views)
    with _views.full_precision(views[0]):
        spread = _ranks.count if settings.gather == "ring" else _ranks.spread
        rows = spread(function, _views.on_sphere(views), settings.gather, min_rows=2)
        z = rows.own.unbind()
        negatives = _negatives(rows, num_views, scale, settings.gather)
        if num_views == 2:
            positives = _cosines(z[0], z[1]) * scale  # the same for both sides of a pair
            rest = negatives
        else:
            positives = _all_positives(z) * scale
            rest = _without_each(negatives, positives)
        num = num_views * (num_views - 1)  # rows and positives of a sample
        loss = -rows.average(_log_likelihoods(rest, positives), num)
        positive = rows.average(positives.detach(), 1 if num_views == 2 else num)
    return _views.result(loss, views[0]), (loss.detach(), positive, num_views * rows.total - 1)


def _negatives(
    rows: _ranks.Rows, num_views: int, scale: float | Tensor, gather: _ranks.RingGather = "auto"
) -> Tensor:
    """Log-sum-exps [V, n] of the own rows over all rows but themselves and their positives."""
    every = rows.every.flatten(0, 1)
    num = rows.total
    if rows.world == 1:
        offsets = range(-(num_views - 1) * num, num_views * num, num)  # a row itself and its positives
        sums, _ = pairs.masked_logsumexp(every, None, scale, skip=tuple(offsets), longest=1.0)
        return sums.view(num_views, num)
    if gather == "ring":
        return pairs.ring_logsumexp(rows.own, scale, function=rows.function)
    skip = range(rows.start, num_views * num, num)
    return torch.stack(
        [pairs.masked_logsumexp(own, every, scale, tuple(skip), longest=1.0)[0] for own in rows.own.unbind()]
    )


def _all_positives(z: Sequence[Tensor]) -> Tensor:
    """Cosines [V, N, V - 1] of every row with its other views."""
    cosine = {pair: _cosines(z[pair[0]], z[pair[1]]) for pair in itertools.combinations(range(len(z)), 2)}
    rows = [
        torch.stack([cosine[min(v, w), max(v, w)] for w in range(len(z)) if w != v], dim=1)
        for v in range(len(z))
    ]
    return torch.stack(rows)


def _without_each(negatives: Tensor, positives: Tensor) -> Tensor:
    """Log-sum-exp [V, N, V - 1] of the negatives and of all positives but one, for each one left out."""
    count = positives.shape[-1]
    own = torch.eye(count, dtype=torch.bool, device=positives.device)
    others = positives[..., None, :].expand(*positives.shape, count).masked_fill(own, -math.inf)
    return torch.logaddexp(negatives[..., None], torch.logsumexp(others, dim=-1))


@pairs.outside_graphs
def info_nce_loss(
    z1: Tensor,
    z2: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.5,
    gather: _ranks.RingGather = "auto",
) -> Tensor:
    r"""The contrastive loss with negatives from the other view, over both directions.

    With s_ij = z1_i . z2_j / temperature: the mean of -log softmax_j(s)_ii over rows and of the same over
    columns, ( mean_i [log sum_j e^{s_ij} - s_ii] + mean_j [log sum_i e^{s_ij} - s_jj] ) / 2.

    Args:
        z1: [N, D] tensor, or [N, V, D] with V >= 2 and no ``z2``; rows are scaled to length 1 inside.
        z2: [N, D], row i belongs to row i of ``z1``.
        temperature: > 0, a number or a 0-dim tensor, which gets its gradient.
        gather: "auto": under a process group of several ranks, the loss of the rows of all ranks, the same
            on every rank; N counts them all. "ring": the same value and gradients, each rank keeping its
            share of the rows alone. False: of these rows alone, for calls that not every rank makes.

    With V > 2 views: the mean over pairs of views of the two-view loss.

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: lower is better. At least log1p((N - 1) exp(-N / ((N - 1) temperature))), reached by the
    simplex; log N when collapsed.

    Raises:
        ShapeError, UndefinedError: wrong shapes, or fewer than 2 rows.
        InputError: wrong kind, dtype or temperature. NaN and infinity are not refused: the loss becomes NaN.

    Cost: O(N^2 D) time per pair of views, O(N D) memory, no N x N matrix.
    Source: Wang & Isola 2020, equation 1 with the minibatch form of its appendix B.1 (with the leading
    minus that the print lacks); the form of CPC and CLIP.

    Example:
        >>> round(float(info_nce_loss(torch.eye(4), torch.eye(4))), 6)  # log1p(3 exp(-2))
        0.340753
    """
    return _info_nce("info_nce_loss", z1, z2, _Settings(temperature, gather))[0]


@pairs.outside_graphs
def nt_xent_loss(
    z1: Tensor,
    z2: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.5,
    gather: _ranks.RingGather = "auto",
) -> Tensor:
    r"""The contrastive loss of SimCLR: every other row of both views is a candidate.

    Over all V N rows i, with s_ik = z_i . z_k / temperature and each positive p of i (another view of the
    same sample): mean_{i, p} [ log sum_{k != i} e^{s_ik} - s_ip ].

    Args:
        z1: [N, D] tensor, or [N, V, D] with V >= 2 and no ``z2``; rows are scaled to length 1 inside.
        z2: [N, D], row i belongs to row i of ``z1``.
        temperature: > 0, a number or a 0-dim tensor, which gets its gradient.
        gather: as for ``info_nce_loss``.

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: lower is better; log(2 N - 1) when two views are collapsed.

    Raises:
        ShapeError, UndefinedError, InputError: as ``info_nce_loss``.

    Cost: O((V N)^2 D) time, O(V N D) memory.
    Source: Chen et al. 2020 (SimCLR), equation 1, for V = 2. More views are our extension: the mean over
    positives outside the log, the other positives staying among the candidates.

    Example:
        >>> round(float(nt_xent_loss(torch.ones(4, 3), torch.ones(4, 3))), 4)  # log 7
        1.9459
    """
    return _nt_xent("nt_xent_loss", z1, z2, _Settings(temperature, gather))[0]


class _Contrastive(nn.Module):
    """Temperature and terms of a contrastive loss."""

    def __init__(self, temperature: float | Tensor = 0.5, *, gather: _ranks.RingGather = "auto") -> None:
        super().__init__()
        _views.check_number(type(self).__name__, "temperature", temperature)
        _ranks.check_gather(type(self).__name__, gather, ring=True)
        self.temperature = temperature
        self.gather = gather
        self._parts: _Parts | None = None

    @property
    def terms(self) -> dict[str, Tensor]:
        """The detached parts of the last call."""
        return {} if self._parts is None else _terms(*self._parts)

    def extra_repr(self) -> str:
        """The settings."""
        return f"temperature={_views.shown(self.temperature)}{_ranks.shown(self.gather)}"


class InfoNCELoss(_Contrastive):
    r"""``info_nce_loss`` as a module; see there for the formula, ranges and errors.

    Args:
        temperature: > 0; pass an ``nn.Parameter`` of shape () to learn it.
        queue: keys of earlier batches as negatives. The call then takes queries and keys (detached by the
            caller): with q_i, k_i and the K rows m of the queue, the mean over i of
            -log e^{q_i.k_i / T} / (e^{q_i.k_i / T} + sum_m e^{q_i.m / T}), one direction; N >= 1. An empty
            queue gives 0 with gradient 0, a sum over nothing.
        gather: as for ``info_nce_loss``, "ring" without a queue only; the queue is every rank's own, the
            same when it gathers too.

    ``terms`` holds the detached parts of the last call (float64, shape ()), which add up to the loss:

    * ``alignment`` = -mean_i s_ii = -E[x.y] / temperature, or (alignment(alpha=2) / 2 - 1) / temperature;
    * ``uniformity`` = mean over rows and columns of log mean_j e^{s_ij}, over all N candidates j, the
      positive among them (the log inside the mean over rows, unlike ``uniform_loss``);
    * ``log_candidates`` = log N.

    With a queue, the K + 1 candidates of a query are its key and the rows of the queue.
    Source of the queue form: He et al. 2020 (MoCo), equation 1.

    The loss minus ``log_candidates`` converges for N -> infinity (Wang & Isola 2020, theorem 1); there M
    counts the negatives, here N = M + 1 the candidates, so that the sum is exact for every N.

    Example:
        >>> loss = InfoNCELoss(temperature=0.5)
        >>> value = loss(torch.ones(4, 3), torch.ones(4, 3))
        >>> {name: round(float(term), 4) for name, term in loss.terms.items()}
        {'alignment': -2.0, 'uniformity': 2.0, 'log_candidates': 1.3863}
    """

    name = "info_nce"

    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        *,
        queue: MemoryQueue | None = None,
        gather: _ranks.RingGather = "auto",
    ) -> None:
        super().__init__(temperature, gather=gather)
        check_queue("InfoNCELoss", queue)
        _check_gather("InfoNCELoss", gather, queue)
        self.queue = queue

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None) -> Tensor:
        """The loss of two views [N, D], or of one [N, V, D] tensor."""
        settings = _Settings(self.temperature, self.gather, self.queue)
        loss, self._parts = _info_nce("InfoNCELoss", z1, z2, settings)
        return loss


class NTXentLoss(_Contrastive):
    r"""``nt_xent_loss`` as a module; see there for the formula, ranges and errors.

    Args:
        temperature: > 0; pass an ``nn.Parameter`` of shape () to learn it.
        gather: as for ``info_nce_loss``.

    ``terms`` holds the detached parts of the last call (float64, shape ()), which add up to the loss:

    * ``alignment`` = -mean_{i, p} s_ip;
    * ``uniformity`` = mean_i log mean_{k != i} e^{s_ik}, over the V N - 1 other rows of all views;
    * ``log_candidates`` = log(V N - 1).

    Example:
        >>> loss = NTXentLoss(temperature=0.5)
        >>> value = loss(torch.ones(4, 3), torch.ones(4, 3))
        >>> {name: round(float(term), 4) for name, term in loss.terms.items()}
        {'alignment': -2.0, 'uniformity': 2.0, 'log_candidates': 1.9459}
    """

    name = "nt_xent"

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None) -> Tensor:
        """The loss of two views [N, D], or of one [N, V, D] tensor."""
        settings = _Settings(self.temperature, self.gather)
        loss, self._parts = _nt_xent("NTXentLoss", z1, z2, settings)
        return loss
