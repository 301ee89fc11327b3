"""IDX files, the format of MNIST and its successors: a type, the number of axes, the axes, bytes."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer.data._damage import check_labels, refuse_file
from spherometer.stores._numpy import _opened

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"
_MAX_BYTES = 16 << 30
_MAX_RATIO = 1100  # deflate cannot shrink further than 1032 times
_BLOCK = 1 << 20


class _Plain:
    """Reads a file, or the contents of a gzip file, in blocks; never more than asked for."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._file = path, file
        head = file.read(2)
        file.seek(0)
        self._inflate = zlib.decompressobj(wbits=31) if head == _GZIP else None

    @property
    def is_gzip(self) -> bool:
        return self._inflate is not None

    def read(self, num: int) -> bytes:
        """At most ``num`` bytes; fewer only at the end."""
        if self._inflate is None:
            content: bytes = self._file.read(num)
            return content
        parts, got = [], 0
        while got < num and not self._inflate.eof:
            more = self._inflate.unconsumed_tail or self._file.read(_BLOCK)
            if not more:
                refuse_file(
                    self._path,
                    "be a whole gzip file",
                    "a part of the data is missing",
                    "an end in the middle of the stream",
                )
            try:
                part = self._inflate.decompress(more, num - got)
            except zlib.error as error:
                words = " ".join(str(error).split())
                refuse_file(self._path, "be a whole gzip file", "damaged data mean nothing", words)
            parts.append(part)
            got += len(part)
        return b"".join(parts)

    def at_end(self) -> bool:
        """Whether nothing follows; of a gzip stream this checks its checksum."""
        if self.read(1):
            return False
        return self._inflate is None or not (self._inflate.unused_data or self._file.read(1))


def read_idx(path: str | Path) -> Tensor:
    """Read an IDX file of unsigned bytes, plain or gzipped.

    Args:
        path: for instance ``train-images-idx3-ubyte.gz``.

    Returns:
        uint8, of the shape that the header gives.

    Raises:
        InputError: the file is missing or damaged, is cut short or goes on after the data, holds other
            numbers than unsigned bytes, or changed while it was read. Nothing is allocated before the header
            was compared with the size of the file.

    Cost: one read; memory of the array.
    """
    path = Path(path)
    with _opened(path) as file:
        size = path.stat().st_size
        stream = _Plain(path, file)
        head = stream.read(4)
        if len(head) != 4 or head[:2] != b"\0\0" or not 1 <= head[3] <= 4:
            refuse_file(
                path,
                "begin as an IDX file does",
                "its header says what it holds",
                f"the bytes {head.hex(' ') or '(none)'}",
                "Pass an IDX file such as train-images-idx3-ubyte.gz",
            )
        if head[2] != _UNSIGNED_BYTE:
            refuse_file(
                path,
                "hold unsigned bytes (type 0x08)",
                "images and labels of these sets are bytes",
                f"type {head[2]:#04x}",
                "Pass the files of MNIST or Fashion-MNIST",
            )
        axes = stream.read(4 * head[3])
        if len(axes) != 4 * head[3]:
            refuse_file(path, "have a whole header", "it gives the shape", f"{4 + len(axes)} bytes")
        shape = tuple(int.from_bytes(axes[at : at + 4], "big") for at in range(0, len(axes), 4))
        return _data(path, stream, shape, size, 4 + len(axes))


def _data(path: Path, stream: _Plain, shape: tuple[int, ...], size: int, used: int) -> Tensor:
    needed = math.prod(shape)
    fits = needed <= min(_MAX_BYTES, size * _MAX_RATIO) if stream.is_gzip else needed == size - used
    if not fits:
        refuse_file(
            path,
            "be as long as its header says",
            "a shorter or longer file was damaged or is still being written",
            f"{size} bytes for a header of shape {shape}",
        )
    flat, at = np.empty(needed, dtype=np.uint8), 0
    while at < needed:
        part = stream.read(min(_BLOCK, needed - at))
        if not part:
            break
        flat[at : at + len(part)] = np.frombuffer(part, dtype=np.uint8)
        at += len(part)
    if at < needed or not stream.at_end():
        got = f"only {at}" if at < needed else f"more than {needed}"
        refuse_file(
            path,
            "be as long as its header says",
            "a shorter or longer file was damaged",
            f"{got} bytes of data for shape {shape}",
        )
    return torch.from_numpy(flat).reshape(shape)


def read_idx_pair(images: Path, labels: Path, *, num_classes: int = 10) -> tuple[Tensor, Tensor]:
    """Images [N, 1, H, W] uint8 and their labels [N] int64, checked against each other."""
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or not pixels.numel():
        refuse_file(
            images, "hold images [N, H, W]", "they are the training data", f"shape {tuple(pixels.shape)}"
        )
    if classes.shape != pixels.shape[:1]:
        refuse_file(
            labels,
            f"hold {len(pixels)} labels",
            f"{images.name} holds {len(pixels)} images",
            f"shape {tuple(classes.shape)}",
        )
    check_labels(labels, classes, num_classes)
    return pixels.unsqueeze(1), classes.to(torch.int64)
