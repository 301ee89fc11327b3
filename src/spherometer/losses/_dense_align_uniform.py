"""Alignment and uniformity of the cells of feature maps, as a loss.

Shapes: N images, D channels, S cells of a map, C cells that are used, P pairs of cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spherometer import _checks, pairs
from spherometer.correspondence import Matches
from spherometer.errors import UndefinedError
from spherometer.losses import _dense_maps, _ranks, _views
from spherometer.losses._align_uniform import _check_weights as check_weights
from spherometer.losses._align_uniform import _powers as powers
from spherometer.metrics._dense_alignment import Geometry, Rule
from spherometer.metrics._dense_uniformity import POPULATIONS, Pairs, drawn_cells

_RANK = 1 << 32  # images of one rank


class DenseAlignUniformLoss(_dense_maps.Draws):
    r"""Alignment of matched cells and uniformity of all cells of two feature maps, to be made small.

    align_weight * mean_n mean_{(s, s') of n} \|z1_ns - z2_ns'\|^alpha
    + uniform_weight * (uniformity(z1) + uniformity(z2)) / 2, as ``dense_alignment`` and ``dense_uniformity``
    define them; cells are scaled to length 1 inside.

    Args:
        align_weight: weight of alignment, >= 0.
        uniform_weight: weight of uniformity, >= 0.
        matching: which cells are pairs: "geometric", "similarity", "index" or "random"; see
            ``correspondence.match_cells``.
        alpha: power of the distance, at least 1.
        t: sharpness > 0; pass an ``nn.Parameter`` of shape () to learn it.
        pairs: population of uniformity: "cross_image", "within_image" or "all".
        num_cells: so many cells of the batch, drawn for each view, take part in uniformity; None: all.
        gather: "auto": under a process group of several ranks, the loss of the images of all ranks, the same
            on every rank. False: of these images alone, for calls that not every rank makes.

    Called with maps ``z1``, ``z2`` [N, D, H, W] or [N, D, H, W, Z] and what the rule needs: ``geometry=``
    (``ViewGeometry`` of both views, or a ``FlowField``), ``match_features=`` (maps of both views that are
    compared for "similarity"; None: z1 and z2), or ``matches=`` (``Matches``, or a tensor of flat cells, in
    place of the rule). ``generator=`` is for "random" and ``num_cells``; without it the number of the call
    (the buffer ``draws``) is the seed.

    Images without a pair take no part in alignment; a batch without any is refused.

    ``terms`` holds the detached parts of the last call, unweighted: ``alignment``, ``uniformity`` (float64,
    shape ()), and ``matched``, the pairs of a cell of z1. A term of weight 0 takes no part in the gradient.

    Raises:
        InputError, ShapeError: maps, geometry or settings do not fit. NaN is not refused.
        UndefinedError: no pair for alignment, or (one image with "cross_image") for uniformity.

    Cost: O(C^2 D) time for C cells of a view, O(C D) memory; see ``dense_uniformity``. Differentiable twice
    for C <= 1024 in one process.

    Source: ours, the loss of Wang & Isola 2020 on cells.

    Example:
        >>> loss = DenseAlignUniformLoss(matching="index")
        >>> z = torch.eye(4).view(4, 4, 1, 1)
        >>> round(float(loss(z, z)), 4), {name: round(float(term), 4) for name, term in loss.terms.items()}
        (-4.0, {'alignment': 0.0, 'uniformity': -4.0, 'matched': 1.0})
    """

    name = "dense_align_uniform"

    def __init__(
        self,
        align_weight: float = 1.0,
        uniform_weight: float = 1.0,
        *,
        matching: Rule = "geometric",
        alpha: float = 2.0,
        t: float | Tensor = 2.0,
        pairs: Pairs = "cross_image",
        num_cells: int | None = None,
        gather: _ranks.Gather = "auto",
    ) -> None:
        super().__init__()
        function = type(self).__name__
        check_weights(function, align_weight, uniform_weight)
        _dense_maps.check_rule(function, matching)
        _checks.positive(function, "alpha", alpha, at_least=1)
        _views.check_number(function, "t", t)
        _checks.one_of(function, "pairs", pairs, tuple(POPULATIONS))
        if num_cells is not None:
            _checks.whole(function, "num_cells", num_cells, at_least=2)
        _ranks.check_gather(function, gather)
        self.align_weight = align_weight
        self.uniform_weight = uniform_weight
        self.matching: Rule = matching
        self.alpha = alpha
        self.t = t
        self.pairs: Pairs = pairs
        self.num_cells = num_cells
        self.gather = gather
        self.terms: dict[str, Tensor] = {}

    @pairs.outside_graphs
    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        geometry: Geometry | None = None,
        match_features: tuple[Tensor, Tensor] | None = None,
        matches: Matches | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of the maps of two views."""
        function, gather = type(self).__name__, self.gather
        with _ranks.refusals(gather, z1, z2):
            drawn = matches is None and self.matching == "random"
            generator = self.next_generator(generator, drawn or self.num_cells is not None)
            given = _dense_maps.entered(
                function, z1, z2, self.matching, geometry=geometry, match_features=match_features,
                matches=matches, generator=generator,
            )  # fmt: skip
        with _views.full_precision(z1):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.align_weight != 0):
                align, matched = self._alignment(function, given)
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.uniform_weight != 0):
                values = [
                    self._uniformity(function, name, cells, given.num, generator)
                    for name, cells in zip(("z1", "z2"), given.units, strict=True)
                ]
                uniform = (values[0] + values[1]) / 2
            parts = ((self.align_weight, align), (self.uniform_weight, uniform))
            loss = _dense_maps.weighted(parts)
        self.terms = {"alignment": align.detach(), "uniformity": uniform.detach(), "matched": matched}
        return _views.result(loss, z1)

    def _alignment(self, function: str, given: _dense_maps.Entered) -> tuple[Tensor, Tensor]:
        """Mean over images of the mean over their pairs, and the pairs of a cell."""
        cells = given.units[0]
        rows = _ranks.count(function, cells[None], self.gather, min_rows=1)
        values = powers(*given.ends(), self.alpha)
        if given.every:
            used, total = given.num, values.sum() * (given.num / max(1, len(cells)))
        else:
            counts = given.matches.counts()
            used = int((counts > 0).sum())
            weights = 1 / counts.double()[given.matches.image]
            total = (values * weights).sum()
        if not given.every or rows.world > 1:  # a rank without pairs stays in the graph
            total = total + cells.sum().double() * 0
        numbers = [used, len(values), len(cells)]
        images, num_pairs, num_cells = _dense_maps.pairs_of_all(function, numbers, self.gather, values)
        return rows.mean(total, images), values.new_full((), num_pairs / num_cells)

    def _uniformity(
        self, function: str, name: str, cells: Tensor, num: int, generator: torch.Generator | None
    ) -> Tensor:
        """Log of the mean potential over the population, of the cells of all ranks."""
        rows = _ranks.spread(function, cells[None], self.gather, min_rows=1, name=name)
        images = torch.arange(num, device=cells.device).repeat_interleave(len(cells) // max(num, 1))
        every, own = rows.every[0], None
        if rows.world > 1:
            rank = torch.distributed.get_rank()
            images = _ranks.spread_labels(function, images + rank * _RANK, rows)
            own = rows.start, rows.num
        if self.num_cells is not None and self.num_cells < rows.total:
            chosen = drawn_cells(rows.total, self.num_cells, generator).to(cells.device)
            every, images = every[chosen], images[chosen]
            if own is not None:
                before, upto = (int((chosen < end).sum()) for end in (own[0], own[0] + own[1]))
                own = before, upto - before
        population = POPULATIONS[self.pairs]
        total = pairs.num_meetings(images, population)
        if not total:
            _checks.refuse(
                UndefinedError, function, name, f'hold a pair of cells for pairs="{self.pairs}"',
                "uniformity is a mean over pairs of cells",
                f"{len(images)} cells of {int((images[1:] != images[:-1]).sum()) + 1} images",
                'Pass more images, or another population such as pairs="all"',
            )  # fmt: skip
        found = pairs.population_log_sum(every, self.t, images, population, own=own)
        return rows.log_sum(found) - math.log(total)

    def extra_repr(self) -> str:
        """The settings."""
        shown = (
            f"align_weight={self.align_weight}, uniform_weight={self.uniform_weight}, "
            f"matching={self.matching!r}, alpha={self.alpha}, t={_views.shown(self.t)}, pairs={self.pairs!r}"
        )
        shown += "" if self.num_cells is None else f", num_cells={self.num_cells}"
        return shown + _ranks.shown(self.gather)
