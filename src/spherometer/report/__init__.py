"""One self-contained HTML page from results."""

from spherometer.report._evaluations import render_evaluations as render_evaluations
from spherometer.report._evaluations import write_evaluations as write_evaluations
from spherometer.report._study import render as render
from spherometer.report._study import write_study as write_study
