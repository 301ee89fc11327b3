"""Dense regression: what the cells of frozen maps know of a number of every pixel, such as depth.

Shapes: N images, C channels, M cells; maps [N, C, *grid], targets [N, *size], two or three axes; B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks, _groups
from spherometer._results import Better, Measurement
from spherometer.errors import InputError, UndefinedError
from spherometer.probes import _cells
from spherometer.probes._arrays import Array
from spherometer.probes._ridge import STRENGTHS, RidgeProbe
from spherometer.probes._segmentation import checked_size

_RESAMPLES = 1000
_NAME = "DenseRidgeProbe"


class DenseRidgeProbe:
    """Ridge regression of a number of every pixel (depth, disparity) on the cells of frozen maps.

    A cell has the mean of its pixels whose number is known (a cell of which less than half is known is left
    out), and ``RidgeProbe`` is fitted to the cells, its strength by cross-validation: whole images are left
    out together, of a single image its 4 x 4 (x 4) tiles. To predict, the numbers of the cells are
    interpolated to the pixels.

    Args:
        strengths, folds: as in ``RidgeProbe``.
        normalize: scale every cell to length 1 first, as the metrics of dense maps do.
        standardize: scale every channel to mean 0 and variance 1 by the training cells. Of few cells that
            blows up channels that hardly fire among them: with a pretrained backbone and parts of one image
            left out the error came out about as large as that of a constant, half to two thirds without.
        upsample: maps are interpolated to so many times their grid before they are cut into cells.

    Source: ours, after the depth task of Wang & Isola 2020 (who train a small decoder); linear here.

    Example:
        >>> depth = torch.arange(32.0).view(1, 4, 8).expand(2, 4, 8)
        >>> maps = torch.nn.functional.avg_pool2d(depth[:, None], 2)
        >>> probe = DenseRidgeProbe(normalize=False).fit(maps, depth)
        >>> round(probe.score(maps, depth), 2)
        0.91
    """

    def __init__(
        self,
        strengths: float | Sequence[float] = STRENGTHS,
        *,
        upsample: int = 1,
        normalize: bool = True,
        standardize: bool = False,
        folds: int = 5,
    ) -> None:
        _checks.whole(_NAME, "upsample", upsample)
        self.upsample = int(upsample)
        self.normalize = normalize
        self._ridge = RidgeProbe(strengths, standardize=standardize, folds=folds)
        self._typical = 0.0
        self._channels = 0

    @torch.no_grad()
    def fit(self, maps: Any, targets: Any) -> DenseRidgeProbe:
        """Fit to maps [N, C, *grid] with numbers [N, *size], NaN or infinite where they are not known."""
        z = self._scaled(_cells.checked_maps(f"{_NAME}.fit", maps))
        truth, known = _numbers(f"{_NAME}.fit", targets, z)
        grid = tuple(side * self.upsample for side in z.shape[2:])
        share = F.interpolate(known.double()[:, None], size=grid, mode="area")[:, 0]
        total = F.interpolate(truth[:, None], size=grid, mode="area")[:, 0]
        kept = (share >= 0.5).flatten()
        if not bool(kept.any()):
            _checks.refuse(
                UndefinedError, f"{_NAME}.fit", "targets", "be known for half of the pixels of some cell",
                "a cell has the mean of its pixels", f"at most {float(share.max()):.2g} of a cell",
                "Pass targets with more finite numbers",
            )  # fmt: skip
        rows = _cells.resized(z, grid).flatten(2).mT.flatten(0, 1)
        means = (total / share.clamp(min=0.5)).flatten()
        self._ridge.fit(rows[kept], means[kept], groups=_codes(z, grid)[kept])
        self._typical = float(truth.sum() / known.sum())
        self._channels = z.shape[1]
        return self

    @property
    def strength(self) -> float:
        """The one chosen in ``fit``."""
        return float(self._ridge.strength)

    @torch.no_grad()
    def predict(self, maps: Any, size: Sequence[int]) -> Array:
        """Numbers [N, *size] float64 of maps [N, C, *grid]."""
        z = self._maps("predict", maps)
        return self._predicted(z, checked_size(f"{_NAME}.predict", size, z.ndim - 2)).numpy()

    def _maps(self, method: str, maps: Any) -> Tensor:
        if not self._channels:
            _checks.refuse(
                InputError, f"{_NAME}.{method}", "probe", "be fitted", "it has no weights yet", "none",
                "Call fit(maps, targets) first",
            )  # fmt: skip
        return self._scaled(_cells.checked_maps(f"{_NAME}.{method}", maps, self._channels))

    def _scaled(self, z: Tensor) -> Tensor:
        return F.normalize(z, dim=1) if self.normalize else z

    def _predicted(self, z: Tensor, size: tuple[int, ...]) -> Tensor:
        cells = self._ridge.predict(z.flatten(2).mT.flatten(0, 1))
        grid = torch.from_numpy(cells).view(len(z), 1, *z.shape[2:])
        return _cells.resized(grid, size)[:, 0]

    def score(self, maps: Any, targets: Any) -> float:
        """R^2 over all pixels whose number is known: 1 is perfect, 0 the mean of these numbers."""
        return self._scores("score", maps, targets, 0)["r2"].value

    def evaluate(self, maps: Any, targets: Any, *, seed: int = 0) -> dict[str, Measurement]:
        """Root mean squared error "rmse", "mae" and "r2" over the pixels of other images.

        Beside the errors of always predicting the mean of the training pixels. Intervals: percentiles of 1000
        bootstrap resamples of the images, of a single image of its 4 x 4 (x 4) tiles: pixels nearby are not
        independent.
        """
        return self._scores("evaluate", maps, targets, seed)

    @torch.no_grad()
    def _scores(self, method: str, maps: Any, targets: Any, seed: int) -> dict[str, Measurement]:
        function = f"{_NAME}.{method}"
        z = self._maps(method, maps)
        truth, known = _numbers(function, targets, z)
        _checks.whole(function, "seed", seed, at_least=0)
        y, error = truth[known], (self._predicted(z, tuple(truth.shape[1:])) - truth)[known]
        if not len(y) or float(y.max()) == float(y.min()):
            _checks.refuse(
                UndefinedError, function, "targets", "hold numbers that vary",
                "there is nothing to explain in a constant", f"{len(y)} known pixels", "Pass other targets",
            )  # fmt: skip
        centre = y.mean()
        flat = _codes(z, tuple(truth.shape[1:]))[known.flatten()]
        codes = np.unique(flat.numpy(), return_inverse=True)[1]
        columns = (torch.ones_like(y), error**2, error.abs(), y - centre, (y - centre) ** 2)
        sums = np.stack([np.bincount(codes, column.numpy()) for column in columns], axis=1)
        value = _errors(sums.sum(axis=0)[None])[0]
        samples = _resampled(sums, seed)
        usual = (float((y - self._typical).square().mean().sqrt()), float((y - self._typical).abs().mean()))
        over = "images" if len(z) > 1 else "tiles of the image"
        how = None if samples is None else f"bootstrap over {over}"
        settings = {"resamples": _RESAMPLES, "seed": seed, "interval": how, "images": len(z)}
        labels = ("Root mean squared error", "Mean absolute error", "R\N{SUPERSCRIPT TWO}")
        found = {}
        for place, (name, label) in enumerate(zip(("rmse", "mae", "r2"), labels, strict=True)):
            better: Better = "higher" if name == "r2" else "lower"
            baseline = {"the mean of the targets": 0.0, "perfect": 1.0}
            if name != "r2":
                baseline = {"always the same number": usual[place], "perfect": 0.0}
            interval = None
            if samples is not None:
                low, high = _groups.interval(samples[:, place])
                interval = (min(low, float(value[place])), max(high, float(value[place])))
            found[name] = Measurement(
                name, float(value[place]), interval, baseline, len(y), settings, better, label
            )
        return found


def _codes(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """The image of every place of ``size``, flat; of a single image its tile."""
    if len(maps) > 1:
        return torch.arange(len(maps)).repeat_interleave(math.prod(size))
    return _cells.tiles(size)


def _errors(sums: Array) -> Array:
    """RMSE, MAE and R^2 [B, 3] of sums [B, 5] over pixels."""
    num, squared, absolute, first, second = sums.T
    spread = second - first**2 / num
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(spread > 0, 1 - squared / spread, np.nan)
    return np.stack([np.sqrt(squared / num), absolute / num, r2], axis=1)


def _resampled(sums: Array, seed: int) -> Array | None:
    if len(sums) < 2:
        return None
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = _groups.bootstrap_weights(np.arange(len(sums)), _RESAMPLES, rng)
    return _errors(weights @ sums)


def _numbers(function: str, targets: Any, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Targets as float64 [N, *size], 0 where they are not known, and where they are."""
    array = targets.detach().cpu() if isinstance(targets, Tensor) else targets
    if isinstance(array, np.ndarray) and array.dtype.kind in "fiu":
        array = torch.from_numpy(array.astype(np.float64))
    if not isinstance(array, Tensor) or array.is_complex() or array.dtype == torch.bool:
        got = (
            f"dtype {array.dtype}".replace("torch.", "")
            if hasattr(array, "dtype")
            else type(targets).__name__
        )
        _checks.refuse(
            InputError, function, "targets", "be a tensor or an array of numbers",
            "a number of every pixel is predicted", got, "Convert them with .float()",
        )  # fmt: skip
    _cells.check_size(function, "targets", array, maps)
    known = torch.isfinite(array)
    return torch.where(known, array, 0).double(), known
