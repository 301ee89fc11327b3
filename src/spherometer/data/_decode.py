"""Compressed images of any size as bytes of one size; damaged ones are counted and named.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer.data._crops import central_box
from spherometer.data._source import content_hash, digest
from spherometer.errors import InputError

KEPT_BYTES = (
    1 << 30
)  # as many decoded bytes are kept in memory; more images are decoded whenever they are used
MAX_PIXELS = 100_000_000
_NAMED = 5
_DEFAULT_SIDE = 224
_OWN_SIDE = 256
_GREY = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"})

Opener = Callable[[int], Any]  # from a place among the names to a PIL image


@dataclass(frozen=True)
class DecodedImages:
    """Images that are compressed where they lie.

    Args:
        name, source: what they are and where they come from.
        names: of the usable images, for messages.
        places: of the usable images among all, for ``opener``.
        opener: gives the PIL image of a place.
        shape: channels, height and width after decoding.
        labels: [N] int64, or None.
        identity: JSON-able: what the images are (``fingerprint`` adds size and labels).
        skipped: names of the damaged images that were left out, and why.
        kept: all images decoded, or None when they would not fit.
    """

    name: str
    source: str
    names: Sequence[str]
    places: Sequence[int]
    opener: Opener
    shape: tuple[int, int, int]
    labels: Tensor | None
    identity: Any = None
    skipped: tuple[str, ...] = ()
    kept: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, index: Tensor) -> Tensor:
        """The images ``index`` [B], uint8."""
        if self.kept is not None:
            return self.kept[index]
        found = torch.empty((len(index), *self.shape), dtype=torch.uint8)
        for place, row in enumerate(index.tolist()):
            try:
                with _opening(self.opener, self.places[row]) as image:
                    found[place] = torch.from_numpy(decoded(image, self.shape))
            except Exception as error:
                _refuse_bad(self.source, [f"{self.names[row]!r} ({_reason(error)})"], len(self), 0)
        return found

    def fingerprint(self) -> str:
        """Of ``identity`` (names and sizes of files), the decoded size, the labels and what was left out."""
        return digest(
            identity=self.identity,
            shape=self.shape,
            labels=content_hash(self.labels),
            skipped=len(self.skipped),
        )


def decoded(image: Any, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One PIL image as [C, H, W] bytes: turned as its EXIF says, cut to the largest central box, resized."""
    from PIL import Image, ImageOps

    channels, height, width = shape
    _check_pixels(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits: the upper 8
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (width, height):
        left, top, wide, tall = central_box(image.height, image.width, (height, width))
        box = (left, top, left + wide, top + tall)
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    pixels: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _check_pixels(image: Any) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS // 10**6} million")


@contextmanager
def _opening(opener: Opener, place: int) -> Iterator[Any]:
    image = opener(place)
    try:
        yield image
    finally:
        image.close()


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def _upright(image: Any) -> tuple[int, int]:
    turned = image.getexif().get(0x0112, 1) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


def _attempt(opener: Opener, places: Sequence[int], use: Callable[[int, Any], None]) -> dict[int, str]:
    """Use every image; what cannot be used is returned with the reason."""
    bad: dict[int, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged meta-data: the pixels decide
        for place in places:
            try:
                with _opening(opener, place) as image:
                    use(place, image)
            except Exception as error:  # decoders raise what they like
                bad[place] = _reason(error)
    return bad


def decode_all(
    name: str,
    source: str,
    names: Sequence[str],
    opener: Opener,
    *,
    size: tuple[int, int] | None,
    labels: Tensor | None,
    identity: Any,
    skip_bad: int,
) -> DecodedImages:
    """Look at every image, choose the common size, and decode all when they fit into 1 GiB.

    Args:
        name, source, names, opener, identity: as :class:`DecodedImages`; names are those of all images.
        size: height and width; None: the images' own when they are alike and at most 256, else 224.
        labels: of all images.
        skip_bad: how many may be damaged; they are named in a warning and left out.

    Raises:
        InputError: more are damaged; the message counts them and names the first.
    """
    _checks.whole("open_data", "skip_bad", skip_bad, at_least=0)
    sizes: dict[int, tuple[int, int]] = {}
    modes: dict[int, str] = {}

    def look(place: int, image: Any) -> None:
        _check_pixels(image)
        sizes[place], modes[place] = _upright(image), image.mode

    bad = _attempt(opener, range(len(names)), look)
    places = [place for place in range(len(names)) if place not in bad]
    own = {sizes[place] for place in places}
    if size is None:
        alike = len(own) == 1 and max(max(sides) for sides in own) <= _OWN_SIDE
        size = own.pop() if alike else (_DEFAULT_SIDE, _DEFAULT_SIDE)
    channels = 1 if places and all(modes[place] in _GREY for place in places) else 3
    shape = (channels, *size)
    kept = None
    if len(places) * channels * size[0] * size[1] <= KEPT_BYTES:
        rows = torch.empty((len(places), *shape), dtype=torch.uint8)
        row_of = {place: row for row, place in enumerate(places)}

        def keep(place: int, image: Any) -> None:
            rows[row_of[place]] = torch.from_numpy(decoded(image, shape))

        damaged = _attempt(opener, places, keep)
        places = [place for place in places if place not in damaged]
        kept = rows[[row_of[place] for place in places]] if damaged else rows
        bad |= damaged
    listed = [f"{names[place]!r} ({bad[place]})" for place in sorted(bad)]
    if len(bad) > skip_bad:
        _refuse_bad(source, listed, len(names), skip_bad)
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        warnings.warn(
            f"open_data: {len(bad)} of {len(names)} images are left out, because they cannot be read: "
            f"{', '.join(listed[:_NAMED])}{more}.",
            UserWarning,
            stacklevel=4,
        )
    return DecodedImages(
        name,
        source,
        [names[place] for place in places],
        places,
        opener,
        shape,
        None if labels is None else labels[torch.tensor(places, dtype=torch.int64)],
        identity,
        tuple(listed),
        kept,
    )


def _refuse_bad(source: str, listed: Sequence[str], num: int, skip_bad: int) -> None:
    _checks.refuse(
        InputError,
        "open_data",
        f"images of {source}",
        "be readable" if not skip_bad else f"be readable but for {skip_bad} at most (skip_bad)",
        "each is a sample",
        f"{len(listed)} of {num} that are not, the first {listed[0]}",
        f"Remove {'it' if len(listed) == 1 else 'them'}, or pass skip_bad={len(listed)} (--skip-bad)",
    )
