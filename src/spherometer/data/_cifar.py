"""CIFAR-10 and CIFAR-100 in the binary version: one or two labels, then 32 x 32 bytes of each colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from spherometer.data._damage import as_tensor, check_labels, read_records

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


def read_cifar(paths: Sequence[Path], *, num_classes: int = 10) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 32, 32] uint8 and labels [N] int64 of one or several files, in their order.

    Args:
        paths: ``data_batch_1.bin`` ... of CIFAR-10, or ``train.bin`` of CIFAR-100.
        num_classes: 10; or 100, whose records begin with the class among 20 and then that among 100, which
            is the label.

    Raises:
        InputError: a file is missing, holds no whole records, or a label that the set does not have. (A
            flipped bit in a pixel is seen by the checksum of a download, not here.)
    """
    images, labels = [], []
    before = 1 if num_classes == 10 else 2
    for path in paths:
        rows = read_records(path, before + _PIXELS, "records")
        if before == 2:
            check_labels(path, as_tensor(rows[:, 0]), 20)
        classes = as_tensor(rows[:, before - 1]).to(torch.int64)
        check_labels(path, classes, num_classes)
        labels.append(classes)
        images.append(as_tensor(rows[:, before:]).reshape(-1, 3, _SIDE, _SIDE))
    return torch.cat(images), torch.cat(labels)
