"""Alignment and uniformity as losses.

Shapes: N rows, V views, D dimensions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spherometer import _checks, pairs
from spherometer.errors import UndefinedError
from spherometer.losses import _ranks, _views
from spherometer.losses._queue import MemoryQueue, check_queue, check_sides, rows_of


def _alignment(views: Sequence[Tensor], rows: _ranks.Rows, alpha: float) -> Tensor:
    """Mean of the alpha-th power of the distance over rows and pairs of views, float64."""
    powers = [_powers(x, y, alpha) for x, y in itertools.combinations(views, 2)]
    return rows.average(powers[0] if len(powers) == 1 else torch.stack(powers), len(powers))


def _powers(x: Tensor, y: Tensor, alpha: float) -> Tensor:
    """Power of the distance of every pair, float64 [N]."""
    squared = (x - y).square().sum(dim=1).double()
    if alpha == 2:
        return squared
    same = squared == 0  # the power has no finite derivative there; the distance's is taken as 0
    return squared.masked_fill(same, 1.0).pow(alpha / 2).masked_fill(same, 0.0)


def _uniformity(
    views: Sequence[Tensor], rows: _ranks.Rows, t: float | Tensor, gather: _ranks.RingGather = "auto"
) -> Tensor:
    """Mean over views of the log mean potential within the view, float64; ``rows`` are those of the views."""
    if gather == "ring" and rows.world > 1:
        values = [pairs.ring_gaussian_potential(view, t, function=rows.function) for view in views]
        return torch.stack(values).mean()
    if rows.world == 1:
        values = [pairs.gaussian_potential(view, t) for view in views]
        return values[0] if len(values) == 1 else torch.stack(values).mean()
    sums = [
        _log_sum(own, others, t) for own, others in zip(rows.own.unbind(), rows.others.unbind(), strict=True)
    ]
    return (rows.log_sum(torch.stack(sums)) - math.log(rows.total * (rows.total - 1))).mean()


def _uniformity_with(queue: MemoryQueue, rows: _ranks.Rows, t: float | Tensor, intra_batch: bool) -> Tensor:
    """Log of one mean potential over query-queue pairs and, ``intra_batch``, pairs of queries."""
    own, keys = rows.own[0], rows_of(queue, rows.every)
    parts, num_pairs = [], rows.total * len(keys)
    if len(own) and len(keys):
        parts.append(pairs.cross_gaussian_potential(own, keys, t) + math.log(len(own) * len(keys)))
    if intra_batch:  # every pair of queries once
        parts.append(_log_sum(own, rows.others[0], t) - math.log(2))
        num_pairs += rows.total * (rows.total - 1) // 2
    return rows.log_sum(_joined(parts, own, t)) - math.log(num_pairs)


def _log_sum(own: Tensor, others: Tensor, t: float | Tensor) -> Tensor:
    """Log sum of the potential over the pairs of an own row with any other row."""
    num, parts = len(own), []
    if num > 1:
        parts.append(pairs.gaussian_potential(own, t) + math.log(num * (num - 1)))
    if num and len(others):
        parts.append(pairs.cross_gaussian_potential(own, others, t) + math.log(num * len(others)))
    return _joined(parts, own, t)


def _joined(parts: Sequence[Tensor], own: Tensor, t: float | Tensor) -> Tensor:
    """Log of the sum of exp(part). A rank without pairs stays in the graph: all ranks run one backward."""
    if not parts:
        return (own.sum().double() + t) * 0 - math.inf
    return parts[0] if len(parts) == 1 else torch.logaddexp(parts[0], parts[1])


def _align_uniform(
    function: str,
    z1: Tensor,
    z2: Tensor | None,
    settings: _Settings,
) -> tuple[Tensor, dict[str, Tensor]]:
    weights, queue, gather = settings.weights, settings.queue, settings.gather
    with _ranks.refusals(gather, z1, z2):
        _ranks.check_gather(function, gather, ring=True)
        _checks.positive(function, "alpha", settings.alpha, at_least=1)
        _views.check_number(function, "t", settings.t)
        # every row has a partner in the queue, or needs one in the batch
        least = 2 if queue is None else _least_rows(function, queue, settings.intra_batch)
        views = _views.checked_views(function, z1, z2, gather=gather, min_rows=least)
        if queue is not None:
            check_sides(function, queue, views)
    with _views.full_precision(views[0]):
        z = _views.on_sphere(views)
        if queue is None:
            spread = _ranks.count if gather == "ring" else _ranks.spread
            rows = spread(function, z, gather, min_rows=least)
        else:
            spread = _ranks.spread if settings.intra_batch else _ranks.count
            rows = spread(function, z[:1], gather, min_rows=least)
        sides = z.unbind()
        # a term without weight is measured, and left out of the graph
        with torch.set_grad_enabled(torch.is_grad_enabled() and weights[0] != 0):
            align = _alignment(sides, rows, settings.alpha)
        with torch.set_grad_enabled(torch.is_grad_enabled() and weights[1] != 0):
            if queue is None:
                uniform = _uniformity(sides, rows, settings.t, gather)
            else:
                uniform = _uniformity_with(queue, rows, settings.t, settings.intra_batch)
        loss = _weighted(weights, (align, uniform))
    terms = {"alignment": align.detach(), "uniformity": uniform.detach()}
    return _views.result(loss, views[0]), terms


def _least_rows(function: str, queue: MemoryQueue, intra_batch: bool) -> int:
    if len(queue):
        return 1
    if not intra_batch:
        _checks.refuse(
            UndefinedError,
            function,
            "queue",
            "hold at least 1 key with intra_batch=False",
            "uniformity is a mean over pairs of a query and a key of the queue",
            "an empty queue",
            "Fill it first with queue.enqueue(keys), or pass intra_batch=True",
        )
    return 2


@dataclass(frozen=True)
class _Settings:
    weights: tuple[float, float]
    alpha: float
    t: float | Tensor
    gather: _ranks.RingGather
    queue: MemoryQueue | None = None
    intra_batch: bool = True


def _weighted(weights: tuple[float, float], values: tuple[Tensor, Tensor]) -> Tensor:
    if weights[0] == 0:
        return weights[1] * values[1]
    if weights[1] == 0:
        return weights[0] * values[0]
    return weights[0] * values[0] + weights[1] * values[1]


@pairs.outside_graphs
def align_loss(x: Tensor, y: Tensor, alpha: float = 2, *, gather: _ranks.Gather = "auto") -> Tensor:
    r"""How far the two sides of a positive pair are apart, to be made small.

    mean_i \|x_i - y_i\|^alpha over unit rows.

    Args:
        x: [N, D] floating-point tensor, N >= 1; rows are scaled to length 1 inside.
        y: [N, D], row i belongs to row i of ``x``; same dtype and device.
        alpha: power of the distance, at least 1: below, the gradient is infinite where a pair coincides.
        gather: "auto": under a process group of several ranks, the loss of the rows of all ranks, the same
            on every rank; N counts them all. False: of these rows alone, for calls that not every rank makes.

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: [0, 2^alpha], lower is better; independent uniform rows give 2 for alpha = 2.

    Raises:
        ShapeError: the shapes differ or are not [N, D].
        UndefinedError: no rows.
        InputError: wrong kind, dtype or alpha. NaN and infinity are not refused: the loss becomes NaN.

    Cost: O(N D) time and memory. Differentiable twice; a coinciding pair has gradient 0.
    Source: Wang & Isola 2020, section 4.1.1, and the two functions of its code, whose names, order and
    defaults these have. Deviation: rows are normalised here, so unit rows give the same value and others
    no nonsense.

    Example:
        >>> x = torch.eye(2)
        >>> float(align_loss(x, -x))
        4.0
    """
    with _ranks.refusals(gather, x, y):
        _ranks.check_gather("align_loss", gather)
        _checks.positive("align_loss", "alpha", alpha, at_least=1)
        views = _checks.tensor_set("align_loss", ("x", "y"), (x, y), min_rows=0)
    with _views.full_precision(views[0]):
        z = _views.on_sphere(views)
        rows = _ranks.count("align_loss", z, gather, min_rows=1, name="x")
        return _views.result(_alignment(z.unbind(), rows, alpha), views[0])


@pairs.outside_graphs
def uniform_loss(x: Tensor, t: float | Tensor = 2, *, gather: _ranks.RingGather = "auto") -> Tensor:
    r"""How far the rows are from covering the sphere evenly, to be made small.

    log mean_{i < j} exp(-t \|x_i - x_j\|^2) over unit rows: the log outside the mean, no self pairs.

    Args:
        x: [N, D] floating-point tensor, N >= 2; rows are scaled to length 1 inside.
        t: sharpness > 0, a number or a 0-dim tensor, which gets its gradient.
        gather: as for ``align_loss``; "ring" is "auto" for sets larger than one process: the same value and
            gradients, each rank keeping its share of the rows alone (ring_gaussian_potential).

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: [-2 t N / (N - 1), 0], lower is better; 0 for a single point, ``expected_uniformity(D, t)`` for
    evenly spread rows (-3.94 for D = 128, t = 2). Negative values are normal.

    Raises:
        ShapeError, UndefinedError, InputError: as ``align_loss``; N < 2 is undefined.

    Cost: O(N^2 D) time, O(N D) memory; value and gradient in one pass over tiles. Differentiable twice up
    to 1024 rows.
    Source: Wang & Isola 2020, section 4.1.2, and the two functions of its code. Deviation: rows are
    normalised here.

    Example:
        >>> round(float(uniform_loss(torch.eye(4))), 4)
        -4.0
    """
    with _ranks.refusals(gather, x):
        _ranks.check_gather("uniform_loss", gather, ring=True)
        _views.check_number("uniform_loss", "t", t)
        views = _checks.tensor_set("uniform_loss", ("x",), (x,), min_rows=0)
    with _views.full_precision(views[0]):
        z = _views.on_sphere(views)
        spread = _ranks.count if gather == "ring" else _ranks.spread
        rows = spread("uniform_loss", z, gather, min_rows=2, name="x")
        return _views.result(_uniformity(z.unbind(), rows, t, gather), views[0])


@pairs.outside_graphs
def align_uniform_loss(
    z1: Tensor,
    z2: Tensor | None = None,
    *,
    align_weight: float = 1.0,
    uniform_weight: float = 1.0,
    alpha: float = 2.0,
    t: float | Tensor = 2.0,
    gather: _ranks.RingGather = "auto",
) -> Tensor:
    r"""Weighted sum of alignment and uniformity, the direct alternative to a contrastive loss.

    align_weight * align(z1, z2) + uniform_weight * (uniform(z1) + uniform(z2)) / 2

    Uniformity is taken within each view (log first, then averaged), so a positive pair never repels itself.

    Args:
        z1: [N, D] tensor, or [N, V, D] with V >= 2 and no ``z2``; rows are scaled to length 1 inside.
        z2: [N, D], row i belongs to row i of ``z1``.
        align_weight: weight of alignment, >= 0.
        uniform_weight: weight of uniformity, >= 0.
        alpha: power of the distance, at least 1.
        t: sharpness > 0, a number or a 0-dim tensor.
        gather: as for ``uniform_loss``.

    With V views alignment is the mean over pairs of views and uniformity the mean over views.

    Returns:
        A 0-dim tensor, float32 (float64 for float64 input).

    Range: lower is better; both weights 1, alpha = t = 2: about -3.9 at best for D = 128, 0 when collapsed.

    Raises:
        ShapeError, UndefinedError, InputError: as ``align_loss`` and ``uniform_loss``; N >= 2.

    Cost: V times ``uniform_loss``.
    Source: Wang & Isola 2020, section 5, and its code (uniformity averaged over the two views).

    Example:
        >>> round(float(align_uniform_loss(torch.eye(4), torch.eye(4))), 4)
        -4.0
    """
    _check_weights("align_uniform_loss", align_weight, uniform_weight)
    settings = _Settings((align_weight, uniform_weight), alpha, t, gather)
    return _align_uniform("align_uniform_loss", z1, z2, settings)[0]


def _check_weights(function: str, align_weight: float, uniform_weight: float) -> None:
    _views.check_weight(function, "align_weight", align_weight)
    _views.check_weight(function, "uniform_weight", uniform_weight)
    _views.check_weights(function, "align_weight and uniform_weight", (align_weight, uniform_weight))


class AlignUniformLoss(nn.Module):
    """``align_uniform_loss`` as a module; see there for the formula, ranges and errors.

    Args:
        align_weight: weight of alignment, >= 0.
        uniform_weight: weight of uniformity, >= 0.
        alpha: power of the distance, at least 1.
        t: sharpness > 0; pass an ``nn.Parameter`` of shape () to learn it.
        gather: as for ``uniform_loss``; "ring" without a queue only.
        queue: keys of earlier batches. The call then takes queries and keys (detached by the caller), and
            uniformity is the log of one mean potential, over the N K pairs of a query and a key of the
            queue and the N (N - 1) / 2 pairs of queries.
        intra_batch: False leaves the pairs of queries out; the queue must then not be empty.

    ``terms`` holds the detached parts of the last call, unweighted: ``alignment`` and ``uniformity``
    (float64, shape ()). A term of weight 0 is measured too, but takes no part in the gradient.

    Source of the queue form: Wang & Isola 2020, appendix B.2, and its code for MoCo.

    Example:
        >>> loss = AlignUniformLoss(align_weight=0.5)
        >>> value = loss(torch.eye(4), torch.eye(4).flip(0))
        >>> {name: round(float(term), 4) for name, term in loss.terms.items()}
        {'alignment': 2.0, 'uniformity': -4.0}
    """

    name = "align_uniform"

    def __init__(
        self,
        align_weight: float = 1.0,
        uniform_weight: float = 1.0,
        alpha: float = 2.0,
        t: float | Tensor = 2.0,
        *,
        gather: _ranks.RingGather = "auto",
        queue: MemoryQueue | None = None,
        intra_batch: bool = True,
    ) -> None:
        super().__init__()
        _check_weights("AlignUniformLoss", align_weight, uniform_weight)
        _checks.positive("AlignUniformLoss", "alpha", alpha, at_least=1)
        _views.check_number("AlignUniformLoss", "t", t)
        _ranks.check_gather("AlignUniformLoss", gather, ring=queue is None)
        check_queue("AlignUniformLoss", queue)
        self.align_weight = align_weight
        self.uniform_weight = uniform_weight
        self.alpha = alpha
        self.t = t
        self.gather = gather
        self.queue = queue
        self.intra_batch = intra_batch
        self.terms: dict[str, Tensor] = {}

    @pairs.outside_graphs
    def forward(self, z1: Tensor, z2: Tensor | None = None) -> Tensor:
        """The loss of two views [N, D], or of one [N, V, D] tensor."""
        weights = (self.align_weight, self.uniform_weight)
        settings = _Settings(weights, self.alpha, self.t, self.gather, self.queue, self.intra_batch)
        loss, self.terms = _align_uniform("AlignUniformLoss", z1, z2, settings)
        return loss

    def extra_repr(self) -> str:
        """The settings."""
        shown = (
            f"align_weight={self.align_weight}, uniform_weight={self.uniform_weight}, "
            f"alpha={self.alpha}, t={_views.shown(self.t)}"
        )
        shown += "" if self.intra_batch else ", intra_batch=False"
        return shown + _ranks.shown(self.gather)
