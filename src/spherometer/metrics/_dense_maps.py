"""Dense maps as arguments: checked, cut into cells, with the cells that count.

Shapes: N images, D channels, K axes, S cells of a map, C cells that count, P pairs of cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks, sphere
from spherometer._checks import Features, NanPolicy
from spherometer._checks import _as_tensor as as_tensor
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError


@dataclass(frozen=True)
class Maps:
    """One checked argument: its cells as rows, and which of them count."""

    name: str
    checked: Features  # rows [N S, D]: cells image by image, the last axis fastest
    keep: Tensor  # bool [N, S]
    grid: tuple[int, ...]
    complete: bool  # all cells count

    @property
    def num(self) -> int:
        """Images N."""
        return len(self.keep)

    @property
    def cells(self) -> Tensor:
        """All cells [N S, D], kept or not."""
        return self.checked.rows

    def maps(self) -> Tensor:
        """[N, D, *grid] again, what cells are matched by: no gradient, zeros where a cell is not finite."""
        cells = self.cells.detach()
        finite = torch.isfinite(cells).all(dim=1, keepdim=True)
        return cells.masked_fill(~finite, 0.0).view(*self.keep.shape, -1).mT.reshape(self.num, -1, *self.grid)

    def unit(self, where: Tensor | None, *, normalize: bool) -> Tensor:
        """The cells ``where`` [C] on the sphere; None: all of them."""
        rows = self.cells if where is None else self.cells[where]
        return sphere.normalize(rows) if normalize else rows


def checked_maps(
    function: str,
    names: Sequence[str],
    values: Sequence[Any],
    mask: Any = None,
    *,
    normalize: bool | None,
    nan: NanPolicy,
) -> list[Maps]:
    """Maps of the same images: kind, shapes, masks, then the values of the cells that count.

    ``normalize``: cells have a direction; or (False) length 1; or (None) neither is looked at.
    """
    _checks.one_of(function, "nan", nan, ("refuse", "drop"))
    read = [as_tensor(function, name, value) for name, value in zip(names, values, strict=True)]
    for name, (tensor, _) in zip(names, read, strict=True):
        _check_shape(function, name, tensor)
    for name, (tensor, is_numpy) in zip(names[1:], read[1:], strict=True):
        _check_match(function, names[0], name, read[0][0], tensor, read[0][1] == is_numpy)
    masks = _masks(function, mask, [tensor for tensor, _ in read])
    found = []
    for name, (tensor, is_numpy), (keep, whole) in zip(names, read, masks, strict=True):
        wide = tensor if tensor.dtype == torch.float64 else tensor.float()
        rows = wide.flatten(2).mT.flatten(0, 1).contiguous()
        grid = tuple(tensor.shape[2:])
        features = Features(rows, None, is_numpy, tensor.dtype)
        found.append(_finite(function, Maps(name, features, keep, grid, whole), nan))
    for each in found if normalize is not None else ():
        (_check_directions if normalize else _check_lengths)(function, each)
    return found


def _check_shape(function: str, name: str, tensor: Tensor) -> None:
    if tensor.ndim not in (4, 5) or 0 in tensor.shape[1:]:
        _checks.refuse(
            ShapeError, function, name, "have shape [N, D, H, W] or [N, D, H, W, Z]",
            "each cell of a map is one point in D dimensions", f"shape {tuple(tensor.shape)}",
            "Pass maps with their channels second",
        )  # fmt: skip
    if not len(tensor):
        _checks.refuse(
            UndefinedError, function, name, "hold at least 1 image", "a mean needs a cell", "0 images",
            "Pass the maps of the whole set",
        )  # fmt: skip


def _check_match(function: str, first: str, name: str, a: Tensor, b: Tensor, same_kind: bool) -> None:
    if not same_kind or a.dtype != b.dtype or a.device != b.device:
        kind = "" if same_kind else " (one is a NumPy array, the other a tensor)"
        _checks.refuse(
            InputError, function, name, f"have the same kind, dtype and device as {first}",
            "nothing is converted silently",
            f"{first} {a.dtype} on {a.device}, {name} {b.dtype} on {b.device}{kind}".replace("torch.", ""),
            "Convert one of them first",
        )  # fmt: skip
    if a.shape[:2] != b.shape[:2] or a.ndim != b.ndim:
        _checks.refuse(
            ShapeError, function, name, f"have as many images, channels and axes as {first}",
            "map i of one belongs to map i of the other, and both live on one sphere",
            f"{first} {tuple(a.shape)}, {name} {tuple(b.shape)}", "Pass maps of the same images",
        )  # fmt: skip


def _masks(function: str, mask: Any, tensors: Sequence[Tensor]) -> list[tuple[Tensor, bool]]:
    """Bool [N, S] for each argument, and whether nobody gave it. One mask is that of the first."""
    given = list(mask) if isinstance(mask, (tuple, list)) else [mask]
    if len(given) > len(tensors):
        one = "one mask" if len(tensors) == 1 else "one mask, or one for each side"
        _checks.refuse(
            ShapeError, function, "mask", f"be {one}", "it says which cells count",
            f"{len(given)} of them", "Pass a boolean array [N, H, W]",
        )  # fmt: skip
    given += [None] * (len(tensors) - len(given))
    found = []
    for each, tensor in zip(given, tensors, strict=True):
        shape = (len(tensor), *tensor.shape[2:])
        if each is None:
            ones = torch.ones(len(tensor), math.prod(shape[1:]), dtype=torch.bool, device=tensor.device)
            found.append((ones, True))
            continue
        read = torch.from_numpy(each) if isinstance(each, np.ndarray) and each.dtype == bool else each
        if not isinstance(read, Tensor) or read.dtype != torch.bool or tuple(read.shape) != shape:
            dtype = str(getattr(each, "dtype", type(each).__name__)).replace("torch.", "")
            got = f"{dtype} of shape {tuple(each.shape)}" if hasattr(each, "shape") else dtype
            _checks.refuse(
                ShapeError, function, "mask", f"be boolean of shape {list(shape)}",
                "True says that a cell of the map counts", got, "Reduce it to the cells of the map",
            )  # fmt: skip
        found.append((read.flatten(1).to(tensor.device), False))
    return found


def _finite(function: str, maps: Maps, nan: NanPolicy) -> Maps:
    """Without the cells that are not finite, or refused; what is masked is not looked at."""
    if math.isfinite(float(maps.cells.detach().sum())):  # one that is not finite would have spoilt the sum
        return maps
    finite = torch.isfinite(maps.cells.detach()).all(dim=1).view_as(maps.keep)
    bad = maps.keep & ~finite
    if not bool(bad.any()):
        return maps
    if nan == "refuse":
        _checks.refuse(
            InputError, function, maps.name, "be finite",
            "NaN or infinity in one cell spoils every pair with it",
            f"{_some(maps, bad)} with NaN or infinity, the first is {_first(maps, bad)}",
            'Mask them, or pass nan="drop" to leave them out',
        )  # fmt: skip
    return Maps(maps.name, maps.checked, maps.keep & finite, maps.grid, complete=False)


def _check_directions(function: str, maps: Maps) -> None:
    if float(torch.linalg.vector_norm(maps.cells.detach(), dim=1).amin()) > 0:
        return  # norms that underflow are looked at below
    zero = maps.keep & (maps.cells.detach() == 0).all(dim=1).view_as(maps.keep)
    if bool(zero.any()):
        _checks.refuse(
            NotOnSphereError, function, maps.name, "have no cells of zeros",
            "a zero vector has no direction on the sphere",
            f"{_some(maps, zero)} of zeros, the first is {_first(maps, zero)}",
            "Leave them out with mask=, or look for dead units in the encoder",
        )  # fmt: skip


def _check_lengths(function: str, maps: Maps) -> None:
    tolerance = 1e-2 if maps.checked.dtype in (torch.float16, torch.bfloat16) else 1e-4
    lengths = torch.linalg.vector_norm(maps.cells.detach(), dim=1, dtype=torch.float64).view_as(maps.keep)
    off = (lengths - 1).abs().masked_fill(~maps.keep, 0.0)
    worst = off == off.max()
    if float(off.max()) > tolerance:
        _checks.refuse(
            NotOnSphereError, function, maps.name, "have cells of length 1",
            "normalize=False says that they already lie on the unit sphere",
            f"length {float(lengths[worst][0]):.6g} in {_first(maps, worst)} (the worst of "
            f"{int(maps.keep.sum())})", "Pass normalize=True, or normalise the cells first",
        )  # fmt: skip


def _some(maps: Maps, bad: Tensor) -> str:
    return f"{int(bad.sum())} of {int(maps.keep.sum())} cells"


def _first(maps: Maps, bad: Tensor) -> str:
    image, cell = bad.nonzero()[0].tolist()
    place = tuple(int(axis) for axis in np.unravel_index(cell, maps.grid))
    return f"cell {place} of image {image}"
