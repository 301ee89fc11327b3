"""A worker process: takes tasks from the queue until all are finished.

Started as a fresh interpreter that calls ``main``, with one line of JSON on its standard input, which the
parent then keeps open: when the parent is gone, however it went, the line ends, and so does the worker.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spherometer.study._grid import Task, task_from_dict
from spherometer.study._queue import Queue
from spherometer.study._storage import open_storage

_REST = 0.2  # seconds between looks at a queue in which others hold everything


@dataclass(frozen=True)
class Order:
    """What a worker is told."""

    tasks: list[Task]
    storage: str
    owner: str
    patience: float
    out: str
    images: str
    device: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def order_from_json(line: str) -> Order:
    """The order behind one line."""
    fields = json.loads(line)
    fields["tasks"] = [task_from_dict(task) for task in fields["tasks"]]
    return Order(**fields)


def run_task(task: Task, parts: Any, out: Path) -> tuple[dict[str, Any], float]:
    """The result of a task, and the one number that Optuna shows for it."""
    from spherometer.study import _circle, _encoders, _trajectories

    if task.kind == "circle":
        result = _circle.run_circle(task, parts)
        return result, result["accuracy"]
    if task.kind == "trajectories":
        result = _trajectories.run_trajectories(task, parts)
        return result, result["paths"]["both"][-1]["accuracy"]
    result = _encoders.run_encoder(task, parts, out)
    accuracy = result["accuracy"].get(_encoders.HEADLINE)
    return result, 0.0 if accuracy is None else accuracy["validation"]


def work(order: Order) -> None:
    """Run tasks until none is left unfinished."""
    import torch

    from spherometer.data import load_images
    from spherometer.study._encoders import Parts

    torch.set_num_threads(1)
    parts = Parts(load_images(order.images), order.device)
    queue = Queue(open_storage(order.storage), order.tasks, order.owner, patience=order.patience)
    while len(queue.finished()) < len(queue.tasks):
        claimed = queue.claim()
        if claimed is None:
            time.sleep(_REST)
            continue
        task, trial_id = claimed
        with queue.beating(trial_id):
            result, value = run_task(task, parts, Path(order.out))
        queue.complete(trial_id, result, value)


def _end_with_the_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _first_line() -> str:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1 << 16)
        if not piece:
            os._exit(1)
        line += piece
    return line.decode()


def main() -> None:
    """What the process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends us
    told = order_from_json(_first_line())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    work(told)
