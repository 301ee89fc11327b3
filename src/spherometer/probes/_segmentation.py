"""Segmentation probes: what the cells of frozen dense maps know of the classes of the pixels.

Shapes: N images, C channels, K classes, M cells; maps [N, C, *grid], masks [N, *size], two or three axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks
from spherometer._results import Measurement
from spherometer.errors import InputError
from spherometer.probes import _cells
from spherometer.probes._arrays import Rows
from spherometer.probes._segmentation_scores import Counts, count, scores_of
from spherometer.probes._softmax import SoftmaxFit, fit_softmax

_ENTRIES = 1 << 22  # similarities in one block


class _Segmenter:
    """Masks from class scores of cells, interpolated to pixels: what both probes share."""

    _name = ""

    def __init__(self, ignore_index: int) -> None:
        self.ignore_index = int(ignore_index)
        self._channels = 0
        self._typical = 0
        self._num_classes = 0

    def _scores(self, maps: Tensor) -> Tensor:
        """Scores [N, K, *grid] of maps [N, C, *grid]."""
        raise NotImplementedError

    def _maps(self, method: str, maps: Any) -> Tensor:
        if not self._channels:
            _checks.refuse(
                InputError, f"{self._name}.{method}", "probe", "be fitted", "it knows no class yet", "none",
                "Call fit(maps, masks) first",
            )  # fmt: skip
        return _cells.checked_maps(f"{self._name}.{method}", maps, self._channels)

    def _predicted(self, maps: Tensor, size: tuple[int, ...]) -> Tensor:
        return _cells.resized(self._scores(maps), size).argmax(dim=1)

    @torch.no_grad()
    def predict(self, maps: Any, size: Sequence[int]) -> Rows:
        """Classes [N, *size] of maps [N, C, *grid]: class scores are interpolated, and the largest wins."""
        z = self._maps("predict", maps)
        sides = checked_size(f"{self._name}.predict", size, z.ndim - 2)
        found = np.empty((len(z), *sides), dtype=np.int64)
        for start, stop in _cells.blocks(len(z), self._num_classes * math.prod(sides)):
            found[start:stop] = self._predicted(z[start:stop], sides).numpy()
        return found

    def score(self, maps: Any, masks: Any) -> float:
        """Mean intersection over union, in [0, 1]."""
        counts = self._counts("score", maps, masks)
        return scores_of(f"{self._name}.score", counts, self._typical, 0)["miou"].value

    def evaluate(self, maps: Any, masks: Any, *, seed: int = 0) -> dict[str, Measurement]:
        """Mean IoU "miou", "pixel_accuracy" and "iou_0", ... on other images, with intervals and baselines.

        As ``segmentation_scores``, beside what the most frequent class of the training masks would give.
        """
        counts = self._counts("evaluate", maps, masks)
        return scores_of(f"{self._name}.evaluate", counts, self._typical, seed)

    @torch.no_grad()
    def _counts(self, method: str, maps: Any, masks: Any) -> Counts:
        z = self._maps(method, maps)
        truth = _cells.checked_masks(f"{self._name}.{method}", masks, z, self.ignore_index)
        num = max(self._num_classes, _cells.largest_class(truth, self.ignore_index) + 1)
        size = tuple(truth.shape[1:])
        parts = [
            count(truth[start:stop], self._predicted(z[start:stop], size), num, self.ignore_index)
            for start, stop in _cells.blocks(len(z), num * math.prod(size))
        ]
        return parts[0].joined(parts[1:])


class SegmentationProbe(_Segmenter):
    r"""Linear segmentation: a 1 x 1 convolution on frozen maps, by multinomial logistic regression.

    Maps are interpolated to ``upsample`` times their grid; each of these cells has the shares of the classes
    among its pixels as soft labels, so that what is minimised is the cross-entropy of all pixels, with one
    logit vector for the pixels of such a cell: its mean over the pixels of a cell of the map, summed over all
    cells, + |W|^2 / (2 strength) (intercepts are not penalised, columns are standardised first). To predict,
    the logits of the maps are interpolated to the pixels and the largest wins.

    Args:
        strength: inverse of the penalty.
        upsample: see above; 1 is the fastest, size / grid the cross-entropy of pixels itself.
        ignore_index: of pixels that are not counted.
        max_iterations: of L-BFGS.

    Attributes:
        converged: whether ``fit`` reached the minimum.

    Cost: tens of passes over N * cells * upsample^2 rows of C numbers, which are in memory twice.

    Source: ours, after the linear segmentation probes in use (a 1 x 1 convolution trained by gradient
        descent); solved to the minimum instead, so that no learning rate decides.

    Example:
        >>> masks = torch.zeros(2, 8, 8, dtype=torch.int64)
        >>> masks[:, :4, 2:6] = 1
        >>> maps = torch.nn.functional.avg_pool2d(masks[:, None].float(), 2)
        >>> SegmentationProbe(strength=100.0).fit(maps, masks).score(maps, masks)
        1.0
    """

    _name = "SegmentationProbe"

    def __init__(
        self,
        strength: float = 1.0,
        *,
        upsample: int = 2,
        ignore_index: int = _cells.IGNORE,
        max_iterations: int = 300,
    ) -> None:
        _checks.positive(self._name, "strength", strength)
        _checks.whole(self._name, "upsample", upsample)
        _checks.whole(self._name, "max_iterations", max_iterations)
        super().__init__(ignore_index)
        self.strength = float(strength)
        self.upsample = int(upsample)
        self.max_iterations = int(max_iterations)
        self.converged = False
        self._model: SoftmaxFit | None = None
        self._classes = torch.empty(0, dtype=torch.int64)

    def fit(self, maps: Any, masks: Any) -> SegmentationProbe:
        """Fit to maps [N, C, *grid] with masks [N, *size] of at least two classes."""
        cells = _cells.cut("SegmentationProbe.fit", maps, masks, None, self.upsample, self.ignore_index)
        mass = cells.shares.sum(dim=0)
        self._classes = mass.nonzero()[:, 0]  # the bias of a class without a pixel would never settle
        if len(self._classes) < 2:
            _refuse_one_class("SegmentationProbe.fit", int(self._classes[0]))
        finer = self.upsample ** (maps.ndim - 2)  # cells for each of the map: their mean counts
        self._model = fit_softmax(
            cells.features, cells.shares[:, self._classes].contiguous(), num_classes=len(self._classes),
            strength=self.strength / finer, max_iterations=self.max_iterations,
        )  # fmt: skip
        self.converged = self._model.converged
        self._channels, self._num_classes = cells.features.shape[1], len(mass)
        self._typical = int(mass.argmax())
        return self

    def _scores(self, maps: Tensor) -> Tensor:
        assert self._model is not None
        logits = self._model.logits(maps.flatten(2).mT.to(self._model.weights))
        return logits.mT.reshape(len(maps), -1, *maps.shape[2:])

    def _predicted(self, maps: Tensor, size: tuple[int, ...]) -> Tensor:
        return self._classes[super()._predicted(maps, size)]


class KNNSegmentation(_Segmenter):
    """Segmentation by nearest neighbours: each cell has the mean classes of the k most similar ones.

    Every cell of the training maps has the shares of the classes among its pixels; a new cell has the mean
    of the shares of the k training cells of largest cosine. To predict, the shares are interpolated to the
    pixels and the largest wins. Nothing is trained.

    Args:
        k: number of neighbours.
        max_cells: of more training cells so many are kept, drawn without replacement.
        ignore_index: of pixels that are not counted.
        seed: of that draw.

    Cost: a product of all new with all kept cells.

    Source: ours, after retrieval of patches (Balazevic et al. 2023, who weight neighbours by similarity).

    Example:
        >>> masks = torch.zeros(2, 8, 8, dtype=torch.int64)
        >>> masks[:, :4, 2:6] = 1
        >>> inside = torch.nn.functional.avg_pool2d(masks[:, None].float(), 2)
        >>> maps = torch.cat([inside, 1 - inside], dim=1)
        >>> KNNSegmentation(k=3).fit(maps, masks).score(maps, masks)
        1.0
    """

    _name = "KNNSegmentation"

    def __init__(
        self, k: int = 20, *, max_cells: int = 20_000, ignore_index: int = _cells.IGNORE, seed: int = 0
    ) -> None:
        _checks.whole(self._name, "k", k)
        _checks.whole(self._name, "max_cells", max_cells)
        _checks.whole(self._name, "seed", seed, at_least=0)
        super().__init__(ignore_index)
        self.k = int(k)
        self.max_cells = int(max_cells)
        self.seed = int(seed)
        self._bank = torch.empty(0)
        self._shares = torch.empty(0)

    def fit(self, maps: Any, masks: Any) -> KNNSegmentation:
        """Keep the cells of maps [N, C, *grid] with the shares of the classes in masks [N, *size]."""
        cells = _cells.cut("KNNSegmentation.fit", maps, masks, None, 1, self.ignore_index)
        num = len(cells.features)
        if num < self.k:
            _checks.refuse(
                InputError, "KNNSegmentation.fit", "maps", f"have at least k = {self.k} cells",
                "every prediction asks k neighbours", f"{num}", "Pass more images, or a smaller k",
            )  # fmt: skip
        rows = torch.arange(num)
        if num > max(self.max_cells, self.k):
            generator = np.random.Generator(np.random.PCG64(self.seed))
            kept = generator.choice(num, size=max(self.max_cells, self.k), replace=False)
            rows = torch.from_numpy(np.sort(kept))
        self._bank = torch.nn.functional.normalize(cells.features[rows], dim=1)
        shares = cells.shares[rows]
        self._shares = shares / shares.sum(dim=1, keepdim=True)
        self._channels, self._num_classes = cells.features.shape[1], cells.shares.shape[1]
        self._typical = int(cells.shares.sum(dim=0).argmax())
        return self

    def _scores(self, maps: Tensor) -> Tensor:
        asked = torch.nn.functional.normalize(maps.flatten(2).mT.flatten(0, 1).to(self._bank), dim=1)
        found, step = [], max(1, _ENTRIES // len(self._bank))
        block = asked.new_empty(min(step, len(asked)), len(self._bank))  # used again: new ones scatter memory
        for part in torch.split(asked, step):
            near = torch.mm(part, self._bank.T, out=block[: len(part)]).topk(self.k, dim=1).indices
            found.append(self._shares[near].mean(dim=1))
        shares = torch.cat(found).view(len(maps), -1, self._shares.shape[1])
        return shares.mT.reshape(len(maps), -1, *maps.shape[2:])


def _refuse_one_class(function: str, only: int) -> NoReturn:
    _checks.refuse(
        InputError, function, "masks", "hold at least 2 classes", "a boundary lies between classes",
        f"class {only} alone", "Pass masks of several classes",
    )  # fmt: skip


def checked_size(function: str, size: Any, axes: int) -> tuple[int, ...]:
    """The sides of masks to predict."""
    if not isinstance(size, (tuple, list, torch.Size)) or len(size) != axes:
        _checks.refuse(
            InputError, function, "size", f"hold {axes} sides", "masks have the axes of the maps",
            repr(size)[:80], f"Pass for instance size={(56,) * axes}",
        )  # fmt: skip
    for side in size:
        _checks.whole(function, "size", side)
    return tuple(int(side) for side in size)
