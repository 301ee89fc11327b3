"""Every number of a training run, in frozen records, one for each section of a recipe file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from spherometer import _checks
from spherometer.errors import InputError

METHODS = (
    "align_uniform",
    "info_nce",
    "nt_xent",
    "sup_con",
    "decoupled_uniformity",
    "hyperspherical_energy",
    "combined",
    "supervised",
)
LABELLED = ("sup_con", "supervised")  # methods that draw samples of a class together
PARTS = tuple(name for name in METHODS if name not in ("sup_con", "combined", "supervised"))
QUEUED = ("align_uniform", "info_nce")  # methods that can take keys from a momentum encoder's queue


def _number(name: str, value: Any, *, most: float = math.inf, below: bool = False) -> None:
    """Check a finite number from 0 to ``most``; ``below``: ``most`` itself is refused."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (usable and 0 <= value <= most and not (below and value == most)):
        bounded = f"lie in [0, {most:g}{')' if below else ']'}"
        must = "be a finite number of at least 0" if math.isinf(most) else bounded
        because = "nothing else has a meaning here"
        got, fix = repr(value)[:80], f"Pass for instance {name} = 0"
        _checks.refuse(InputError, "Recipe", name, must, because, got, fix)


def _optional(name: str, value: Any, *, at_least: int = 1) -> None:
    if value is not None:
        _checks.whole("Recipe", name, value, at_least=at_least)


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        got = repr(value)[:80]
        _checks.refuse(
            InputError, "Recipe", name, "be true or false", "it is a switch", got, f"Pass {name} = true"
        )


def _text(name: str, value: Any, *, optional: bool = False) -> None:
    if not (isinstance(value, str) and value) and not (optional and value is None):
        _checks.refuse(
            InputError,
            "Recipe",
            name,
            "be text that is not empty",
            "it names something",
            repr(value)[:80],
            f'Pass for instance {name} = "digits"',
        )


@dataclass(frozen=True)
class DataRecipe:
    """[data]: what is trained on.

    Args:
        name: of a data set ("digits", "fashion_mnist", ...), or a path.
        views: preset of augmentations, or "auto".
        size: side of the views in pixels; None: the data set's own.
        data_dir: where downloaded data sets are.
        part: of the data set; "auto": the one that trains encoders.
        skip_bad: samples that may be unreadable.
        image, label: columns of a data set of Hugging Face, arrays of a .npz file; label: also of texts.
        left, right: columns of a table of pairs of texts.
    """

    name: str = "digits"
    views: str = "auto"
    size: int | None = None
    data_dir: str | None = None
    part: str = "auto"
    skip_bad: int = 0
    image: str | None = None
    label: str | None = None
    left: str | None = None
    right: str | None = None

    def __post_init__(self) -> None:
        _text("data.name", self.name)
        _text("data.views", self.views)
        for name in ("data_dir", "image", "label", "left", "right"):
            _text(f"data.{name}", getattr(self, name), optional=True)
        _text("data.part", self.part)
        _optional("data.size", self.size)
        _checks.whole("Recipe", "data.skip_bad", self.skip_bad, at_least=0)


@dataclass(frozen=True)
class EncoderRecipe:
    """[encoder]: what is trained. A field of None has the encoder's own default.

    Args:
        name: of the architecture; "auto": "conv" for images, "bag" for text.
        dim: output coordinates.
        head: projection head.
        hidden, stem, width, norm: as the encoder defines them.
    """

    name: str = "auto"
    dim: int = 128
    head: str | None = None
    hidden: int | None = None
    stem: str | None = None
    width: int | None = None
    norm: str | None = None

    def __post_init__(self) -> None:
        _text("encoder.name", self.name)
        _checks.whole("Recipe", "encoder.dim", self.dim)
        for name in ("head", "stem", "norm"):
            _text(f"encoder.{name}", getattr(self, name), optional=True)
        _optional("encoder.hidden", self.hidden)
        _optional("encoder.width", self.width)


@dataclass(frozen=True)
class LossRecipe:
    """One loss, with the parameters of all of them; each takes those that it has.

    The energy repels and knows no pairs. As the method of a run, hyperspherical_energy therefore is
    ``align_weight * alignment + uniform_weight * energy``. Among the parts of "combined" it is the energy
    alone, times ``weight``, and a part of align_uniform with ``uniform_weight = 0`` can align.

    Args:
        name: which loss.
        weight: in a combination.
        align_weight, uniform_weight, alpha: of align_uniform, and of hyperspherical_energy as a method.
        t: of align_uniform and decoupled_uniformity.
        temperature: of info_nce, nt_xent and sup_con.
        power: of hyperspherical_energy.
    """

    name: str = "align_uniform"
    weight: float = 1.0
    align_weight: float = 1.0
    uniform_weight: float = 1.0
    alpha: float = 2.0
    t: float = 2.0
    temperature: float = 0.5
    power: float = 1.0

    def _check(self, section: str, names: tuple[str, ...]) -> None:
        _checks.one_of("Recipe", f"{section}.name", self.name, names)
        for name in ("weight", "align_weight", "uniform_weight", "power"):
            _number(f"{section}.{name}", getattr(self, name))
        for name in ("t", "temperature"):
            _checks.positive("Recipe", f"{section}.{name}", getattr(self, name))
        _checks.positive("Recipe", f"{section}.alpha", self.alpha, at_least=1)

    def __post_init__(self) -> None:
        self._check("method.parts", PARTS)


@dataclass(frozen=True)
class MethodRecipe(LossRecipe):
    """[method]: the loss, and where its negatives come from.

    Args:
        momentum: of the key encoder; 0: there is none.
        queue: rows of keys that are kept; 0: none.
        intra_batch: align_uniform with a queue: also the pairs within the batch.
        parts: of "combined": losses with weights.
    """

    momentum: float = 0.0
    queue: int = 0
    intra_batch: bool = True
    parts: tuple[LossRecipe, ...] = ()

    def __post_init__(self) -> None:
        self._check("method", METHODS)
        _number("method.momentum", self.momentum, most=1, below=True)
        _checks.whole("Recipe", "method.queue", self.queue, at_least=0)
        _flag("method.intra_batch", self.intra_batch)
        if bool(self.queue) != bool(self.momentum) or (self.queue and self.name not in QUEUED):
            _checks.refuse(
                InputError,
                "Recipe",
                "method.queue",
                f"go with method.momentum, for {' or '.join(QUEUED)}",
                "the queue keeps what the momentum encoder made",
                f"name {self.name!r}, queue {self.queue}, momentum {self.momentum:g}",
                "Pass for instance queue = 4096 and momentum = 0.99, or neither",
            )
        if bool(self.parts) != (self.name == "combined"):
            _checks.refuse(
                InputError,
                "Recipe",
                "method.parts",
                'go with name = "combined"',
                "they are the losses that it adds up",
                f"name {self.name!r} with {len(self.parts)} parts",
                'Pass for instance [[method.parts]] with name = "info_nce" and weight = 0.5',
            )


@dataclass(frozen=True)
class OptimizerRecipe:
    """[optimizer]: how weights change.

    Args:
        name: "adamw", "sgd" or "lars".
        learning_rate: the largest one, reached after the warm-up.
        scale_rate: multiply it by ``batch_size / 256``.
        momentum: of sgd and lars.
        weight_decay: 0 or more; lars leaves biases and normalisation layers out.
        schedule: "cosine", "step" or "constant".
        warmup: share of the run over which the rate rises linearly.
        milestones, gamma: of "step": shares of the run after which the rate is multiplied by gamma.
        clip: largest norm of the gradient; None: any.
    """

    name: str = "adamw"
    learning_rate: float = 3e-3
    scale_rate: bool = False
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup: float = 0.1
    milestones: tuple[float, ...] = (0.775, 0.85, 0.925)
    gamma: float = 0.1
    clip: float | None = None

    def __post_init__(self) -> None:
        _checks.one_of("Recipe", "optimizer.name", self.name, ("adamw", "sgd", "lars"))
        _checks.positive("Recipe", "optimizer.learning_rate", self.learning_rate)
        _flag("optimizer.scale_rate", self.scale_rate)
        _number("optimizer.momentum", self.momentum, most=1, below=True)
        _number("optimizer.weight_decay", self.weight_decay)
        _checks.one_of("Recipe", "optimizer.schedule", self.schedule, ("cosine", "step", "constant"))
        _number("optimizer.warmup", self.warmup, most=1)
        for share in self.milestones:
            _number("optimizer.milestones", share, most=1)
        _number("optimizer.gamma", self.gamma, most=1)
        if self.clip is not None:
            _checks.positive("Recipe", "optimizer.clip", self.clip)


@dataclass(frozen=True)
class RunRecipe:
    """[run]: how long, in what portions, and how exactly.

    Args:
        epochs, steps: passes over the data, or optimiser steps; at most one of them.
        minutes: of wall time, alone or besides epochs or steps: what is over first ends the run.
            Without any of the three: 100 epochs.
        batch_size: pairs per step, over all processes.
        seed: of initial weights, order, and views.
        precision: "no" (float32), "bf16" or "fp16".
        workers: processes that read samples; 0: the training process does.
        cached_batch: samples at a time in memory; None: the whole batch.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 256
    seed: int = 0
    precision: str = "no"
    workers: int = 0
    cached_batch: int | None = None

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None and self.minutes is None:
            object.__setattr__(self, "epochs", 100)
        if self.epochs is not None and self.steps is not None:
            _checks.refuse(
                InputError,
                "Recipe",
                "run.steps",
                "be left out when run.epochs is there",
                "both say how long the run is",
                f"epochs {self.epochs} and steps {self.steps}",
                "Leave one of them out",
            )
        _optional("run.epochs", self.epochs, at_least=0)
        _optional("run.steps", self.steps, at_least=0)
        if self.minutes is not None:
            _checks.positive("Recipe", "run.minutes", self.minutes)
        _checks.whole("Recipe", "run.batch_size", self.batch_size, at_least=2)
        _checks.whole("Recipe", "run.seed", self.seed, at_least=0)
        _checks.one_of("Recipe", "run.precision", self.precision, ("no", "bf16", "fp16"))
        _checks.whole("Recipe", "run.workers", self.workers, at_least=0)
        _optional("run.cached_batch", self.cached_batch)


@dataclass(frozen=True)
class CheckpointRecipe:
    """[checkpoints]: every so many steps (None: once an epoch); how many of the newest and best are kept."""

    every_steps: int | None = None
    keep_last: int = 3
    keep_best: int = 1

    def __post_init__(self) -> None:
        _optional("checkpoints.every_steps", self.every_steps)
        _checks.whole("Recipe", "checkpoints.keep_last", self.keep_last)
        _checks.whole("Recipe", "checkpoints.keep_best", self.keep_best, at_least=0)


@dataclass(frozen=True)
class LogRecipe:
    """[log]: a line of log.jsonl every so many steps; trackers of accelerate by name."""

    every: int = 10
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _checks.whole("Recipe", "log.every", self.every)
        for name in self.trackers:
            _text("log.trackers", name)


@dataclass(frozen=True)
class MonitorRecipe:
    """[monitor]: look at the features every so many steps; 0: never."""

    every: int = 50

    def __post_init__(self) -> None:
        _checks.whole("Recipe", "monitor.every", self.every, at_least=0)


@dataclass(frozen=True)
class Recipe:
    """How to train: one frozen, checked record of every number; see the sections.

    Example:
        >>> Recipe(run=RunRecipe(epochs=20, batch_size=512)).optimizer.name
        'adamw'
    """

    data: DataRecipe = field(default_factory=DataRecipe)
    encoder: EncoderRecipe = field(default_factory=EncoderRecipe)
    method: MethodRecipe = field(default_factory=MethodRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    run: RunRecipe = field(default_factory=RunRecipe)
    checkpoints: CheckpointRecipe = field(default_factory=CheckpointRecipe)
    log: LogRecipe = field(default_factory=LogRecipe)
    monitor: MonitorRecipe = field(default_factory=MonitorRecipe)

    def __post_init__(self) -> None:
        supervised = self.method.name == "supervised"
        if self.run.cached_batch is not None and supervised:
            _checks.refuse(
                InputError,
                "Recipe",
                "run.cached_batch",
                "be left out for supervised training",
                "its loss compares no samples, so smaller batches do the same",
                str(self.run.cached_batch),
                "Leave it out",
            )
