"""Embedding files as arrays, read safely; results written whole."""

from spherometer.stores._numpy import Archive as Archive
from spherometer.stores._numpy import read_npy as read_npy
from spherometer.stores._write import remove_directory as remove_directory
from spherometer.stores._write import sweep_temporaries as sweep_temporaries
from spherometer.stores._write import write_directory as write_directory
from spherometer.stores._write import write_file as write_file
