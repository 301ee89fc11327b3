"""What the callbacks of two trainers share: where the views are, and what an alarm does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer._alarms import KINDS, Alarm
from spherometer._monitor import Monitor
from spherometer.errors import InputError, SpherometerError

Views = tuple[str, str] | Callable[[Any], tuple[Tensor, Tensor]]


def new_monitor(function: str, monitor: Any) -> Monitor:
    """The monitor passed in, or one with the defaults."""
    if monitor is not None and not isinstance(monitor, Monitor):
        _checks.refuse(
            InputError,
            function,
            "monitor",
            "be a spherometer.Monitor",
            "it holds the settings and the history",
            type(monitor).__name__,
            "Pass sm.Monitor(...), or nothing for the defaults",
        )
    return Monitor() if monitor is None else monitor


def checked_kinds(function: str, stop_on: Iterable[str]) -> tuple[str, ...]:
    """Kinds of alarms that end the training."""
    kinds = (stop_on,) if isinstance(stop_on, str) else tuple(stop_on)
    for kind in kinds:
        _checks.one_of(function, "stop_on", kind, KINDS)
    return kinds


def views_of(function: str, views: Views, source: Any) -> tuple[Tensor, Tensor]:
    """Both views out of what a model or a training step returned."""
    if callable(views):
        return views(source)
    if not isinstance(source, Mapping) or not all(name in source for name in views):
        has = f"a mapping with {', '.join(map(str, source))}" if isinstance(source, Mapping) else ""
        _checks.refuse(
            InputError,
            function,
            "views",
            f"be found in the output under {' and '.join(map(repr, dict.fromkeys(views)))}",
            "the monitor reads both views of each batch there",
            has or type(source).__name__,
            "Return a dict with both, or pass views=(name, name) or a function of the output",
        )
    return source[views[0]], source[views[1]]


def any_rank(found: bool, device: torch.device) -> bool:
    """Whether it is so on any rank; every rank must ask."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return found
    flag = torch.tensor(int(found), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag)


def stopping(alarms: Sequence[Alarm], stop_on: tuple[str, ...]) -> list[Alarm]:
    """The alarms that end the training."""
    return [alarm for alarm in alarms if alarm.kind in stop_on]


def stop(alarms: Sequence[Alarm]) -> None:
    """Raise, with the alarm of this rank where there is one."""
    raise SpherometerError(str(alarms[0]) if alarms else "another rank raised an alarm of stop_on")
