"""Images with masks by name: ``scenes:LAYOUT,option=value`` and ``voc:DIRECTORY``."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, NoReturn

from spherometer import _checks
from spherometer.data import _voc
from spherometer.data._scenes import LAYOUTS, PARTS, make_scenes
from spherometer.data._segmented import SegmentedImages, SegmentedPart
from spherometer.errors import InputError

SCENES, VOC = "scenes:", "voc:"
_NUM = 2000
_NUMBERS = {"num": int, "size": int, "seed": int, "overlap": float, "threshold": float}
_WORDS = {"source": str, "background": str}
_OPTIONS = {**_NUMBERS, **_WORDS}


def is_segmented(name: str) -> bool:
    """Whether a name of data says that they have masks."""
    return name.startswith((SCENES, VOC))


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of images with masks; none when they come in one piece."""
    return PARTS if name.startswith(SCENES) else _voc.parts_of(_root(name))


def open_segmented(
    name: str, part: str | None, *, size: tuple[int, int] | None, data_dir: str | Path | None, skip_bad: int
) -> SegmentedPart:
    """One part of images with masks.

    Args:
        name: "scenes:single" or "scenes:multi", with options of ``make_scenes`` behind commas (``num`` is
            that of training scenes, 2000 by default; validation and test have half as many);
            or "voc:DIRECTORY".
        part: one of ``parts_of(name)``, or None where there are none.
        size: height and width of the images of a directory; scenes keep theirs.
        data_dir: where the files of MNIST and Fashion-MNIST lie.
        skip_bad: how many images of a directory may be unreadable.

    Raises:
        InputError: as :func:`spherometer.data.open_data`.
    """
    if name.startswith(VOC):
        return SegmentedPart(_voc.read_voc(_root(name), part, size=size, skip_bad=skip_bad))
    return SegmentedPart(_scenes(name, part or "train", data_dir))


def _root(name: str) -> Path:
    place = name.removeprefix(VOC)
    if not place:
        _refuse("data", f"name a folder behind {VOC}", "images and masks are read from there", name, "Add it")
    return Path(place).expanduser()


def _refuse(what: str, must: str, because: str, got: Any, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", what, must, because, repr(got)[:80], fix)


def _scenes(name: str, part: str, data_dir: str | Path | None) -> SegmentedImages:
    layout, *given = name.removeprefix(SCENES).split(",")
    if layout not in LAYOUTS:
        _refuse(
            "data",
            "be scenes:single or scenes:multi",
            "the layout says how many things a scene shows",
            name,
            "Pass for instance scenes:multi,source=digits,num=2000",
        )
    options = dict(_option(name, each) for each in given)
    num = int(options.pop("num", _NUM))
    _checks.whole("open_data", "num", num)
    num = num if part == "train" else max(1, num // 2)
    return make_scenes(
        options.pop("source", "digits"),
        num=num,
        objects=layout,
        part=part,  # type: ignore[arg-type]
        data_dir=data_dir,
        **options,
    )


def _option(name: str, text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if key not in _OPTIONS or not equals:
        near = difflib.get_close_matches(key, _OPTIONS, n=1, cutoff=0.0)[0]
        _refuse(f"data {name!r}"[:80], f"have options from {', '.join(sorted(_OPTIONS))}",
                "they are those of make_scenes", text, f"Did you mean {near}=...")  # fmt: skip
    try:
        return key, _OPTIONS[key](value)
    except ValueError:
        _refuse(
            f"option {key} of data {name!r}"[:100],
            "be a number",
            "it counts or measures something",
            value,
            f"Pass for instance {key}=1",
        )
