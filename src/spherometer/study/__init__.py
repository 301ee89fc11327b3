"""Studies: many encoders, their measurements and probes, and how the two relate."""

from spherometer.study._brain import run_brain as run_brain
from spherometer.study._conditional import run_diabetes as run_diabetes
from spherometer.study._conditional import run_digits_metadata as run_digits_metadata
from spherometer.study._dense import run_dense as run_dense
from spherometer.study._digits import run_digits as run_digits
from spherometer.study._local_density import run_local_density as run_local_density
from spherometer.study._text import run_text as run_text
