"""A row-major matrix of numbers that lies in one piece in a file: read a span of rows by one look."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer.rows import BYTES, Dtype
from spherometer.stores._regular import RegularFile

WIDE = {name: torch.float64 if name == "float64" else torch.float32 for name in BYTES}


class StoredMatrix:
    """[N, D] numbers at an offset of a file, little-endian, as ``RowSource``.

    Args:
        file: the file.
        name: what messages call the rows.
        offset: first byte of row 0.
        shape: (N, D).
        dtype: how the numbers are stored.

    Raises:
        InputError: the file ends before the last row.
    """

    def __init__(
        self, file: RegularFile, name: str, offset: int, shape: tuple[int, int], dtype: Dtype
    ) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype
        self._file, self._offset, self._row = file, offset, shape[1] * BYTES[dtype]
        end = offset + math.prod(shape) * BYTES[dtype]
        if end > file.size:
            file.damaged(f"{shape[0]} rows of {shape[1]} {dtype} end at byte {end} and it has {file.size}")

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start:stop, as ``RowSource.read``."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        stored = torch.empty(max(0, stop - start), self.shape[1], dtype=getattr(torch, self.dtype))
        if stored.numel():
            flat = stored.view(torch.uint8).numpy().reshape(-1)
            self._file.read_into(self._offset + start * self._row, flat.data)
        return stored.to(WIDE[self.dtype])


def column(file: RegularFile, offset: int, num: int, dtype: str) -> NDArray[Any]:
    """``num`` little-endian numbers at an offset, as an array of memory of its own."""
    size = np.dtype(dtype).itemsize
    return np.frombuffer(bytearray(file.read(offset, num * size)), np.dtype(dtype).newbyteorder("<"))
