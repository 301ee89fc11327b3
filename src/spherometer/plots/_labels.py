"""Puts a few labels next to their points without covering the points or one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from spherometer.plots._style import INK, freeze

_RADII = (16.0, 28.0, 44.0, 64.0, 90.0, 120.0)
_ANGLES = tuple(range(0, 360, 20))


def _overlap(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(max(0.0, width) * max(0.0, height))


def place_labels(
    axes: Axes,
    labels: Sequence[tuple[float, float, str]],
    points: Sequence[tuple[float, float]],
    color: str = INK,
) -> None:
    """Write each (x, y, text) near its point, joined by a thin line, where it covers least.

    ``points`` are all drawn points in data units. Call it last: the axes' limits must be final.
    """
    figure = axes.figure.get_figure(root=True)
    assert figure is not None
    freeze(figure)
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    scale = figure.dpi / 72
    inside = axes.get_window_extent(renderer)
    dots = [axes.transData.transform(point) for point in points]
    taken: list[Bbox] = [
        text.get_window_extent(renderer).padded(2 * scale) for text in axes.texts if text.get_visible()
    ]
    for x, y, words in labels:
        note = axes.annotate(
            words,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8.5,
            color=color,
            ha="center",
            va="center",
            zorder=7,
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 5,
            },
        )
        px, py = axes.transData.transform((x, y))
        size = note.get_window_extent(renderer)
        half_w, half_h = 0.5 * size.width + 3 * scale, 0.5 * size.height + 3 * scale
        size_text = Bbox.from_bounds(0, 0, 2 * min(half_w, 6 * len(words) * scale), 2 * half_h)
        half_w = size_text.width / 2
        best, offset, box = math.inf, (0.0, 0.0), size
        for radius in _RADII:
            for angle in _ANGLES:
                dx = math.cos(math.radians(angle)) * (radius * scale + half_w)
                dy = math.sin(math.radians(angle)) * (radius * scale + half_h)
                trial = Bbox.from_extents(
                    px + dx - half_w, py + dy - half_h, px + dx + half_w, py + dy + half_h
                )
                outside = trial.width * trial.height - _overlap(trial, inside)
                covered = sum(
                    1 for u, v in dots if trial.x0 - 4 < u < trial.x1 + 4 and trial.y0 - 4 < v < trial.y1 + 4
                )
                crossed = sum(_overlap(trial, other) for other in taken)
                cost = 50 * outside + 400 * covered + 20 * crossed + radius * scale
                if cost < best:
                    best, offset, box = cost, (dx, dy), trial
        note.set_position((offset[0] / scale, offset[1] / scale))
        taken.append(box)
