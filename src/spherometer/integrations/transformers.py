"""The monitor as a callback of the Trainer of transformers (and of sentence-transformers)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks, stores
from spherometer._monitor import Monitor
from spherometer.errors import InputError
from spherometer.integrations import _callbacks

_transformers = _checks.extra("transformers", "text", "integrations.transformers")
_Callback: Any = _transformers.TrainerCallback
STATE_FILE = "spherometer_monitor.safetensors"


class SphereCallback(_Callback):  # type: ignore[misc]
    """Watches the embeddings of every training batch; readings go to the log history, alarms are warnings.

    A ``Trainer`` does not hand outputs to its callbacks, so a forward hook on the model picks them up, during
    training only; it is there from the start of ``train`` to its end. Where the views are:

    * ``views=("z1", "z2")``: two names in the output of one forward pass of the model;
    * ``views="sentence_embedding"``: one name; the views are the last two passes of a step (the two columns
      of ``SentenceTransformerTrainer``);
    * a function of the output of one forward pass, which returns both.

    Readings are added to ``state.log_history`` as ``sphere/uniformity`` and so on. The state of the monitor
    is saved in every checkpoint folder and read when a run goes on from one. Steps are ``state.global_step``.
    With several processes each watches its own rows; process 0 warns and saves.

    Args:
        monitor: an ``sm.Monitor`` with your settings; None: the defaults.
        views: see above.
        module: name of the submodule whose output is read; "": the model itself.
        prefix: of the names in the log history.
        stop_on: kinds of alarms after which the training stops (on all processes) as if it had ended.
    """

    def __init__(
        self,
        monitor: Monitor | None = None,
        *,
        views: _callbacks.Views | str = ("z1", "z2"),
        module: str = "",
        prefix: str = "sphere/",
        stop_on: Iterable[str] = (),
    ) -> None:
        self.monitor = _callbacks.new_monitor("SphereCallback", monitor)
        self.views, self.module, self.prefix = views, module, prefix
        self.stop_on = _callbacks.checked_kinds("SphereCallback", stop_on)
        self._outputs: list[Any] = []
        self._hook: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Place the hook; read the state of the checkpoint that the run goes on from."""
        if state.global_step:
            self._load(args, state.global_step)
        inner = getattr(model, "module", model) if hasattr(model, "device_ids") else model
        self._hook = inner.get_submodule(self.module).register_forward_hook(self._keep)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the hook."""
        if self._hook is not None:
            self._hook.remove()
        self._hook, self._outputs = None, []

    def _keep(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if not module.training:
            return
        if isinstance(self.views, str):
            self._outputs = [*self._outputs[-1:], _named(self.views, output).detach()]
        else:
            views = _callbacks.views_of("SphereCallback", self.views, output)
            self._outputs = [view.detach() for view in views]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take in the last batch of the step, log a reading when one is due."""
        views, self._outputs = self._outputs, []
        if len(views) != 2:
            _checks.refuse(
                InputError,
                "SphereCallback",
                "views",
                "be found in every step",
                "the monitor reads both views of each batch",
                f"{len(views)} outputs of {self.module or 'the model'} in step {state.global_step}",
                "Name the module that gives the embeddings; with one name, it must run once for each view",
            )
        readings = len(self.monitor.history)
        alarms = self.monitor.update(state.global_step, *views)
        if len(self.monitor.history) == readings:
            return
        reading = self.monitor.history[-1].items()
        numbers = {self.prefix + name: value for name, value in reading if name != "step"}
        state.log_history.append({**numbers, "epoch": state.epoch, "step": state.global_step})
        if state.is_world_process_zero:
            for alarm in alarms:
                warnings.warn(str(alarm), UserWarning, stacklevel=2)
        if self.stop_on:
            final = bool(_callbacks.stopping(alarms, self.stop_on))
            if _callbacks.any_rank(final, views[0].device):
                control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the state of the monitor into the checkpoint folder."""
        if not state.is_world_process_zero:
            return
        from safetensors.torch import save

        whole = self.monitor.state_dict()
        tensors = {
            name: value.contiguous() for name, value in whole.items() if isinstance(value, torch.Tensor)
        }
        rest = {name: value for name, value in whole.items() if name not in tensors}
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        stores.write_file(folder / STATE_FILE, save(tensors, metadata={"monitor": json.dumps(rest)}))

    def _load(self, args: Any, step: int) -> None:
        from safetensors import safe_open

        given = args.resume_from_checkpoint
        folders = [Path(args.output_dir) / f"checkpoint-{step}"]
        folders = [Path(given), *folders] if isinstance(given, str) else folders
        found = [folder / STATE_FILE for folder in folders if (folder / STATE_FILE).is_file()]
        if not found:
            where = " or ".join(map(str, folders))
            text = f"SphereCallback: no {STATE_FILE} in {where}: the monitor starts anew at step {step}"
            warnings.warn(text, UserWarning, stacklevel=2)
            return
        with safe_open(found[0], framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            rest = json.loads(file.metadata()["monitor"])
        self.monitor.load_state_dict(tensors | rest)


def _named(name: str, output: Any) -> Tensor:
    """One tensor out of a mapping."""
    return _callbacks.views_of("SphereCallback", (name, name), output)[0]
