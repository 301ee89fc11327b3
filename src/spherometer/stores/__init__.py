"""Embedding files as arrays and tables as columns, read safely; results written whole."""

from spherometer import rows
from spherometer.stores._numpy import Archive as Archive
from spherometer.stores._numpy import read_npy as read_npy
from spherometer.stores._open import open as open
from spherometer.stores._open import paths_of as paths_of
from spherometer.stores._table import column_values as column_values
from spherometer.stores._table import read_table as read_table
from spherometer.stores._usual import open_path
from spherometer.stores._usual import usual_views as usual_views
from spherometer.stores._write import remove_directory as remove_directory
from spherometer.stores._write import sweep_temporaries as sweep_temporaries
from spherometer.stores._write import write_directory as write_directory
from spherometer.stores._write import write_file as write_file

rows.register_opener(open_path)
