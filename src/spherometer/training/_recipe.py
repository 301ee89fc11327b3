"""Every number of a training run, in frozen records, one for each section of a recipe file."""

from __future__ import annotations

from dataclasses import dataclass, field

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.training import _fields
from spherometer.training._recipe_method import CONDITIONAL as CONDITIONAL
from spherometer.training._recipe_method import DENSE as DENSE
from spherometer.training._recipe_method import LABELLED as LABELLED
from spherometer.training._recipe_method import METHODS as METHODS
from spherometer.training._recipe_method import LossRecipe as LossRecipe
from spherometer.training._recipe_method import MethodRecipe as MethodRecipe


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
        metadata: columns of the meta-data that methods compare and probes predict, such as "age" and "sex".
        metadata_file: a .csv or .tsv table of them for images, which bring none: row i is about image i of an
            array or named set; of a folder, the row whose column "file" names it. A column of subjects keeps
            their images together when a fifth is set apart.
        suffix, derivatives, space: which volumes of a BIDS tree.
        voxel_size: edge of a voxel in mm that volumes are resampled to.
        shape: voxels along each axis that volumes are resampled to.
        cache_dir: where preprocessed volumes are kept.
        split_seed: decides which subjects of volumes without parts are set apart to be tested; None: 0.
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
    metadata: tuple[str, ...] | None = None
    metadata_file: str | None = None
    suffix: str | None = None
    derivatives: str | None = None
    space: str | None = None
    voxel_size: float | None = None
    shape: tuple[int, ...] | None = None
    cache_dir: str | None = None
    split_seed: int | None = None

    def __post_init__(self) -> None:
        _fields.text("data.name", self.name)
        _fields.text("data.views", self.views)
        texts = ("data_dir", "image", "label", "left", "right", "metadata_file")
        for name in (*texts, "suffix", "derivatives", "space", "cache_dir"):
            _fields.text(f"data.{name}", getattr(self, name), optional=True)
        _fields.text("data.part", self.part)
        _fields.optional("data.size", self.size)
        _fields.optional("data.split_seed", self.split_seed, at_least=0)
        _checks.whole("Recipe", "data.skip_bad", self.skip_bad, at_least=0)
        _fields.names("data.metadata", self.metadata, example='metadata = ["age"]')
        if self.metadata_file is not None and self.name.startswith(("bids:", "volumes:")):
            _fields.refuse("data.metadata_file", "be left out for volumes", "they have a table of their own",
                           repr(self.metadata_file)[:80], "Leave it out")  # fmt: skip
        if self.voxel_size is not None:
            _checks.positive("Recipe", "data.voxel_size", self.voxel_size)
        if self.shape is not None:
            for side in self.shape:
                _checks.whole("Recipe", "data.shape", side)
            if len(self.shape) != 3 or self.voxel_size is not None:
                _fields.refuse(
                    "data.shape", "have three numbers, and go without data.voxel_size",
                    "either of them says what the grid is",
                    f"{list(self.shape)!r}, voxel_size {self.voxel_size}", "Pass one of the two",
                )  # fmt: skip


@dataclass(frozen=True)
class EncoderRecipe:
    """[encoder]: what is trained. A field of None has the encoder's own default.

    Args:
        name: of the architecture; "auto": "conv" for images, "conv3d" for volumes, "bag" for text.
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
        _fields.text("encoder.name", self.name)
        _checks.whole("Recipe", "encoder.dim", self.dim)
        for name in ("head", "stem", "norm"):
            _fields.text(f"encoder.{name}", getattr(self, name), optional=True)
        _fields.optional("encoder.hidden", self.hidden)
        _fields.optional("encoder.width", self.width)


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
        _fields.flag("optimizer.scale_rate", self.scale_rate)
        _fields.number("optimizer.momentum", self.momentum, most=1, below=True)
        _fields.number("optimizer.weight_decay", self.weight_decay)
        _checks.one_of("Recipe", "optimizer.schedule", self.schedule, ("cosine", "step", "constant"))
        _fields.number("optimizer.warmup", self.warmup, most=1)
        for share in self.milestones:
            _fields.number("optimizer.milestones", share, most=1)
        _fields.number("optimizer.gamma", self.gamma, most=1)
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
        _fields.optional("run.epochs", self.epochs, at_least=0)
        _fields.optional("run.steps", self.steps, at_least=0)
        if self.minutes is not None:
            _checks.positive("Recipe", "run.minutes", self.minutes)
        _checks.whole("Recipe", "run.batch_size", self.batch_size, at_least=2)
        _checks.whole("Recipe", "run.seed", self.seed, at_least=0)
        _checks.one_of("Recipe", "run.precision", self.precision, ("no", "bf16", "fp16"))
        _checks.whole("Recipe", "run.workers", self.workers, at_least=0)
        _fields.optional("run.cached_batch", self.cached_batch)


@dataclass(frozen=True)
class CheckpointRecipe:
    """[checkpoints]: every so many steps (None: once an epoch); how many of the newest and best are kept."""

    every_steps: int | None = None
    keep_last: int = 3
    keep_best: int = 1

    def __post_init__(self) -> None:
        _fields.optional("checkpoints.every_steps", self.every_steps)
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
            _fields.text("log.trackers", name)


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
        self._check_metadata()
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

    def _check_metadata(self) -> None:
        columns, method = self.data.metadata, self.method
        if columns is None:
            asks = [("method.name", method.name if method.conditional else None)]
            asks += [(f"method.{name}", getattr(method, name)) for name in ("kernel", "missing")]
            asks.append(("data.metadata_file", self.data.metadata_file))
            got = [f"{name} = {value!r}" for name, value in asks if value is not None]
            if got:
                _fields.refuse(
                    "data.metadata", "name columns", "they are compared or probed", f"none for {got[0]}"[:80],
                    'Pass for instance metadata = ["age", "sex"] (--metadata age,sex)',
                )  # fmt: skip
            return
        for name in method.compared or ():
            _fields.among("method.kernel", name, columns, "it compares columns of data.metadata")
