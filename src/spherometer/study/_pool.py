"""The parent's side of the workers: start them, watch them, and leave none behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO

from spherometer.study._queue import DIED, Queue
from spherometer.study._worker import Order

_LOOK = 0.25  # seconds between looks at the queue
_INTERRUPTED = "its run was interrupted"
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class WorkerError(RuntimeError):
    """A worker met an error of ours; the message ends with its traceback."""


@dataclass
class _Worker:
    owner: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def last_words(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()[-4000:]


def _start(order: Order) -> _Worker:
    owner = uuid.uuid4().hex[:12]
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the worker
    process = subprocess.Popen(
        [sys.executable, "-c", "from spherometer.study._worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
        start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
    )
    assert process.stdin is not None
    try:
        process.stdin.write((replace(order, owner=owner).to_json() + "\n").encode())
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died at once: the parent sees that at the next look
    return _Worker(owner, process, errors)


def _end(worker: _Worker) -> None:
    worker.process.terminate()
    try:
        worker.process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()
    if worker.process.stdin is not None:
        worker.process.stdin.close()
    worker.errors.close()


def run_all(queue: Queue, order: Order, jobs: int, progress: Callable[[int, int, str], None] | None) -> None:
    """Run every task of the queue in ``jobs`` processes; other runs on the same storage may help.

    Raises:
        WorkerError: a worker ended with an error of ours.
        LostTaskError: a task killed its process again and again.
    """
    total = len(queue.tasks)
    known = queue.finished()
    if progress is not None:
        progress(len(known), total, "")
    if len(known) == total:
        return
    owners: set[str] = set()
    workers: list[_Worker] = []
    try:
        for _ in range(min(jobs, total - len(known))):
            workers.append(_start(order))
            owners.add(workers[-1].owner)
        while len(known) < total:
            time.sleep(_LOOK)
            finished = queue.finished()
            for key in finished.keys() - known.keys():
                known[key] = finished[key]
                if progress is not None:
                    progress(len(known), total, queue.tasks[key].name)
            for place, worker in enumerate(workers):
                code = worker.process.poll()
                if code is None or len(known) == total:
                    continue
                if code > 0:
                    raise WorkerError(f"study {order.study}: a worker failed.\n{worker.last_words()}")
                if code < 0:  # killed, perhaps for memory: its task goes back, and another one goes on
                    queue.release({worker.owner}, DIED)
                    _end(worker)
                    workers[place] = _start(order)
                    owners.add(workers[place].owner)
    finally:
        for worker in workers:
            _end(worker)
        queue.release(owners, _INTERRUPTED)
