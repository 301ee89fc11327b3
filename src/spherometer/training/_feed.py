"""Batches on their way from the data to the device: read by workers, changed where the encoder is."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from spherometer.errors import SpherometerError
from spherometer.training._machine import Machine
from spherometer.training._methods import Batch


class _Stored(torch.utils.data.Dataset[Any]):
    """What worker processes read: one item for each batch."""

    def __init__(self, views: Any) -> None:
        self.views = views

    def __getitems__(self, wanted: tuple[int, Tensor]) -> tuple[int, Tensor, Any]:
        epoch, index = wanted
        try:
            return epoch, index, self.views.load(index)
        except SpherometerError as error:  # it is raised where people see it as one line
            return epoch, index, error


class Feed:
    """Turns the order of the global batches into this process's parts of them, as views on its device.

    Args:
        views: paired views.
        machine: which part, and where to.
        workers: processes that read ahead; the views themselves are always made here, on the device.
        seed: for torch's own bookkeeping of the workers; no sample depends on it.
        metadata: [N, K] of all samples; batches bring their rows.
        geometric: batches bring the geometry of their views.
    """

    def __init__(
        self,
        views: Any,
        machine: Machine,
        *,
        workers: int = 0,
        seed: int = 0,
        metadata: Tensor | None = None,
        geometric: bool = False,
    ) -> None:
        self._views = views
        self._geometric = geometric
        self._metadata = metadata
        self._machine = machine
        self._workers = workers
        self._seed = seed

    def __call__(self, order: Iterable[tuple[int, Tensor]]) -> Iterator[tuple[int, Batch]]:
        """Epoch and batch, for each item of ``order``."""
        machine = self._machine
        own = ((epoch, index.tensor_split(machine.world)[machine.rank]) for epoch, index in order)
        for epoch, index, loaded in self._loaded(own):
            yield epoch, self._batch(epoch, index, loaded)

    def _loaded(self, own: Iterator[tuple[int, Tensor]]) -> Iterator[tuple[int, Tensor, Any]]:
        if self._workers == 0:
            for epoch, index in own:
                yield epoch, index, self._views.load(index) if hasattr(self._views, "load") else None
            return
        loader = torch.utils.data.DataLoader(
            _Stored(self._views),
            batch_sampler=own,  # type: ignore[arg-type]  # it is handed to __getitems__ as it comes
            num_workers=self._workers,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_signals,
            pin_memory=self._machine.device.type == "cuda",
            generator=torch.Generator().manual_seed(self._seed),
        )
        for epoch, index, loaded in loader:
            if isinstance(loaded, SpherometerError):
                raise loaded
            yield epoch, index, loaded

    def _batch(self, epoch: int, index: Tensor, loaded: Any) -> Batch:
        device = self._machine.device
        if hasattr(self._views, "load"):
            x, y = self._views.views(_moved(loaded, device), epoch, index.to(device))
        else:
            x, y = self._views(epoch, index)
        labels = getattr(self._views, "labels", None)
        classes, known = (
            None if rows is None else rows[index.to(rows.device)].to(device)
            for rows in (labels, self._metadata)
        )
        geometry = self._views.geometry(epoch, index) if self._geometric else None
        return Batch(x.to(device), y.to(device), index, classes, known, geometry)


def _moved(loaded: Any, device: torch.device) -> Any:
    if isinstance(loaded, Tensor):
        return loaded.to(device, non_blocking=True)
    if isinstance(loaded, (tuple, list)):
        return type(loaded)(_moved(part, device) for part in loaded)
    return loaded


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _leave_signals(worker: int) -> None:
    """Ctrl-C goes to all processes of a terminal; the training process decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
