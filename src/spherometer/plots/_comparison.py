"""Differences of two sets of features, and the way of training runs over their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from spherometer.plots._style import BLUE, CLASSES, GREEN, INK, MUTED, RED, new_figure, plain, styled

_FAR = 12.0  # margins from 0 up to which a difference is drawn; those beyond get an arrow
_COLORS = {"better": GREEN, "worse": RED, "not distinguishable": MUTED}


@styled
def comparison_differences(metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw each difference in units of its own 95 % margin, so that measures of any kind stand side by side.

    Args:
        metrics: ``document["metrics"]`` of a comparison; those without an interval or a better side are
            left out.

    Returns:
        A figure of one line per measure: right of 0 is better, beyond the grey band it is more than chance.
    """
    rows = []
    for key, one in metrics.items():
        interval, better = one["interval"], one["better"]
        if interval is None or better is None:
            continue
        low, high = sorted(float(end) for end in interval)
        margin = (high - low) / 2
        if margin > 0:
            sign = -1.0 if better == "lower" else 1.0
            at = sign * float(one["difference"]) / margin
            ends = sorted((sign * low / margin, sign * high / margin))
            rows.append((plain(one.get("label") or key, 44), at, ends, _COLORS.get(one["verdict"], BLUE)))
    figure = new_figure(8.4, 1.5 + 0.4 * max(1, len(rows)))
    axes = figure.subplots()
    axes.axvspan(-1, 1, color="#eef0f3", zorder=0)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    for place, (_, at, ends, color) in enumerate(rows):
        shown = max(-_FAR, min(_FAR, at))
        if shown == at:
            axes.plot(
                ends, [place, place], color=color, linewidth=4, alpha=0.35, solid_capstyle="butt", zorder=2
            )
        marker = "o" if shown == at else (">" if at > 0 else "<")
        axes.plot(
            [shown], [place], marker=marker, markersize=8, color=color, markeredgecolor="white", zorder=3
        )
        if shown != at:
            axes.annotate(
                f"{abs(at):.0f}", (shown, place), xytext=(-11 if at > 0 else 11, 0),
                textcoords="offset points", ha="right" if at > 0 else "left", va="center", fontsize=8.5,
                color=MUTED,
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    reach = max([1.5, *(abs(end) for _, _, ends, _ in rows for end in ends if abs(end) < _FAR)])
    if any(abs(row[1]) > _FAR for row in rows):
        reach = _FAR
    axes.set_xlim(-reach - 0.8, reach + 0.8)
    axes.set_xlabel("← worse     difference, in units of its own 95 % margin     better →")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def selection_paths(
    runs: Mapping[str, Sequence[tuple[float, Mapping[str, float | None]]]], labels: Mapping[str, str]
) -> Figure:
    """Draw how measures change along training runs.

    Args:
        runs: name of the run -> (step, measure -> value) in the order of the steps.
        labels: measure -> what to call it, with an arrow to its better side; a panel for each.

    Returns:
        A figure of one panel for each measure, one line for each run.
    """
    columns = max(1, min(3, len(labels)))
    lines = max(1, -(-len(labels) // columns))
    figure = new_figure(3.5 * columns if columns > 1 else 6.4, 0.9 + 2.6 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    panels = [axes for row in grid for axes in row]
    for axes, (measure, label) in zip(panels, labels.items(), strict=False):
        for order, path in enumerate(runs.values()):
            points = [(step, values[measure]) for step, values in path if values.get(measure) is not None]
            if points:
                color = CLASSES[order % len(CLASSES)] if len(runs) > 1 else BLUE
                axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=color, linewidth=1.5)
        axes.set_title(plain(label, 34), fontsize=10)
        axes.set_xlabel("Step")
        axes.margins(0.08)
    for axes in panels[len(labels) :]:
        axes.set_visible(False)
    if len(runs) > 1:
        shown = list(runs)[: len(CLASSES)]
        handles = [
            figure.axes[0].plot([], [], color=CLASSES[order % len(CLASSES)], label=plain(name or "run", 24))[
                0
            ]
            for order, name in enumerate(shown)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure
