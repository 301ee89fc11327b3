"""Studies: many encoders, their measurements and probes, and how the two relate."""

from spherometer.study._digits import run_digits as run_digits
from spherometer.study._text import run_text as run_text
