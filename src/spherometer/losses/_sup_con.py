r"""The supervised contrastive loss: every row of the same class is a positive.

Candidates are summed in tiles, as in NT-Xent. The mean similarity with the positives needs no pairs: with
m rows in a class, c their mean and Q the sum of their \|z_p - c\|^2, the squared distances of row i to all of
its class add up to m \|z_i - c\|^2 + Q, and x.y = 1 - \|x - y\|^2 / 2. From centred rows in float64 this is
as accurate as a sum over pairs of differences, in O(N D).

Shapes: N rows of all ranks, n own rows, V views, D dimensions, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from spherometer import _checks, pairs
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.losses import _ranks, _views
from spherometer.losses._info_nce import _cosines, _negatives, _scale, _terms
from spherometer.losses._ranks import Gather, Rows


def _split(z1: Any, z2: Any, labels: Any) -> tuple[Any, Any]:
    """The second view and the labels: after one [N, V, D] tensor the labels may come second."""
    if labels is None and z2 is not None and isinstance(z1, Tensor) and z1.ndim == 3:
        return None, z2
    return z2, labels


def _checked(function: str, z1: Any, z2: Any, gather: Gather) -> list[Tensor]:
    """The views of a call; a single one, [N, 1, D], too: labels can give it positives."""
    if z2 is None and isinstance(z1, Tensor) and z1.ndim == 3 and z1.shape[1] == 1:
        return _checks.tensor_set(function, ("z1",), (z1[:, 0],), min_rows=0)
    return _views.checked_views(function, z1, z2, gather=gather)


def _checked_labels(function: str, labels: Any, num: int, device: torch.device) -> Tensor:
    """Labels as int64 [n]; whole numbers only, none missing."""
    if isinstance(labels, Tensor):
        if labels.is_floating_point() or labels.is_complex():
            _refuse_labels(function, f"dtype {labels.dtype}".replace("torch.", ""))
        found = labels.detach()
    else:
        array = np.asarray(labels) if labels is not None else np.array(None)
        if array.dtype.kind not in "iub" and array.size:
            shown = repr(labels)[:80] if array.ndim == 0 or array.dtype == object else f"dtype {array.dtype}"
            _refuse_labels(function, shown)
        found = torch.from_numpy(array.astype(np.int64))
    if found.shape != (num,):
        _checks.refuse(
            ShapeError,
            function,
            "labels",
            "have one entry for each row",
            "entry i is the class of row i in every view",
            f"shape {tuple(found.shape)} for {num} rows",
            "Pass a tensor, an array or a list of N whole numbers",
        )
    return found.to(device=device, dtype=torch.int64)


def _refuse_labels(function: str, got: str) -> None:
    _checks.refuse(
        InputError,
        function,
        "labels",
        "be whole numbers",
        "each names the class of a row, and a row without one has no positives",
        got,
        "Pass one whole number for each row, or use nt_xent_loss without labels",
    )


def _positives(rows: Rows, codes: Tensor, sizes: Tensor) -> Tensor:
    """Mean cosine [V, n] of every own row with the other rows of its class (nonsense where there is none)."""
    num_views, num = rows.every.shape[:2]
    z, codes = rows.every.flatten(0, 1).double(), codes.repeat(num_views)
    lengths = torch.linalg.vector_norm(z.detach(), dim=1).round_()  # 1, or 0 for zeros
    sums = z.new_zeros(len(sizes), z.shape[1]).index_add(0, codes, z)
    gaps = (z - (sums / sizes[:, None])[codes]).square().sum(dim=1)
    zero = z.new_zeros(len(sizes))
    total, alive = zero.index_add(0, codes, gaps), zero.index_add(0, codes, lengths)
    own = slice(rows.start, rows.start + rows.num)
    gaps, codes, lengths = (each.view(num_views, num)[:, own] for each in (gaps, codes, lengths))
    others = (sizes - 1).clamp(min=1)[codes]
    squared = (sizes[codes] * gaps + total[codes]) / others
    cosine: Tensor = (lengths + (alive[codes] - lengths) / others - squared) / 2
    return cosine


def _candidates(rows: Rows, scale: float | Tensor) -> Tensor:
    """Log-sum-exps [V, n] of the own rows over all rows but themselves."""
    num_views, num, _ = rows.every.shape
    every = rows.every.flatten(0, 1)
    if rows.world == 1:
        return pairs.masked_logsumexp(every, None, scale, skip=(0,), longest=1.0)[0].view(num_views, num)
    starts = [v * num + rows.start for v in range(num_views)]
    sums = [
        pairs.masked_logsumexp(own, every, scale, skip=(start,), longest=1.0)[0]
        for own, start in zip(rows.own.unbind(), starts, strict=True)
    ]
    return torch.stack(sums)


def _sup_con(
    function: str,
    z1: Any,
    z2: Any,
    labels: Any,
    temperature: float | Tensor,
    gather: Gather,
) -> tuple[Tensor, dict[str, Tensor]]:
    with _ranks.refusals(gather, z1, z2, labels):
        _ranks.check_gather(function, gather)
        scale = _scale(function, temperature)
        z2, labels = _split(z1, z2, labels)
        views = _checked(function, z1, z2, gather)
        own_labels = _checked_labels(function, labels, len(views[0]), views[0].device)
    with _views.full_precision(views[0]):
        rows = _ranks.spread(function, _views.on_sphere(views), gather, min_rows=2)
        classes = _ranks.spread_labels(function, own_labels, rows)
        codes, counts = torch.unique(classes, return_inverse=True, return_counts=True)[1:]
        num_views, own = len(views), slice(rows.start, rows.start + rows.num)
        num_anchors = num_views * rows.total if num_views > 1 else int(counts[counts > 1].sum())
        if num_anchors == 0:
            _refuse_alone(function, rows.total)
        positive = _positives(rows, codes, counts * num_views) * scale
        alone = (counts == 1)[codes[own]].expand_as(positive)  # the only sample of its class
        if num_views == 2:  # such a row has one positive: as NT-Xent, accurate however small the loss is
            rest = _negatives(rows, 2, scale)
            other = _cosines(*rows.own.unbind()) * scale
            losses = torch.logaddexp(rest, other) - positive
            losses = torch.where(alone, -functional.logsigmoid(positive - rest), losses)
        else:
            losses = _candidates(rows, scale) - positive
        if num_views == 1:  # such a row is a candidate, not an anchor
            losses, positive = losses.masked_fill(alone, 0), positive.masked_fill(alone, 0)
        mean = rows.mean(torch.stack([losses.sum(), positive.detach().sum()]), num_anchors)
    terms = _terms(mean[0], mean[1], num_views * rows.total - 1)
    return _views.result(mean[0], views[0]), terms


def _refuse_alone(function: str, num: int) -> None:
    _checks.refuse(
        UndefinedError,
        function,
        "labels",
        "hold at least one class with two rows when there is one view",
        "a row is pulled towards the other rows of its class",
        f"{num} classes for {num} rows",
        "Pass class labels, not row identifiers, or two views",
    )


@pairs.outside_graphs
def sup_con_loss(
    z1: Tensor,
    z2: Tensor | None = None,
    labels: Any = None,
    *,
    temperature: float | Tensor = 0.1,
    gather: Gather = "auto",
) -> Tensor:
    r"""The supervised contrastive loss: rows of one class attract each other, all others are candidates.

    Over all V N rows i, with s_ia = z_i . z_a / temperature and P(i) the other rows of its class in any view:
    mean_i mean_{p in P(i)} [ log sum_{a != i} e^{s_ia} - s_ip ], the mean over positives outside the log.

    Args:
        z1: [N, D] tensor, or [N, V, D] with V >= 1 and no ``z2``; rows are scaled to length 1 inside.
        z2: [N, D], row i belongs to row i of ``z1``.
        labels: [N] whole numbers (tensor, array or list), the class of row i in all its views. After one
            [N, V, D] tensor they may be the second argument.
        temperature: > 0, a number or a 0-dim tensor, which gets its gradient.
        gather: "auto": under a process group of several ranks, the loss of the rows and labels of all
            ranks, the same on every rank; N counts them all. False: of these alone, for calls that not
            every rank makes.

    With a single view, [N, 1, D], rows without another of their class are candidates but no anchors: the
    mean is over the others. With all classes distinct it is ``nt_xent_loss``.

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: lower is better; log(V N - 1) when collapsed, at least mean_i log \|P(i)\|: positives compete
    with each other, so 0 is out of reach.

    Raises:
        ShapeError, UndefinedError: wrong shapes, fewer than 2 rows, or one view without a class of two.
        InputError: wrong kind, dtype or temperature, or labels that are missing or not whole numbers. NaN
            and infinity in rows are not refused: the loss becomes NaN.

    Cost: O((V N)^2 D) time for the candidates, O(V N D) for the positives and in memory.
    Source: Khosla et al. 2020, equation 2 (L_out). The published code multiplies the loss by
    temperature / base_temperature (one by its defaults, both 0.07); there is no such factor here.

    Example:
        >>> z = torch.eye(4)[[0, 0, 1, 1]]
        >>> round(float(sup_con_loss(z, z, [0, 0, 1, 1], temperature=1.0)), 4)  # log(3 + 4 / e)
        1.4977
    """
    return _sup_con("sup_con_loss", z1, z2, labels, temperature, gather)[0]


class SupConLoss(nn.Module):
    """``sup_con_loss`` as a module; see there for the formula, ranges and errors.

    Args:
        temperature: > 0; pass an ``nn.Parameter`` of shape () to learn it.
        gather: "auto" or False, as there.

    ``terms`` holds the detached parts of the last call (float64, shape ()), which add up to the loss:

    * ``alignment`` = -mean_i mean_p s_ip;
    * ``uniformity`` = mean_i log mean_{a != i} e^{s_ia}, over the V N - 1 other rows of all views;
    * ``log_candidates`` = log(V N - 1).

    Example:
        >>> loss = SupConLoss(temperature=0.5)
        >>> value = loss(torch.ones(4, 3), torch.ones(4, 3), [0, 0, 1, 2])
        >>> {name: round(float(term), 4) for name, term in loss.terms.items()}
        {'alignment': -2.0, 'uniformity': 2.0, 'log_candidates': 1.9459}
    """

    name = "sup_con"

    def __init__(self, temperature: float | Tensor = 0.1, gather: Gather = "auto") -> None:
        super().__init__()
        _views.check_number("SupConLoss", "temperature", temperature)
        _ranks.check_gather("SupConLoss", gather)
        self.temperature = temperature
        self.gather: Gather = gather
        self.terms: dict[str, Tensor] = {}

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None, labels: Any = None) -> Tensor:
        """The loss of two views [N, D], or of one [N, V, D] tensor, and the labels [N]."""
        loss, self.terms = _sup_con("SupConLoss", z1, z2, labels, self.temperature, self.gather)
        return loss

    def extra_repr(self) -> str:
        """The settings."""
        return f"temperature={_views.shown(self.temperature)}{_ranks.shown(self.gather)}"
