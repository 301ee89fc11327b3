"""Handwritten digits, 1797 images of 8 x 8 pixels, bundled with scikit-learn."""

from __future__ import annotations

import torch

from spherometer.data._images import ImageSet, stratified_split


def load_digits() -> ImageSet:
    """The digits, scaled to [0, 1]: half of every class trains, 20 % validates, 30 % tests.

    The test part is large because its size decides how wide the intervals of the accuracies are.
    """
    from sklearn.datasets import load_digits as read

    bunch = read()
    images = torch.from_numpy(bunch.images).to(torch.float32).div(16).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    source = "Handwritten digits of UCI (Alpaydin & Kaynak 1998), as bundled with scikit-learn"
    return ImageSet("digits", source, images, labels, stratified_split(labels, validation=0.2, test=0.3))
