"""Images in NumPy files: [N, H, W], [N, C, H, W] or [N, H, W, C], bytes or floating-point numbers in [0, 1].

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer.data._damage import refuse_file
from spherometer.data._rows import FileRows, Layout, stamp_of
from spherometer.data._source import ArrayImages, Images
from spherometer.errors import InputError
from spherometer.stores import Archive, read_npy
from spherometer.stores._numpy import _DAMAGE, _damaged, _opened, read_header

_AGAIN = "Save the images with np.save"
_BLOCK = 256  # images that are checked at a time


def _refuse(where: Path | str, must: str, because: str, got: str, fix: str) -> NoReturn:
    """Refuse a file, or an argument of :func:`open_arrays`."""
    if isinstance(where, Path):
        refuse_file(where, must, because, got, fix)
    _checks.refuse(InputError, "open_arrays", where, must, because, got, fix)


def _arranged(path: Path | str, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], Layout]:
    """Channels, height and width, and where they are."""
    if len(shape) == 3 and min(shape) > 0:
        return (1, shape[1], shape[2]), "hw"
    if len(shape) == 4 and min(shape) > 0:
        first, last = shape[1] in (1, 3), shape[3] in (1, 3)
        if first and not last:
            return (shape[1], shape[2], shape[3]), "chw"
        if last and not first:
            return (shape[3], shape[1], shape[2]), "hwc"
    _refuse(
        path,
        "have shape [N, H, W], [N, C, H, W] or [N, H, W, C] with C = 1 or 3 in one place and N >= 1",
        "each row is one image",
        f"shape {shape}",
        _AGAIN,
    )


def _check_dtype(path: Path | str, dtype: np.dtype[Any]) -> None:
    if dtype != np.uint8 and not (dtype.kind == "f" and dtype.itemsize <= 8):
        _refuse(
            path,
            "hold uint8, or floating-point numbers in [0, 1]",
            "these are pixels",
            f"dtype {dtype}",
            "Convert it, for instance with .astype('uint8')",
        )


def _check_range(path: Path | str, values: Tensor, start: int) -> None:
    low, high = (float(value) for value in torch.aminmax(values))
    if not (low >= 0 and high <= 1):  # NaN is neither
        _refuse(
            path,
            "hold numbers from 0 to 1",
            "these are floating-point pixels",
            f"values from {low:g} to {high:g} in the images from {start}",
            "Divide bytes by 255, or save them as uint8",
        )


def _labels(path: Path | str, values: NDArray[Any], num: int) -> Tensor:
    values = values[:, 0] if values.shape == (num, 1) else values
    if values.shape != (num,) or values.dtype.kind not in "iu" or (num and int(values.min()) < 0):
        _refuse(
            path,
            f"hold {num} whole numbers from 0 for the labels",
            "each image has one class",
            f"shape {values.shape}, dtype {values.dtype}",
            "Number the classes from 0",
        )
    return torch.from_numpy(values.astype(np.int64))


def parts_of(path: Path, image: str | None) -> tuple[str, ...]:
    """The parts of a .npz file that holds a training and a test part; of other files none."""
    if path.suffix.lower() != ".npz" or image is not None:
        return ()
    with Archive(path) as archive:
        found = tuple(part for part, pairs in _PARTS.items() if any(pair[0] in archive for pair in pairs))
    return found if {"train", "test"} <= set(found) else ()


def read_images(path: Path, part: str | None, image: str | None, label: str | None) -> Images:
    """Images of a ``.npy`` file (read row by row when they are needed) or a ``.npz`` file (read whole).

    Args:
        path: the images; a ``.npz`` file holds them as ``images`` or ``x``, and perhaps ``labels`` or ``y``.
        part: of a ``.npz`` file that has parts: ``x_train`` and ``y_train``, or ``train_images`` and
            ``train_labels``, and so on.
        image, label: names of arrays; for a ``.npy`` file ``label`` is another one, of whole numbers.

    Raises:
        InputError: a file is damaged, or holds something else.

    Cost: floating-point images are read once to see that they lie in [0, 1].
    """
    source = f"the file {str(path)!r}"
    if path.suffix.lower() == ".npz":
        return _from_archive(path, source, part, image, label)
    if image is not None:
        _refuse(path, "be read without image", "it holds one array", f"image={image!r}"[:80], "Leave it out")
    with _opened(path) as file:
        stamp = stamp_of(path)
        try:
            dtype, shape, fortran, used = read_header(path, file)
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
    classes = None if label is None else _labels(Path(label), read_npy(label), shape[0])
    if fortran:  # an image is scattered over the whole file
        return _array(path, path.stem, source, read_npy(path), classes)
    rows = FileRows(path.stem, source, path, shape[0], dims, layout, dtype, used, classes, stamp)
    if dtype != np.uint8:
        for start in range(0, shape[0], _BLOCK):
            index = torch.arange(start, min(shape[0], start + _BLOCK))
            _check_range(path, rows.pixels(index), start)
    return rows


def _from_archive(
    path: Path, source: str, part: str | None, image: str | None, label: str | None
) -> ArrayImages:
    usual = _PARTS.get(part or "", (("images", "labels"), ("x", "y")))
    with Archive(path) as archive:
        pair = (image, label) if image else next((pair for pair in usual if pair[0] in archive), None)
        got = ", ".join(archive.names)[:120] or "nothing"
        if pair is None or pair[0] not in archive:
            wanted = image or " or ".join(pair[0] for pair in usual)
            _refuse(path, f"hold an array named {wanted}", "it is looked up by name", got, _AGAIN)
        names = [label] if label else [name for name in (pair[1], "labels", "y") if name]
        labels = next((name for name in names if name in archive), None)
        if label and labels is None:
            _refuse(
                path, f"hold an array named {label}", "it is looked up by name", got, "Pass another label"
            )
        values = archive[str(pair[0])]
        _check_dtype(path, values.dtype)
        _arranged(path, values.shape)
        classes = None if labels is None else _labels(path, archive[labels], len(values))
    return _array(path, path.stem, source, values, classes)


_PARTS = {
    part: ((f"x_{part}", f"y_{part}"), (f"{part}_images", f"{part}_labels"))
    for part in ("train", "validation", "val", "test")
}


def _array(
    path: Path | str, name: str, source: str, values: NDArray[Any], labels: Tensor | None
) -> ArrayImages:
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


def images_of(images: Any, labels: Any, name: str) -> ArrayImages:
    """Tensors or NumPy arrays as an image set; the arguments are those of :func:`open_arrays`."""
    values, classes = (
        each.detach().cpu().numpy() if isinstance(each, Tensor) else each for each in (images, labels)
    )
    for argument, each in (("images", values), ("labels", classes)):
        if not isinstance(each, np.ndarray) and not (argument == "labels" and each is None):
            got = type(each).__name__
            _refuse(argument, "be a tensor or a NumPy array", "it is read by rows", got, "Convert it first")
    _check_dtype("images", values.dtype)
    known = None if classes is None else _labels("labels", classes, len(values) if values.ndim else 0)
    return _array("images", name, "arrays in memory", values, known)


def is_array(path: Path) -> bool:
    """Whether the name is that of a NumPy file that exists."""
    return path.suffix.lower() in (".npy", ".npz") and os.path.exists(path)
