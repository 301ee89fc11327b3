"""Where a run happens: device, precision, and the other processes.

One process in float32 has nothing to arrange, and accelerate (seconds to import) is left alone. Several
processes, mixed precision and trackers are its work.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.errors import InputError

_TIMEOUT = timedelta(minutes=10)  # of one exchange between processes: a dead one is noticed by then
_LEFT: list[Any] = []  # the process group of the last run


class _Network(nn.Module):
    """Holds a network, so that what accelerate does to ``forward`` happens here and not to the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """What the network makes of its inputs."""
        rows: Tensor = self.network(inputs)
        return rows


class Machine:
    """One process of a run, and its way to the others.

    Args:
        device: where the encoder is.
        accelerator: accelerate's, or None: one process, in the precision of its weights.
        rank, world: number of this process, and of all.
    """

    def __init__(
        self, device: torch.device | str = "cpu", accelerator: Any = None, *, rank: int = 0, world: int = 1
    ) -> None:
        self.device = torch.device(device)
        self.rank, self.world, self.processes = rank, world, world
        self._accelerator = accelerator
        self._tracks = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def wrap(
        self, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The network and optimiser as the loop calls them: in parallel, in mixed precision."""
        if self._accelerator is None:
            return network, optimizer
        return tuple(self._accelerator.prepare(_Network(network), optimizer))

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the run, for passes that do not go through the wrapped network."""
        return nullcontext() if self._accelerator is None else self._accelerator.autocast()

    def backward(self, value: Tensor, gradient: Tensor | None = None) -> None:
        """Backpropagate; in fp16 the gradient is scaled."""
        if self._accelerator is None:
            value.backward(gradient)  # type: ignore[no-untyped-call]
            return
        with warnings.catch_warnings():  # of strides that mean the same for one channel
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            self._accelerator.backward(value, gradient=gradient)

    def without_exchange(self, network: nn.Module) -> AbstractContextManager[Any]:
        """Passes whose gradients stay in this process for now."""
        return nullcontext() if self._accelerator is None else self._accelerator.no_sync(network)

    def clip(self, parameters: Sequence[nn.Parameter], norm: float) -> None:
        """Shrink the gradient to ``norm`` if it is longer."""
        if self._accelerator is None:
            torch.nn.utils.clip_grad_norm_(parameters, norm)
        else:
            self._accelerator.clip_grad_norm_(parameters, norm)

    @property
    def scaler(self) -> Any:
        """The gradient scaler of fp16, else None."""
        return None if self._accelerator is None else self._accelerator.scaler

    def largest(self, *values: float) -> list[float]:
        """Each value's largest over all processes."""
        if self.world == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return [float(value) for value in shared]

    def start_trackers(self, settings: dict[str, Any]) -> None:
        """Tell the trackers what the run is."""
        if self._accelerator is not None and self._accelerator.log_with:
            self._accelerator.init_trackers("spherometer", config=settings)
            self._tracks = True

    def track(self, values: dict[str, float], step: int) -> None:
        """Tell the trackers what happened."""
        if self._tracks:
            self._accelerator.log(values, step=step)

    def close(self) -> None:
        """Leave the other processes; nothing is exchanged afterwards."""
        if self._accelerator is None:
            return
        accelerator, self._accelerator = self._accelerator, None
        self._tracks = False
        # Whoever lets go of a group last waits for its threads. DDP would do so holding the lock of the
        # interpreter, which those threads may want: seen as a run that was over and never ended.
        _LEFT[:] = [torch.distributed.group.WORLD] if torch.distributed.is_initialized() else []
        accelerator.end_training()  # trackers and process group
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)  # a later run may have another precision
        self.world = 1


def open_machine(
    device: str = "auto",
    precision: str = "no",
    *,
    trackers: Sequence[str] = (),
    directory: Path | None = None,
) -> Machine:
    """The machine that a run asks for; ``torchrun`` or ``accelerate launch`` decide how many processes.

    Args:
        device: "cpu", "cuda", ..., or "auto": a GPU if there is one.
        precision: "no" (float32), "bf16" or "fp16" for the encoder; losses always use full precision.
        trackers: of accelerate, by name, which get what ``track`` is given.
        directory: where trackers write.

    Raises:
        InputError: a device, precision or tracker that is not there.
        MissingExtraError: accelerate is needed and missing.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and world > 1:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    found = _device(device)
    if world == 1 and precision == "no" and not trackers:
        return Machine(found)
    accelerator = _accelerator(found, precision, trackers, directory)
    return Machine(accelerator.device, accelerator, rank=rank, world=world)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        words = str(error).split("\n")[0][:120]
        _checks.refuse(
            InputError,
            "train",
            "device",
            "be a device of this machine",
            "the encoder is put there",
            f"{name!r} ({words})",
            "Pass for instance --device cpu",
        )
    return device


def _accelerator(
    device: torch.device, precision: str, trackers: Sequence[str], directory: Path | None
) -> Any:
    accelerate = _checks.extra("accelerate", "train", "train")
    _check_trackers(trackers)
    group = accelerate.utils.InitProcessGroupKwargs(timeout=_TIMEOUT)
    try:
        return accelerate.Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=precision,
            log_with=list(trackers) or None,
            project_dir=None if directory is None else str(directory),
            kwargs_handlers=[group],
        )
    except ValueError as error:
        _checks.refuse(
            InputError,
            "train",
            "precision",
            f"be one that {device.type} can do",
            "the encoder runs in it",
            f"{precision!r} ({str(error)[:120]})",
            "Pass for instance --precision no",
        )


def _check_trackers(names: Sequence[str]) -> None:
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(str(name) for name in LOGGER_TYPE_TO_CLASS)
    present = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in known:
            _checks.one_of("train", "tracker", name, known)
        if name not in present:
            _checks.refuse(
                InputError,
                "train",
                "tracker",
                "be installed",
                "accelerate hands the numbers to its package",
                f"no package for {name!r}",
                f"Install it, for instance with: pip install {name}",
            )
