"""Measured values with their intervals and baselines, each on its own scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from spherometer.plots._style import BLUE, FAINT, INK, MUTED, new_figure, plain, styled


@styled
def intervals(measurements: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw each measurement on a scale of its own: a dot, its 95 % interval and its baselines as ticks.

    Args:
        measurements: name -> a measurement as in JSON (value, interval, baseline, better, label).

    Returns:
        A figure of one strip per measurement.
    """
    shown = {name: one for name, one in measurements.items() if isinstance(one.get("value"), (int, float))}
    figure = new_figure(8.4, 0.5 + 1.05 * max(1, len(shown)))
    if not shown:
        return figure
    for axes, (name, one) in zip(
        figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown.items(), strict=True
    ):
        value = float(one["value"])
        interval = one.get("interval")
        axes.axhline(0, color=FAINT, linewidth=2, zorder=1)
        if interval is not None:
            axes.plot([float(v) for v in interval], [0, 0], color=BLUE, linewidth=5, alpha=0.45, zorder=2)
        axes.plot([value], [0], marker="o", markersize=9, color=BLUE, markeredgecolor="white", zorder=4)
        for order, (words, place) in enumerate((one.get("baseline") or {}).items()):
            axes.plot([float(place)], [0], marker="|", markersize=16, markeredgewidth=2, color=INK, zorder=3)
            axes.annotate(
                plain(words, 34),
                (float(place), 0),
                xytext=(0, 9 if order % 2 == 0 else -18),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=MUTED,
            )
        arrow = {"lower": "  (← better)", "higher": "  (→ better)"}.get(one.get("better") or "", "")
        axes.set_title(plain(one.get("label") or name) + arrow, fontsize=9.5)
        axes.set_ylim(-1.7, 1)
        axes.margins(x=0.2)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
    return figure
