"""Compressed images of any size as bytes of one size; damaged ones are counted and named.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer import _checks
from spherometer.data._crops import central_box
from spherometer.data._source import content_hash, digest
from spherometer.errors import InputError

KEPT_BYTES = 1 << 30  # decoded images that are kept in memory; of more, each is decoded whenever it is used
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_GREY = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_ORIENTATION = 0x0112  # of EXIF; from 5 on, width and height are exchanged

Content = str | os.PathLike[str] | bytes  # of one compressed image: where it is, or its bytes
Reader = Callable[[int], Content]  # from a place among the names


class UnreadableImagesWarning(UserWarning):
    """Some images could not be read and were left out, as ``skip_bad`` allows."""


@dataclass(frozen=True)
class DecodedImages:
    """Images that are compressed where they lie.

    Args:
        name, source: what they are and where they come from.
        names: of the usable images, for messages.
        places: of the usable images among all, for ``reader``.
        reader: gives the compressed image of a place.
        shape: channels, height and width after decoding.
        labels: [N] int64, or None.
        identity: JSON-able: what the images are (``fingerprint`` adds size and labels).
        kept: all images decoded, or None when they are too many.
    """

    name: str
    source: str
    names: Sequence[str]
    places: Sequence[int]
    reader: Reader
    shape: tuple[int, int, int]
    labels: Tensor | None
    identity: Any = None
    kept: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, index: Tensor) -> Tensor:
        """The images ``index`` [B], uint8."""
        if self.kept is not None:
            return self.kept[index]
        found = torch.empty((len(index), *self.shape), dtype=torch.uint8)
        with _quiet():
            for place, row in enumerate(index.tolist()):
                try:
                    pixels = decoded(self.reader(self.places[row]), self.shape)
                except Exception as error:  # decoders of damaged files raise what they like
                    self._refuse_late(row, error)
                found[place] = torch.from_numpy(pixels)
        return found

    def _refuse_late(self, row: int, error: Exception) -> NoReturn:
        _checks.refuse(
            InputError,
            "open_data",
            self.source,
            "stay readable while it is trained on",
            "every image is used in every epoch",
            f"{self.names[row]!r} ({_reason(error)})",
            "Mend or remove it, and start again",
        )

    def fingerprint(self) -> str:
        """Of names and sizes of the usable images (``identity``), the decoded size and the labels."""
        return digest(
            identity=self.identity,
            places=content_hash(torch.tensor(self.places)),
            shape=self.shape,
            labels=content_hash(self.labels),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings about meta-data are nothing to training; too many pixels are an error."""
    image = _checks.extra("PIL.Image", "train", "reading images")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", image.DecompressionBombWarning)
        yield


def _opened(content: Content) -> Any:
    """A PIL image whose header is read; only the formats that are listed are tried."""
    from PIL import Image

    return Image.open(BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS)


def decoded(content: Content, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One image as [C, H, W] bytes: turned as its EXIF says, cut to the largest central box, resized.

    Of 16 bits the upper 8 are taken; transparency is dropped; of several frames the first is taken.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    with _opened(content) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode == "F":
            raise ValueError("floating-point pixels have no largest value")
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        image = image.convert("RGB" if channels == 3 else "L")
        if image.size != (width, height):
            left, top, wide, tall = central_box(image.height, image.width, (height, width))
            box = (left, top, left + wide, top + tall)
            image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
        pixels: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _reason(error: BaseException) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if type(error).__name__ == "UnidentifiedImageError":
        words = "no image"
    return " ".join(words.split())[:100].rstrip(".") or type(error).__name__


def _look(content: Content) -> tuple[tuple[int, int], bool]:
    """Height and width when upright, and whether it is grey, from the header."""
    with _opened(content) as image:
        exif = image.format != "PNG" or "exif" in image.info  # to look for more, PNG would be decoded
        turned = exif and image.getexif().get(_ORIENTATION, 1) >= 5
        return (image.size if turned else image.size[::-1]), image.mode in _GREY


def _attempt(places: Sequence[int], use: Callable[[int], None], bad: dict[int, str]) -> list[int]:
    """Use every image; the places of those that could be. The others enter ``bad``, with the reason."""
    for place in places:
        try:
            use(place)
        except Exception as error:  # decoders of damaged files raise what they like
            bad[place] = _reason(error)
    return [place for place in places if place not in bad]


def _decode_now(
    places: Sequence[int], reader: Reader, shape: tuple[int, int, int], bad: dict[int, str]
) -> tuple[list[int], Tensor]:
    """The places of what can be decoded, and their pixels."""
    pixels = torch.empty((len(places), *shape), dtype=torch.uint8)
    rows = {place: row for row, place in enumerate(places)}

    def decode(place: int) -> None:
        pixels[rows[place]] = torch.from_numpy(decoded(reader(place), shape))

    good = _attempt(places, decode, bad)
    return good, pixels if len(good) == len(pixels) else pixels[[rows[place] for place in good]]


def decode_all(
    name: str,
    source: str,
    names: Sequence[str],
    reader: Reader,
    *,
    size: tuple[int, int] | None,
    labels: Tensor | None,
    identity: Any,
    skip_bad: int,
) -> DecodedImages:
    """Look at every image, and decode all when they fit into 1 GiB; what cannot be read is counted.

    Args:
        name, source, names, reader, identity: as :class:`DecodedImages`; names are those of all images.
        size: height and width; None: the images' own, when all have one.
        labels: of all images.
        skip_bad: how many may be unreadable; a warning counts them and names the first.

    Raises:
        InputError: more are unreadable; or the sizes differ.
    """
    _checks.whole("open_data", "skip_bad", skip_bad, at_least=0)
    looks: dict[int, tuple[tuple[int, int], bool]] = {}
    bad: dict[int, str] = {}
    kept: Tensor | None = None

    def look(place: int) -> None:
        looks[place] = _look(reader(place))

    with _quiet():
        good = _attempt(range(len(names)), look, bad)
        if size is None:
            _check_alike(source, names, {place: looks[place][0] for place in good})
        height, width = size or (looks[good[0]][0] if good else (1, 1))
        shape = (1 if all(looks[place][1] for place in good) else 3, height, width)
        if len(good) * shape[0] * height * width <= KEPT_BYTES:
            good, kept = _decode_now(good, reader, shape, bad)
    if bad:
        _count_bad(
            source, [f"{names[place]!r} ({bad[place]})" for place in sorted(bad)], len(names), skip_bad
        )
    if not good:
        got = f"no readable one of {len(names)}"
        _checks.refuse(
            InputError, "open_data", source, "hold images", "they are the training data", got, "Mend them"
        )
    return DecodedImages(
        name,
        source,
        [names[place] for place in good],
        good,
        reader,
        shape,
        None if labels is None else labels[torch.tensor(good, dtype=torch.int64)],
        identity,
        kept,
    )


def _check_alike(source: str, names: Sequence[str], sizes: dict[int, tuple[int, int]]) -> None:
    places = list(sizes)
    other = next((place for place in places if sizes[place] != sizes[places[0]]), None)
    if other is not None:
        each = (f"{sizes[p][1]} x {sizes[p][0]} in {names[p]!r}" for p in (places[0], other))
        side = min(*sizes[places[0]], *sizes[other])
        _checks.refuse(
            InputError,
            "open_data",
            "size",
            f"be given for {source}",
            "a batch needs images of one size",
            f"{' and '.join(each)} (width x height)",
            f"Pass for instance size={side} (--size {side}): the centre is cut out and resized",
        )


def _count_bad(source: str, listed: Sequence[str], num: int, skip_bad: int) -> None:
    counted = f"{len(listed)} of {num} that cannot, the first is {listed[0]}"
    if len(listed) > skip_bad:
        but = f" but for {skip_bad} at most (skip_bad)" if skip_bad else ""
        _checks.refuse(
            InputError,
            "open_data",
            f"all images of {source}",
            f"be readable{but}",
            "each is a sample",
            counted.replace("that cannot", "that are not"),
            f"Mend or remove them, or pass skip_bad={len(listed)} (--skip-bad {len(listed)})",
        )
    message = f"open_data: {len(listed)} of {num} images of {source} left out because they cannot be read"
    warnings.warn(f"{message}, the first is {listed[0]}", UnreadableImagesWarning, stacklevel=2)
