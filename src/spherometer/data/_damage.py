"""Refusals of damaged data files, once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.stores._numpy import _opened

_BLOCK = 1 << 20
_MAX_BYTES = 1 << 30  # of a file that is read whole; the largest, CIFAR-100's, has 153 MB


def refuse_file(path: Path, must: str, because: str, got: str, fix: str = "Download it again") -> NoReturn:
    """Refuse a data file in the house grammar."""
    _checks.refuse(InputError, "read", f"file {str(path)!r}", must, because, got, fix)


def check_labels(path: Path, labels: Tensor, num_classes: int, *, first: int = 0) -> None:
    """Refuse class numbers other than ``first`` ... ``first + num_classes - 1``."""
    last = first + num_classes - 1
    wrong = ((labels < first) | (labels > last)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        refuse_file(
            path,
            f"hold labels from {first} to {last}",
            f"the set has {num_classes} classes",
            f"{int(labels[row])} in row {row}",
        )


def read_records(path: Path, num_bytes: int, what: str) -> NDArray[np.uint8]:
    """A file of records of ``num_bytes`` bytes each, as [N, num_bytes]; N is whole and positive."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_records(path, size, num_bytes, what)
        if size > _MAX_BYTES:
            most = f"hold at most {_MAX_BYTES // num_bytes} {what}"
            refuse_file(path, most, "it is read whole", f"{size // num_bytes}")
        flat, at = np.empty(size, dtype=np.uint8), 0
        while at < size:
            num = file.readinto(flat.data[at : at + _BLOCK])  # type: ignore[attr-defined]
            if not num:
                refuse_file(path, "stay as long as it is", "it is read whole", f"{at} of {size} bytes")
            at += num
    return flat.reshape(-1, num_bytes)


def check_records(path: Path, size: int, num_bytes: int, what: str) -> None:
    """Refuse a size that is no whole positive number of records."""
    if size == 0 or size % num_bytes:
        refuse_file(
            path,
            f"hold whole {what} of {num_bytes} bytes",
            "a shorter or longer file was damaged or is still being written",
            f"{size} bytes",
        )


def as_tensor(array: NDArray[np.uint8]) -> Tensor:
    """A contiguous tensor of its own."""
    return torch.from_numpy(np.ascontiguousarray(array))
