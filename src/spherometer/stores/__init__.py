"""Embedding files as arrays, read safely; results written whole."""

from spherometer.stores._numpy import Archive as Archive
from spherometer.stores._numpy import read_npy as read_npy
from spherometer.stores._write import sweep_temporaries as sweep_temporaries
from spherometer.stores._write import write_file as write_file
