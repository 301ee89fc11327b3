"""Probes: how much of the labels, or of the meta-data, can be read from frozen features."""

from typing import TYPE_CHECKING, Any

from spherometer.probes._cells import Cells as Cells
from spherometer.probes._cells import cut_cells as cut_cells
from spherometer.probes._dense_ridge import DenseRidgeProbe as DenseRidgeProbe
from spherometer.probes._few_labels import few_labels as few_labels
from spherometer.probes._intervals import wilson_interval as wilson_interval
from spherometer.probes._linear import LinearProbe as LinearProbe
from spherometer.probes._multi_label import MultiLabelProbe as MultiLabelProbe
from spherometer.probes._multi_label import average_precision_scores as average_precision_scores
from spherometer.probes._nearest import KNNProbe as KNNProbe
from spherometer.probes._pck import correspondence_accuracy as correspondence_accuracy
from spherometer.probes._regression import regression_scores as regression_scores
from spherometer.probes._ridge import RidgeProbe as RidgeProbe
from spherometer.probes._segmentation import KNNSegmentation as KNNSegmentation
from spherometer.probes._segmentation import SegmentationProbe as SegmentationProbe
from spherometer.probes._segmentation_scores import segmentation_scores as segmentation_scores
from spherometer.probes._splits import group_split as group_split
from spherometer.probes._splits import stratified_split as stratified_split

if TYPE_CHECKING:
    from spherometer.probes._gcn import GCNClassifier as GCNClassifier

__all__ = ["GCNClassifier"]
__all__ += [
    name
    for name, thing in list(globals().items())
    if getattr(thing, "__module__", "").startswith("spherometer.")
]


def __getattr__(name: str) -> Any:
    if name == "GCNClassifier":  # its base class is scikit-learn's, which takes a second to import
        from spherometer.probes._gcn import GCNClassifier

        globals()[name] = GCNClassifier
        return GCNClassifier
    raise AttributeError(f"module 'spherometer.probes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
