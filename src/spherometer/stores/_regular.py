"""The one place that opens files of rows: regular files only, read by offset, refused when they change."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.rows import File

_BLOCK = 1 << 20
_GOT = {errno.ENOENT: "no such file", errno.EACCES: "permission denied", errno.EISDIR: "a directory"}

# what reading a damaged file has been seen to raise, in whatever library; pyarrow's derive from these
DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    SyntaxError,
    RecursionError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    csv.Error,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


class RegularFile:
    """A regular file, read at offsets; nothing of it stays open between two reads.

    Pipes, devices, sockets and directories are refused before anything is opened. Every read compares the
    file's identity, size and time of change with those of the first look.

    Attributes:
        path: as it was given.
        size: its bytes at the first look.

    Raises:
        InputError: it is not there, cannot be read, or is no regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.path = Path(path)
            seen = os.stat(self.path)
        except (OSError, ValueError) as error:
            self._unreadable(error)
        if not stat.S_ISREG(seen.st_mode):
            kind = "a directory" if stat.S_ISDIR(seen.st_mode) else "a pipe, socket or device"
            self.refuse("be a regular file", "it is read at offsets", kind, "Pass a file of embeddings")
        self.size = seen.st_size
        self._seen = _identity(seen)
        with self._descriptor():
            pass

    @property
    def name(self) -> str:
        """The name of the file without directories."""
        return self.path.name

    def read(self, at: int, num: int) -> bytes:
        """Exactly ``num`` bytes from offset ``at``.

        Raises:
            InputError: the file is shorter (nothing is allocated then), or has changed.
        """
        if num < 0 or at < 0 or at + num > self.size:
            self.damaged(f"bytes {at} to {at + num} are needed and it has {self.size}")
        content = bytearray(num)
        self.read_into(at, memoryview(content))
        return bytes(content)

    def read_into(self, at: int, view: memoryview[Any] | bytearray) -> None:
        """Fill ``view`` (writable bytes) from offset ``at``; as ``read``."""
        target = memoryview(view).cast("B") if len(view) else memoryview(b"")
        if at < 0 or at + len(target) > self.size:
            self.damaged(f"bytes {at} to {at + len(target)} are needed and it has {self.size}")
        done = 0
        with self._descriptor() as number:
            while done < len(target):
                num = self._pread(number, target[done : done + _BLOCK * 64], at + done)
                if not num:
                    self._changed("a file that became shorter")
                done += num

    def _pread(self, number: int, target: memoryview, at: int) -> int:
        try:
            return os.preadv(number, [target], at)
        except OSError as error:
            self._unreadable(error)

    def stream(self) -> io.BufferedReader:
        """The file for libraries that want to read and seek; every read is checked as ``read`` is."""
        return io.BufferedReader(_Stream(self), _BLOCK)

    def check(self) -> None:
        """Raise InputError if the file has changed or gone since the first look."""
        with self._descriptor():
            pass

    def file(self, sha256: str | None = None) -> File:
        """What provenance says about it."""
        return File(self.name, self.size, sha256)

    def digest(self) -> File:
        """As ``file``, with its SHA-256: reads it whole."""
        digest, buffer = hashlib.sha256(), bytearray(min(_BLOCK, self.size))
        for at in range(0, self.size, _BLOCK):
            view = memoryview(buffer)[: min(_BLOCK, self.size - at)]
            self.read_into(at, view)
            digest.update(view)
        self.check()
        return self.file(digest.hexdigest())

    def refuse(self, must: str, because: str, got: str, fix: str) -> NoReturn:
        """Raise InputError about this file in the house grammar."""
        _checks.refuse(InputError, "open", f"file {str(self.path)!r}", must, because, got, fix)

    def damaged(self, error: BaseException | str) -> NoReturn:
        """Refuse the file as damaged, in one line of at most 160 letters of the reason."""
        kind = self.path.suffix if self.path.suffix.isascii() and self.path.suffix.isprintable() else ""
        words = " ".join(str(error).split())[:160] or type(error).__name__
        self.refuse(
            f"be a whole {kind} file".replace("  ", " "), "a damaged one has no trustworthy numbers",
            words.rstrip("."), "Write it again, or copy it again",
        )  # fmt: skip

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn what libraries raise on damaged content into ``damaged``; InputError passes."""
        try:
            yield
        except InputError:
            raise
        except DAMAGE as error:
            self.check()  # a file that changed says so rather than "damaged"
            self.damaged(error)

    @contextmanager
    def _descriptor(self) -> Iterator[int]:
        try:  # O_NONBLOCK: a pipe that took the file's place meanwhile does not keep us waiting
            number = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            if not hasattr(self, "_seen"):
                raise
            self._changed("a file that was removed")
        except OSError as error:
            self._unreadable(error)
        try:
            if _identity(os.fstat(number)) != self._seen:
                self._changed("a file that was changed")
            yield number
        finally:
            os.close(number)

    def _changed(self, got: str) -> NoReturn:
        self.refuse(
            "stay as it is while it is read", "half of the old and half of the new mean nothing", got,
            "Wait until it is written",
        )  # fmt: skip

    def _unreadable(self, error: OSError | ValueError) -> NoReturn:
        number = error.errno if isinstance(error, OSError) else None
        got = _GOT.get(number, os.strerror(number).lower()) if number else str(error)
        self.refuse("exist and be readable", "its rows are measured", got, "Check the path")


class _Stream(io.RawIOBase):
    """A ``RegularFile`` as a seekable stream."""

    def __init__(self, file: RegularFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        if start + offset < 0:
            raise ValueError("a place before the beginning of the file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        num = max(0, min(len(view), self._file.size - self._at))
        self._file.read_into(self._at if num else 0, view[:num])
        self._at += num
        return num


def digests(files: list[RegularFile]) -> Callable[[], tuple[File, ...]]:
    """What ``Embeddings.digest`` is for these files."""
    return lambda: tuple(file.digest() for file in files)


def _identity(seen: os.stat_result) -> tuple[int, ...]:
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns
