"""Scenes: small things placed on a background, with the class of every pixel.

Nobody needs a download to train on images of one object, or of several, and to test what dense features know.

Shapes: B scenes, C channels, S x S pixels of a scene, h x w pixels of a thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer.data import _arrays
from spherometer.data._digits import load_digits
from spherometer.data._draws import Draws
from spherometer.data._named import open_named
from spherometer.data._segmented import MAX_CLASSES, SegmentedImages
from spherometer.data._source import ArrayImages, as_float
from spherometer.errors import InputError

SOURCES = ("digits", "mnist", "fashion_mnist")
PARTS = ("train", "validation", "test")
_GARMENTS = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_ATTEMPTS = 24  # places that are tried for a thing
_SLOTS = 2 + 2 * _ATTEMPTS  # numbers of each thing: which, how large, where
_OCTAVES = ((3, 0.5), (6, 0.3), (12, 0.2))  # cells along a side of a texture, and their weight
_PLACES, _TEXTURE = -2, -3  # views of the draws: none that a view of an image has
_BRIGHTEST = 0.4  # of a texture
_THRESHOLDS = {"fashion_mnist": 0.1}  # garments are darker than strokes
_BLOCK = 256  # scenes at a time


@dataclass(frozen=True)
class Layout:
    """How many things a scene shows (fewest, most), and their side as a share of the scene's."""

    objects: tuple[int, int]
    scale: tuple[float, float]


LAYOUTS = {"single": Layout((1, 1), (0.5, 0.9)), "multi": Layout((2, 4), (0.3, 0.5))}


@dataclass(frozen=True)
class _Things:
    """What is placed: images [M, C, h, w] float32 in [0, 1], the class (from 1) of each, and names."""

    images: Tensor
    classes: NDArray[np.int64]
    class_names: tuple[str, ...]
    name: str
    source: str


def make_scenes(
    source: str | tuple[Any, Any] = "digits",
    *,
    num: int = 2000,
    size: int = 56,
    objects: str | tuple[int, int] = "multi",
    scale: tuple[float, float] | None = None,
    background: Literal["textured", "plain"] = "textured",
    overlap: float = 0.15,
    threshold: float | None = None,
    part: Literal["train", "validation", "test"] = "train",
    seed: int = 0,
    data_dir: str | Path | None = None,
) -> SegmentedImages:
    r"""Scenes of digits or garments, each a function of (seed, part, number of the scene) alone.

    A scene draws how many things it shows; each thing draws which image it is, its side and its place, all
    uniformly, and is resized with antialiasing. A thing lies over those before it. Of 24 places the first is
    taken at which no earlier thing loses more than ``overlap`` of its pixels to all later ones together; a
    thing that finds none is left out, so that a scene may show fewer than it drew.

    The mask of a thing are its pixels of at least ``threshold`` (of the brightest channel); there the scene
    shows the thing alone, below it the background shines through in proportion: with v a pixel of the thing,
    a = min(1, v / threshold), pixel = a v + (1 - a) background.

    Args:
        source: "digits" (bundled), "mnist", "fashion_mnist" (their files must be on this machine), or a pair
            (images, labels) of bright things on black, as :func:`open_arrays` takes them.
        num: scenes.
        size: S, side of a scene in pixels.
        objects: "single" (1, sides of 0.5 to 0.9 S), "multi" (2 to 4, sides of 0.3 to 0.5 S), or (fewest,
            most).
        scale: smallest and largest side of a thing, as shares of S; None: that of the preset ("single" when
            ``objects`` is (1, 1), else "multi").
        background: "textured" (a smooth random pattern in [0, 0.4], another for each scene) or "plain" (0).
        overlap: see above, in [0, 1].
        threshold: see above, in (0, 1]; None: 0.25, for fashion_mnist 0.1.
        part: things of this part of a named source are placed, so that those of "test" are new; of digits
            half train, 20 % validate, 30 % test; MNIST has no "validation". Of arrays all are placed.
        seed: of everything drawn.
        data_dir: where the files of mnist and fashion_mnist lie, as in :func:`open_data`.

    Returns:
        Pixels [N, C, S, S] uint8 with masks: 0 background, class c + 1 for label c.

    Raises:
        InputError: an unknown source or one that is not here, numbers out of range, too many classes.

    Source: ours. The overlap rule, the presets and their sizes are choices of this generator.

    Example:
        >>> scenes = make_scenes(num=3, objects="single")
        >>> scenes.shape, scenes.num_classes, scenes.masks(torch.tensor([2])).shape
        ((1, 56, 56), 11, torch.Size([1, 56, 56]))
    """
    layout = _layout(objects, scale)
    _checks.whole("make_scenes", "num", num)
    _checks.whole("make_scenes", "size", size, at_least=8)
    _checks.whole("make_scenes", "seed", seed, at_least=0)
    _checks.one_of("make_scenes", "background", background, ("textured", "plain"))
    _checks.one_of("make_scenes", "part", part, PARTS)
    _share("overlap", overlap, lowest=0.0)
    if threshold is None:
        threshold = _THRESHOLDS.get(source, 0.25) if isinstance(source, str) else 0.25
    _share("threshold", threshold, lowest=1e-3)
    things = _things(source, part, data_dir)
    stream = PARTS.index(part)
    pixels = torch.empty((num, things.images.shape[1], size, size), dtype=torch.uint8)
    maps = torch.empty((num, size, size), dtype=torch.uint8)
    for start in range(0, num, _BLOCK):
        index = torch.arange(start, min(start + _BLOCK, num))
        scenes = _scenes(things, index, Draws(seed, stream, _PLACES), layout, size, overlap, threshold)
        behind = _backgrounds(index, Draws(seed, stream, _TEXTURE), size, background)
        for row, scene in zip(index.tolist(), scenes, strict=True):
            shown = scene.light + (1 - scene.opacity) * behind[row - start]
            pixels[row] = torch.from_numpy(np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8))
            maps[row] = torch.from_numpy(scene.classes.astype(np.uint8))
    low, high = layout.objects
    words = f"{low}" if low == high else f"{low} to {high}"
    how = f"{words} of {things.source} on a {background} background, seed {seed}, {part} part"
    name = f"scenes of {things.name}"
    return SegmentedImages.of(ArrayImages(name, how, pixels), maps, things.class_names)


def _refuse(name: str, must: str, because: str, got: Any, fix: str) -> NoReturn:
    _checks.refuse(InputError, "make_scenes", name, must, because, repr(got)[:80], fix)


def _share(name: str, value: Any, *, lowest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value <= 1:
        _refuse(
            name,
            f"be a number from {lowest:g} to 1",
            "it is a share",
            value,
            f"Pass for instance {name}=0.25",
        )


def _layout(objects: Any, scale: Any) -> Layout:
    if isinstance(objects, str):
        _checks.one_of("make_scenes", "objects", objects, tuple(LAYOUTS))
        found = LAYOUTS[objects]
    else:
        pair = isinstance(objects, (tuple, list)) and len(objects) == 2
        whole = pair and all(isinstance(each, int) and not isinstance(each, bool) for each in objects)
        if not whole or not 1 <= objects[0] <= objects[1] <= 32:
            _refuse(
                "objects",
                "be 'single', 'multi' or (fewest, most) with 1 <= fewest <= most <= 32",
                "a scene draws how many things it shows",
                objects,
                "Pass for instance (2, 4)",
            )
        usual = LAYOUTS["single" if tuple(objects) == (1, 1) else "multi"]
        found = Layout((objects[0], objects[1]), usual.scale)
    if scale is None:
        return found
    pair = isinstance(scale, (tuple, list)) and len(scale) == 2
    if (
        not pair
        or not all(isinstance(each, (int, float)) for each in scale)
        or not 0 < scale[0] <= scale[1] <= 1
    ):
        _refuse(
            "scale",
            "be (smallest, largest) with 0 < smallest <= largest <= 1",
            "a thing draws its side as a share of the scene's",
            scale,
            "Pass for instance (0.3, 0.5)",
        )
    return Layout(found.objects, (float(scale[0]), float(scale[1])))


def _things(source: Any, part: str, data_dir: Any) -> _Things:
    if isinstance(source, (tuple, list)) and len(source) == 2:
        found = _arrays.images_of(source[0], source[1], "arrays")
        if found.labels is None or not len(found):
            _refuse(
                "source",
                "hold images and their labels",
                "pixels get the class of their thing",
                "no labels" if found.labels is None else "no images",
                "Pass (images, labels)",
            )
        names = tuple(map(str, range(int(found.labels.max()) + 1)))
        return _placed(as_float(found.array), found.labels, names, "arrays", f"{len(found)} given images")
    if not isinstance(source, str) or source not in SOURCES:
        _refuse(
            "source",
            f"be one of {', '.join(map(repr, SOURCES))}, or (images, labels)",
            "its images are placed in the scenes",
            source,
            "Pass for instance source='digits'",
        )
    names = _GARMENTS if source == "fashion_mnist" else tuple("0123456789")
    if source == "digits":
        digits = load_digits()
        rows = getattr(digits.split, part)
        return _placed(digits.images[rows], digits.labels[rows], names, source, digits.source)
    images = open_named(source, part, data_dir, False)
    assert images.labels is not None
    return _placed(
        as_float(images.pixels(torch.arange(len(images)))), images.labels, names, source, images.source
    )


def _placed(images: Tensor, labels: Tensor, names: Sequence[str], name: str, source: str) -> _Things:
    if len(names) >= MAX_CLASSES:
        _refuse(
            "source", f"have at most {MAX_CLASSES - 1} classes", "masks are bytes", len(names), "Join classes"
        )
    return _Things(images, labels.numpy() + 1, ("background", *names), name, source)


@dataclass(frozen=True)
class Scene:
    """One scene before its background: light [C, S, S], opacity [S, S], thing (from 1) and class of "
    "pixels."""

    light: NDArray[np.float32]
    opacity: NDArray[np.float32]
    owners: NDArray[np.int64]
    classes: NDArray[np.int64]
    areas: tuple[int, ...]  # pixels of each thing's mask, before others cover it


def _scenes(
    things: _Things, index: Tensor, draws: Draws, layout: Layout, size: int, overlap: float, threshold: float
) -> list[Scene]:
    """The scenes ``index`` [B]."""
    low, high = layout.objects
    numbers = draws.uniform(index, 1 + _SLOTS * high).numpy()
    how_many = low + np.floor(numbers[:, 0] * (high - low + 1)).astype(np.int64)
    each = numbers[:, 1:].reshape(len(index), high, _SLOTS)
    which = np.floor(each[:, :, 0] * len(things.images)).astype(np.int64)
    least, most = (max(2, round(share * size)) for share in layout.scale)
    sides = least + np.floor(each[:, :, 1] * (most - least + 1)).astype(np.int64)
    patches = _patches(things.images, which, sides)
    found = []
    for row, count in enumerate(how_many.tolist()):
        own = [(patches[row, k], int(things.classes[which[row, k]]), each[row, k, 2:]) for k in range(count)]
        found.append(_scene(own, things.images.shape[1], size, overlap, threshold))
    return found


def _patches(
    images: Tensor, which: NDArray[np.int64], sides: NDArray[np.int64]
) -> dict[tuple[int, int], NDArray[np.float32]]:
    """(scene, thing) -> the thing [C, side, side at most], its longer side resized to ``sides``."""
    height, width = images.shape[-2:]
    found: dict[tuple[int, int], NDArray[np.float32]] = {}
    for side in np.unique(sides).tolist():
        rows, places = np.nonzero(sides == side)
        factor = side / max(height, width)
        new = (max(1, round(height * factor)), max(1, round(width * factor)))
        some = F.interpolate(
            images[torch.from_numpy(which[rows, places])], size=new, mode="bilinear", align_corners=False,
            antialias=True,
        )  # fmt: skip
        for row, place, patch in zip(rows.tolist(), places.tolist(), some.numpy(), strict=True):
            found[row, place] = patch
    return found


def _scene(
    things: Sequence[tuple[NDArray[np.float32], int, NDArray[np.float64]]],
    channels: int,
    size: int,
    overlap: float,
    threshold: float,
) -> Scene:
    light = np.zeros((channels, size, size), dtype=np.float32)
    opacity = np.zeros((size, size), dtype=np.float32)
    owners, classes = (np.zeros((size, size), dtype=np.int64) for _ in range(2))
    areas: list[int] = []
    for patch, kind, places in things:
        strength = np.minimum(1, patch.max(axis=0) / threshold)
        mask = strength >= 1
        tall, wide = mask.shape
        for down, across in places.reshape(_ATTEMPTS, 2):
            top, left = int(down * (size - tall + 1)), int(across * (size - wide + 1))
            box = (slice(top, top + tall), slice(left, left + wide))
            hidden = np.bincount(owners[box][mask], minlength=len(areas) + 1)[1:]
            shown = np.bincount(owners.ravel(), minlength=len(areas) + 1)[1:]
            if all(v - h >= (1 - overlap) * a for v, h, a in zip(shown, hidden, areas, strict=True)):
                break
        else:
            continue
        areas.append(int(mask.sum()))
        owners[box][mask], classes[box][mask] = len(areas), kind
        light[:, *box] = strength * patch + (1 - strength) * light[:, *box]
        opacity[box] = strength + (1 - strength) * opacity[box]
    return Scene(light, opacity, owners, classes, tuple(areas))


def _backgrounds(index: Tensor, draws: Draws, size: int, background: str) -> NDArray[np.float32]:
    """Backgrounds [B, S, S] of the scenes ``index`` [B]."""
    found = torch.zeros(len(index), size, size)
    if background == "plain":
        return found.numpy()
    numbers = draws.uniform(index, sum(cells * cells for cells, _ in _OCTAVES)).to(torch.float32)
    start = 0
    for cells, weight in _OCTAVES:
        grid = numbers[:, start : start + cells * cells].view(-1, 1, cells, cells)
        smooth = F.interpolate(grid, size=(size, size), mode="bicubic", align_corners=False)
        found += weight * _BRIGHTEST * smooth[:, 0]
        start += cells * cells
    return found.clamp_(0, _BRIGHTEST).numpy()
