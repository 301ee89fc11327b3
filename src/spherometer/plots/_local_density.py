"""Relative local density over temperatures, beside purity over neighbours and the variance of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spherometer.plots._style import BLUE, FAINT, GREEN, INK, MUTED, ORANGE, new_figure, styled

_DASHED: Any = (0, (5, 3))
_DOTTED: Any = (0, (1, 2))
_APART = 0.15  # closer lines share one name


@styled
def local_density(density: Mapping[str, Any]) -> Figure:
    """Draw how densely classes lie, from near by to the whole set.

    Args:
        density: a ``LocalDensity`` as in JSON (``to_dict()``).

    Returns:
        A figure: relative local density over temperatures with its ceiling and random labels, neighbor purity
        over the numbers of neighbours (where there are some), and the share of the variance between classes.
    """
    purity = density["purity"]
    figure = new_figure(9.6, 4.0)
    widths = [1.5, 0.95, 0.62] if purity else [1.5, 0.62]
    panels = list(figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    _density(panels[0], density["points"])
    if purity:
        _purity(panels[1], purity)
    _between(panels[-1], density)
    return figure


def _density(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    points = sorted(points, key=lambda point: -float(point["temperature"]))
    places = [math.log2(float(point["temperature"])) for point in points]
    ceilings = [float(point["ceiling"]) for point in points]
    chances = [float(point["random"]) for point in points]
    half = [(a + b) / 2 for a, b in zip(ceilings, chances, strict=True)]
    if len(points) > 1:
        axes.fill_between(places, half, ceilings, color=GREEN, alpha=0.09, linewidth=0, zorder=1)
    else:
        axes.plot(places, half, color=GREEN, marker="_", markersize=18, zorder=2)
    axes.plot(places, ceilings, color=INK, linewidth=1, marker="_", linestyle=_DASHED, zorder=2)
    axes.plot(places, chances, color=MUTED, linewidth=1, marker="_", linestyle=_DOTTED, zorder=2)
    _curve(axes, places, points, BLUE, "o")
    names = [
        (ceilings, "ceiling", MUTED),
        (half, "at least half way", GREEN),
        (chances, "random labels", MUTED),
    ]
    if ceilings[0] - chances[0] < _APART:
        names = [(ceilings, "ceiling and random labels", MUTED)]
    for values, words, color in names:
        axes.annotate(
            words, (places[0], values[0]), xytext=(2, 3), textcoords="offset points", ha="left", va="bottom",
            fontsize=8, color=color, zorder=5,
        )  # fmt: skip
    axes.set_xticks(places, [f"{float(point['temperature']):g}" for point in points])
    if places[0] > places[-1]:
        axes.set_xlim(places[0] + 0.25, places[-1] - 0.25)
    low = min([*chances, *(float(point["value"]) for point in points)])
    axes.set_ylim(min(-0.05, low - 0.05), 1.05)
    axes.set_xlabel("Temperature: from the whole set to the nearest rows")
    axes.set_title("Relative local density")


def _purity(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    places = [math.log10(float(point["k"])) for point in points]
    _curve(axes, places, points, ORANGE, "s")
    chance = float(points[0]["baseline"])
    axes.axhline(chance, color=MUTED, linewidth=1, linestyle=_DOTTED, zorder=2)
    axes.annotate(
        "unrelated labels", (0.02, chance), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", ha="left", va="bottom", fontsize=8, color=MUTED, zorder=5,
    )  # fmt: skip
    axes.set_xticks(places, [f"{point['k']}" for point in points])
    axes.margins(x=0.12)
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel("Nearest neighbours")
    axes.set_title("Neighbor purity")


def _between(axes: Axes, density: Mapping[str, Any]) -> None:
    share, chance = float(density["between_share"]), float(density["between_random"])
    axes.bar([0], [1], width=0.62, color=FAINT, zorder=1)
    axes.bar([0], [share], width=0.62, color=BLUE, zorder=2)
    axes.axhspan(0.5, 1.0, color=GREEN, alpha=0.09, linewidth=0, zorder=3)
    axes.axhline(chance, color=MUTED, linewidth=1, linestyle=_DOTTED, zorder=4)
    axes.annotate(
        f"{100 * share:.0f} %", (0, share), xytext=(0, 3), textcoords="offset points", ha="center",
        va="bottom", fontsize=9, color=INK, zorder=5,
    )  # fmt: skip
    index = density["calinski_harabasz"]
    axes.set_xticks([0], ["Calinski-Harabasz\n" + ("undefined" if index is None else f"{float(index):.4g}")])
    axes.set_xlim(-0.55, 0.55)
    axes.set_ylim(-0.05, 1.05)
    axes.grid(visible=False, axis="x")
    axes.set_title("Between classes")


def _curve(
    axes: Axes, places: Sequence[float], points: Sequence[Mapping[str, Any]], color: str, marker: str
) -> None:
    axes.plot(
        places, [float(point["value"]) for point in points], color=color, marker=marker, markersize=5,
        linewidth=1.8, zorder=4,
    )  # fmt: skip
    for place, point in zip(places, points, strict=True):
        if point["interval"] is not None:
            axes.plot(
                [place, place], [float(end) for end in point["interval"]], color=color, linewidth=5,
                alpha=0.35, solid_capstyle="butt", zorder=3,
            )  # fmt: skip
