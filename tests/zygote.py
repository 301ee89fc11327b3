"""Real processes without the seconds that importing torch takes: one process imports and forks on request."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import functools
import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Child:
    """A forked process: ``pid`` can be killed; it leaves what it prints in two files."""

    def __init__(self, zygote: Zygote, pid: int, out: Path, err: Path) -> None:
        self.zygote, self.pid, self._out, self._err = zygote, pid, out, err
        self.code: int | None = None

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def poll(self) -> int | None:
        """Exit code, negative for the signal that ended it, None while it runs."""
        if self.code is None:
            self.code = self.zygote.ask({"poll": self.pid})
        return self.code

    def wait(self, seconds: float = 100) -> int:
        return wait_for(self.poll, seconds, lambda: f"it runs on; it said: {self.where()}")

    def where(self) -> str:
        """What it said, and where it is now."""
        self.kill(signal.SIGUSR1)
        time.sleep(0.5)
        return self.out + self.err

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Zygote:
    """``with Zygote(directory, "torch") as zygote: child = zygote.start("module", "function", 1, 2)``.

    Args:
        directory: for what the children print.
        modules: imported once, before any fork; of "module:function" the function is called too.
    """

    def __init__(self, directory: Path, *modules: str) -> None:
        self._directory, self._children = directory, 0
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )

    def ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, module: str, function: str, *arguments: Any, env: dict[str, str] | None = None) -> Child:
        self._children += 1
        out, err = (self._directory / f"child-{self._children}.{end}" for end in ("out", "err"))
        out.touch()
        err.touch()
        question = {
            "start": [module, function, list(arguments)],
            "env": env or {},
            "to": [str(out), str(err)],
        }
        return Child(self, self.ask(question), out, err)

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@functools.cache
def shared() -> Zygote:
    """One for all tests of this process, with all that any child needs."""
    directory = Path(tempfile.mkdtemp(prefix="zygote-"))
    made = Zygote(directory, "checkpoint_writer", "training_run:warm")
    atexit.register(shutil.rmtree, directory)
    atexit.register(made.__exit__)
    return made


def wait_for(ready: Any, seconds: float, words: Any = lambda: "it never happened") -> Any:
    """What ``ready()`` gives once it is not None; a test that waits too long fails with ``words()``."""
    end = time.monotonic() + seconds
    while (result := ready()) is None:
        assert time.monotonic() < end, words()
        time.sleep(0.02)
    return result


def command(arguments: list[str]) -> int:
    """The command line in this process."""
    from spherometer.cli import main

    return main(arguments)


def _serve(modules: list[str]) -> None:
    for name in modules:
        module, _, function = name.partition(":")
        made = importlib.import_module(module)
        if function:
            getattr(made, function)()
    gc.freeze()  # children share the memory
    running: set[int] = set()
    for line in iter(sys.stdin.readline, ""):
        question = json.loads(line)
        if "poll" in question:
            pid, status = os.waitpid(question["poll"], os.WNOHANG)
            running.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                _become(question)
            running.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in running:  # a test that failed left them
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _become(question: dict[str, Any]) -> None:
    module, function, arguments = question["start"]
    sources = [os.devnull, *question["to"]]
    for number, path in enumerate(sources):
        handle = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    os.environ.update(question["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell had it ignored
    os.setsid()
    faulthandler.register(signal.SIGUSR1)
    try:
        code = getattr(importlib.import_module(module), function)(*arguments)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()  # as at any end of Python; taking all modules apart would last longer than a run
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1:])
