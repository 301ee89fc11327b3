"""A headless Chromium that opens a page and says what it sees, spoken to through a pipe.

The DevTools protocol from the standard library alone: messages are JSON and end with a zero byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe", "--window-size=1200,900",
)  # fmt: skip
_PATIENCE = 120.0  # seconds for an answer: a hang must end, a slow machine must not


def find_chromium() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """One tab: commands out, answers and events in."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._buffer = b""
        self._count = 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        number = self._count
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self.events.append(answer)

    def wait(self, method: str) -> None:
        """Wait for an event that has not come yet."""
        while True:
            answer = self._next()
            self.events.append(answer)
            if answer.get("method") == method:
                return

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, page: Path) -> None:
        """Open a file and wait until it and its images are there."""
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        if not self.seen("Page.loadEventFired"):
            self.wait("Page.loadEventFired")
        self.evaluate(
            "Promise.all([...document.images].map(image => image.decode().catch(() => 0))).then(() => 1)"
        )

    def seen(self, method: str) -> list[dict[str, Any]]:
        """What events of one kind said."""
        return [event.get("params", {}) for event in self.events if event.get("method") == method]

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            try:
                more = os.read(self._reading, 1 << 16)
            except BlockingIOError:
                assert time.monotonic() < end, "Chromium does not answer"
                time.sleep(0.01)
                continue
            assert more, "Chromium has ended"
            self._buffer += more
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))


@contextlib.contextmanager
def opened(binary: str, folder: Path) -> Iterator[Tab]:
    """A tab of a new browser, whose profile lies in ``folder``; it ends with the block."""
    to_browser, writing = os.pipe()
    reading, from_browser = os.pipe()
    os.set_blocking(reading, False)
    # the browser reads from descriptor 3 and writes to descriptor 4
    script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    command = ["bash", "-c", script, "bash", binary, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(
        command,
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        os.close(to_browser)
        os.close(from_browser)
        try:
            tab = Tab(reading, writing)
            target = tab.call("Target.createTarget", url="about:blank")["targetId"]
            tab.session = tab.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                tab.call(f"{domain}.enable")
            yield tab
        finally:
            os.close(writing)
            os.close(reading)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
