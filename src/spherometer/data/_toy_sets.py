"""Six sets of points in the plane on which the eye can judge what local and global density mean.

Shapes: N = 5 n points, n in each class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from spherometer import _checks

NUM_CLASSES = 5
_PER_CENTRE = 15  # points around each centre of "small"

Array = np.ndarray[Any, np.dtype[Any]]
Labels = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class ToySet:
    """Points of five classes.

    Attributes:
        points: [N, 2].
        labels: [N] 0 ... 4.
        words: how they were made.
    """

    points: Array
    labels: Labels
    words: str


def _uniform(labels: Labels, generator: np.random.Generator) -> Array:
    return generator.uniform(-1, 1, (len(labels), 2))


def _turned(radius: Array, angle: Array) -> Array:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _circles(labels: Labels, generator: np.random.Generator) -> Array:
    angle = generator.uniform(0, 2 * math.pi, len(labels))
    return _turned(0.2 * labels + 0.2, angle) + _noise(labels, generator, 0.01)


def _star(labels: Labels, generator: np.random.Generator) -> Array:
    along = generator.uniform(-1, 1, len(labels))
    return _turned(along, labels * (math.pi / NUM_CLASSES)) + _noise(labels, generator, 0.05)


def _small(labels: Labels, generator: np.random.Generator) -> Array:
    centres = generator.uniform(-1, 1, (-(-len(labels) // _PER_CENTRE), 2))
    around: Array = np.repeat(centres, _PER_CENTRE, axis=0)[: len(labels)]
    return around + _noise(labels, generator, 0.01)


def _segments(labels: Labels, generator: np.random.Generator) -> Array:
    ends = generator.uniform(-1, 1, (2, NUM_CLASSES, 2))
    share = generator.uniform(0, 1, (len(labels), 1))
    found: Array = share * ends[0, labels] + (1 - share) * ends[1, labels]
    return found + _noise(labels, generator, 0.01)


def _gaussians(labels: Labels, generator: np.random.Generator) -> Array:
    across = 0.57 * (labels - (NUM_CLASSES - 1) / 2)
    return np.stack([across, np.zeros(len(labels))], axis=1) + _noise(labels, generator, 0.1)


def _noise(labels: Labels, generator: np.random.Generator, deviation: float) -> Array:
    return deviation * generator.standard_normal((len(labels), 2))


_SETS: MappingProxyType[str, tuple[str, Callable[[Labels, np.random.Generator], Array]]] = MappingProxyType(
    {
        "uniform": ("spread evenly over a square; labels mean nothing", _uniform),
        "circles": ("circles around one centre, radius .2 to 1, deviation .01", _circles),
        "star": ("lines through one centre, length 2, deviation .05", _star),
        "small clusters": ("20 small clusters for each class, anywhere, deviation .01", _small),
        "segments": ("a line between two random ends for each class, deviation .01", _segments),
        "gaussians": ("one Gaussian for each class, in a row, .57 apart, deviation .1", _gaussians),
    }
)


def toy_sets(num_per_class: int = 300, seed: int = 0) -> dict[str, ToySet]:
    """Six sets of five classes: no structure, dense only nearby, and dense as wholes.

    Where classes share their centre (circles, star), or fall into parts that lie anywhere (small clusters),
    neighbours agree while classes as wholes do not differ: locally, not globally dense.

    Args:
        num_per_class: n; of "small clusters" a multiple of 15 fills every cluster.
        seed: each set is a function of it and of ``num_per_class``.

    Returns:
        name -> points, labels, words.

    Source: the toy figure of Zhang, Lu & Xuan 2024. Radii, deviations and counts of uniform, circles, star
    and small clusters are theirs; the places of small clusters, the ends and width of segments and the places
    of the Gaussians are our reading (theirs are not described; ours stand so far apart that the
    Calinski-Harabasz index is that of their figure).

    Example:
        >>> {name: each.points.shape for name, each in toy_sets(30).items()}["circles"]
        (150, 2)
    """
    _checks.whole("toy_sets", "num_per_class", num_per_class, at_least=2)
    _checks.whole("toy_sets", "seed", seed, at_least=0)
    labels = np.repeat(np.arange(NUM_CLASSES), num_per_class)
    found = {}
    for number, (name, (words, make)) in enumerate(_SETS.items()):
        generator = np.random.Generator(np.random.PCG64([seed, number]))
        found[name] = ToySet(make(labels, generator), labels, words)
    return found
