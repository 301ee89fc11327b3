"""Preprocessed volumes on disk, each checked against its SHA-256 whenever it is read.

Shapes: X x Y x Z voxels.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spherometer import _checks
from spherometer.data._nifti import UnusableVolumeError, Volume
from spherometer.data._source import digest
from spherometer.errors import InputError
from spherometer.stores import sweep_temporaries, write_file

_SCHEMA = "spherometer.volumes/1"
_MANIFEST = "manifest.json"
_SAVE_EVERY = 10.0  # seconds while volumes are made


class DamagedCacheWarning(UserWarning):
    """Cached volumes were not what had been written, and were made again."""


class VolumeCache:
    """A directory of volumes, and a manifest of their SHA-256, sources and settings.

    A volume counts only while its source has the size and time of change that it was made from. Everything is
    written whole, so a killed process loses nothing but the volumes since the manifest was last saved.

    Args:
        directory: where caches lie; this one is a sub-directory.
        name: of the data, for the name of the sub-directory.
        settings: JSON-able: all that decides how a volume is made from its source, and where sources lie.
        sides: X, Y and Z.

    Raises:
        InputError: the directory cannot be written to.
    """

    def __init__(self, directory: Path, name: str, settings: Any, sides: tuple[int, int, int]) -> None:
        found = json.loads(json.dumps({"settings": settings, "sides": sides}))
        self.directory = directory / f"{name}-{digest(**found)[:16]}"
        self.sides = sides
        self._settings = found
        self._entries: dict[str, dict[str, Any]] = {}
        self._saved = time.monotonic()
        self._unsaved = False
        self._damaged: list[str] = []
        _check_writable(directory, self.directory)
        sweep_temporaries(self.directory)
        self._open()

    def _open(self) -> None:
        try:
            content = (self.directory / _MANIFEST).read_bytes()
        except FileNotFoundError:
            return
        except OSError:
            content = b""
        try:
            manifest = json.loads(content)
            entries = manifest["entries"]
            text = json.dumps(entries, sort_keys=True)
            whole = manifest["sha256"] == hashlib.sha256(text.encode()).hexdigest()
        except (ValueError, LookupError, TypeError, RecursionError):
            whole = False
        if not whole or manifest.get("schema") != _SCHEMA or manifest.get("made") != self._settings:
            self._damaged.append(_MANIFEST)
            return
        self._entries = entries

    def sha256(self, name: str) -> str:
        """Of the volume as it was written."""
        return str(self._entries[name]["sha256"])

    def has(self, name: str, stamp: Sequence[int]) -> bool:
        """Whether there is a volume of this source, unchanged; its content is checked when it is read."""
        entry = self._entries.get(name)
        return entry is not None and entry["stamp"] == list(stamp)

    def put(self, name: str, stamp: Sequence[int], volume: Volume) -> None:
        """Keep a volume."""
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(volume, dtype=np.float32), allow_pickle=False)
        content = buffer.getvalue()
        write_file(self._place(name), content)
        self._entries[name] = {"stamp": list(stamp), "sha256": hashlib.sha256(content).hexdigest()}
        self._unsaved = True
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def get(self, name: str) -> Volume | None:
        """The volume, or None when it is not what was written."""
        try:
            content = self._place(name).read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() == self.sha256(name):
            volume: Volume = np.load(io.BytesIO(content), allow_pickle=False)
            if volume.shape == self.sides and volume.dtype == np.float32:
                return volume
        self._damaged.append(name)
        return None

    def save(self) -> None:
        """Write the manifest, when it has changed."""
        if self._unsaved:
            text = json.dumps(self._entries, sort_keys=True)
            manifest = {
                "schema": _SCHEMA,
                "made": self._settings,
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
                "entries": self._entries,
            }
            write_file(self.directory / _MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        self._unsaved, self._saved = False, time.monotonic()

    def warn_of_damage(self) -> None:
        """One warning about everything that was found damaged since the last one."""
        if self._damaged:
            num, first = len(self._damaged), self._damaged[0]
            self._damaged = []
            what = "1 file" if num == 1 else f"{num} files"
            warnings.warn(
                f"open_data: {what} of the cache {str(self.directory)!r} damaged and made again, "
                f"the first is {first!r}",
                DamagedCacheWarning,
                stacklevel=2,
            )

    def _place(self, name: str) -> Path:
        return self.directory / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npy"


class CachedReader:
    """Volumes by row, from a cache; what is damaged there is made again from its source.

    Args:
        cache: has a volume for every row.
        names: of the rows.
        make: makes the volume of a row from its source.
        stamp: gives the stamp of the source of a row.
    """

    def __init__(
        self,
        cache: VolumeCache,
        names: Sequence[str],
        make: Callable[[int], Volume],
        stamp: Callable[[int], Sequence[int]],
    ) -> None:
        self.cache = cache
        self.names = names
        self.make = make
        self.stamp = stamp

    def __call__(self, row: int) -> Volume:
        volume = self.read(row)
        self.cache.warn_of_damage()
        return volume

    def read(self, row: int) -> Volume:
        """The volume of a row; the warning about damage is left to the caller."""
        name = self.names[row]
        volume = self.cache.get(name)
        if volume is not None:
            return volume
        was = self.cache.sha256(name)
        try:
            volume = self.make(row)
        except UnusableVolumeError as error:
            _checks.refuse(
                InputError,
                "open_data",
                f"the volume {name!r}",
                "stay readable",
                "its copy in the cache is damaged and must be made again",
                str(error),
                "Mend or remove it, and start again",
            )
        self.cache.put(name, self.stamp(row), volume)
        self.cache.save()
        if self.cache.sha256(name) != was:
            warnings.warn(
                f"open_data: the volume {name!r} was made again and is not what it was: its source, or the "
                "libraries that read it, have changed",
                DamagedCacheWarning,
                stacklevel=2,
            )
        return volume


def _check_writable(given: Path, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK | os.X_OK):
            return
        words = "no permission to write"
    except OSError as error:
        words = (error.strerror or str(error)).lower()
    _checks.refuse(
        InputError,
        "open_data",
        "cache_dir",
        "be a directory that can be written to",
        "preprocessed volumes are kept there",
        f"{str(given)!r} ({words})",
        "Pass another one as cache_dir",
    )
