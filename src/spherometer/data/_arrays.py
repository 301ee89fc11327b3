"""Images in NumPy files: [N, H, W], [N, C, H, W] or [N, H, W, C], bytes or floating-point numbers in [0, 1].

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer.data._damage import refuse_file
from spherometer.data._rows import FileRows, Layout, stamp_of
from spherometer.data._source import ArrayImages, Images
from spherometer.stores import Archive, read_npy
from spherometer.stores._numpy import _DAMAGE, _damaged, _header, _opened

_AGAIN = "Save the images with np.save"
_BLOCK = 256  # images that are checked at a time


def _arranged(path: Path, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], Layout]:
    """Channels, height and width, and where they are."""
    if len(shape) == 3 and min(shape) > 0:
        return (1, shape[1], shape[2]), "hw"
    if len(shape) == 4 and min(shape) > 0:
        first, last = shape[1] in (1, 3), shape[3] in (1, 3)
        if first and not last:
            return (shape[1], shape[2], shape[3]), "chw"
        if last and not first:
            return (shape[3], shape[1], shape[2]), "hwc"
    refuse_file(
        path,
        "have shape [N, H, W], [N, C, H, W] or [N, H, W, C] with C = 1 or 3 in one place and N >= 1",
        "each row is one image",
        f"shape {shape}",
        _AGAIN,
    )


def _check_dtype(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype != np.uint8 and not (dtype.kind == "f" and dtype.itemsize <= 8):
        refuse_file(
            path,
            "hold uint8, or floating-point numbers in [0, 1]",
            "these are pixels",
            f"dtype {dtype}",
            "Convert it, for instance with .astype('uint8')",
        )


def _check_range(path: Path, values: Tensor, start: int) -> None:
    low, high = (float(value) for value in torch.aminmax(values))
    if not (low >= 0 and high <= 1):  # NaN is neither
        refuse_file(
            path,
            "hold numbers from 0 to 1",
            "these are floating-point pixels",
            f"values from {low:g} to {high:g} in the images from {start}",
            "Divide bytes by 255, or save them as uint8",
        )


def _labels(path: Path, values: NDArray[Any], num: int) -> Tensor:
    if values.shape != (num,) or values.dtype.kind not in "iu" or (num and int(values.min()) < 0):
        refuse_file(
            path,
            f"hold {num} whole numbers from 0 for the labels",
            "each image has one class",
            f"shape {values.shape}, dtype {values.dtype}",
            "Number the classes from 0",
        )
    return torch.from_numpy(values.astype(np.int64))


def read_images(path: Path, labels: Path | None) -> Images:
    """Images of a ``.npy`` file (read row by row when they are needed) or a ``.npz`` file (read whole).

    Args:
        path: the images; a ``.npz`` file holds them as ``images`` or ``x``, and perhaps ``labels`` or ``y``.
        labels: a ``.npy`` file of whole numbers from 0, or None.

    Raises:
        InputError: a file is damaged, or holds something else.

    Cost: floating-point images are read once to see that they lie in [0, 1].
    """
    source = f"the file {str(path)!r}"
    if path.suffix == ".npz":
        return _from_archive(path, source)
    with _opened(path) as file:
        stamp = stamp_of(path)
        try:
            dtype, shape, fortran, used = _header(path, file)
        except _DAMAGE as error:
            if isinstance(error, ValueError) and str(error).startswith("read: "):
                raise
            _damaged(path, error)
    _check_dtype(path, dtype)
    dims, layout = _arranged(path, shape)
    if math.prod(shape) * dtype.itemsize != stamp[0] - used:
        refuse_file(
            path,
            "be exactly as long as its header says",
            "a shorter or longer file was damaged or is still being written",
            f"{stamp[0]} bytes for a header that needs {used + math.prod(shape) * dtype.itemsize}",
            "Write it again",
        )
    classes = None if labels is None else _labels(labels, read_npy(labels), shape[0])
    if fortran:  # an image is scattered over the whole file
        return _array(path, path.stem, source, read_npy(path), classes)
    rows = FileRows(path.stem, source, path, shape[0], dims, layout, dtype, used, classes, stamp)
    if dtype != np.uint8:
        for start in range(0, shape[0], _BLOCK):
            index = torch.arange(start, min(shape[0], start + _BLOCK))
            _check_range(path, rows.pixels(index), start)
    return rows


def _from_archive(path: Path, source: str) -> Images:
    with Archive(path) as archive:
        found = {kind: next((n for n in names if n in archive), None) for kind, names in _KEYS.items()}
        images, labels = found["images"], found["labels"]
        if images is None:
            got = ", ".join(archive.names) or "nothing"
            refuse_file(path, "hold an array named images or x", "it is looked up by name", got, _AGAIN)
        values = archive[images]
        _check_dtype(path, values.dtype)
        _arranged(path, values.shape)
        classes = None if labels is None else _labels(path, archive[labels], len(values))
    return _array(path, path.stem, source, values, classes)


_KEYS = {"images": ("images", "x"), "labels": ("labels", "y")}


def _array(path: Path, name: str, source: str, values: NDArray[Any], labels: Tensor | None) -> ArrayImages:
    _, layout = _arranged(path, values.shape)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    tensor = tensor if tensor.dtype == torch.uint8 else tensor.to(torch.float32)
    if layout == "hw":
        tensor = tensor.unsqueeze(1)
    elif layout == "hwc":
        tensor = tensor.permute(0, 3, 1, 2).contiguous()
    if tensor.dtype != torch.uint8:
        _check_range(path, tensor, 0)
    return ArrayImages(name, source, tensor, labels)


def is_array(path: Path) -> bool:
    """Whether the name is that of a NumPy file that exists."""
    return path.suffix in (".npy", ".npz") and os.path.exists(path)
