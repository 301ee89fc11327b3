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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from spherometer.study._queue import Queue
from spherometer.study._storage import open_storage

_REST = 0.2  # seconds between looks at a queue in which others hold everything


@dataclass(frozen=True)
class Order:
    """What a worker is told: of which study, what there is to do, where from, where to.

    ``data`` is where the study's data lie, if it has a choice.
    """

    tasks: Sequence[Any]
    storage: str
    owner: str
    patience: float
    out: str
    study: str
    device: str
    data: str = ""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def order_from_json(line: str) -> Order:
    """The order behind one line."""
    fields = json.loads(line)
    module = _study(fields["study"])
    fields["tasks"] = [module.task_from_dict(task) for task in fields["tasks"]]
    return Order(**fields)


def _study(name: str) -> ModuleType:
    """The module with a study's ``task_from_dict``, ``load_parts`` and ``run_task``."""
    if name == "text":
        from spherometer.study import _text_work

        return _text_work
    if name == "diabetes" or name.startswith("digits --metadata"):
        from spherometer.study import _conditional_work

        return _conditional_work
    if name == "brain":
        from spherometer.study import _brain_work

        return _brain_work
    if name == "local-density":
        from spherometer.study import _density_work

        return _density_work
    if name == "dense":
        from spherometer.study import _dense_work

        return _dense_work
    from spherometer.study import _digits_work

    return _digits_work


def work(order: Order) -> None:
    """Run tasks until none is left unfinished."""
    import torch

    torch.set_num_threads(1)
    study = _study(order.study)
    parts = study.load_parts(order)
    queue = Queue(open_storage(order.storage, order.study), order.tasks, order.owner, patience=order.patience)
    while len(queue.finished()) < len(queue.tasks):
        claimed = queue.claim()
        if claimed is None:
            time.sleep(_REST)
            continue
        task, trial_id = claimed
        with queue.beating(trial_id):
            result, value = study.run_task(task, parts, Path(order.out))
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
