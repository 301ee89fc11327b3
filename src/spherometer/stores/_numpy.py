"""NumPy's two file formats: the header is checked against the size before anything is allocated."""

from __future__ import annotations

import ast
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from spherometer import _checks
from spherometer.errors import InputError

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
_BLOCK = 1 << 20
MAX_BYTES = 16 << 30
MAX_RATIO = 200

# everything that reading a damaged file has been seen to raise
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    SyntaxError,
    RecursionError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


def _refuse(path: Path, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "read", f"file {str(path)!r}", must, because, got, fix)


def _damaged(path: Path, error: BaseException) -> NoReturn:
    words = " ".join(str(error).split())[:160] or type(error).__name__
    _refuse(
        path, "be a whole NumPy file", "a damaged one has no trustworthy numbers", words, "Write it again"
    )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; refuse everything else, and a file that changes meanwhile."""
    try:
        before = os.stat(path)
        if not stat.S_ISREG(before.st_mode):
            kind = "a directory" if stat.S_ISDIR(before.st_mode) else "a pipe, socket or device"
            _refuse(path, "be a regular file", "it is read as a whole", kind, "Pass a .npy or .npz file")
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except (OSError, ValueError) as error:
        strerror = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        _refuse(path, "exist and be readable", "its rows are measured", strerror.lower(), "Check the path")
    with file:
        yield file
        after = os.fstat(file.fileno())
        try:
            now = os.stat(path)
        except OSError as error:
            _changed(path, error)
        for seen in (after, now):
            if (seen.st_ino, seen.st_size, seen.st_mtime_ns) != (
                before.st_ino,
                before.st_size,
                before.st_mtime_ns,
            ):
                _changed(path, None)


def _changed(path: Path, error: BaseException | None) -> NoReturn:
    _checks.refuse(
        InputError,
        "read",
        f"file {str(path)!r}",
        "stay as it is while it is read",
        "half of the old and half of the new mean nothing",
        "a file that was changed" if error is None else "a file that was removed",
        "Wait until it is written",
    )


def _exactly(file: Any, num: int) -> bytes:
    content: bytes = file.read(num)
    if len(content) != num:
        raise EOFError(f"the header ends after {len(content)} of {num} bytes")
    return content


def read_header(path: Path, file: Any) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Dtype, shape, Fortran order and length of the header."""
    magic = _exactly(file, 8)
    if magic[:6] != _MAGIC:
        raise ValueError("the first bytes are not those of a NumPy array")
    version = (magic[6], magic[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"format version {version[0]}.{version[1]} is unknown")
    form = "<H" if version == (1, 0) else "<I"
    (length,) = struct.unpack(form, _exactly(file, struct.calcsize(form)))
    if length > _MAX_HEADER:
        raise ValueError(f"a header of {length} bytes is too long")
    text = _exactly(file, length).decode("utf-8" if version == (3, 0) else "latin-1")
    fields = ast.literal_eval(text)
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise ValueError("the header does not hold descr, fortran_order and shape")
    descr, shape, fortran = fields["descr"], fields["shape"], fields["fortran_order"]
    if not isinstance(fortran, bool):
        raise ValueError("fortran_order is neither True nor False")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"shape {shape!r} is not a tuple of whole numbers")
    dtype = np.dtype(descr) if isinstance(descr, str) else None
    if dtype is None or dtype.hasobject or dtype.fields is not None or dtype.kind not in "biufcSU":
        _refuse(
            path,
            "hold plain numbers or texts",
            "Python objects in a file can run code, and records are not features",
            f"dtype {str(descr)[:60]}",
            "Save numbers with np.save",
        )
    return dtype, shape, fortran, 8 + struct.calcsize(form) + length


def _array(path: Path, file: Any, size: int) -> NDArray[Any]:
    """Read one array of which the whole file or member has ``size`` bytes."""
    dtype, shape, fortran, used = read_header(path, file)
    needed = math.prod(shape) * dtype.itemsize
    if needed != size - used:
        _refuse(
            path,
            "be exactly as long as its header says",
            "a shorter or longer file was damaged or is still being written",
            f"{size} bytes for a header that needs {used + needed}",
            "Write it again",
        )
    flat = np.empty(needed, dtype=np.uint8)
    view, at = flat.data, 0
    while at < needed:
        num = file.readinto(view[at : at + _BLOCK])
        if not num:
            raise EOFError(f"the data end after {at} of {needed} bytes")
        at += num
    if file.read(1):  # at the end of an archive member this checks its checksum
        raise ValueError("there are bytes after the data")
    if not needed:
        return np.empty(shape, dtype)
    return flat.view(dtype).reshape(shape, order="F" if fortran else "C")


def read_npy(path: str | Path) -> NDArray[Any]:
    """Read a ``.npy`` file whole.

    Args:
        path: a regular file with plain numbers or texts, exactly as long as its header says.

    Returns:
        The array, in memory of its own.

    Raises:
        InputError: the file is missing, no regular file, damaged, cut short, followed by other bytes, changed
            while it was read, or holds Python objects.

    Cost: one read; memory of the array.
    """
    path = Path(path)
    with _opened(path) as file:
        try:
            return _array(path, file, os.fstat(file.fileno()).st_size)
        except InputError:
            raise
        except _DAMAGE as error:
            _damaged(path, error)


class Archive:
    """The arrays of a ``.npz`` file by name; each is read whole and checked when it is asked for.

    Args:
        path: a regular ``.npz`` file.
        trust_size: read arrays however far they are compressed and however large they are.

    Attributes:
        names: the arrays, in the order of the file.

    Raises:
        InputError: as :func:`read_npy`; or two arrays have one name, or one is encrypted.

    Example::

        with Archive("pairs.npz") as archive:
            x = archive["x"]
    """

    def __init__(self, path: str | Path, *, trust_size: bool = False) -> None:
        self._path = Path(path)
        self._trust = trust_size
        self._context = _opened(self._path)
        file = self._context.__enter__()
        try:
            try:
                self._zip = zipfile.ZipFile(file)
                members = self._zip.infolist()
            except _DAMAGE as error:
                _damaged(self._path, error)
            self._members: dict[str, zipfile.ZipInfo] = {}
            for member in members:
                self._add(member)
        except BaseException:
            file.close()
            raise

    def _add(self, member: zipfile.ZipInfo) -> None:
        name = member.filename.removesuffix(".npy")
        if name in self._members:
            got = f"two arrays named {name!r}"
            _refuse(self._path, "name every array once", "one would hide the other", got, "Write it again")
        if member.flag_bits & 0x1:
            got = f"an encrypted array {name!r}"
            _refuse(self._path, "not be encrypted", "there is no password to ask for", got, "Save it plainly")
        self._members[name] = member

    @property
    def names(self) -> list[str]:
        """Names of the arrays in the order of the file."""
        return list(self._members)

    def head(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Dtype and shape of an array, from its header alone."""
        try:
            with self._zip.open(self._members[name]) as file:
                return read_header(self._path, file)[:2]
        except InputError:
            raise
        except _DAMAGE as error:
            _damaged(self._path, error)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> NDArray[Any]:
        member = self._members[name]
        if not self._trust:
            self._check_size(name, member)
        try:
            with self._zip.open(member) as file:
                return _array(self._path, file, member.file_size)
        except InputError:
            raise
        except _DAMAGE as error:
            _damaged(self._path, error)

    def _check_size(self, name: str, member: zipfile.ZipInfo) -> None:
        ratio = member.file_size / max(1, member.compress_size)
        if member.file_size > MAX_BYTES or ratio > MAX_RATIO:
            _refuse(
                self._path,
                f"unpack to at most {MAX_RATIO} times its size and {MAX_BYTES >> 30} GiB",
                "an archive can be made to fill the memory",
                f"{member.file_size} bytes from {member.compress_size} in {name!r}",
                "Pass --trust-size (trust_size=True) if you made it yourself",
            )

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._context.__exit__(kind, error, trace)
