"""A worker that reads files that should not be trusted, and the one who watches it.

The worker answers one line for each file; after ten seconds of silence it is ended, and another is started.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

LIMIT = 10.0  # seconds
LONGEST = 1200  # letters of a message: a name of 255 letters, escaped, is in it

READ, REFUSED, WRONG, HANG, CRASH = "read", "refused", "WRONG", "HANG", "CRASH"


def through_open(path: str) -> tuple[str, str]:
    """Open a file and read everything: the outcome, and what was said."""
    from spherometer import rows, stores
    from spherometer.errors import InputError

    try:
        opened = stores.open(path)
        num, dim = opened.shape
        total = 0
        for start, block in rows.unit_blocks(opened.rows, 1 << 20):
            if block.shape[1] != dim or start + len(block) > num:
                return WRONG, f"a block {tuple(block.shape)} at {start} of {opened.shape}"
            total += len(block)
        for values in (opened.ids, opened.labels, *(opened.metadata or {}).values()):
            if values is not None and len(values) != num:
                return WRONG, f"{len(values)} values for {num} rows"
        opened.check()
        opened.digest()
        return (READ, f"{num} x {dim}") if total == num else (WRONG, f"{total} of {num} rows")
    except InputError as error:
        return judged(str(error), path)
    except BaseException as error:  # whatever it is, it is what is looked for
        return WRONG, f"{type(error).__name__}: {error}"


COMMANDS = {  # what is given a file that should not be trusted
    "command": ("measure", "--"),
    "compare": ("compare", "--"),
    "select": ("select", "--"),
    "report": ("report", "--"),
}


def through_command(path: str, how: str = "command") -> tuple[str, str]:
    """A command of ``spherometer`` in this process."""
    from spherometer.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*COMMANDS[how], path, *([path] if how in ("compare", "select") else [])])
    return judged_code(code, out.getvalue(), err.getvalue(), path)


def judged_code(code: int, out: str, err: str, path: str) -> tuple[str, str]:
    """What a command that ended with ``code`` did."""
    if code == 0:
        return READ, ""
    if code != 2 or out or "Traceback" in err:
        return WRONG, f"exit {code}: {err[-400:]}"
    first, _, rest = err.strip().partition("\n")
    return (WRONG, f"more than one line: {err[:400]}") if rest else judged(first, path)


def judged(message: str, path: str) -> tuple[str, str]:
    """A refusal must be one line of a decent length that names the file."""
    name = Path(path).name
    shown = name in message or repr(name)[1:-1] in message
    shown |= message.startswith("spherometer: measure: ")  # about the numbers of the one file that was named
    if len(message.splitlines()) != 1 or len(message) > LONGEST or not (shown or len(name) > 200):
        return WRONG, f"a bad message: {message[:600]!r}"
    return REFUSED, message


def serve() -> None:
    """Answer each line {"how", "path"} of the standard input."""
    import pyarrow.parquet  # noqa: F401  (what files need is imported before a file is waited for)
    import torch  # noqa: F401

    from spherometer import cli, stores  # noqa: F401

    answer, sys.stdout = sys.stdout, sys.stderr
    answer.write("ready\n")
    answer.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        how, path = asked["how"], asked["path"]
        outcome, words = through_open(path) if how == "open" else through_command(path, how)
        answer.write(json.dumps([outcome, words]) + "\n")
        answer.flush()


@dataclass
class Watcher:
    """Hands files to a worker one after the other.

    Attributes:
        counts: outcome -> files.
        failures: (what the file was, what went wrong).
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    _worker: subprocess.Popen[str] | None = None

    def __call__(self, path: Path, what: str, *, how: str = "open", must_refuse: bool = False) -> str:
        """The outcome of one file, which is counted."""
        worker = self._running()
        assert worker.stdin
        assert worker.stdout
        worker.stdin.write(json.dumps({"how": how, "path": str(path)}) + "\n")
        worker.stdin.flush()
        ready, _, _ = select.select([worker.stdout], [], [], LIMIT)
        line = worker.stdout.readline() if ready else ""
        if line:
            outcome, words = json.loads(line)
        else:
            worker.kill()
            outcome, words = (CRASH, f"ended with {worker.wait()}") if ready else (HANG, f"over {LIMIT} s")
            self.close()
        if outcome == READ and must_refuse:
            outcome, words = WRONG, f"read as {words}"
        self.counts[outcome] += 1
        if outcome not in (READ, REFUSED):
            self.failures.append((f"{path.suffix} {what} ({how})", f"{outcome}: {words}"))
        return str(outcome)

    def _running(self) -> subprocess.Popen[str]:
        if self._worker is None:
            self._worker = subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            assert self._worker.stdout
            assert self._worker.stdout.readline() == "ready\n"
        return self._worker

    @property
    def peak(self) -> int:
        """Most memory that the running worker has had, in bytes."""
        if self._worker is None:
            return 0
        lines = Path(f"/proc/{self._worker.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10

    def close(self) -> None:
        if self._worker is not None:
            self._worker.stdin.close()
            self._worker.stdout.close()
            self._worker.wait(LIMIT)
            self._worker = None


if __name__ == "__main__":
    serve()
