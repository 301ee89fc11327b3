"""Runs of ``spherometer train`` in forked processes, which can be stopped at a step, and what they leave."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spherometer.cli import main
from spherometer.training import _learner, _run
from spherometer.training._checkpoints import Checkpoints
from zygote import Child, Zygote

BASE = """
[encoder]
name = "conv"
dim = 8
width = 4
hidden = 16
[checkpoints]
every_steps = 2
keep_last = 4
[log]
every = 1
[monitor]
every = 3
"""


def warm() -> None:
    """Import what a run imports late, once for all children."""
    import accelerate  # noqa: F401
    import sklearn.datasets

    sklearn.datasets.load_digits()
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    with contextlib.redirect_stderr(io.StringIO()):
        main(["train", "--steps", "none"])  # parses and refuses


def train(arguments: list[str], stops: list[list[int]], dropout: bool = False) -> int:
    """The command in this process, which sends itself signals after some steps: ``[[step, signal], ...]``."""
    sys.argv = ["spherometer", *arguments]
    torch.set_num_threads(1)
    original = _learner.Learner.update

    def update(self: Any, *given: Any) -> Any:
        outcome = original(self, *given)
        for step, number in stops:
            if step == self.steps:
                os.kill(os.getpid(), number)
        return outcome

    _learner.Learner.update = update  # type: ignore[method-assign]
    if dropout:
        _run.start_encoder = _with_dropout(_run.start_encoder)  # type: ignore[assignment]
    return main(arguments)


def train_until_full(arguments: list[str], last: int) -> int:
    """The command in this process, where the disk is full once ``last`` steps are done."""
    sys.argv = ["spherometer", *arguments]
    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    original = _learner.Learner.update
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def update(self: Any, *given: Any) -> Any:
        if self.steps >= last:  # the log still fits, a checkpoint does not
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
        return original(self, *given)

    _learner.Learner.update = update  # type: ignore[method-assign]
    return main(arguments)


def _with_dropout(build: Any) -> Any:
    def built(*given: Any) -> Any:
        encoder = build(*given)
        for module in list(encoder.modules()):
            for name, part in module.named_children():
                if isinstance(part, nn.ReLU):
                    setattr(module, name, nn.Dropout(0.2))
        return encoder

    return built


def torchrun(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun tells each of its processes."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Setting:
    """Where runs happen: ``start`` gives the children of one run, one for each rank."""

    def __init__(self, zygote: Zygote, directory: Path, more: str = "", *, world: int = 1, steps: int = 14):
        self.zygote, self.directory, self.world = zygote, directory, world
        self.recipe = directory / "recipe.toml"
        self.recipe.write_text(BASE + more)
        self.options = ["--steps", str(steps), "--batch-size", "300", "--device", "cpu"]

    def arguments(self, out: Path, *more: str) -> list[str]:
        where = ["--recipe", str(self.recipe), "--data", "digits", "--out", str(out)]
        return ["train", *where, *self.options, *more]

    def start(
        self,
        out: Path,
        *more: str,
        stops: Any = (),
        dropout: bool = False,
        only: int | None = None,
        full_after: int | None = None,
    ) -> list[Child]:
        """Start a run; signals go to all ranks, or to ``only`` one."""
        port = free_port()
        children = []
        for rank in range(self.world):
            own = list(stops) if only in (None, rank) else []
            given = self.arguments(out, *more)
            env = torchrun(rank, self.world, port) if self.world > 1 else {}
            if full_after is None:
                child = self.zygote.start("training_run", "train", given, own, dropout, env=env)
            else:
                child = self.zygote.start("training_run", "train_until_full", given, full_after, env=env)
            children.append(child)
        return children

    def run(self, out: Path, *more: str, expect: int = 0, **options: Any) -> list[Child]:
        """Start a run and wait for it."""
        children = self.start(out, *more, **options)
        codes = [child.wait() for child in children]
        assert codes == [expect] * self.world, "\n".join(child.out + child.err for child in children)
        return children


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key != "seconds"}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def left(out: Path) -> dict[str, Any]:
    """All that a run leaves, except how long it took."""
    found = Checkpoints(out / "checkpoints", writer=False).newest()
    assert found is not None
    tensors = {name: value.flatten().view(torch.uint8).tolist() for name, value in found.tensors.items()}
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {
        "step": found.step,
        "score": found.score,
        "tensors": tensors,
        "state": _without_times(found.state),
        "log": _without_times(lines),
        "results": _without_times(json.loads((out / "results.json").read_text())),
        "encoder": (out / "encoder.safetensors").read_bytes(),
        "recipe": (out / "recipe.toml").read_text(),
    }


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names of what differs, down to single tensors and rows."""
    names = []
    for key in a:
        if a[key] == b[key]:
            continue
        inner = a[key].keys() | b[key].keys() if isinstance(a[key], dict) else ()
        names += [f"{key}.{name}" for name in inner if a[key].get(name) != b[key].get(name)] or [key]
    return names


def temporaries(out: Path) -> list[str]:
    """Half-written files and directories."""
    return [str(path) for path in out.rglob("*.tmp")]


TERM, INT = int(signal.SIGTERM), int(signal.SIGINT)
