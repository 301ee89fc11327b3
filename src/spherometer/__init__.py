"""Spherometer: how representations lie on the unit hypersphere."""

from spherometer._version import __version__ as __version__
