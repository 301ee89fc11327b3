"""Tiled reductions over all pairs of rows: the only O(N^2) code of the package."""

from spherometer.pairs._conditional import Similarity as Similarity
from spherometer.pairs._conditional import anchor_distances as anchor_distances
from spherometer.pairs._conditional import conditional_distances as conditional_distances
from spherometer.pairs._conditional import kernel_sums as kernel_sums
from spherometer.pairs._dissimilar import conditional_potential as conditional_potential
from spherometer.pairs._dissimilar import conditional_row_sums as conditional_row_sums
from spherometer.pairs._dissimilar import refuse_all_alike as refuse_all_alike
from spherometer.pairs._energy import riesz_energy as riesz_energy
from spherometer.pairs._energy import riesz_sum as riesz_sum
from spherometer.pairs._gaussian import cross_gaussian_potential as cross_gaussian_potential
from spherometer.pairs._gaussian import gaussian_potential as gaussian_potential
from spherometer.pairs._logsumexp import masked_logsumexp as masked_logsumexp
from spherometer.pairs._moments import GaussianMoments as GaussianMoments
from spherometer.pairs._moments import gaussian_log_rows as gaussian_log_rows
from spherometer.pairs._moments import gaussian_moments as gaussian_moments
from spherometer.pairs._nearest import nearest as nearest
from spherometer.pairs._nearest import nearest_blocks as nearest_blocks
from spherometer.pairs._neighbor_graph import NeighborGraph as NeighborGraph
from spherometer.pairs._neighbor_graph import class_strengths as class_strengths
from spherometer.pairs._neighbor_graph import edge_blocks as edge_blocks
from spherometer.pairs._neighbor_graph import neighbor_graph as neighbor_graph
from spherometer.pairs._repulsion import repelled_rows as repelled_rows
from spherometer.pairs._tiles import outside_graphs as outside_graphs
