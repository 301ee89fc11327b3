"""What meta-data can be read from an encoder in the end: numbers by ridge regression, categories linearly.

Shapes: N training and M test samples, P features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.probes import RidgeProbe, wilson_interval
from spherometer.probes._softmax import fit_softmax
from spherometer.training._encoder import Encoder
from spherometer.training._metadata import is_missing

_Sides = list[list[Any]]  # of the training and the test part
_FEATURES = ("output", "penultimate")
_AT_ONCE = 1 << 25  # numbers in a batch
_RAW = 1 << 15  # raw values of a sample at most; larger volumes are averaged over blocks


class Described(Protocol):
    """Samples with meta-data, read by row numbers."""

    @property
    def metadata(self) -> Mapping[str, Sequence[Any]] | None:
        """column -> N values; None where missing."""
        ...

    @property
    def groups(self) -> Sequence[str] | None:
        """The subject of each sample."""
        ...

    def __len__(self) -> int: ...

    def images(self, index: Tensor, /) -> Tensor:
        """Samples ``index`` [B], as the encoder reads them."""
        ...


def probe_metadata(
    encoder: Encoder | None,
    train: Described,
    test: Described,
    kinds: Mapping[str, str],
    *,
    features: Sequence[str] = _FEATURES,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    r"""Ridge regression on numbers and logistic regression on categories, on subjects nothing was fitted to.

    Numbers: ``RidgeProbe()``, its strength by cross-validation that leaves whole subjects out; mean absolute
    error and R^2 with intervals of a bootstrap over the test subjects. Categories: accuracy of multinomial
    logistic regression with its Wilson interval (of as many trials as there are test subjects).

    Args:
        encoder: read in evaluation mode; None: the raw values (averaged over blocks of voxels where there are
            more than 32768 of them).
        train: N samples, with meta-data.
        test: M samples of other subjects.
        kinds: column -> "number" or "class".
        features: as in ``probe_encoder``.
        device: where features are computed.
        seed: of the bootstrap.

    Returns:
        JSON-able: numbers of samples and subjects, and columns: name -> kind, numbers of samples that have an
        entry, and features: name -> dim and "ridge" (mae, r2, strength) or "linear" (accuracy, interval).

    Raises:
        InputError: a subject in both parts, an entry without a meaning, features that are not finite.
    """
    sides = (train, test)
    subjects = [_subjects(side) for side in sides]
    shared = sorted(set(subjects[0]) & set(subjects[1]))
    if shared:
        _checks.refuse(
            InputError, "probe_metadata", "train and test", "have no subject in common",
            "a probe would recognise it", f"{len(shared)} in both, the first is {shared[0]}",
            "Split by subject",
        )  # fmt: skip
    names = ("raw",) if encoder is None else tuple(features)
    read = [_read(encoder, side, names, torch.device(device)) for side in sides]
    columns = {}
    for column, kind in kinds.items():
        values = [list((side.metadata or {})[column]) for side in sides]
        there = [_there(each) for each in values]
        known = [[each[row] for row in rows] for each, rows in zip(values, there, strict=True)]
        groups = [[each[row] for row in rows] for each, rows in zip(subjects, there, strict=True)]
        found: dict[str, Any] = {
            "kind": kind,
            "num_train": len(there[0]),
            "num_test": len(there[1]),
            "features": {},
        }
        probe = _numbers if kind == "number" else _classes
        for name in names:
            rows = [each[name][index] for each, index in zip(read, there, strict=True)]
            for each in rows:
                _checks.features("probe_metadata", name, each)
            found["features"][name] = {"dim": rows[0].shape[1], **probe(rows, known, groups, seed)}
        if kind == "class":
            found["classes"], found["chance"] = _chance(known)
        columns[column] = found
    return {
        "num_train": len(train),
        "num_test": len(test),
        "num_train_subjects": len(set(subjects[0])),
        "num_test_subjects": len(set(subjects[1])),
        "columns": columns,
    }


def _subjects(side: Described) -> list[Any]:
    """The subject of each sample; where none are known, each is one of its own."""
    groups = side.groups
    return [(id(side), row) for row in range(len(side))] if groups is None else [str(each) for each in groups]


def _there(values: Sequence[Any]) -> list[int]:
    return [row for row, value in enumerate(values) if not is_missing(value)]


@torch.no_grad()
def _read(
    encoder: Encoder | None, side: Described, names: Sequence[str], device: torch.device
) -> dict[str, Tensor]:
    """name -> features [N, P] float32 on the CPU."""
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    mode = encoder is not None and encoder.training
    if encoder is not None:
        encoder.to(device).eval()
    numel = side.images(torch.tensor([0])).numel()
    try:
        for some in torch.split(torch.arange(len(side)), max(1, min(500, _AT_ONCE // numel))):
            x = side.images(some).to(device)
            found = {"raw": _raw(x)} if encoder is None else encoder.tap(x, names)
            for name, value in found.items():
                rows = value if value.ndim == 2 else value.flatten(2).mean(dim=2)
                parts[name].append(rows.to(torch.float32).cpu())
    finally:
        if encoder is not None:
            encoder.train(mode)
    return {name: torch.cat(rows) for name, rows in parts.items()}


def _raw(x: Tensor) -> Tensor:
    """The values of samples, of large volumes the means of blocks, [B, P]."""
    if x.ndim == 5:
        edge = 1
        while x[0].numel() > _RAW * edge**3:
            edge += 1
        if edge > 1:
            width, height, depth = (-(-side // edge) for side in x.shape[2:])
            x = F.adaptive_avg_pool3d(x, (width, height, depth))
    return x.flatten(1)


def _numbers(rows: list[Tensor], known: _Sides, groups: list[list[Any]], seed: int) -> dict[str, Any]:
    y = [np.asarray(values, dtype=np.float64) for values in known]
    probe = RidgeProbe().fit(rows[0], y[0], groups=groups[0])
    scores = probe.evaluate(rows[1], y[1], groups=groups[1], seed=seed)
    return {"ridge": {**{name: each.to_dict() for name, each in scores.items()}, "strength": probe.strength}}


def _classes(rows: list[Tensor], known: _Sides, groups: list[list[Any]], seed: int) -> dict[str, Any]:
    classes = {value: code for code, value in enumerate(_classes_of(known))}
    labels = torch.tensor([classes[str(value)] for value in known[0]])
    asked = torch.tensor([classes[str(value)] for value in known[1]])
    fit = fit_softmax(rows[0], labels, num_classes=len(classes))
    accuracy = float((fit.predict(rows[1]).cpu() == asked).double().mean())
    interval = list(wilson_interval(accuracy, len(set(groups[1]))))
    how = {"iterations": fit.iterations, "converged": fit.converged}
    return {"linear": {"accuracy": accuracy, "interval": interval, **how}}


def _classes_of(known: _Sides) -> list[str]:
    return sorted({str(value) for values in known for value in values})


def _chance(known: _Sides) -> tuple[list[str], float]:
    """All classes, and the accuracy of always answering the most frequent one of training."""
    classes = _classes_of(known)
    train, test = ([str(value) for value in values] for values in known)
    most = max(classes, key=train.count)
    return classes, test.count(most) / len(test)
