"""Where pixels come from: sets of images of one size that are read by row numbers.

Shapes: N images, B of them in a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError

WHOLE_HASH_BYTES = 256 << 20  # larger contents are sampled: 256 blocks of 1 MiB
_BLOCK = 1 << 20
_NUM_BLOCKS = 256


class Images(Protocol):
    """Images of one size, read by row numbers. ``name`` is short, ``source`` says where they come from."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def labels(self) -> Tensor | None:
        """[N] int64 in 0 ... C - 1, or None."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width (of volumes three sides) of every image."""
        ...

    def __len__(self) -> int: ...

    def pixels(self, index: Tensor) -> Tensor:
        """The images ``index`` [B], [B, C, H, W]: uint8, or float32 in [0, 1]."""
        ...

    def fingerprint(self) -> str:
        """Hex digest of what the images and labels are."""
        ...


def digest(**parts: Any) -> str:
    """SHA-256 of JSON-able parts, as 64 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def block_starts(size: int) -> list[tuple[int, int]]:
    """The (start, stop) bytes that a content hash reads: all of them, or evenly spaced blocks of many."""
    if size <= WHOLE_HASH_BYTES:
        return [(start, min(size, start + _BLOCK)) for start in range(0, size, _BLOCK)]
    last = size - _BLOCK
    return [(s := last * i // (_NUM_BLOCKS - 1), s + _BLOCK) for i in range(_NUM_BLOCKS)]


def content_hash(values: Tensor | None) -> str:
    """SHA-256 of dtype, shape and contents (of evenly spaced blocks beyond 256 MiB)."""
    if values is None:
        return "none"
    values = values.detach().cpu().contiguous()
    content = values.view(torch.uint8) if values.ndim else values.reshape(1).view(torch.uint8)
    flat = content.reshape(-1).numpy()
    found = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
    for start, stop in block_starts(len(flat)):
        found.update(flat[start:stop].data)
    return found.hexdigest()


def check_index(function: str, index: Tensor, num: int, rows_of: str = "images") -> None:
    """Refuse row numbers that do not exist."""
    if len(index) and (int(index.min()) < 0 or int(index.max()) >= num):
        _checks.refuse(
            InputError,
            function,
            "index",
            f"lie between 0 and {num - 1}",
            "it counts the rows of images",
            f"values from {int(index.min())} to {int(index.max())}",
            f"Pass row numbers of the {rows_of}",
        )


def as_float(pixels: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1]."""
    return pixels.to(torch.float32).div_(255) if pixels.dtype == torch.uint8 else pixels.to(torch.float32)


@dataclass(frozen=True)
class ArrayImages:
    """Images in memory.

    Args:
        name, source: what they are and where they come from.
        array: [N, C, H, W], uint8 or float32 in [0, 1].
        labels: [N] int64, or None.
    """

    name: str
    source: str
    array: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.dtype not in (torch.uint8, torch.float32):
            _checks.refuse(
                ShapeError,
                "ArrayImages",
                "array",
                "have shape [N, C, H, W] and hold uint8 or float32",
                "a batch is cut out of it by row numbers",
                f"shape {tuple(self.array.shape)}, dtype {self.array.dtype}".replace("torch.", ""),
                "Stack the images with a channel axis",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.array.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.array)

    def pixels(self, index: Tensor) -> Tensor:
        """The images ``index`` [B]."""
        return self.array[index]

    def fingerprint(self) -> str:
        """Of shape, dtype, pixels and labels (of evenly spaced blocks of more than 256 MiB of pixels)."""
        return digest(pixels=content_hash(self.array), labels=content_hash(self.labels))


@dataclass(frozen=True)
class LabelledImages:
    """Some rows of an image set as an encoder sees them when nothing is drawn at random.

    Args:
        of: the set.
        rows: which of its rows, int64 [n]; None for all.
        still: what is done to every image (size and normalisation of a view preset), or None.

    Example:
        >>> import torch
        >>> images = ArrayImages("two", "made here", torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
        >>> LabelledImages(images).images(torch.tensor([1])).shape
        torch.Size([1, 1, 4, 4])
    """

    of: Images
    rows: Tensor | None = None
    still: Any = None  # Callable[[Tensor], Tensor]: _augment.Augmentation.still

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.of.name

    @property
    def source(self) -> str:
        """Where it comes from."""
        return self.of.source

    @property
    def labels(self) -> Tensor | None:
        """[n] int64 in 0 ... C - 1, or None."""
        if self.of.labels is None or self.rows is None:
            return self.of.labels
        return self.of.labels[self.rows]

    @property
    def num_classes(self) -> int:
        """C; 0 without labels."""
        labels = self.of.labels
        return 0 if labels is None or not len(labels) else int(labels.max()) + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width (of volumes three sides) of ``images``."""
        if self.still is None or not len(self):
            return self.of.shape
        return tuple(self.images(torch.tensor([0])).shape[1:])

    def __len__(self) -> int:
        return len(self.of) if self.rows is None else len(self.rows)

    def images(self, index: Tensor) -> Tensor:
        """The images ``index`` [B] of these rows, [B, C, H, W] float32 in [0, 1] (or as ``still`` says)."""
        pixels = as_float(self.pixels(index))
        found: Tensor = pixels if self.still is None else self.still(pixels)
        return found

    def pixels(self, index: Tensor) -> Tensor:
        """The stored pixels of the images ``index`` [B]: uint8, or float32 in [0, 1]."""
        check_index(self.of.name, index, len(self))
        return self.of.pixels(index if self.rows is None else self.rows[index])

    def fingerprint(self) -> str:
        """Of the set and of the row numbers."""
        return digest(of=self.of.fingerprint(), rows=content_hash(self.rows))

    def subset(self, rows: Tensor) -> LabelledImages:
        """Fewer of these rows."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


@dataclass(frozen=True)
class Parts:
    """The part of a set that encoders and probes are trained on, and the part they are tested on."""

    train: LabelledImages
    test: LabelledImages
