"""What the ratio of the two loss weights does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from spherometer.plots._style import BLUE, GREEN, INK, MUTED, ORANGE, new_figure, styled

Series = dict[float, list[float]]


def _positions(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float], list[str]]:
    """Place each row on an axis of log2(ratio), the two pure ends one step outside."""
    logs = []
    for row in rows:
        align, uniform = float(row["align_weight"]), float(row["uniform_weight"])
        logs.append(
            math.log2(align / uniform) if align > 0 and uniform > 0 else math.inf if align > 0 else -math.inf
        )
    finite = [value for value in logs if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    gap = max(1.0, 0.14 * (high - low))
    places = [min(max(value, low - gap), high + gap) for value in logs]
    ticks: list[float] = []
    names: list[str] = []
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    step = max(1, math.ceil((last - first) / 8))
    for power in range(first, last + 1):
        if power % step == 0:
            ticks.append(float(power))
            names.append(f"{2**power}" if power >= 0 else f"1/{2**-power}")
    if -math.inf in logs:
        ticks.insert(0, low - gap)
        names.insert(0, "uniform\nonly")
    if math.inf in logs:
        ticks.append(high + gap)
        names.append("align\nonly")
    return places, ticks, names


def _draw(axes: Axes, places: Sequence[float], values: Sequence[float], color: str, marker: str) -> Series:
    grouped: Series = {}
    for place, value in zip(places, values, strict=True):
        grouped.setdefault(round(place, 6), []).append(value)
    where = sorted(grouped)
    if any(len(several) > 1 for several in grouped.values()):
        axes.plot(places, values, linestyle="", marker=marker, markersize=4, color=color, alpha=0.45)
    middle = [math.fsum(grouped[x]) / len(grouped[x]) for x in where]
    axes.plot(where, middle, color=color, marker=marker, markersize=6, linewidth=1.8, zorder=4, clip_on=False)
    return grouped


def _values(axes: Axes, grouped: Series) -> None:
    """Write each mean in percent below (or above) its point; close neighbours take turns in height."""
    before, level = -math.inf, 0
    for place in sorted(grouped):
        mean = math.fsum(grouped[place]) / len(grouped[place])
        level = 1 - level if place - before < 0.6 else 0
        before = place
        down = mean > 0.5
        note = axes.annotate(
            f"{100 * mean:.1f}",
            (place, mean),
            xytext=(0, (-8 if down else 8) * (1 + 1.4 * level)),
            textcoords="offset points",
            ha="center",
            va="top" if down else "bottom",
            fontsize=8.5,
            zorder=6,
        )
        note.set_path_effects([withStroke(linewidth=3, foreground="white")])


@styled
def sweep(rows: Sequence[Mapping[str, Any]], *, chance: float | None = None, noun: str = "images") -> Figure:
    """Draw accuracy, alignment and exp(uniformity) against the ratio of the align to the uniform weight.

    Args:
        rows: ``document["sweep"]``. Weights of zero stand at the two ends, outside the logarithmic axis.
        chance: accuracy of guessing, drawn as a line.
        noun: what is encoded.

    Returns:
        A figure of two panels with one axis of ratios. Repeated ratios are drawn as dots around their mean.
    """
    figure = new_figure(8.2, 6.2)
    if not rows:
        return figure
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    places, ticks, names = _positions(rows)
    grouped = _draw(top, places, [float(row["accuracy"]) for row in rows], GREEN, "o")
    _values(top, grouped)
    top.set_title(f"Accuracy on test {noun}  (higher is better)")
    top.yaxis.set_major_formatter(PercentFormatter(1, 0))
    top.set_ylim(0, 1.04)
    if chance is not None:
        top.axhline(chance, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        top.annotate(
            "guessing",
            (0, chance),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=8,
            color=MUTED,
        )
    _draw(bottom, places, [float(row["alignment"]) for row in rows], BLUE, "s")
    _draw(bottom, places, [float(row["exp_uniformity"]) for row in rows], ORANGE, "^")
    bottom.set_title("The two measures  (lower is better)")
    bottom.set_ylim(bottom=0)
    bottom.set_xticks(ticks, names)
    bottom.set_xlabel("Weight of the align loss divided by weight of the uniform loss")
    both = "both views" if noun == "images" else "both of a pair"
    handles = [
        Line2D([], [], color=BLUE, marker="s", label=f"alignment  (0: {both} at one point)"),
        Line2D([], [], color=ORANGE, marker="^", label=f"exp(uniformity)  (1: all {noun} at one point)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, labelcolor=INK)
    return figure
