"""Writes files and directories of files whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from spherometer.errors import InputError

_OLD = ".replaced"


def write_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step; an interrupted call leaves the old file.

    Readers see the old file or the whole new one, also after a power cut. What a killed process leaves
    behind is removed by ``sweep_temporaries``.

    Raises:
        InputError: the directory cannot be made or written to, or the disk is full.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _fill(temporary, content)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)
    except OSError as error:
        _refuse(path, error)


def write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Make the directory ``path`` with ``files`` (name -> content) in one step, like ``write_file``.

    Names may lead into directories of it ("a/b"), which are made.

    A directory that is there already is replaced. For a moment neither is there under its name; after a kill
    in that moment ``sweep_temporaries`` gives the old one its name back.

    Raises:
        InputError: as ``write_file``; the old directory is then where it was.
    """
    temporary, aside = _temporary(path), _temporary(path, _OLD)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _discard(temporary)  # an earlier process with our number may have left it
            temporary.mkdir()
            for name, content in files.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                _fill(temporary / name, content)
            _sync(temporary)
            if path.exists():
                _discard(aside)
                os.replace(path, aside)
            os.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if aside.exists() and not path.exists():
                os.rename(aside, path)
            raise
        _sync(path.parent)
        _discard(aside)
    except OSError as error:
        _refuse(path, error)


def remove_directory(path: Path) -> None:
    """Remove a directory: it is renamed first, so nobody ever sees half of it under its name.

    Raises:
        InputError: it cannot be removed.
    """
    temporary = _temporary(path)
    try:
        _discard(temporary)
        os.replace(path, temporary)
        _discard(temporary)
    except OSError as error:
        _refuse(path, error)


def sweep_temporaries(directory: Path, *, alone: bool = False) -> None:
    """Remove what processes of this machine that no longer run left behind half-written.

    Args:
        directory: where ``write_file`` or ``write_directory`` wrote.
        alone: nobody else can be writing there (the caller holds a lock): remove what any process of any
            machine left. In containers a dead writer may have had our number, or another host's name.
    """
    host = "*" if alone else socket.gethostname()
    for path in directory.glob(f".*.{host}.*.tmp"):
        pid = path.name.split(".")[-2]
        if not alone and not (pid.isdigit() and not _runs(int(pid))):
            continue
        name, old, _ = path.name[1:].partition(f"{_OLD}.")
        if old and path.is_dir() and not (directory / name).exists():
            os.rename(path, directory / name)
        else:
            _discard(path)


def _temporary(path: Path, mark: str = "") -> Path:
    return path.with_name(f".{path.name}{mark}.{socket.gethostname()}.{os.getpid()}.tmp")


def _fill(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        if os.fstat(file.fileno()).st_size != len(content):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _refuse(path: Path, error: OSError) -> NoReturn:
    words = os.strerror(error.errno).lower() if error.errno else str(error)
    raise InputError(
        "write: out must be a place that can be written to, because results are saved there. "
        f"Got {words} for {str(path)!r}. Choose another one."
    ) from error
