"""Cells of dense maps as rows, with the classes, or numbers, of the pixels they cover.

Shapes: N images, C channels, K classes, M cells; maps [N, C, *grid], masks [N, *size], two or three axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError

IGNORE = 255
_ENTRIES = 1 << 24  # numbers held at a time
_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
_MOST_CLASSES = 4096
_TILES = 4  # along each axis of a single image, where the images themselves cannot be resampled


@dataclass(frozen=True)
class Cells:
    """Cells of dense maps.

    Attributes:
        features: [M, C].
        shares: [M, K], the share of each class among the pixels of the cell; rows sum to the share of its
            pixels that are counted, above 0.
        labels: [M] int64, the class of most pixels (among equals the lower one).
        image: [M] int64, the image of each cell.
    """

    features: Tensor
    shares: Tensor
    labels: Tensor
    image: Tensor


@torch.no_grad()
def cut_cells(
    maps: Any, masks: Any, *, num_classes: int | None = None, upsample: int = 1, ignore_index: int = IGNORE
) -> Cells:
    """Cut maps into cells with the classes of the pixels under them: rows for a probe of patches.

    Args:
        maps: [N, C, *grid].
        masks: [N, *size] whole numbers; a cell covers size / grid pixels (where that is no whole number, a
            pixel on the border counts to both cells).
        num_classes: K; None: the largest class + 1.
        upsample: maps are interpolated to so many times their sides before they are cut.
        ignore_index: of pixels that are not counted; cells of nothing else are left out.

    Returns:
        The cells, image by image. ``LinearProbe().fit(cells.features, cells.labels)`` classifies patches.

    Raises:
        InputError, ShapeError: maps or masks of another form; no pixel is counted.

    Example:
        >>> maps, masks = torch.arange(4.0).view(1, 1, 2, 2), torch.zeros(1, 4, 4, dtype=torch.int64)
        >>> masks[0, :2, :2] = torch.tensor([[1, 1], [1, 255]])
        >>> cells = cut_cells(maps, masks)
        >>> cells.labels.tolist(), cells.shares[0].tolist()
        ([1, 0, 0, 0], [0.0, 0.75])
    """
    return cut("cut_cells", maps, masks, num_classes, upsample, ignore_index)


def cut(
    function: str, maps: Any, masks: Any, num_classes: int | None, upsample: int, ignore_index: int
) -> Cells:
    """:func:`cut_cells`, with the name of the ``function`` for messages."""
    _checks.whole(function, "upsample", upsample)
    z = checked_maps(function, maps)
    truth = checked_masks(function, masks, z, ignore_index)
    classes = largest_class(truth, ignore_index) + 1
    if num_classes is not None:
        _checks.whole(function, "num_classes", num_classes)
        if classes > num_classes:
            _refuse_class(function, classes - 1, num_classes, ignore_index)
    if classes < 1:
        _checks.refuse(
            InputError,
            function,
            "masks",
            "hold a pixel that is counted",
            "cells get their classes from them",
            f"{ignore_index} everywhere",
            "Pass masks with classes",
        )
    num = num_classes or classes
    grid = tuple(side * upsample for side in z.shape[2:])
    rows, shares, images = [], [], []
    for start, stop in blocks(len(z), num * math.prod(truth.shape[1:])):
        share = class_shares(truth[start:stop], num, grid, ignore_index).flatten(2).mT.flatten(0, 1)
        keep = share.sum(dim=1) > 0
        some = resized(z[start:stop], grid).flatten(2).mT.flatten(0, 1)
        rows.append(some[keep])
        shares.append(share[keep])
        images.append(torch.arange(start, stop).repeat_interleave(math.prod(grid))[keep])
    share = torch.cat(shares)
    order = torch.arange(num, 0, -1)
    labels = ((share == share.amax(dim=1, keepdim=True)) * order).argmax(dim=1)
    return Cells(torch.cat(rows), share, labels, torch.cat(images))


def checked_maps(function: str, maps: Any, channels: int | None = None, name: str = "maps") -> Tensor:
    """Maps as a float32 (or float64) tensor on the CPU: finite, of two or three axes."""
    array = maps.detach().cpu() if isinstance(maps, Tensor) else maps
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        array = torch.from_numpy(np.ascontiguousarray(array, dtype=np.promote_types(array.dtype, np.float32)))
    if not isinstance(array, Tensor) or not array.is_floating_point():
        got = f"dtype {array.dtype}".replace("torch.", "") if hasattr(array, "dtype") else type(maps).__name__
        _checks.refuse(
            InputError, function, name, "be a tensor or an array of floating-point numbers",
            "they are maps of features", got, "Convert them with torch.as_tensor(...).float()",
        )  # fmt: skip
    shape = tuple(array.shape)
    if array.ndim not in (4, 5) or 0 in shape or channels not in (None, shape[1]):
        wanted = "C" if channels is None else str(channels)
        _checks.refuse(
            ShapeError, function, name, f"have shape [N, {wanted}, H, W] or [N, {wanted}, H, W, Z]",
            "every cell of every image has features", f"shape {shape}",
            "Pass the dense maps of an encoder" if channels is None else "Pass maps of the same encoder",
        )  # fmt: skip
    found = array if array.dtype == torch.float64 else array.to(torch.float32)
    low, high = torch.aminmax(found)
    if not (math.isfinite(float(low)) and math.isfinite(float(high))):
        row = int((~torch.isfinite(found)).flatten(1).any(dim=1).nonzero()[0, 0])
        _checks.refuse(
            InputError, function, name, "be finite", "a probe reads every cell",
            f"NaN or infinity, first in image {row}", "Leave those images out",
        )  # fmt: skip
    return found


def checked_masks(function: str, masks: Any, maps: Tensor, ignore_index: int) -> Tensor:
    """Masks as an int64 tensor on the CPU, one for each of the maps."""
    array = masks.detach().cpu() if isinstance(masks, Tensor) else masks
    if isinstance(array, np.ndarray) and array.dtype.kind in "iu" and array.dtype != np.uint64:
        array = torch.from_numpy(array.astype(np.int64))
    whole = isinstance(array, Tensor) and not (array.is_floating_point() or array.is_complex())
    if not isinstance(array, Tensor) or not whole or array.dtype == torch.bool:
        got = (
            f"dtype {array.dtype}".replace("torch.", "") if hasattr(array, "dtype") else type(masks).__name__
        )
        _checks.refuse(
            InputError, function, "masks", "be a tensor or an array of whole numbers",
            "they name the class of every pixel", got, "Convert them with .long()",
        )  # fmt: skip
    check_size(function, "masks", array, maps)
    found = array.to(torch.int64)
    outside = (found < 0) & (found != ignore_index)
    if bool(outside.any()):
        row = int(outside.flatten(1).any(dim=1).nonzero()[0, 0])
        _checks.refuse(
            InputError, function, "masks", f"hold classes from 0, or {ignore_index} (ignore_index)",
            "classes are counted", f"{int(found[outside].min())}, first in image {row}",
            f"Set pixels of no class to {ignore_index}",
        )  # fmt: skip
    largest = largest_class(found, ignore_index)
    if largest >= _MOST_CLASSES:
        _refuse_class(function, largest, _MOST_CLASSES, ignore_index)
    return found


def check_size(function: str, name: str, values: Tensor, maps: Tensor) -> None:
    """Refuse masks (or numbers) of other images, of other axes, or smaller than the maps."""
    shape, grid = tuple(values.shape), tuple(maps.shape[2:])
    good = len(shape) == len(grid) + 1 and shape[0] == len(maps)
    if not good or any(side < cells for side, cells in zip(shape[1:], grid, strict=True)):
        _checks.refuse(
            ShapeError,
            function,
            name,
            f"have one entry for each of {len(maps)} images, of {len(grid)} axes, "
            f"none shorter than that of the maps ({' x '.join(map(str, grid))} cells)",
            "every cell covers pixels",
            f"shape {shape}",
            f"Pass the {name} of these images in full size",
        )


def _refuse_class(function: str, largest: int, num_classes: int, ignore_index: int) -> NoReturn:
    _checks.refuse(
        InputError, function, "masks", f"hold classes below {num_classes}", "so many classes there are",
        f"{largest}", f"Set pixels of no class to {ignore_index}, or pass a larger num_classes",
    )  # fmt: skip


def largest_class(masks: Tensor, ignore_index: int) -> int:
    """The largest class in masks; -1 where no pixel is counted."""
    return int(torch.where(masks == ignore_index, -1, masks).max()) if masks.numel() else -1


def blocks(num: int, each: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of images of which ``each`` needs so many numbers."""
    step = max(1, _ENTRIES // max(1, each))
    for start in range(0, num, step):
        yield start, min(start + step, num)


def class_shares(masks: Tensor, num_classes: int, grid: tuple[int, ...], ignore_index: int) -> Tensor:
    """The share [N, K, *grid] of each class among the pixels under each cell; not counted ones have "
    "none."""
    counted = masks != ignore_index
    shares = masks.new_zeros((len(masks), num_classes, *masks.shape[1:]), dtype=torch.float32)
    shares.scatter_(1, torch.where(counted, masks, 0)[:, None], counted[:, None].to(torch.float32))
    return F.interpolate(shares, size=grid, mode="area")


def tiles(size: Sequence[int]) -> Tensor:
    """The tile (of 4 along each axis) of every place of a map or mask, flat: places nearby share theirs."""
    found = torch.zeros(1, dtype=torch.int64)
    for side in size:
        found = (found[:, None] * _TILES + torch.arange(side) * _TILES // side).flatten()
    return found


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps interpolated (bi- or trilinearly, between the centres of cells) to another size."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode=_MODES[maps.ndim - 2], align_corners=False)
