"""Figures of results: they draw what was measured and compute nothing."""

from spherometer.plots._bandwidths import bandwidths as bandwidths
from spherometer.plots._circle import circle as circle
from spherometer.plots._conditional import bandwidth_scores as bandwidth_scores
from spherometer.plots._conditional import trade as trade
from spherometer.plots._dense_planes import dense_planes as dense_planes
from spherometer.plots._dense_study import dense_heat as dense_heat
from spherometer.plots._dense_study import dense_matching as dense_matching
from spherometer.plots._dense_study import dense_relations as dense_relations
from spherometer.plots._density_study import density_curves as density_curves
from spherometer.plots._density_study import density_panels as density_panels
from spherometer.plots._density_study import density_scales as density_scales
from spherometer.plots._density_study import density_toys as density_toys
from spherometer.plots._intervals import intervals as intervals
from spherometer.plots._local_density import local_density as local_density
from spherometer.plots._plane import plane as plane
from spherometer.plots._points import points_plane as points_plane
from spherometer.plots._points import uniformity_scale as uniformity_scale
from spherometer.plots._portrait import portrait_density as portrait_density
from spherometer.plots._portrait import portrait_distances as portrait_distances
from spherometer.plots._portrait import portrait_spectrum as portrait_spectrum
from spherometer.plots._selection import selection as selection
from spherometer.plots._style import to_png as to_png
from spherometer.plots._style import to_svg as to_svg
from spherometer.plots._sweep import sweep as sweep
from spherometer.plots._trajectories import trajectories as trajectories
