"""Two-dimensional pictures of features: t-SNE at several perplexities, or principal components.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, np.dtype[np.float64]]
_COMPONENTS = 50  # principal components that t-SNE starts from, as the paper's


def panels(
    features: Tensor, labels: Tensor, perplexities: Sequence[float], seed: int = 0
) -> list[tuple[str, Array]]:
    """One picture for each perplexity: its method and points [N, 2], each axis scaled to [0, 1].

    t-SNE (openTSNE, one thread, from principal components) where it is installed and the perplexity is at
    most (N - 1) / 3; otherwise the first two principal components. ``labels`` are not looked at: they only go
    with the points.
    """
    del labels
    rows = features.detach().cpu().double().numpy()
    components = _components(rows)
    found: list[tuple[str, Array]] = []
    able = importlib.util.find_spec("openTSNE") is not None
    for perplexity in perplexities:
        if able and 1 < perplexity <= (len(rows) - 1) / 3:
            found.append(("t-SNE", _scaled(_tsne(components[:, :_COMPONENTS], perplexity, seed))))
        else:
            found.append(("PCA", _scaled(components[:, :2])))
    return found


def _components(rows: Array) -> Array:
    """Principal components [N, min(N, D)] (at least two), each with its largest entry positive."""
    centred = rows - rows.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    found: Array = left * values
    found *= np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])] + 1e-300)
    if found.shape[1] < 2:
        found = np.concatenate([found, np.zeros((len(found), 1))], axis=1)
    return found


def _tsne(components: Array, perplexity: float, seed: int) -> Array:
    """openTSNE from the first two components, deterministic."""
    import openTSNE

    start = components[:, :2] / max(float(components[:, 0].std()), 1e-300) * 1e-4
    made = openTSNE.TSNE(
        perplexity=perplexity,
        initialization=start,
        negative_gradient_method="bh",
        neighbors="exact",
        n_jobs=1,
        random_state=seed,
    ).fit(components)
    return np.asarray(made, dtype=np.float64)


def _scaled(points: Array) -> Array:
    low, high = points.min(axis=0), points.max(axis=0)
    width = float((high - low).max())
    scaled: Array = (points - low) / (width if width > 0 and math.isfinite(width) else 1.0)
    return scaled
