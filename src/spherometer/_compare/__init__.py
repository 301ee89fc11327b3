"""Comparing two sets of features: ``compare``, and the ``Comparison`` it returns."""

from spherometer._compare._compare import compare as compare
from spherometer._compare._comparison import Compared as Compared
from spherometer._compare._comparison import Comparison as Comparison
