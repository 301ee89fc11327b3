"""Probes: how much of the labels can be read from frozen features."""

from spherometer.probes._few_labels import few_labels as few_labels
from spherometer.probes._intervals import wilson_interval as wilson_interval
from spherometer.probes._linear import LinearProbe as LinearProbe
from spherometer.probes._nearest import KNNProbe as KNNProbe
