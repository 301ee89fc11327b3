"""What predicted masks are worth: intersection over union and pixel accuracy, with intervals over images.

Shapes: N images, K classes, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks, _groups
from spherometer._results import Measurement
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.probes._arrays import Array
from spherometer.probes._cells import IGNORE

RESAMPLES = 1000
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Counts:
    """Pixels of each image by class [N, K]: where truth and prediction agree, of the truth, predicted."""

    agreed: Array
    true: Array
    predicted: Array

    def joined(self, others: Sequence[Counts]) -> Counts:
        """These images and others."""
        every = (self, *others)
        return Counts(*(np.concatenate([getattr(e, name) for e in every]) for name in _FIELDS))

    def most_frequent(self, kind: int) -> Counts:
        """The counts if every pixel were predicted to be of one class."""
        agreed, predicted = np.zeros_like(self.agreed), np.zeros_like(self.agreed)
        if kind < agreed.shape[1]:
            agreed[:, kind] = self.true[:, kind]
            predicted[:, kind] = self.true.sum(axis=1)
        return Counts(agreed, self.true, predicted)


_FIELDS = ("agreed", "true", "predicted")


def count(truth: Tensor, predicted: Tensor, num_classes: int, ignore_index: int) -> Counts:
    """Counts of masks [N, *size] of the same size."""
    counted = truth != ignore_index
    right = counted & (truth == predicted)
    every = ((truth, right), (truth, counted), (predicted, counted))
    return Counts(*(_binned(kinds, where, num_classes) for kinds, where in every))


def _binned(kinds: Tensor, where: Tensor, num_classes: int) -> Array:
    num = len(kinds)
    flat = torch.where(where, kinds, num_classes).flatten(1) + (num_classes + 1) * torch.arange(num)[:, None]
    found = torch.bincount(flat.flatten(), minlength=num * (num_classes + 1)).view(num, num_classes + 1)
    return found[:, :num_classes].double().numpy()


def segmentation_scores(
    masks: Any, predicted: Any, *, ignore_index: int = IGNORE, typical: int | None = None, seed: int = 0
) -> dict[str, Measurement]:
    r"""Mean intersection over union, pixel accuracy and the IoU of every class, each with a 95 % interval.

    Pixels of all images are counted together, as in Pascal VOC: IoU_k = agreed_k / (true_k + predicted_k -
    agreed_k); the mean is over the classes that occur in the masks or in the predictions.

    Args:
        masks: [N, *size] true classes, whole numbers from 0.
        predicted: the same shape.
        ignore_index: of pixels of ``masks`` that are not counted.
        typical: the class that is predicted where nothing is known: the most frequent one of the training
            masks; the baseline. None: that of ``masks``.
        seed: of the resampling.

    Returns:
        "miou", "pixel_accuracy", and "iou_0", "iou_1", ... of the classes that occur. Intervals: percentiles
        of 1000 bootstrap resamples of the images, None for a single one; they do not hold the spread over
        training sets. With fewer than about 10 images they are too short.

    Range: [0, 1], higher is better; beside it what the most frequent class everywhere would give.

    Raises:
        InputError: masks that do not match, no pixel that is counted.

    Source: Everingham et al. 2010 (Pascal VOC); the bootstrap over images is ours.

    Example:
        >>> truth = torch.tensor([[[0, 0], [1, 1]], [[0, 0], [0, 255]]])
        >>> scores = segmentation_scores(truth, torch.tensor([[[0, 0], [1, 0]], [[0, 0], [0, 0]]]))
        >>> round(scores["iou_0"].value, 3), scores["iou_1"].value, round(scores["pixel_accuracy"].value, 3)
        (0.833, 0.5, 0.857)
    """
    truth, guess = (_whole(name, each) for name, each in (("masks", masks), ("predicted", predicted)))
    if truth.shape != guess.shape or truth.ndim < 2:
        _checks.refuse(
            ShapeError,
            "segmentation_scores",
            "predicted",
            "have the shape of masks, [N, ...]",
            "each pixel is compared with its own",
            f"masks {tuple(truth.shape)}, predicted {tuple(guess.shape)}",
            "Pass matching masks",
        )
    known = torch.where(truth == ignore_index, 0, truth)
    for name, each in (("masks", known), ("predicted", guess)):
        if each.numel() and (int(each.min()) < 0 or int(each.max()) >= 1 << 12):
            _checks.refuse(
                InputError, "segmentation_scores", name, "hold classes from 0 to 4095", "they are counted",
                f"{int(each.min())} ... {int(each.max())}", f"Set pixels of no class to {ignore_index}",
            )  # fmt: skip
    num_classes = int(max(known.max(), guess.max())) + 1 if truth.numel() else 0
    return scores_of("segmentation_scores", count(truth, guess, num_classes, ignore_index), typical, seed)


def _whole(name: str, values: Any) -> Tensor:
    array = values.detach().cpu() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    if array.is_floating_point() or array.is_complex() or array.dtype == torch.bool:
        _checks.refuse(
            InputError,
            "segmentation_scores",
            name,
            "hold whole numbers",
            "they name the class of every pixel",
            f"dtype {array.dtype}".replace("torch.", ""),
            "Convert them with .long()",
        )
    return array.to(torch.int64)


def scores_of(function: str, counts: Counts, typical: int | None, seed: int) -> dict[str, Measurement]:
    """The measurements of counted pixels."""
    _checks.whole(function, "seed", seed, at_least=0)
    num, width = counts.true.shape
    if not counts.true.sum():
        _checks.refuse(
            UndefinedError, function, "masks", "hold a pixel that is counted",
            "there is nothing to compare", f"none in {num} images", "Pass masks with classes",
        )  # fmt: skip
    usual = int(counts.true.sum(axis=0).argmax()) if typical is None else typical
    ones = np.ones((1, num))
    value, chance = _scores(counts, ones)[0], _scores(counts.most_frequent(usual), ones)[0]
    samples = _resampled(counts, seed) if num > 1 else None
    how = None if samples is None else "bootstrap over images"
    settings = {"resamples": RESAMPLES, "seed": seed, "interval": how, "pixels": int(counts.true.sum())}
    settings["classes"] = int((~np.isnan(value[2:])).sum())
    names = ["miou", "pixel_accuracy", *(f"iou_{k}" for k in range(width))]
    labels = ["Mean IoU", "Pixel accuracy", *(f"IoU of class {k}" for k in range(width))]
    found = {}
    for place, (name, label) in enumerate(zip(names, labels, strict=True)):
        if np.isnan(value[place]):
            continue
        everywhere = 0.0 if np.isnan(chance[place]) else float(chance[place])
        interval = None if samples is None else _interval(samples[:, place], float(value[place]))
        baseline = {"the most frequent class everywhere": everywhere, "perfect": 1.0}
        found[name] = Measurement(
            name, float(value[place]), interval, baseline, num, settings, "higher", label
        )
    return found


def _scores(counts: Counts, weights: Array) -> Array:
    """Mean IoU, pixel accuracy and IoU of each class [B, 2 + K], with weights [B, N] of the images."""
    agreed, true, predicted = (weights @ getattr(counts, name) for name in _FIELDS)
    union = true + predicted - agreed
    occurs = union > 0
    each = np.where(occurs, agreed / np.where(occurs, union, 1.0), 0.0)
    pixels = true.sum(axis=1)
    mean = each.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    right = agreed.sum(axis=1) / np.where(pixels > 0, pixels, 1.0)
    heads = np.where((pixels > 0)[:, None], np.stack([mean, right], axis=1), np.nan)
    return np.concatenate([heads, np.where(occurs, each, np.nan)], axis=1)


def _resampled(counts: Counts, seed: int) -> Array:
    rng = np.random.Generator(np.random.PCG64(seed))
    num = len(counts.true)
    step = max(1, _BLOCK // num)
    parts = []
    for start in range(0, RESAMPLES, step):
        weights = _groups.bootstrap_weights(np.arange(num), min(step, RESAMPLES - start), rng)
        parts.append(_scores(counts, weights))
    return np.concatenate(parts)


def _interval(samples: Array, value: float) -> tuple[float, float] | None:
    if np.isfinite(samples).sum() < RESAMPLES // 2:
        return None
    low, high = _groups.interval(samples)
    return min(low, value), max(high, value)
