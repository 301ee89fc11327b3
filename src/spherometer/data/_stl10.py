"""STL-10 in the binary version: 96 x 96 bytes of each colour, column by column; labels 1 ... 10 apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spherometer.data._damage import as_tensor, check_labels, check_records, read_records, refuse_file
from spherometer.data._rows import FileRows, stamp_of
from spherometer.stores._numpy import _opened

_SIDE = 96
_PIXELS = 3 * _SIDE * _SIDE


def read_stl10(name: str, source: str, images: Path, labels: Path | None) -> FileRows:
    """The images of one file, read row by row when they are needed (the unlabelled ones are 2.6 GiB).

    Args:
        name, source: for reports.
        images: ``train_X.bin``, ``test_X.bin`` or ``unlabeled_X.bin``.
        labels: ``train_y.bin`` or ``test_y.bin``, or None.

    Raises:
        InputError: a file is missing, holds no whole images, or labels other than 1 ... 10, or not one for
            each image.
    """
    with _opened(images):
        stamp = stamp_of(images)
        check_records(images, stamp[0], _PIXELS, "images")
    num = stamp[0] // _PIXELS
    classes = None if labels is None else _classes(labels, num, images.name)
    return FileRows(
        name, source, images, num, (3, _SIDE, _SIDE), "cwh", np.dtype(np.uint8), 0, classes, stamp
    )


def _classes(path: Path, num: int, images: str) -> Tensor:
    labels = as_tensor(read_records(path, 1, "labels")[:, 0]).to(torch.int64)
    if len(labels) != num:
        refuse_file(path, f"hold {num} labels", f"{images} holds {num} images", f"{len(labels)}")
    check_labels(path, labels, 10, first=1)
    return labels - 1
