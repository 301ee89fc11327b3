"""The sections of a recipe that say what is compared with what: losses and methods."""

from __future__ import annotations

from dataclasses import dataclass

from spherometer import _checks
from spherometer.correspondence import RULES
from spherometer.errors import InputError
from spherometer.kernels import kernel_from_text
from spherometer.training import _fields

METHODS = (
    "align_uniform",
    "info_nce",
    "nt_xent",
    "sup_con",
    "decoupled_uniformity",
    "hyperspherical_energy",
    "y_aware",
    "conditional_align_uniform",
    "dense_info_nce",
    "dense_align_uniform",
    "combined",
    "supervised",
)
DENSE = ("dense_info_nce", "dense_align_uniform")  # methods that compare the cells of dense maps
LABELLED = ("sup_con", "supervised")  # methods that draw samples of a class together
CONDITIONAL = ("y_aware", "conditional_align_uniform")  # methods that compare meta-data
_NO_PARTS = (*CONDITIONAL, *DENSE, "sup_con", "combined", "supervised")
PARTS = tuple(name for name in METHODS if name not in _NO_PARTS)
QUEUED = ("align_uniform", "info_nce")  # methods that can take keys from a momentum encoder's queue


@dataclass(frozen=True)
class LossRecipe:
    """One loss, with the parameters of all of them; each takes those that it has.

    The energy repels and knows no pairs. As the method of a run, hyperspherical_energy therefore is
    ``align_weight * alignment + uniform_weight * energy``. Among the parts of "combined" it is the energy
    alone, times ``weight``, and a part of align_uniform with ``uniform_weight = 0`` can align.

    Args:
        name: which loss.
        weight: in a combination.
        align_weight, uniform_weight, alpha: of align_uniform, and as methods of hyperspherical_energy and
            conditional_align_uniform, where they belong to the conditional terms.
        t: of align_uniform, conditional_align_uniform and decoupled_uniformity.
        temperature: of info_nce, nt_xent, sup_con and y_aware (whose paper takes 0.1).
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
            _fields.number(f"{section}.{name}", getattr(self, name))
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
        kernel: how meta-data are compared: "column:kind[:bandwidth or rule[:period]]" for each column that is
            (see ``kernels.kernel_from_text``). None: every column of data.metadata, numbers by a Gaussian of
            the median rule, strings by equality. Rules look at the training part, once. Given one,
            decoupled_uniformity estimates centroids by it; methods that know no meta-data are measured by it.
        missing: of the kernel: "refuse" (None), "neutral", or "drop": rows with gaps are not trained on.
        repulsion: of y_aware: "all" (None), "threshold" or "expw".
        form, threshold: of the conditional uniformity of conditional_align_uniform.
        instance_align_weight, global_uniform_weight: of conditional_align_uniform: of the two terms that know
            no meta-data.
        dense_weight: of the dense methods: share of the loss of the cells, the rest is that of the whole
            images. None: 0.5.
        matching: of the dense methods, how cells find their partners: "geometric" (None), "similarity",
            "index" or "random".
        num_cells: of dense_align_uniform: most cells of a batch whose spread is taken; None: all.
        dense_dim: of the dense methods: coordinates of a cell. None: 128.
    """

    momentum: float = 0.0
    queue: int = 0
    intra_batch: bool = True
    parts: tuple[LossRecipe, ...] = ()
    kernel: tuple[str, ...] | None = None
    missing: str | None = None
    repulsion: str | None = None
    form: str | None = None
    threshold: float | None = None
    instance_align_weight: float | None = None
    global_uniform_weight: float | None = None
    dense_weight: float | None = None
    matching: str | None = None
    num_cells: int | None = None
    dense_dim: int | None = None

    @property
    def dense(self) -> bool:
        """Whether cells of dense maps are compared."""
        return self.name in DENSE

    @property
    def trains_instances(self) -> bool:
        """Whether anything trains the output for the sample as a whole."""
        return not self.dense or self.dense_weight is None or self.dense_weight < 1

    @property
    def conditional(self) -> bool:
        """Whether the loss compares meta-data."""
        return self.name in CONDITIONAL or (self.name == "decoupled_uniformity" and self.kernel is not None)

    @property
    def compared(self) -> tuple[str, ...] | None:
        """Columns of the kernel; None: all that there are."""
        return None if self.kernel is None else tuple(kernel_from_text(each)[0] for each in self.kernel)

    def __post_init__(self) -> None:
        self._check("method", METHODS)
        _fields.number("method.momentum", self.momentum, most=1, below=True)
        _checks.whole("Recipe", "method.queue", self.queue, at_least=0)
        _fields.flag("method.intra_batch", self.intra_batch)
        _fields.names("method.kernel", self.compared, example='kernel = ["age:gaussian:5"]')
        self._check_conditional()
        self._check_dense()
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

    def _check_conditional(self) -> None:
        own = ("form", "threshold", "instance_align_weight", "global_uniform_weight")
        given = {name: getattr(self, name) for name in own}
        _fields.only_for("method", self.name, {"repulsion": self.repulsion}, ("y_aware",))
        _fields.only_for("method", self.name, given, ("conditional_align_uniform",))
        for name, value, choices in (
            ("missing", self.missing, ("refuse", "neutral", "drop")),
            ("repulsion", self.repulsion, ("all", "threshold", "expw")),
            ("form", self.form, ("normalized", "mean", "threshold")),
        ):
            if value is not None:
                _checks.one_of("Recipe", f"method.{name}", value, choices)
        if self.threshold is not None:
            _fields.number("method.threshold", self.threshold, most=1)
        for name in ("instance_align_weight", "global_uniform_weight"):
            if given[name] is not None:
                _fields.number(f"method.{name}", given[name])

    def _check_dense(self) -> None:
        own = {name: getattr(self, name) for name in ("dense_weight", "matching", "dense_dim")}
        _fields.only_for("method", self.name, own, DENSE)
        _fields.only_for("method", self.name, {"num_cells": self.num_cells}, ("dense_align_uniform",))
        if self.dense_weight is not None:
            _fields.number("method.dense_weight", self.dense_weight, most=1)
        if self.matching is not None:
            _checks.one_of("Recipe", "method.matching", self.matching, RULES)
        _fields.optional("method.num_cells", self.num_cells, at_least=2)
        _fields.optional("method.dense_dim", self.dense_dim)
