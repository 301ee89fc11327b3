"""Images of one size in one file, read row by row where they are needed: never mapped, never read whole.

Shapes: N images, B of them in a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer.data._damage import refuse_file
from spherometer.data._source import Images, block_starts, content_hash, digest

Layout = Literal["chw", "cwh", "hwc", "hw"]


@dataclass(frozen=True)
class FileRows:
    """Images that follow each other in a file.

    Args:
        name, source: what they are and where they come from.
        path: of the file.
        num: how many.
        shape: channels, height and width.
        layout: the order of the axes in the file; "cwh" is STL-10's, column by column.
        dtype: of the numbers in the file; floating-point ones become float32.
        offset: where the first image begins, bytes.
        labels: [N] int64, or None.
        stamp: size and time of change of the file when it was opened: another one is refused.
    """

    name: str
    source: str
    path: Path
    num: int
    shape: tuple[int, int, int]
    layout: Layout
    dtype: np.dtype[Any]
    offset: int
    labels: Tensor | None
    stamp: tuple[int, int]

    def __len__(self) -> int:
        return self.num

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        channels, height, width = self.shape
        return channels * height * width * self.dtype.itemsize

    def pixels(self, index: Tensor) -> Tensor:
        """The images ``index`` [B]: uint8, or float32."""
        buffer = np.empty((len(index), self.row_bytes), dtype=np.uint8)
        number = self._open()
        try:
            for place, row in enumerate(index.tolist()):
                at = self.offset + row * self.row_bytes
                if os.preadv(number, [buffer[place].data], at) != self.row_bytes:
                    refuse_file(
                        self.path, "stay as it is", "its images are read while training", "a shorter file"
                    )
        finally:
            os.close(number)
        return self._arranged(buffer)

    def _open(self) -> int:
        try:
            number = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            words = os.strerror(error.errno or 0).lower()
            refuse_file(
                self.path, "stay where it is", "its images are read while training", words, "Put it back"
            )
        now = os.fstat(number)
        if (now.st_size, now.st_mtime_ns) != self.stamp:
            os.close(number)
            refuse_file(
                self.path,
                "stay as it is",
                "its images are read while training",
                "a file that was changed",
                "Start again with the new one",
            )
        return number

    def _arranged(self, buffer: NDArray[np.uint8]) -> Tensor:
        channels, height, width = self.shape
        rows = buffer.view(self.dtype)
        if not self.dtype.isnative:
            rows = rows.astype(self.dtype.newbyteorder("="))
        values = torch.from_numpy(rows)
        if self.layout == "hwc":
            values = values.view(-1, height, width, channels).permute(0, 3, 1, 2)
        elif self.layout == "cwh":
            values = values.view(-1, channels, width, height).transpose(2, 3)
        else:
            values = values.view(-1, channels, height, width)
        return values.contiguous() if values.dtype == torch.uint8 else values.to(torch.float32).contiguous()

    def fingerprint(self) -> str:
        """Of the layout, the labels and the bytes (evenly spaced blocks of more than 256 MiB of them)."""
        found = hashlib.sha256()
        number = self._open()
        try:
            for start, stop in block_starts(self.num * self.row_bytes):
                found.update(os.pread(number, stop - start, self.offset + start))
        finally:
            os.close(number)
        how = [self.num, *self.shape, self.layout, self.dtype.str]
        return digest(how=how, labels=content_hash(self.labels), content=found.hexdigest())


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of change."""
    now = path.stat()
    return now.st_size, now.st_mtime_ns


@dataclass(frozen=True)
class Joined:
    """Several sets of images of one shape, one after the other; labelled only when all are."""

    name: str
    source: str
    parts: Sequence[Images]

    @property
    def labels(self) -> Tensor | None:
        """[N] int64, or None."""
        found = [part.labels for part in self.parts]
        known = [labels for labels in found if labels is not None]
        return torch.cat(known) if len(known) == len(found) else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return self.parts[0].shape

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def pixels(self, index: Tensor) -> Tensor:
        """The images ``index`` [B]."""
        found: Tensor | None = None
        start = 0
        for part in self.parts:
            here = ((index >= start) & (index < start + len(part))).nonzero()[:, 0]
            if len(here):
                rows = part.pixels(index[here] - start)
                if found is None:
                    found = rows.new_empty((len(index), *rows.shape[1:]))
                found[here] = rows
            start += len(part)
        return self.parts[0].pixels(index) if found is None else found

    def fingerprint(self) -> str:
        """Of all parts."""
        return digest(parts=[part.fingerprint() for part in self.parts])
