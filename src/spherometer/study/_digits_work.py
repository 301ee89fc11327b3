"""What a worker of the digits study does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spherometer.data import load_images
from spherometer.study import _circle, _encoders, _trajectories
from spherometer.study._encoders import Parts
from spherometer.study._grid import Task
from spherometer.study._grid import task_from_dict as task_from_dict
from spherometer.study._worker import Order


def load_parts(order: Order) -> Parts:
    """The images."""
    return Parts(load_images(order.study), order.device)


def run_task(task: Task, parts: Parts, out: Path) -> tuple[dict[str, Any], float]:
    """The result of a task, and the one number that Optuna shows for it."""
    if task.kind == "circle":
        result = _circle.run_circle(task, parts)
        return result, result["accuracy"]
    if task.kind == "trajectories":
        result = _trajectories.run_trajectories(task, parts)
        return result, result["paths"]["both"][-1]["accuracy"]
    result = _encoders.run_encoder(task, parts, out)
    accuracy = result["accuracy"].get(_encoders.HEADLINE)
    return result, 0.0 if accuracy is None else accuracy["validation"]
