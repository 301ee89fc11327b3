"""A file whose parts have checksums: each is taken while the part is read, and compared at its last byte."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from spherometer.stores._regular import RegularFile

_BLOCK = 1 << 20


@dataclass
class Part:
    """A span of bytes and its CRC-32.

    Attributes:
        name: what messages call it.
        start: its first byte.
        stop: the byte after its last one.
        expected: its CRC-32 as the file says.
        at: up to here ``found`` is the CRC-32.
        is_read: whether anything of it was read.
    """

    name: str
    start: int
    stop: int
    expected: int
    at: int = -1
    found: int = 0
    is_read: bool = False

    def take(self, first: int, content: memoryview) -> None:
        """Go on with what was read from byte ``first``, where it is what comes next."""
        self.is_read = True
        self.at = max(self.at, self.start)
        if first <= self.at < first + len(content):
            taken = content[self.at - first : self.stop - first]
            self.found = zlib.crc32(taken, self.found)
            self.at += len(taken)


class VerifiedFile(RegularFile):
    """A ``RegularFile`` with parts that are refused when their checksum is wrong.

    A part that is read in order costs no second look: the last read of it raises. ``check`` reads what is
    missing of the others. Parts of which nothing was read are not looked at.

    Raises:
        InputError: as ``RegularFile``; a part does not have its checksum.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._parts: list[Part] = []
        self._starts: list[int] = []
        super().__init__(path)

    def expect(self, parts: Iterable[Part]) -> None:
        """From here on compare these (which do not overlap)."""
        self._parts = sorted((part for part in parts if part.start < part.stop), key=lambda part: part.start)
        self._starts = [part.start for part in self._parts]

    def read_into(self, at: int, view: memoryview[Any] | bytearray) -> None:
        """As ``RegularFile.read_into``."""
        super().read_into(at, view)
        if not self._parts or not len(view):
            return
        content = memoryview(view).cast("B")
        for part in self._parts[max(0, bisect_right(self._starts, at) - 1) :]:
            if part.start >= at + len(content):
                break
            if at < part.stop:
                part.take(at, content)
                self._compare(part)

    def check(self) -> None:
        """As ``RegularFile.check``; completes the checksums of the parts that were read."""
        super().check()
        buffer = bytearray(_BLOCK)
        for part in self._parts:
            while part.is_read and part.at < part.stop:
                self.read_into(part.at, memoryview(buffer)[: part.stop - part.at])
            self._compare(part)

    def _compare(self, part: Part) -> None:
        if part.at == part.stop and part.found != part.expected:
            self.damaged(f"the checksum of {part.name[:60]!r} is wrong")
