"""The queue of a study: every task is finished exactly once, however many processes work and die.

A task is an Optuna trial with the task's key. It waits, runs (with its owner's name and a heartbeat), and is
complete; a trial whose owner fell silent fails, and another one takes its place. Of several trials with one
key the first complete one counts, else the first that has not failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from spherometer import _checks
from spherometer.study._storage import Storage

BEAT = 2.0  # seconds between heartbeats
PATIENCE = 20.0  # seconds of silence after which a trial is taken away from its owner
DIED = "its process died"
_MOST_LOSSES = 3


class Task(Protocol):
    """What is known of a task here."""

    @property
    def key(self) -> str:
        """Hash of everything that its result depends on."""
        ...

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def seed(self) -> int:
        """Of its run."""
        ...


class LostTaskError(RuntimeError):
    """One task brought down its process again and again."""


class Queue:
    """The tasks of one study in a storage.

    Args:
        storage: where the trials are.
        tasks: those of this study; others in the same storage (of another protocol, say) are left alone.
        owner: name under which tasks are taken.
        patience: seconds without a heartbeat after which another process's task is taken over. Measured on
            our own clock, from when we saw the last beat: clocks of several machines need not agree.
    """

    def __init__(self, storage: Storage, tasks: Iterable[Task], owner: str, *, patience: float) -> None:
        self._optuna = _checks.extra("optuna", "train", f"study {storage.study}")
        self._states = self._optuna.trial.TrialState
        self._storage = storage
        self.tasks = {task.key: task for task in tasks}
        self.owner = owner
        self.patience = patience
        self._seen: dict[int, tuple[Any, float]] = {}  # trial -> last beat, and when we saw it change

    def _trials(self) -> list[Any]:
        trials = self._storage.optuna.get_all_trials(self._storage.study_id, deepcopy=False)
        return [trial for trial in trials if trial.user_attrs.get("key") in self.tasks]

    def _current(self) -> dict[str, Any]:
        """The trial that counts, by key; keys without one are missing."""
        current: dict[str, Any] = {}
        for trial in self._trials():
            if trial.state in (self._states.FAIL, self._states.PRUNED):
                continue
            key = trial.user_attrs["key"]
            known = current.get(key)
            if known is None or (trial.state == self._states.COMPLETE != known.state):
                current[key] = trial
        return current

    def _trial_id(self, trial: Any) -> int:
        return int(
            self._storage.optuna.get_trial_id_from_study_id_trial_number(self._storage.study_id, trial.number)
        )

    def _add(self, task: Task) -> None:
        attributes = {"key": task.key, "name": task.name, "seed": task.seed}
        trial = self._optuna.trial.create_trial(state=self._states.WAITING, user_attrs=attributes)
        self._storage.optuna.create_new_trial(self._storage.study_id, template_trial=trial)

    def enqueue(self) -> None:
        """Add the tasks that are not there; called by several processes, each task is added once."""
        with self._storage.turn():
            current = self._current()
            for key, task in self.tasks.items():
                if key not in current:
                    self._add(task)

    def finished(self) -> dict[str, Any]:
        """Results of the finished tasks by key."""
        done = {key: trial for key, trial in self._current().items() if trial.state == self._states.COMPLETE}
        return {key: trial.user_attrs["result"] for key, trial in done.items()}

    def claim(self) -> tuple[Task, int] | None:
        """Take a waiting task; None when none waits."""
        self._take_from_the_silent()
        with self._storage.turn():
            for key, trial in self._current().items():
                if trial.state != self._states.WAITING:
                    continue
                trial_id = self._trial_id(trial)
                with suppress(self._optuna.exceptions.UpdateFinishedTrialError):
                    if self._storage.optuna.set_trial_state_values(trial_id, self._states.RUNNING):
                        self._storage.optuna.set_trial_user_attr(trial_id, "owner", self.owner)
                        return self.tasks[key], trial_id
        return None

    def complete(self, trial_id: int, result: dict[str, Any], value: float) -> bool:
        """Keep a result; False when the task was taken away in the meantime (the other result counts)."""
        with self._storage.turn(), suppress(self._optuna.exceptions.UpdateFinishedTrialError):
            self._storage.optuna.set_trial_user_attr(trial_id, "result", result)
            self._storage.optuna.set_trial_state_values(trial_id, self._states.COMPLETE, [value])
            return True
        return False

    def release(self, owners: set[str], why: str) -> None:
        """Give back what these owners (known to be dead) were working on."""
        with self._storage.turn():
            for trial in self._current().values():
                if trial.state == self._states.RUNNING and trial.user_attrs.get("owner") in owners:
                    self._replace(trial, why)

    def _take_from_the_silent(self) -> None:
        silent = [trial.number for trial in self._current().values() if self._is_silent(trial)]
        if not silent:
            return
        with self._storage.turn():
            for trial in self._current().values():
                if trial.number in silent and self._is_silent(trial):
                    self._replace(trial, "its process fell silent")

    def _is_silent(self, trial: Any) -> bool:
        if trial.state != self._states.RUNNING:
            return False
        beat = (trial.user_attrs.get("owner"), trial.user_attrs.get("beat"))
        now = time.monotonic()
        if trial.number not in self._seen or self._seen[trial.number][0] != beat:
            self._seen[trial.number] = (beat, now)
        return now - self._seen[trial.number][1] > self.patience

    def _replace(self, trial: Any, why: str) -> None:
        trial_id, key = self._trial_id(trial), trial.user_attrs["key"]
        try:
            self._storage.optuna.set_trial_user_attr(trial_id, "lost", why)
            self._storage.optuna.set_trial_state_values(trial_id, self._states.FAIL)
        except self._optuna.exceptions.UpdateFinishedTrialError:
            return
        self._add(self.tasks[key])
        of_key = [other for other in self._trials() if other.user_attrs["key"] == key]
        losses = sum(other.user_attrs.get("lost") == DIED for other in of_key)
        if why == DIED and losses >= _MOST_LOSSES:
            name = trial.user_attrs["name"]
            raise LostTaskError(
                f"study {self._storage.study}: {losses} processes died while they worked on: {name}"
            )

    @contextmanager
    def beating(self, trial_id: int) -> Iterator[None]:
        """Send heartbeats for a task while the block runs."""
        stop = threading.Event()

        def beat() -> None:
            count = 0
            while not stop.wait(BEAT):
                count += 1
                try:
                    self._storage.optuna.set_trial_user_attr(trial_id, "beat", count)
                except self._optuna.exceptions.UpdateFinishedTrialError:
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
