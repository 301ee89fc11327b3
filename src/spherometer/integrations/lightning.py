"""The monitor as a callback of Lightning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer._monitor import Monitor
from spherometer.integrations import _callbacks

_lightning = _checks.extra("lightning.pytorch", "lightning", "integrations.lightning")
_Callback: Any = _lightning.Callback


class SphereMonitor(_Callback):  # type: ignore[misc]
    """Watches the features of every training batch; logs readings, warns of alarms, saves its state.

    ``training_step`` returns a dict with its loss and both views, which Lightning detaches::

        return {"loss": loss, "z1": z1, "z2": z2}

    Readings go to ``pl_module.log_dict`` as ``sphere/uniformity`` and so on. An alarm is a warning on rank 0;
    one of ``stop_on`` ends the training on all ranks with a ``SpherometerError``. The state of the monitor
    (reservoir, history, alarms) is part of Lightning's checkpoint. Steps are ``trainer.global_step``.

    With several ranks each watches its own rows, rank 0 logs and is saved; a resumed run starts all ranks
    from that state.

    Args:
        monitor: an ``sm.Monitor`` with your settings; None: the defaults.
        views: names of both views in the dict, or a function of what ``training_step`` returned.
        prefix: of the logged names.
        stop_on: kinds of alarms that end the training.
    """

    def __init__(
        self,
        monitor: Monitor | None = None,
        *,
        views: _callbacks.Views = ("z1", "z2"),
        prefix: str = "sphere/",
        stop_on: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self.monitor = _callbacks.new_monitor("SphereMonitor", monitor)
        self.views, self.prefix = views, prefix
        self.stop_on = _callbacks.checked_kinds("SphereMonitor", stop_on)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the batch, log a reading when one is due."""
        z1, z2 = _callbacks.views_of("SphereMonitor", self.views, outputs)
        readings = len(self.monitor.history)
        alarms = self.monitor.update(trainer.global_step, z1, z2)
        if len(self.monitor.history) == readings:
            return
        numbers = {
            self.prefix + name: torch.tensor(value, dtype=torch.float32)
            for name, value in self.monitor.history[-1].items()
            if name != "step"
        }
        pl_module.log_dict(numbers, on_step=True, on_epoch=False, batch_size=max(1, len(z1)))
        for alarm in alarms:
            _lightning.utilities.rank_zero_warn(str(alarm))
        if self.stop_on:
            final = _callbacks.stopping(alarms, self.stop_on)
            if trainer.strategy.reduce_boolean_decision(bool(final), all=False):
                _callbacks.stop(final)

    def state_dict(self) -> dict[str, Any]:
        """For Lightning's checkpoint."""
        return self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Tensor | Any]) -> None:
        """From Lightning's checkpoint."""
        self.monitor.load_state_dict(state_dict)
