"""One self-contained HTML page from results."""

from spherometer.report._comparison import render_comparison as render_comparison
from spherometer.report._comparison import write_comparison as write_comparison
from spherometer.report._evaluations import render_evaluations as render_evaluations
from spherometer.report._evaluations import write_evaluations as write_evaluations
from spherometer.report._selection import render_selection as render_selection
from spherometer.report._selection import write_selection as write_selection
from spherometer.report._study import render as render
from spherometer.report._study import write_study as write_study
