"""Metrics of representations: pure functions of tensors or NumPy arrays."""

from spherometer.metrics._alignment import alignment as alignment
from spherometer.metrics._alignment import alignment_samples as alignment_samples
from spherometer.metrics._calinski_harabasz import calinski_harabasz as calinski_harabasz
from spherometer.metrics._conditional import conditional_alignment as conditional_alignment
from spherometer.metrics._conditional import conditional_uniformity as conditional_uniformity
from spherometer.metrics._dense_alignment import dense_alignment as dense_alignment
from spherometer.metrics._dense_alignment import dense_alignment_samples as dense_alignment_samples
from spherometer.metrics._dense_uniformity import dense_uniformity as dense_uniformity
from spherometer.metrics._dense_uniformity import dense_uniformity_samples as dense_uniformity_samples
from spherometer.metrics._energy import hyperspherical_energy as hyperspherical_energy
from spherometer.metrics._hubness import hubness as hubness
from spherometer.metrics._lidar import lidar as lidar
from spherometer.metrics._local_density import graph_modularity as graph_modularity
from spherometer.metrics._local_density import relative_local_density as relative_local_density
from spherometer.metrics._neighbors import neighbor_purity as neighbor_purity
from spherometer.metrics._neighbors import tolerance as tolerance
from spherometer.metrics._sharded import sharded_uniformity as sharded_uniformity
from spherometer.metrics._spectrum import effective_rank as effective_rank
from spherometer.metrics._spectrum import participation_ratio as participation_ratio
from spherometer.metrics._spectrum import rankme as rankme
from spherometer.metrics._spectrum import wasserstein_uniformity as wasserstein_uniformity
from spherometer.metrics._spectrum_slopes import alpha_req as alpha_req
from spherometer.metrics._spectrum_slopes import isoscore as isoscore
from spherometer.metrics._uniformity import cross_uniformity as cross_uniformity
from spherometer.metrics._uniformity import normalized_uniformity as normalized_uniformity
from spherometer.metrics._uniformity import uniformity as uniformity
from spherometer.metrics._uniformity import uniformity_samples as uniformity_samples
from spherometer.sphere import expected_uniformity as expected_uniformity
from spherometer.sphere import minimum_uniformity as minimum_uniformity

__all__ = [
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
]
