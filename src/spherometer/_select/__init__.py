"""Choosing one of several encoders without labels: ``select``, and the ``Selection`` it returns."""

from spherometer._select._criteria import CRITERIA as CRITERIA
from spherometer._select._result import Candidate as Candidate
from spherometer._select._result import Selection as Selection
from spherometer._select._select import select as select
