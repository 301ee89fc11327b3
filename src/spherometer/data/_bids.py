"""Trees of volumes as BIDS lays them out: sub-, ses-, suffix, derivatives, space.

Shapes: N volumes.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from spherometer import _checks
from spherometer.data._nifti import SUFFIXES
from spherometer.data._volume_table import Scan, five
from spherometer.errors import InputError


@dataclass(frozen=True)
class BidsFile:
    """One volume of a tree.

    Args:
        path: of the file.
        name: its path below the tree.
        scan: whose it is.
        entities: "key" -> "value" of its name, such as "space" and "desc".
    """

    path: Path
    name: str
    scan: Scan
    entities: dict[str, str]


@dataclass(frozen=True)
class BidsTree:
    """The volumes of one kind in a tree, by subject and session.

    Args:
        root: of the tree.
        roots: where its tables may lie: beside the volumes, then in the tree.
        files: the volumes, in the order of their names.
    """

    root: Path
    roots: tuple[Path, ...]
    files: tuple[BidsFile, ...]

    @property
    def source(self) -> str:
        """For messages."""
        return f"BIDS tree {str(self.root)!r}"


def _refuse(what: str, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", what, must, because, got, fix)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        _refuse(
            f"folder {str(folder)!r}", "be readable", "its volumes are data", words, "Check its permissions"
        )


def _folders(folder: Path, prefix: str = "") -> list[str]:
    return [e.name for e in _listed(folder) if e.name.startswith(prefix) and os.path.isdir(e.path)]


def _ending(name: str) -> str | None:
    return next((ending for ending in reversed(SUFFIXES) if name.lower().endswith(ending)), None)


def _volumes(folder: Path, depth: int = 2) -> Iterator[Path]:
    """NIfTI files of the folder of a subject or session, and of its folders (anat, func, ...)."""
    for entry in _listed(folder):
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):
            if depth:
                yield from _volumes(Path(entry.path), depth - 1)
        elif _ending(entry.name):
            yield Path(entry.path)


def _described(path: Path, root: Path) -> BidsFile:
    parts = path.name[: -len(_ending(path.name) or "")].split("_")
    entities = dict(part.split("-", 1) for part in parts[:-1] if "-" in part)
    folders = path.relative_to(root).parts
    session = folders[1] if len(folders) > 2 and folders[1].startswith("ses-") else None
    if session is None and "ses" in entities:
        session = f"ses-{entities['ses']}"
    return BidsFile(path, "/".join(folders), Scan(folders[0], session), entities)


def read_tree(
    root: Path, *, suffix: str = "T1w", derivatives: str | None = None, space: str | None = None
) -> BidsTree:
    """Find the volumes of one kind.

    Args:
        root: holds sub-... folders (or derivatives/NAME, which does).
        suffix: how their names end before .nii or .nii.gz; more than the last part where that is not enough,
            such as "desc-preproc_T1w".
        derivatives: NAME of the sub-folder of "derivatives"; None: the tree itself.
        space: of "space-..." in their names; None: those without.

    Raises:
        InputError: no such folder, no volumes of that kind, or several versions (desc-...) of them.
    """
    holds = _below(root, derivatives)
    subjects = _folders(holds, "sub-")
    if not subjects:
        folders = _folders(holds)
        _refuse(
            f"BIDS tree {str(holds)!r}",
            "hold folders named sub-...",
            "each is a subject",
            f"the folders {five(folders)}" if folders else "no folder",
            "Pass the folder that holds them; arrays with a table are read as volumes:PATH",
        )
    every = [_described(path, holds) for subject in subjects for path in _volumes(holds / subject)]
    alike = [file for file in every if _stem(file).endswith(f"_{suffix}")]
    if not alike:
        kinds = sorted({_stem(file).rsplit("_", 1)[-1] for file in every})
        near = difflib.get_close_matches(suffix, kinds, 1)
        _refuse(
            "suffix",
            f"name volumes of {str(holds)!r}",
            "files are chosen by the end of their names",
            f"{suffix!r}, while there are {five(kinds)}" if kinds else f"{suffix!r} and no NIfTI file at all",
            f"The nearest is {near[0]!r}" if near else "Pass one of them" if kinds else "Check the path",
        )
    files = [file for file in alike if file.entities.get("space") == space]
    if not files:
        spaces = sorted({file.entities["space"] for file in alike if "space" in file.entities})
        bare = "" if all("space" in file.entities for file in alike) else ", and volumes without a space"
        _refuse(
            "space",
            f"name a space of the {suffix} volumes of {str(holds)!r}",
            "their names say it",
            f"{space!r}, while there are {five(spaces) or 'none'}{bare}",
            f"Pass for instance space={spaces[0]!r}" if spaces else "Leave it out",
        )
    versions = sorted({file.entities.get("desc", "") for file in files})
    if len(versions) > 1:
        named = [f"desc-{version}" if version else "none" for version in versions]
        _refuse(
            "suffix",
            f"choose one version of the {suffix} volumes of {str(holds)!r}",
            "one scan would count several times",
            f"the versions {five(named)}",
            f"Pass for instance suffix={f'desc-{versions[-1]}_{suffix}'!r}",
        )
    return BidsTree(root, tuple(dict.fromkeys((holds, root))), tuple(files))


def _stem(file: BidsFile) -> str:
    return file.path.name[: -len(_ending(file.path.name) or "")]


def _below(root: Path, derivatives: str | None) -> Path:
    if not root.is_dir():
        got = "a file" if root.exists() else "nothing there"
        _refuse(f"BIDS tree {str(root)!r}", "be a folder", "it holds sub-... folders", got, "Check the path")
    if derivatives is None:
        return root
    there = _folders(root / "derivatives") if (root / "derivatives").is_dir() else []
    if derivatives in there:
        return root / "derivatives" / derivatives
    near = difflib.get_close_matches(derivatives, there, 1)
    _refuse(
        "derivatives",
        f"name a folder of {str(root / 'derivatives')!r}",
        "volumes are read from there",
        f"{derivatives!r}, while there are {five(there) or 'none'}",
        f"The nearest is {near[0]!r}" if near else "Pass one of them" if there else "Leave it out",
    )


def subjects_of(files: Sequence[BidsFile]) -> list[str]:
    """The subject of each file."""
    return [file.scan.subject for file in files]
