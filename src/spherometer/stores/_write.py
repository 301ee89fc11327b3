"""Writes files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from spherometer.errors import InputError


def write_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step; an interrupted call leaves the old file.

    Raises:
        InputError: the directory cannot be made or written to.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        words = os.strerror(error.errno).lower() if error.errno else str(error)
        raise InputError(
            "write: out must be a place that can be written to, because results are saved there. "
            f"Got {words} for {str(path)!r}. Choose another one."
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
