"""What a run tells while it goes on: a line of JSON for every few steps, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from spherometer.errors import InputError
from spherometer.stores import write_file


class RunLog:
    """``log.jsonl``: one object a line, with ``step`` in each.

    Args:
        path: of the file; lines that are there are kept up to ``step``.
        step: that the run goes on from. Lines of later steps, and a line that was cut off, are removed.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self.lines = [line for line in _read(path) if line.get("step", 0) <= step]
        write_file(path, b"".join(_bytes(line) for line in self.lines))

    def write(self, line: dict[str, Any]) -> None:
        """Append a line with one call of the operating system.

        Raises:
            InputError: the disk refuses.
        """
        self.lines.append(line)
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                content = _bytes(line)
                if os.write(file, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(file)
        except OSError as error:
            words = os.strerror(error.errno).lower() if error.errno else str(error)
            raise InputError(
                "train: out must be a place that can be written to, because the log is kept there. "
                f"Got {words} for {str(self._path)!r}. Make room, and run the same command again."
            ) from error


def _bytes(line: dict[str, Any]) -> bytes:
    return json.dumps(line, allow_nan=False).encode("ascii") + b"\n"


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            found.append(line)
    return found
