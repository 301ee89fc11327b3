"""Volumes by name: trees and arrays, and who is trained on or tested.

Shapes: N volumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import torch

from spherometer import _checks
from spherometer.data._volume_arrays import array_parts, open_array
from spherometer.data._volume_open import Opened, VolumeOptions, open_bids
from spherometer.data._volumes import VolumePart
from spherometer.errors import InputError

BIDS, ARRAYS = "bids:", "volumes:"
TEST_SHARE = 0.2  # of the subjects


def is_volumes(name: str) -> bool:
    """Whether a name of data says that they are volumes."""
    return name.startswith((BIDS, ARRAYS))


def _refuse(what: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", what, must, because, got, fix)


def open_volumes(
    name: str, parts: tuple[str, ...], options: VolumeOptions, *, split_seed: int = 0
) -> list[VolumePart]:
    """The ``parts`` of volumes by name.

    Args:
        name: ``bids:DIRECTORY`` or ``volumes:PATH``.
        parts: "train", "test" or "all"; "auto" is "train".
        options: which volumes, and what is done to them.
        split_seed: decides, with the names of all subjects, who is tested; nothing else does.

    Raises:
        InputError: as :func:`spherometer.data.open_data`.
    """
    for part in parts:
        _checks.one_of("open_data", "part", part, ("auto", "train", "test", "all"))
    _checks.whole("open_data", "split_seed", split_seed, at_least=0)
    if name.startswith(BIDS):
        opened = open_bids(_path(name, BIDS), options)
        return [_part_of(opened, part, name, split_seed) for part in parts]
    for option in ("suffix", "derivatives", "space"):
        value = getattr(options, option)
        if value is not None:
            _refuse(option, "be left out for arrays", "it chooses among the files of a BIDS tree",
                    repr(value)[:80], "Leave it out")  # fmt: skip
    files = array_parts(_path(name, ARRAYS))
    if "" in files:
        opened = open_array(files[""], options)
        return [_part_of(opened, part, name, split_seed) for part in parts]
    if "all" in parts:
        _refuse(f"data {name!r}", "be opened by parts", "they lie in two files",
                'part="all"', "Pass part=\"train\", or the path of one file")  # fmt: skip
    both = {part: open_array(path, options) for part, path in files.items()}
    shapes = {part: opened.volumes.sides for part, opened in both.items()}
    shared = sorted(set(both["train"].subjects) & set(both["test"].subjects))
    if len(set(shapes.values())) > 1:
        _refuse(f"data {name!r}", "have volumes of one shape", "an encoder is made for one",
                " and ".join(f"{shape} in {files[part].name}" for part, shape in shapes.items()),
                "Pass shape=(X, Y, Z): all are resampled")  # fmt: skip
    if shared:
        _refuse(f"data {name!r}", "have no subject in both parts",
                "those who are tested are not trained on",
                f"{len(shared)} in both, the first is {shared[0]!r}",
                "Move their volumes to one part")  # fmt: skip
    return [VolumePart(both["test" if part == "test" else "train"].volumes) for part in parts]


def _path(name: str, prefix: str) -> Path:
    place = name.removeprefix(prefix)
    if not place:
        _refuse("data", f"name a path behind {prefix}", "volumes are read from there", repr(name), "Add it")
    return Path(place).expanduser()


def _part_of(opened: Opened, part: str, name: str, split_seed: int) -> VolumePart:
    """The volumes of the subjects of a part: ``auto`` is that of training.

    A fifth of the subjects is set apart for testing: which ones depends on the names of all subjects and on
    ``split_seed`` alone, not on what is left out.

    Raises:
        InputError: a single subject.
    """
    if part == "all":
        return VolumePart(opened.volumes)
    from spherometer.probes import group_split

    subjects = sorted(set(opened.subjects))
    if len(subjects) < 2:
        _refuse(f"data {name!r}", "hold at least 2 subjects", "those who are tested are not trained on",
                f"{len(subjects)}", 'Pass part="all"')  # fmt: skip
    _, tested = group_split(subjects, TEST_SHARE, split_seed)
    apart = {subjects[row] for row in tested.tolist()}
    rows = [
        row
        for row, subject in enumerate(opened.volumes.groups or ())
        if (subject in apart) == (part == "test")
    ]
    return VolumePart(opened.volumes, torch.tensor(rows, dtype=torch.int64))
