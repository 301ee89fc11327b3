"""Embedding files as arrays, read safely."""

from spherometer.stores._numpy import Archive as Archive
from spherometer.stores._numpy import read_npy as read_npy
