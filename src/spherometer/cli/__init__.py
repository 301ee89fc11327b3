"""The commands of Spherometer."""

from spherometer.cli._main import main as main
