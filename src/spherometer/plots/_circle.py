"""Encoders with two outputs, whose sphere is a circle one can look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Wedge

from spherometer.plots._style import CLASSES, FAINT, MUTED, RED, new_figure, plain, styled

_BINS = 48


def _ring(axes: Axes, panel: Mapping[str, Any], classes: Sequence[Any]) -> None:
    """Dots on the circle by class; outside it, bars whose length is the share of images there."""
    points, labels = panel["points"], panel["labels"]
    angles = [math.atan2(float(y), float(x)) for x, y in points]
    counts = [0] * _BINS
    for angle in angles:
        counts[min(_BINS - 1, int((angle + math.pi) / (2 * math.pi) * _BINS))] += 1
    most = max(counts, default=0) or 1
    axes.add_patch(Circle((0, 0), 1.0, fill=False, edgecolor=FAINT, linewidth=1.0, zorder=1))
    width = 360 / _BINS
    for index, count in enumerate(counts):
        if count:
            begin = -180 + index * width
            axes.add_patch(
                Wedge(
                    (0, 0),
                    1.12 + 0.38 * count / most,
                    begin,
                    begin + width,
                    width=0.38 * count / most,
                    color="#b9c3d0",
                )
            )
    for order, label in enumerate(classes):
        mine = [i for i, one in enumerate(labels) if one == label]
        radius = 0.97 - 0.034 * order  # a ring per class, so that classes do not hide one another
        axes.plot(
            [radius * math.cos(angles[i]) for i in mine],
            [radius * math.sin(angles[i]) for i in mine],
            linestyle="",
            marker="o",
            markersize=3.2,
            markeredgewidth=0,
            color=CLASSES[order % len(CLASSES)],
            alpha=0.85,
            zorder=3,
        )
    axes.set_xlim(-1.56, 1.56)
    axes.set_ylim(-1.86, 1.95)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _distances(axes: Axes, panel: Mapping[str, Any]) -> None:
    values = [float(value) for value in panel["distances"]]
    edges = [2.0 * k / 40 for k in range(41)]
    axes.hist(values, bins=edges, weights=[1 / max(1, len(values))] * len(values), color="#7d8ca0")
    mean = math.fsum(values) / max(1, len(values))
    axes.axvline(mean, color=RED, linewidth=1.4)
    axes.annotate(
        f"mean {mean:.2f}",
        (mean, 0.96),
        xycoords=("data", "axes fraction"),
        xytext=(5, 0),
        textcoords="offset points",
        color=RED,
        fontsize=9,
        va="top",
    )
    axes.set_xlim(0, 2)
    axes.set_xticks([0, 0.5, 1, 1.5, 2])
    axes.set_xlabel("Distance of two views of one image")


@styled
def circle(panels: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw where images lie on the circle, and how far apart two views of one image are.

    Args:
        panels: ``document["circle"]``: points, labels and distances of each encoder.

    Returns:
        A figure of one column per encoder: the ring above, the histogram of distances below.
    """
    figure = new_figure(3.6 * max(1, len(panels)), 6.4)
    if not panels:
        return figure
    grid = figure.subplots(2, len(panels), height_ratios=(2.1, 1), squeeze=False)
    classes = sorted({label for panel in panels for label in panel["labels"]}, key=str)
    top = 0.0
    for column, panel in enumerate(panels):
        ring, below = grid[0][column], grid[1][column]
        _ring(ring, panel, classes)
        ring.text(
            0, 1.72, plain(panel["name"], 30), ha="center", fontsize=11, fontweight="bold", in_layout=False
        )
        words = (
            f"accuracy {100 * float(panel['accuracy']):.0f} %, alignment {float(panel['alignment']):.2f}, "
            f"uniformity {float(panel['uniformity']):.2f}"
        ).replace("-", "\N{MINUS SIGN}")
        ring.text(0, -1.82, words, ha="center", fontsize=8.5, color=MUTED, in_layout=False)
        _distances(below, panel)
        top = max(top, below.get_ylim()[1])
    for column in range(len(panels)):
        grid[1][column].set_ylim(0, top)
        if column:
            grid[1][column].tick_params(labelleft=False)
    grid[1][0].set_ylabel("Share of images")
    _legend(figure, classes)
    return figure


def _legend(figure: Figure, classes: Sequence[Any]) -> None:
    handles = [
        Line2D([], [], linestyle="", marker="o", color=CLASSES[order % len(CLASSES)], label=plain(label, 12))
        for order, label in enumerate(classes)
    ]
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(10, len(handles)),
            title="Class (each has its own ring inside the circle, the first outermost)",
            title_fontsize=9,
            handletextpad=0.2,
            columnspacing=1.4,
            labelcolor=MUTED,
        )
