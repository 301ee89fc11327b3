"""Writes files whole or not at all."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from spherometer.errors import InputError


def write_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step; an interrupted call leaves the old file.

    Readers see the old file or the whole new one, also after a power cut. What a killed process leaves
    behind is removed by ``sweep_temporaries``.

    Raises:
        InputError: the directory cannot be made or written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        words = os.strerror(error.errno).lower() if error.errno else str(error)
        raise InputError(
            "write: out must be a place that can be written to, because results are saved there. "
            f"Got {words} for {str(path)!r}. Choose another one."
        ) from error


def sweep_temporaries(directory: Path) -> None:
    """Remove what processes of this machine that no longer run left behind half-written."""
    for path in directory.glob(f".*.{socket.gethostname()}.*.tmp"):
        pid = path.name.split(".")[-2]
        if pid.isdigit() and not _runs(int(pid)):
            path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
