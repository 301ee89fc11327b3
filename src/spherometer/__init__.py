"""Spherometer: how representations lie on the unit hypersphere.

``import spherometer as sm``; names are loaded on first use, so importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spherometer import errors as errors
from spherometer._version import __version__ as __version__

if TYPE_CHECKING:
    from spherometer import correspondence as correspondence
    from spherometer import kernels as kernels
    from spherometer import losses as losses
    from spherometer import plots as plots
    from spherometer import probes as probes
    from spherometer import sphere as sphere
    from spherometer._alarms import Alarm as Alarm
    from spherometer._bandwidth_curve import bandwidth_curve as bandwidth_curve
    from spherometer._citation import citation as citation
    from spherometer._compare import Comparison as Comparison
    from spherometer._compare import compare as compare
    from spherometer._curve import BandwidthCurve as BandwidthCurve
    from spherometer._density import LocalDensity as LocalDensity
    from spherometer._estimates import estimate as estimate
    from spherometer._local_density import local_density as local_density
    from spherometer._measure import measure as measure
    from spherometer._monitor import Monitor as Monitor
    from spherometer._relation import Relation as Relation
    from spherometer._relation import performance_relation as performance_relation
    from spherometer._results import Evaluation as Evaluation
    from spherometer._results import Measurement as Measurement
    from spherometer._select import Selection as Selection
    from spherometer._select import select as select
    from spherometer.metrics import alignment as alignment
    from spherometer.metrics import alignment_samples as alignment_samples
    from spherometer.metrics import alpha_req as alpha_req
    from spherometer.metrics import calinski_harabasz as calinski_harabasz
    from spherometer.metrics import conditional_alignment as conditional_alignment
    from spherometer.metrics import conditional_uniformity as conditional_uniformity
    from spherometer.metrics import cross_uniformity as cross_uniformity
    from spherometer.metrics import dense_alignment as dense_alignment
    from spherometer.metrics import dense_alignment_samples as dense_alignment_samples
    from spherometer.metrics import dense_uniformity as dense_uniformity
    from spherometer.metrics import dense_uniformity_samples as dense_uniformity_samples
    from spherometer.metrics import effective_rank as effective_rank
    from spherometer.metrics import expected_uniformity as expected_uniformity
    from spherometer.metrics import graph_modularity as graph_modularity
    from spherometer.metrics import hubness as hubness
    from spherometer.metrics import hyperspherical_energy as hyperspherical_energy
    from spherometer.metrics import isoscore as isoscore
    from spherometer.metrics import lidar as lidar
    from spherometer.metrics import minimum_uniformity as minimum_uniformity
    from spherometer.metrics import neighbor_purity as neighbor_purity
    from spherometer.metrics import normalized_uniformity as normalized_uniformity
    from spherometer.metrics import participation_ratio as participation_ratio
    from spherometer.metrics import rankme as rankme
    from spherometer.metrics import relative_local_density as relative_local_density
    from spherometer.metrics import sharded_uniformity as sharded_uniformity
    from spherometer.metrics import tolerance as tolerance
    from spherometer.metrics import uniformity as uniformity
    from spherometer.metrics import uniformity_samples as uniformity_samples
    from spherometer.metrics import wasserstein_uniformity as wasserstein_uniformity
    from spherometer.rows import Embeddings as Embeddings
    from spherometer.stores import open as open

_METRICS = (
    "alignment",
    "alignment_samples",
    "alpha_req",
    "calinski_harabasz",
    "conditional_alignment",
    "conditional_uniformity",
    "cross_uniformity",
    "dense_alignment",
    "dense_alignment_samples",
    "dense_uniformity",
    "dense_uniformity_samples",
    "effective_rank",
    "expected_uniformity",
    "graph_modularity",
    "hubness",
    "hyperspherical_energy",
    "isoscore",
    "lidar",
    "minimum_uniformity",
    "neighbor_purity",
    "normalized_uniformity",
    "participation_ratio",
    "rankme",
    "relative_local_density",
    "sharded_uniformity",
    "tolerance",
    "uniformity",
    "uniformity_samples",
    "wasserstein_uniformity",
)
_RESULTS = ("Evaluation", "Measurement")
_RELATION = ("Relation", "performance_relation")
_MONITOR = ("Alarm", "Monitor")
_COMPARE = ("Comparison", "compare")
_SELECT = ("Selection", "select")
_CURVES = ("BandwidthCurve", "LocalDensity")
_OTHERS = (
    "Embeddings", "bandwidth_curve", "citation", "errors", "estimate", "local_density", "measure", "open",
)  # fmt: skip
_NAMESPACES = ("correspondence", "kernels", "losses", "plots", "probes", "sphere")

__all__ = sorted(
    (*_METRICS, *_RESULTS, *_RELATION, *_MONITOR, *_COMPARE, *_SELECT, *_NAMESPACES, *_CURVES, *_OTHERS)
)


def __getattr__(name: str) -> Any:
    # explicit imports, module by module: no name is ever turned into a module to import
    module: Any
    if name in _METRICS:
        import spherometer.metrics as module
    elif name in _RESULTS:
        import spherometer._results as module
    elif name in _RELATION:
        import spherometer._relation as module
    elif name in _MONITOR:
        import spherometer._monitor as module
    elif name in _COMPARE:
        import spherometer._compare as module
        import spherometer.stores
    elif name in _SELECT:
        import spherometer._select as module
        import spherometer.stores
    elif name == "BandwidthCurve":
        import spherometer._curve as module
    elif name == "LocalDensity":
        import spherometer._density as module
    elif name == "bandwidth_curve":
        import spherometer._bandwidth_curve as module
    elif name == "estimate":
        import spherometer._estimates as module
    elif name == "local_density":
        import spherometer._local_density as module
    elif name == "Embeddings":
        import spherometer.rows as module
    elif name == "open":
        import spherometer.stores as module
    elif name == "measure":
        import spherometer._measure as module
        import spherometer.stores  # noqa: F401 - so that it takes paths
    elif name == "citation":
        import spherometer._citation as module
    elif name == "correspondence":
        import spherometer.correspondence as module
    elif name == "kernels":
        import spherometer.kernels as module
    elif name == "losses":
        import spherometer.losses as module
    elif name == "plots":
        import spherometer.plots as module
    elif name == "probes":
        import spherometer.probes as module
    elif name == "sphere":
        import spherometer.sphere as module
    else:
        raise AttributeError(f"module 'spherometer' has no attribute {name!r}")
    return module if name in _NAMESPACES else getattr(module, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
