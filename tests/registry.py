"""Every public metric and loss with what it promises; the battery runs over this list.

A new metric or loss is added here, or ``test_battery.py`` fails.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import oracles
import spherometer as sm
from spherometer import metrics as metrics_room


@dataclass(frozen=True)
class Metric:
    """A metric of feature rows and its promises."""

    name: str
    function: Callable[..., Any]
    oracle: Callable[..., Any]
    arguments: tuple[str, ...] = ("z",)  # names of the feature arguments
    paired: bool = False  # rows of the arguments belong together
    labelled: bool = False
    labels_name: str = "labels"
    conditional: bool = False  # needs meta-data: a number for each row, all distinct
    min_rows: int = 1
    per_row: bool = False
    on_sphere: bool = True  # normalises by default and refuses zero rows and rows off the sphere
    checks_sphere: bool = True  # normalize=False verifies unit rows (else it uses any rows)
    rotation_invariant: bool = True
    permutation_invariant: bool = True
    constant_defined: bool = True
    constant_refused: str = (  # how, where it is not
        "z must have rows that differ, because without variance there are no components to count. "
        "Got identical rows."
    )
    min_dim: int = 1  # fewer dimensions are refused
    sees_small_directions: bool = False  # logarithms of variances: what is nearly flat decides
    counts_dimensions: bool = False  # empty coordinates change it
    distinct_rows: bool = False  # rows in the same place are refused
    spread_classes: bool = False  # a class whose rows differ is needed
    has_t: bool = False
    has_alpha: bool = False
    has_estimator: bool = False
    has_power: bool = False
    differentiable: bool = False
    low: float = -np.inf
    high: float = np.inf
    tolerance: tuple[float, float] = (1e-6, 1e-12)  # absolute, float32 and float64 input
    options: dict[str, Any] = field(default_factory=dict)

    def inputs(self, z: Any, other: Any = None) -> tuple[Any, ...]:
        """Feature arguments made of one set: the second side is ``other`` (or the reversed rows)."""
        if len(self.arguments) == 1:
            return (z,)
        if other is None:
            other = z[::-1] if isinstance(z, np.ndarray) else z.flip(0)
        return z, other

    @property
    def positional(self) -> list[str]:
        """Names of what may be passed by position."""
        more = {self.labels_name: self.labelled, "metadata": self.conditional}
        return [*self.arguments, *(name for name, wanted in more.items() if wanted)]

    def labels(self, num: int) -> tuple[Any, ...]:
        """Two interleaved classes when the metric wants labels, ages when it wants meta-data."""
        if self.conditional:
            return ([(7 * i) % 11 + i / 7 for i in range(num)],)
        return ([i % 2 for i in range(num)],) if self.labelled else ()

    def call(self, *features: Any, **options: Any) -> Any:
        """The metric of these features, with labels when it needs them."""
        return self.function(*features, *self.labels(len(features[0])), **{**self.options, **options})

    def reference(self, *features: Any, **options: Any) -> Any:
        """The oracle of the same arguments."""
        rows = [np.asarray(each, dtype=np.float64) for each in features]
        return self.oracle(*rows, *self.labels(len(features[0])), **{**self.options, **options})

    def __str__(self) -> str:
        return self.name


_uniformity = {"min_rows": 2, "has_t": True, "has_estimator": True, "high": 1e-9}
_density = {
    "labelled": True,
    "min_rows": 2,
    "checks_sphere": False,
    "permutation_invariant": False,  # the labels stay where they are
    "constant_defined": False,
    "constant_refused": (
        "z must hold at least two different rows, because distances are measured against their mean, "
        "which is 0 here. Got 12 equal rows."
    ),
    "low": -0.5 - 1e-6,
    "high": 1.0,
    "tolerance": (2e-6, 1e-9),
}
_spectrum = {"on_sphere": False, "checks_sphere": False, "low": 1 - 1e-5, "tolerance": (1e-5, 1e-8)}

METRICS = [
    Metric(
        "alignment",
        sm.alignment,
        oracles.alignment,
        arguments=("x", "y"),
        paired=True,
        has_alpha=True,
        differentiable=True,
        low=0,
        high=4 + 1e-9,
        tolerance=(1e-6, 4e-15),
    ),
    Metric(
        "alignment_samples",
        sm.alignment_samples,
        oracles.alignment_samples,
        arguments=("x", "y"),
        paired=True,
        per_row=True,
        has_alpha=True,
        differentiable=True,
        low=0,
        high=4 + 1e-6,
        tolerance=(1e-6, 4e-15),
    ),
    Metric(
        "uniformity", sm.uniformity, oracles.uniformity, differentiable=True, low=-8.0 - 1e-6, **_uniformity
    ),
    Metric(
        "sharded_uniformity",
        metrics_room.sharded_uniformity,
        oracles.uniformity,
        differentiable=True,
        low=-8.0 - 1e-6,
        **_uniformity,
    ),
    Metric(
        "uniformity_samples",
        sm.uniformity_samples,
        oracles.uniformity_samples,
        per_row=True,
        low=-8.0 - 1e-5,
        **{**_uniformity, "high": 1e-6},
    ),
    Metric(
        "cross_uniformity",
        sm.cross_uniformity,
        oracles.cross_uniformity,
        arguments=("x", "y"),
        has_t=True,
        differentiable=True,
        low=-8.0 - 1e-6,
        high=1e-9,
    ),
    Metric(
        "normalized_uniformity",
        sm.normalized_uniformity,
        oracles.normalized_uniformity,
        counts_dimensions=True,
        differentiable=True,
        **{**_uniformity, "high": 1 + 1e-9},
    ),
    Metric(
        "hyperspherical_energy",
        metrics_room.hyperspherical_energy,
        oracles.hyperspherical_energy,
        min_rows=2,
        constant_defined=False,
        distinct_rows=True,
        has_power=True,
        differentiable=True,
        low=0.5,
    ),
    Metric(
        "conditional_alignment",
        sm.conditional_alignment,
        oracles.conditional_alignment,
        arguments=("x", "y"),
        paired=True,
        conditional=True,
        has_alpha=True,
        differentiable=True,
        permutation_invariant=False,  # the meta-data stay where they are
        low=0,
        high=4 + 1e-9,
        tolerance=(1e-6, 1e-14),
        options={"kernel": sm.kernels.Gaussian(2.0)},
    ),
    Metric(
        "conditional_uniformity",
        sm.conditional_uniformity,
        oracles.conditional_uniformity,
        conditional=True,
        min_rows=2,
        has_t=True,
        differentiable=True,
        permutation_invariant=False,
        low=-8.0 - 1e-6,
        high=1e-9,
        tolerance=(1e-6, 1e-13),
        options={"kernel": sm.kernels.Gaussian(2.0)},
    ),
    Metric("rankme", sm.rankme, oracles.rankme, high=1000, **_spectrum),
    Metric("effective_rank", sm.effective_rank, oracles.effective_rank, high=1000, **_spectrum),
    Metric(
        "participation_ratio",
        sm.participation_ratio,
        oracles.participation_ratio,
        min_rows=2,
        constant_defined=False,
        high=1000,
        **_spectrum,
    ),
    Metric(
        "alpha_req",
        metrics_room.alpha_req,
        oracles.alpha_req,
        min_rows=3,
        min_dim=2,
        sees_small_directions=True,
        constant_defined=False,
        **{**_spectrum, "low": 0},
    ),
    Metric(
        "isoscore",
        metrics_room.isoscore,
        oracles.isoscore,
        min_rows=2,
        min_dim=2,
        counts_dimensions=True,
        constant_defined=False,
        high=1,
        **{**_spectrum, "low": 0},
    ),
    Metric(
        "wasserstein_uniformity",
        sm.wasserstein_uniformity,
        oracles.wasserstein_uniformity,
        min_rows=2,
        low=0,
        high=np.sqrt(2) + 1e-9,
        counts_dimensions=True,
        tolerance=(1e-6, 1e-8),
    ),
    Metric(
        "neighbor_purity",
        sm.neighbor_purity,
        oracles.neighbor_purity,
        labelled=True,
        min_rows=2,
        checks_sphere=False,
        permutation_invariant=False,  # ties go to the lower index
        low=0,
        high=1,
        options={"k": 1},
    ),
    Metric(
        "tolerance",
        sm.tolerance,
        oracles.tolerance,
        labelled=True,
        min_rows=3,  # with two alternating classes: the first that has a pair
        checks_sphere=False,
        permutation_invariant=False,  # the labels stay where they are
        low=-1 - 1e-6,
        high=1 + 1e-6,
    ),
    Metric(
        "hubness",
        metrics_room.hubness,
        oracles.hubness,
        min_rows=2,
        checks_sphere=False,
        permutation_invariant=False,  # ties go to the lower index
        options={"k": 1},
    ),
    Metric(
        "calinski_harabasz",
        metrics_room.calinski_harabasz,
        oracles.calinski_harabasz,
        labelled=True,
        min_rows=3,  # with two alternating classes: the first with fewer classes than rows
        checks_sphere=False,
        permutation_invariant=False,  # the labels stay where they are
        constant_defined=False,
        constant_refused=(
            "z must hold at least two different rows, because variance between classes is measured against "
            "the rest, and there is none at all. Got 12 rows that are equal, or differ in their last digits "
            "at most."
        ),
        spread_classes=True,
        low=0,
        tolerance=(1e-5, 1e-9),
    ),
    Metric(
        "relative_local_density",
        metrics_room.relative_local_density,
        oracles.relative_local_density,
        options={"temperature": 0.4},
        **_density,
    ),
    Metric(
        "graph_modularity",
        metrics_room.graph_modularity,
        oracles.relative_local_density,
        labels_name="partitions",
        options={"temperature": 0.2},
        **_density,
    ),
]
METRIC = {metric.name: metric for metric in METRICS}
KEEPERS = {"MemoryQueue"}  # in losses, but not a loss: what a loss takes
DENSE_METRICS = {  # of maps, not of rows: what they promise is tested in test_dense.py
    "dense_alignment",
    "dense_alignment_samples",
    "dense_uniformity",
    "dense_uniformity_samples",
}
VIEW_METRICS = {"lidar"}  # of [N, V, D] views: what it promises is tested in test_spectrum_more.py
DENSE_LOSSES = {"DenseAlignUniformLoss", "DenseInfoNCELoss"}  # of maps: see test_losses_dense.py
CLOSED_FORMS = {"expected_uniformity", "minimum_uniformity"}  # functions of numbers, not of features


@dataclass(frozen=True)
class Loss:
    """A loss of two views and its promises. ``call(z1, z2)`` runs it with its defaults."""

    name: str
    call: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    min_rows: int = 2
    collapsed: Callable[[int], float] = lambda num: 0.0  # value when every row is the same, num rows
    rotation_invariant: bool = True
    permutation_invariant: bool = True
    swap_invariant: bool = True
    uses_second_view: bool = True
    labelled: bool = False  # needs labels: two interleaved classes
    conditional: bool = False  # needs meta-data: ages
    options: dict[str, Any] = field(default_factory=dict)  # what it cannot do without

    def __str__(self) -> str:
        return self.name


def _classes(x: Any) -> list[int]:
    """Two interleaved classes; also for what is no tensor, so that the loss refuses that first."""
    return [i % 2 for i in range(len(x) if hasattr(x, "__len__") else 0)]


def ages(x: Any) -> torch.Tensor:
    """A number for each row, all distinct; also for what is no tensor, for the loss to refuse it."""
    index = torch.arange(len(x) if hasattr(x, "__len__") else 0, dtype=torch.float64)
    return (7 * index) % 11 + index / 7


_KERNEL = {"kernel": sm.kernels.Gaussian(2.0)}


def _combined() -> torch.nn.Module:
    return sm.losses.CombinedLoss([(1.0, sm.losses.AlignUniformLoss()), (1.0, sm.losses.InfoNCELoss())])


LOSSES = [
    Loss("align_loss", lambda x, y: sm.losses.align_loss(x, y), min_rows=1),
    Loss(
        "uniform_loss", lambda x, y: sm.losses.uniform_loss(x), swap_invariant=False, uses_second_view=False
    ),
    Loss("align_uniform_loss", lambda x, y: sm.losses.align_uniform_loss(x, y)),
    Loss("AlignUniformLoss", lambda x, y: sm.losses.AlignUniformLoss()(x, y)),
    Loss("info_nce_loss", lambda x, y: sm.losses.info_nce_loss(x, y), collapsed=np.log),
    Loss("InfoNCELoss", lambda x, y: sm.losses.InfoNCELoss()(x, y), collapsed=np.log),
    Loss("nt_xent_loss", lambda x, y: sm.losses.nt_xent_loss(x, y), collapsed=lambda n: np.log(2 * n - 1)),
    Loss("NTXentLoss", lambda x, y: sm.losses.NTXentLoss()(x, y), collapsed=lambda n: np.log(2 * n - 1)),
    Loss(
        "sup_con_loss",
        lambda x, y: sm.losses.sup_con_loss(x, y, _classes(x)),
        collapsed=lambda n: np.log(2 * n - 1),
        permutation_invariant=False,  # the labels stay where they are
        labelled=True,
    ),
    Loss(
        "SupConLoss",
        lambda x, y: sm.losses.SupConLoss()(x, y, _classes(x)),
        collapsed=lambda n: np.log(2 * n - 1),
        permutation_invariant=False,
        labelled=True,
    ),
    Loss("decoupled_uniformity_loss", lambda x, y: sm.losses.decoupled_uniformity_loss(x, y)),
    Loss("DecoupledUniformityLoss", lambda x, y: sm.losses.DecoupledUniformityLoss()(x, y)),
    Loss(
        "hyperspherical_energy_loss",
        lambda x, y: sm.losses.hyperspherical_energy_loss(x, y),
        collapsed=lambda n: 1000.0,  # eps^(-1/2)
    ),
    Loss(
        "HypersphericalEnergyLoss",
        lambda x, y: sm.losses.HypersphericalEnergyLoss()(x, y),
        collapsed=lambda n: 1000.0,
    ),
    Loss(
        "y_aware_info_nce_loss",
        lambda x, y: sm.losses.y_aware_info_nce_loss(x, y, ages(x), **_KERNEL),
        collapsed=lambda n: np.log(2 * n - 1),
        permutation_invariant=False,  # the meta-data stay where they are
        conditional=True,
        options=_KERNEL,
    ),
    Loss(
        "YAwareInfoNCELoss",
        lambda x, y: sm.losses.YAwareInfoNCELoss(**_KERNEL)(x, y, ages(x)),
        collapsed=lambda n: np.log(2 * n - 1),
        permutation_invariant=False,
        conditional=True,
        options=_KERNEL,
    ),
    Loss(
        "conditional_align_uniform_loss",
        lambda x, y: sm.losses.conditional_align_uniform_loss(x, y, ages(x), **_KERNEL),
        permutation_invariant=False,
        swap_invariant=False,  # rows of the first view are the anchors
        conditional=True,
        options=_KERNEL,
    ),
    Loss(
        "ConditionalAlignUniformLoss",
        lambda x, y: sm.losses.ConditionalAlignUniformLoss(**_KERNEL)(x, y, ages(x)),
        permutation_invariant=False,
        swap_invariant=False,
        conditional=True,
        options=_KERNEL,
    ),
    Loss("CombinedLoss", lambda x, y: _combined()(x, y), collapsed=np.log),
]
LOSS = {loss.name: loss for loss in LOSSES}
