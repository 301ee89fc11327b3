"""Which cells of two dense maps belong together: by place, by similarity, by index, or by chance."""

from spherometer.correspondence._flow import FlowField as FlowField
from spherometer.correspondence._geometry import ViewGeometry as ViewGeometry
from spherometer.correspondence._matches import Matches as Matches
from spherometer.correspondence._matching import RULES as RULES
from spherometer.correspondence._matching import match_cells as match_cells
