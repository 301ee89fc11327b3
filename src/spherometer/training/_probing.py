"""What labels can be read from an encoder in the end: linear and nearest-neighbour accuracy with intervals.

Shapes: N training and M test images, P features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.probes import few_labels, wilson_interval
from spherometer.probes._softmax import fit_softmax
from spherometer.probes._votes import vote
from spherometer.training._encoder import Encoder

_FEATURES = ("output", "penultimate")
_BATCH = 500
_AT_ONCE = 1 << 25  # numbers in a batch: fewer of large volumes


class Labelled(Protocol):
    """Images with classes, read by row numbers."""

    @property
    def labels(self) -> Tensor | None:
        """[N] int64 in 0 ... K - 1."""
        ...

    def __len__(self) -> int: ...

    def images(self, index: Tensor, /) -> Tensor:
        """Images ``index`` [B], as the encoder reads them."""
        ...


def probe_encoder(
    encoder: Encoder | None,
    train: Labelled,
    test: Labelled,
    *,
    features: Sequence[str] = _FEATURES,
    neighbors: int = 5,
    device: str | torch.device = "cpu",
    max_train: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    r"""Linear and nearest-neighbour accuracy of frozen features, with 95 % Wilson intervals.

    Linear: multinomial logistic regression on standardised columns with penalty \|W\|^2 / 2 (the minimum of
    ``LinearProbe()``), by full-batch L-BFGS; "converged" says whether its gradient vanished. Nearest
    neighbours: majority of ``neighbors`` training rows by cosine; by Euclidean distance for pixels.

    Args:
        encoder: in evaluation mode while it is read, then in the mode it was in; None: the raw pixels.
        train: N images with labels.
        test: M images with labels, which nothing is fitted to.
        features: "output" and "penultimate", or paths of sub-modules that put out [B, P] rows; maps
            [B, C', H', W'] or [B, C', X', Y', Z'] are averaged over their positions. Not asked for without
            an encoder.
        neighbors: votes of a prediction.
        device: where features are computed and probes fitted.
        max_train: fewer training images (the same number of every class as far as possible).
        seed: of the choice of ``max_train`` images.

    Returns:
        JSON-able: num_train, num_test, num_classes, chance (accuracy of always answering the most frequent
        training class), and features: name -> dim, linear and knn, each with accuracy and interval.

    Raises:
        InputError: no labels, fewer than two classes, no images, or features that are not finite.
    """
    _checks.whole("probe_encoder", "neighbors", neighbors)
    known, asked = _labels("train", train), _labels("test", test)
    rows = torch.arange(len(train))
    if max_train is not None and max_train < len(train):
        rows = torch.from_numpy(few_labels(known, max_train, seed=seed))
    known = known[rows]
    num_classes = int(max(known.max(), asked.max())) + 1
    most = int(torch.bincount(known, minlength=num_classes).argmax())
    names = ("pixels",) if encoder is None else tuple(features)
    sets = [
        _read(encoder, images, index, names, torch.device(device))
        for images, index in ((train, rows), (test, torch.arange(len(test))))
    ]
    found = {
        name: _probed(name, sets[0][name], known, sets[1].pop(name), asked, num_classes, neighbors)
        for name in names
    }
    return {
        "num_train": len(known),
        "num_test": len(asked),
        "num_classes": num_classes,
        "chance": float((asked == most).double().mean()),
        "encoder": None if encoder is None else {"kind": encoder.kind, "config": encoder.config},
        "features": found,
    }


def _labels(name: str, images: Labelled) -> Tensor:
    labels = images.labels
    if labels is None or not len(images) or (name == "train" and len(torch.unique(labels)) < 2):
        got = "no labels" if labels is None else f"{len(images)} images of one class"
        _checks.refuse(
            InputError, "probe_encoder", name, "hold images of at least 2 classes with labels",
            "a probe learns to tell classes apart", got if len(images) else "no images",
            "Pass a labelled part of the data",
        )  # fmt: skip
    return labels.detach().cpu().to(torch.int64)


@torch.no_grad()
def _read(
    encoder: Encoder | None, images: Labelled, index: Tensor, names: Sequence[str], device: torch.device
) -> dict[str, Tensor]:
    """name -> features [N, P] float32 of the images ``index``."""
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    mode = encoder is not None and encoder.training
    if encoder is not None:
        encoder.to(device).eval()
    try:
        numel = images.images(index[:1]).numel()
        for some in torch.split(index, max(1, min(_BATCH, _AT_ONCE // max(1, numel)))):
            x = images.images(some).to(device)
            for name, value in (
                {"pixels": x.flatten(1)} if encoder is None else encoder.tap(x, names)
            ).items():
                rows = value.flatten(2).mean(dim=2) if value.ndim in (4, 5) else value
                parts[name].append(rows.to(torch.float32))
    finally:
        if encoder is not None:
            encoder.train(mode)
    return {name: torch.cat(rows) for name, rows in parts.items()}


def _probed(
    name: str, train: Tensor, known: Tensor, test: Tensor, asked: Tensor, num_classes: int, neighbors: int
) -> dict[str, Any]:
    for rows in (train, test):
        _checks.features("probe_encoder", name, rows)  # [N, P], finite
    labels = known.to(train.device)
    metric = "euclidean" if name == "pixels" else "cosine"
    votes = vote(train, labels, test, k=neighbors, num_classes=num_classes, metric=metric)  # type: ignore[arg-type]
    fit = fit_softmax(train, labels, num_classes=num_classes)
    linear = {"iterations": fit.iterations, "converged": fit.converged}
    return {
        "dim": train.shape[1],
        "linear": {**_scored(fit.predict(test), asked), **linear},
        "knn": {**_scored(votes, asked), "neighbors": neighbors, "metric": metric},
    }


def _scored(predicted: Tensor, asked: Tensor) -> dict[str, Any]:
    accuracy = float(np.mean((predicted.cpu() == asked).numpy()))
    return {"accuracy": accuracy, "interval": list(wilson_interval(accuracy, len(asked)))}
