"""What is changed at random to make a view, and the presets of the papers.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, NoReturn

from torch import Tensor

from spherometer import _checks
from spherometer.correspondence import ViewGeometry
from spherometer.data import _colour, _crops
from spherometer.data._draws import Draws
from spherometer.errors import InputError, ShapeError

# where each change finds its numbers among those of one view; fixed, so that no change moves another's
_CROP, _FLIP, _ANGLE, _JITTER, _GREY, _BLUR, _ERASE, _NUM_SLOTS = 0, 22, 23, 24, 33, 34, 36, 41
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _refuse(name: str, must: str, because: str, got: Any, example: str) -> NoReturn:
    _checks.refuse(
        InputError, "Augmentation", name, must, because, repr(got)[:80], f"Pass for instance {name}={example}"
    )


def _is_row(value: Any, num: int) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == num


def _lies(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and low <= value <= high


def _check_range(name: str, value: Any, most: float) -> None:
    if not (_is_row(value, 2) and all(_lies(end, 0, most) for end in value) and 0 < value[0] <= value[1]):
        bound = "" if math.isinf(most) else f", at most {most:g}"
        must = f"be (lowest, highest) with 0 < lowest <= highest{bound}"
        _refuse(name, must, "a number between them is drawn for each image", value, "(0.5, 1.0)")


def _check_normalisation(mean: Any, std: Any) -> None:
    if mean is None and std is None:
        return
    alike = all(isinstance(part, (tuple, list)) and part for part in (mean, std)) and len(mean) == len(std)
    if not alike or not all(_lies(s, -math.inf, math.inf) for s in (*mean, *std)) or min(std) <= 0:
        must = "come together, one finite number for each channel, std above 0"
        _refuse("mean, std", must, "pixels become (pixel - mean) / std", (mean, std), "(0.5,), (0.25,)")


@dataclass(frozen=True)
class Augmentation:
    r"""One way to make views: crop and resize, mirror, turn, colour, grey, blur, erase, normalise, in order.

    Every number is drawn per image from ``Draws`` at (seed, epoch, index, view), and the changes are applied
    to the whole batch, each with one parameter for each image; cropping, mirroring and turning are one
    bilinear sampling. A value of 0 or None leaves a change out. kornia changes colours and blurs.

    Deviation from the papers, whose code resizes with PIL: boxes end between pixels, and a box larger than
    the view is not smoothed before it is sampled.

    Attributes:
        name: of the preset.
        size: height and width of the views; None: those of the images.
        scale, ratio: share of the area and width / height of the random resized crop.
        flip: chance to exchange left and right.
        rotation: largest angle, degrees; what comes from outside the image is 0.
        jitter: strength of brightness, contrast, saturation and hue (as in :func:`_colour.jittered`).
        jitter_chance: chance of the colour changes.
        grey: chance to lose the colours. grey_first: before the colour changes instead of after them.
        blur: chance of a Gaussian blur. sigma: its range, pixels.
        erase: chance that a box becomes 0. erased: its share of the area.
        mean, std: of each channel, for the normalisation; grey images take the mean over the channels.
    """

    name: str
    size: tuple[int, int] | None = None
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    rotation: float = 0.0
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_chance: float = 1.0
    grey: float = 0.0
    grey_first: bool = False
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    erase: float = 0.0
    erased: tuple[float, float] = (0.02, 0.2)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            if not _is_row(self.size, 2):
                _refuse(
                    "size", "be a height and a width, or None", "views have two sides", self.size, "(32, 32)"
                )
            for side in self.size:
                _checks.whole("Augmentation", "size", side)
        for name, most in (("scale", 1.0), ("ratio", math.inf), ("sigma", math.inf), ("erased", 1.0)):
            value = getattr(self, name)
            if value is not None or name != "scale":
                _check_range(name, value, most)
        for name in ("flip", "jitter_chance", "grey", "blur", "erase"):
            if not _lies(getattr(self, name), 0, 1):
                _refuse(name, "lie in [0, 1]", "it is a chance", getattr(self, name), "0.5")
        if not _lies(self.rotation, 0, 180):
            _refuse("rotation", "lie in [0, 180]", "it is an angle in degrees", self.rotation, "10")
        if not (_is_row(self.jitter, 4) and all(_lies(s, 0, math.inf) for s in self.jitter)) or (
            self.jitter[3] > 0.5
        ):
            must = "hold four finite numbers of at least 0, the last at most 0.5"
            because = (
                "they are strengths of brightness, contrast, saturation and hue, and half a turn is every hue"
            )
            _refuse("jitter", must, because, self.jitter, "(0.4, 0.4, 0.4, 0.1)")
        _check_normalisation(self.mean, self.std)

    def settings(self) -> dict[str, Any]:
        """Everything that decides what a view is, JSON-able."""
        return asdict(self)

    def view(self, images: Tensor, draws: Draws, index: Tensor) -> Tensor:
        """One view of ``images`` [B, C, H, W] (float, in [0, 1]), the rows ``index`` [B] of the set."""
        self._check(images)
        if index.shape != images.shape[:1]:
            _checks.refuse(
                ShapeError,
                "Augmentation.view",
                "index",
                "have shape [B], one row number for each image",
                "the numbers of a view are drawn by it",
                f"shape {tuple(index.shape)} for {len(images)} images",
                "Pass the row numbers that these images have in their set",
            )
        numbers = draws.uniform(index.to(images.device), _NUM_SLOTS)
        images = self._moved(images, numbers)
        if self.grey_first:
            images = _colour.greyed(images, numbers[:, _GREY:_BLUR], self.grey)
        images = _colour.jittered(images, numbers[:, _JITTER:_GREY], self.jitter, self.jitter_chance)
        if not self.grey_first:
            images = _colour.greyed(images, numbers[:, _GREY:_BLUR], self.grey)
        images = _colour.blurred(images, numbers[:, _BLUR:_ERASE], self.blur, self.sigma)
        if self.erase:
            images = _crops.erased(images, numbers[:, _ERASE:], self.erased, self.erase)
        return self._normalised(images)

    def still(self, images: Tensor) -> Tensor:
        """``images`` [B, C, H, W] without any random change: resized, cut to the centre, normalised."""
        self._check(images)
        size = self.size or (images.shape[-2], images.shape[-1])
        if size != tuple(images.shape[-2:]):
            images = _crops.resized(images, size)
        return self._normalised(images)

    def _check(self, images: Tensor) -> None:
        channels = images.shape[1] if images.ndim == 4 else 0
        if not images.is_floating_point() or not channels:
            must, because = "have shape [B, C, H, W] and hold floating-point numbers", "colours lie in [0, 1]"
        elif channels != 1 and self.mean is not None and channels != len(self.mean):
            must, because = f"have 1 or {len(self.mean)} channels", "mean and std are those of each channel"
        else:
            return
        got = f"shape {tuple(images.shape)}, dtype {images.dtype}".replace("torch.", "")
        fix = "Convert stored images with .float() / 255, or choose views without mean and std"
        _checks.refuse(ShapeError, "Augmentation", "images", must, because, got, fix)

    def geometry(self, draws: Draws, index: Tensor, image_size: tuple[int, int]) -> ViewGeometry:
        """Where :meth:`view` of images of ``image_size``, the rows ``index`` [B] of the set, lies in them."""
        numbers = draws.uniform(index, _NUM_SLOTS)
        size = self.size or image_size
        boxes, mirrored, angle = self._place(numbers, image_size, size)
        if boxes is None:
            boxes = numbers.new_tensor(_crops.resized_box(*image_size, size)).expand(len(index), 4)
        return ViewGeometry.from_boxes(boxes, mirrored=mirrored, angle=angle)

    def _place(
        self, numbers: Tensor, image_size: tuple[int, int], size: tuple[int, int]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The boxes that views show, which are mirrored, and their angles; no box: nothing is drawn."""
        height, width = image_size
        if self.scale is None and not self.flip and not self.rotation:
            return None, None, None
        if self.scale is None:
            boxes = numbers.new_tensor(_crops.central_box(height, width, size)).expand(len(numbers), 4)
        else:
            boxes = _crops.crop_boxes(numbers[:, _CROP:_FLIP], height, width, self.scale, self.ratio)
        mirrored = numbers[:, _FLIP] < self.flip if self.flip else None
        angle = math.radians(self.rotation) * (2 * numbers[:, _ANGLE] - 1) if self.rotation else None
        return boxes, mirrored, angle

    def _moved(self, images: Tensor, numbers: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        size = self.size or (height, width)
        boxes, mirrored, angle = self._place(numbers, (height, width), size)
        if boxes is None:
            return images if size == (height, width) else _crops.resized(images, size)
        outside = "zeros" if self.rotation else "border"
        return _crops.sample_boxes(images, boxes, size, mirrored=mirrored, angle=angle, outside=outside)

    def _normalised(self, images: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return images
        mean, std = (images.new_tensor(part) for part in (self.mean, self.std))
        if images.shape[1] == 1:
            mean, std = mean.mean(dim=0, keepdim=True), std.mean(dim=0, keepdim=True)
        return (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


PRESETS: Mapping[str, Augmentation] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            # Chen et al. 2020 (2002.05709), appendix A: distortion strength 1
            Augmentation(
                "simclr",
                (224, 224),
                (0.08, 1.0),
                flip=0.5,
                jitter=(0.8, 0.8, 0.8, 0.2),
                jitter_chance=0.8,
                grey=0.2,
                blur=0.5,
            ),
            # the same paper, appendix B.9: CIFAR-10, strength 0.5, no blur
            Augmentation(
                "simclr_cifar",
                None,
                (0.08, 1.0),
                flip=0.5,
                jitter=(0.4, 0.4, 0.4, 0.1),
                jitter_chance=0.8,
                grey=0.2,
            ),
            # He et al. 2020 (1911.05722), section 3.3
            Augmentation(
                "moco_v1",
                (224, 224),
                (0.2, 1.0),
                flip=0.5,
                jitter=(0.4, 0.4, 0.4, 0.4),
                grey=0.2,
                grey_first=True,
                mean=_IMAGENET[0],
                std=_IMAGENET[1],
            ),
            # Chen et al. 2020 (2003.04297)
            Augmentation(
                "moco_v2",
                (224, 224),
                (0.2, 1.0),
                flip=0.5,
                jitter=(0.4, 0.4, 0.4, 0.1),
                jitter_chance=0.8,
                grey=0.2,
                blur=0.5,
                mean=_IMAGENET[0],
                std=_IMAGENET[1],
            ),
            # Wang & Isola 2020 (2005.10242), appendix B
            Augmentation(
                "stl10",
                (64, 64),
                (0.08, 1.0),
                flip=0.5,
                jitter=(0.4, 0.4, 0.4, 0.4),
                grey=0.2,
                mean=(0.4409, 0.4279, 0.3868),
                std=(0.2683, 0.2610, 0.2687),
            ),
            # ours, for small grey images of things
            Augmentation(
                "fashion",
                None,
                (0.3, 1.0),
                flip=0.5,
                rotation=10.0,
                jitter=(0.4, 0.4, 0.0, 0.0),
                erase=0.25,
            ),
            Augmentation("none"),
        )
    }
)
PRESET_NAMES = (*PRESETS, "digits")


def preset(name: str, size: tuple[int, int] | None = None) -> Augmentation:
    """The preset ``name``, with views of another ``size`` when one is given."""
    if name not in PRESETS:
        near = difflib.get_close_matches(str(name), PRESETS, n=1, cutoff=0.0)[0]
        _checks.refuse(
            InputError,
            "open_data",
            "views",
            f"be one of {', '.join(PRESET_NAMES)}",
            "they say what is changed at random",
            repr(name)[:80],
            f"Did you mean {near!r}",
        )
    return PRESETS[name] if size is None else replace(PRESETS[name], size=size)
