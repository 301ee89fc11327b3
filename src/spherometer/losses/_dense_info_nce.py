"""The contrastive loss of cells: a cell and its partner against other images.

Shapes: N images of all ranks, n own images, D channels, S cells of a map, P own pairs of cells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer.correspondence import Matches
from spherometer.errors import InputError, ShapeError
from spherometer.losses import _dense_maps, _ranks, _views
from spherometer.losses._info_nce import _cosines as cosines
from spherometer.losses._info_nce import _info_nce as info_nce
from spherometer.losses._info_nce import _log_likelihoods as log_likelihoods
from spherometer.losses._info_nce import _scale as scale_of
from spherometer.losses._info_nce import _Settings as InfoNCESettings
from spherometer.losses._info_nce import _terms as terms_of
from spherometer.losses._queue import MemoryQueue, check_queue, rows_of
from spherometer.metrics._dense_alignment import Geometry, Rule


class DenseInfoNCELoss(_dense_maps.Draws):
    r"""InfoNCE of matched cells of two feature maps, beside InfoNCE of the images as wholes.

    (1 - dense_weight) * info_nce(g1, g2) + dense_weight * dense, where dense is the mean over all matched
    pairs of cells (q = z1_ns, k = z2_ns') of -log e^{q.k / T} / (e^{q.k / T} + sum_m e^{q.m / T}), T the
    temperature, all vectors of length 1. The negatives m are

    * with ``queue``: its rows, which the caller fills with ``loss.keys(z2)`` after the backward;
    * otherwise the keys of the other images of the batch.

    The key of an image is the mean of its cells in z2, scaled to length 1. Cells of z1 are queries, one way.

    Args:
        temperature: > 0; pass an ``nn.Parameter`` of shape () to learn it.
        dense_weight: share of the dense loss, from 0 to 1.
        matching: which cells are pairs: "similarity", "geometric", "index" or "random"; see
            ``correspondence.match_cells``.
        queue: keys of images of earlier batches, for the cells.
        global_queue: keys of earlier batches, for the images as wholes; see ``InfoNCELoss``.
        gather: "auto": under a process group of several ranks, the loss of the images of all ranks, the same
            on every rank. False: of these images alone, for calls that not every rank makes.

    Called with maps ``z1``, ``z2`` [N, D, H, W] or [N, D, H, W, Z], ``instance=(g1, g2)``, two tensors [N, E]
    (not needed for ``dense_weight=1``), and what the rule needs, as ``DenseAlignUniformLoss``:
    ``match_features=`` (backbone maps in DenseCL; None: z1 and z2), ``geometry=``, ``matches=``,
    ``generator=``. With a momentum encoder the caller detaches z2 and g2.

    ``terms`` holds the detached parts of the last call: ``dense`` and, where given, ``instance``; the
    decomposition of the dense part as in ``InfoNCELoss``, ``alignment`` + ``uniformity`` +
    ``log_candidates``; and ``matched``, the pairs of a cell of z1. A part of weight 0 takes no part in the
    gradient.

    Raises:
        InputError, ShapeError: maps, geometry or settings do not fit. NaN is not refused.
        UndefinedError: no pair of cells, or a single image without a queue.

    Cost: N S times the number of negatives; O(N S D) memory.

    Source: Wang et al. 2021 (DenseCL), its dense loss with a queue and similarity matching, and its weight.
    Ours: the other images of the batch as negatives, the other rules, and the mean over matched cells alone.

    Example:
        >>> loss = DenseInfoNCELoss(0.5, dense_weight=1.0, matching="index")
        >>> z = torch.eye(4).view(4, 4, 1, 1)
        >>> round(float(loss(z, z)), 6)  # log1p(3 exp(-2))
        0.340753
    """

    name = "dense_info_nce"

    def __init__(
        self,
        temperature: float | Tensor = 0.2,
        *,
        dense_weight: float = 0.5,
        matching: Rule = "similarity",
        queue: MemoryQueue | None = None,
        global_queue: MemoryQueue | None = None,
        gather: _ranks.Gather = "auto",
    ) -> None:
        super().__init__()
        function = type(self).__name__
        _views.check_number(function, "temperature", temperature)
        _check_share(function, dense_weight)
        _dense_maps.check_rule(function, matching)
        check_queue(function, queue)
        check_queue(function, global_queue)
        _ranks.check_gather(function, gather)
        self.temperature = temperature
        self.dense_weight = float(dense_weight)
        self.matching: Rule = matching
        self.queue = queue
        self.global_queue = global_queue
        self.gather = gather
        self.terms: dict[str, Tensor] = {}

    @pairs.outside_graphs
    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        match_features: tuple[Tensor, Tensor] | None = None,
        geometry: Geometry | None = None,
        matches: Matches | Tensor | None = None,
        instance: tuple[Tensor, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of the maps of two views, and of their images as wholes."""
        function = type(self).__name__
        with _ranks.refusals(self.gather, z1, z2):
            scale = scale_of(function, self.temperature)
            drawn = matches is None and self.matching == "random"
            given = _dense_maps.entered(
                function, z1, z2, self.matching, geometry=geometry, match_features=match_features,
                matches=matches, generator=self.next_generator(generator, drawn),
            )  # fmt: skip
            wholes = self._wholes(function, instance, given)
            _check_width(function, "queue", self.queue, given.maps[0])
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.dense_weight != 0):
            dense, terms = self._dense(function, given, scale)
        parts = [(self.dense_weight, dense)]
        self.terms = {"dense": dense.detach(), **terms}
        if wholes is not None:
            settings = InfoNCESettings(self.temperature, self.gather, self.global_queue)
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.dense_weight != 1):
                whole, _ = info_nce(function, *wholes, settings)
            parts.append((1 - self.dense_weight, whole.double()))
            self.terms["instance"] = whole.detach().double()
        loss = _dense_maps.weighted(parts)
        return _views.result(loss, z1)

    @torch.no_grad()
    def keys(self, z2: Tensor) -> Tensor:
        """The keys [N, D] of the images, without gradient: what ``queue.enqueue`` takes."""
        with _views.full_precision(z2):
            return _keys(z2 if z2.dtype == torch.float64 else z2.float())

    def _wholes(
        self, function: str, instance: Any, given: _dense_maps.Entered
    ) -> tuple[Tensor, Tensor] | None:
        if instance is None and self.dense_weight == 1:
            return None
        if not isinstance(instance, (tuple, list)) or len(instance) != 2:
            _checks.refuse(
                InputError, function, "instance", "be two tensors [N, E]",
                f"dense_weight={self.dense_weight:g} leaves a share to the images as wholes",
                type(instance).__name__, "Pass instance=(g1, g2), or dense_weight=1.0",
            )  # fmt: skip
        names = ("instance[0]", "instance[1]")
        first, second = _checks.tensor_set(function, names, instance, min_rows=0)
        if len(first) != given.num:
            _checks.refuse(
                ShapeError, function, "instance", "have a row for each map", "row i belongs to map i",
                f"{len(first)} rows for {given.num} maps", "Pass the vectors of the same images",
            )  # fmt: skip
        if self.global_queue is not None:
            _check_width(function, "global_queue", self.global_queue, first)
        return first, second

    def _dense(
        self, function: str, given: _dense_maps.Entered, scale: float | Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with _views.full_precision(given.maps[0]):
            queries = given.units[0]
            keys = _keys(given.maps[1])
            if self.queue is None:
                rows = _ranks.spread(function, keys[None], self.gather, min_rows=2)
                rest = _others(queries, given.num, rows, scale)
                num_negatives = rows.total - 1
            else:
                rows = _ranks.count(function, keys[None], self.gather, min_rows=1)
                negatives = rows_of(self.queue, queries)
                rest, _ = pairs.masked_logsumexp(queries, negatives, scale)
                num_negatives = len(negatives)
            positive = cosines(*given.ends()) * scale
            numbers = [len(positive), len(queries)]
            num_pairs, num_cells = _dense_maps.pairs_of_all(function, numbers, self.gather, queries)
            total = -log_likelihoods(given.at_first(rest), positive).sum()
            if not given.every or rows.world > 1:  # a rank without pairs stays in the graph
                total = total + (queries.sum() + keys.sum()).double() * 0
            loss = rows.mean(total, num_pairs)
            mean = rows.mean(positive.detach().sum(), num_pairs)
        matched = mean.new_full((), num_pairs / num_cells)
        return loss, {**terms_of(loss, mean, 1 + num_negatives), "matched": matched}

    def extra_repr(self) -> str:
        """The settings."""
        shown = f"temperature={_views.shown(self.temperature)}, dense_weight={self.dense_weight}"
        return f"{shown}, matching={self.matching!r}{_ranks.shown(self.gather)}"


def _keys(maps: Tensor) -> Tensor:
    """The mean cell of each map, scaled to length 1, [n, D]."""
    return sphere.normalize(maps.flatten(2).mean(dim=2))


def _others(queries: Tensor, num: int, rows: _ranks.Rows, scale: float | Tensor) -> Tensor:
    """Log-sum-exp of every cell [n S] over the keys of the other images of all ranks."""
    keys = rows.every[0]
    size = len(queries) // num if num else 1
    by_place = queries.view(num, size, queries.shape[1]).transpose(0, 1)
    if rows.world == 1:  # row (s, n) leaves out the column of its own image: a diagonal for every place s
        skip = tuple(-place * num for place in range(size))
        sums, _ = pairs.masked_logsumexp(by_place.flatten(0, 1), keys, scale, skip=skip)
        return sums.view(size, num).T.flatten()
    # with more columns than own images a diagonal would go on through the next place
    parts = [pairs.masked_logsumexp(place, keys, scale, skip=(rows.start,))[0] for place in by_place]
    return torch.stack(parts, dim=1).flatten()


def _check_share(function: str, value: Any) -> None:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    if not usable:
        _checks.refuse(
            InputError, function, "dense_weight", "lie between 0 and 1", "the images as wholes have the rest",
            repr(value)[:60], "Pass for instance dense_weight=0.5",
        )  # fmt: skip


def _check_width(function: str, name: str, queue: MemoryQueue | None, z: Tensor) -> None:
    if queue is None:
        return
    if z.shape[1] != queue.keys.shape[1] or z.device != queue.keys.device:
        _checks.refuse(
            ShapeError, function, name, "have the columns and the device of what meets it",
            "both live on one sphere",
            f"{queue.keys.shape[1]} columns on {queue.keys.device} for {z.shape[1]} on {z.device}",
            "Make the queue with MemoryQueue(dim=D, size=...), and move it with the loss",
        )  # fmt: skip
