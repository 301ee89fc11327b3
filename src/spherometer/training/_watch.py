"""The monitor of a run: it sees features before they are scaled to length 1, and keeps its alarms.

Shapes: B samples of this process in a batch, D output coordinates.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from spherometer._monitor import Monitor
from spherometer.training._loop import Step
from spherometer.training._recipe import LABELLED, Recipe


class Watch:
    """A ``Monitor`` of a run.

    Args:
        recipe: says how many steps lie between readings, and by its method whether classes (or samples of
            equal meta-data) come together: few distinct points are no collapse then.
        encoder: its ``head``, if it has one, gives rows whose length means something.
        say: told every alarm, once.
    """

    def __init__(self, recipe: Recipe, encoder: nn.Module, say: Callable[[str], None]) -> None:
        self.alarms: list[dict[str, Any]] = []
        together = recipe.method.name in LABELLED or recipe.method.conditional
        more: dict[str, Any] = {"min_distinct_share": None} if together else {}
        self._monitor = Monitor(every=recipe.monitor.every, **more)
        self._say = say
        self._rows: Tensor | None = None
        head = getattr(encoder, "head", None)
        if isinstance(head, nn.Module):
            head.register_forward_hook(self._keep)

    def _keep(self, head: nn.Module, inputs: Any, rows: Any) -> None:
        if head.training and isinstance(rows, Tensor):
            self._rows = rows.detach()

    def _sides(self, sides: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Rows from before the sphere, where the last pass through the head was the whole batch."""
        rows, num = self._rows, len(sides[0])
        if rows is None or rows.ndim != 2 or rows.shape[1] != sides[0].shape[1]:
            return sides
        if len(rows) == 2 * num:
            x, y = rows.float().tensor_split(2)
            return x, y
        return (rows.float(), sides[1].float()) if len(rows) == num else sides

    def read(self, step: Step) -> dict[str, float]:
        """Look at a step; a reading every so many steps, else nothing."""
        before = len(self._monitor.history)
        sides = self._sides(step.outcome.sides)
        for alarm in self._monitor.update(step.done, *sides, index=step.index):
            self.alarms.append(json.loads(json.dumps(asdict(alarm))))
            self._say(f"alarm: {alarm}")
        history = self._monitor.history
        if len(history) == before:
            return {}
        return {name: value for name, value in history[-1].items() if name != "step"}

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {"monitor": self._monitor.state_dict(), "alarms": self.alarms}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        self._monitor.load_state_dict(state["monitor"])
        self.alarms = state["alarms"]
