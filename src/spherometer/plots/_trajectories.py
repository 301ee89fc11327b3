"""Where training with one or both losses moves an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from spherometer.plots._labels import place_labels
from spherometer.plots._style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    direction,
    new_figure,
    plain,
    styled,
)

_LOOKS = {"align only": (BLUE, "s"), "uniform only": (ORANGE, "^"), "both": (GREEN, "o")}
_MORE = ((PURPLE, "D"), (RED, "v"))


def _percent(value: Any) -> str:
    return f"{100 * float(value):.1f} %"


@styled
def trajectories(part: Mapping[str, Any]) -> Figure:
    """Draw the paths on the plane of uniformity and alignment, with the accuracy at their ends.

    Args:
        part: ``document["trajectories"]``: a start and, for each set of losses, the points passed.

    Returns:
        A figure of one panel; dots along a path are equal numbers of steps apart as recorded.
    """
    figure = new_figure(8.2, 5.6)
    axes = figure.subplots()
    start = part["start"]
    sx, sy = float(start["uniformity"]), float(start["alignment"])
    points, labels = [(sx, sy)], [(sx, sy, f"start: {_percent(start['accuracy'])}")]
    paths = sorted(part["paths"].items(), key=lambda item: [*_LOOKS, item[0]].index(item[0]))
    for index, (name, path) in enumerate(paths):
        if not path:
            continue
        color, marker = _LOOKS.get(name, _MORE[index % len(_MORE)])
        x = [sx, *(float(step["uniformity"]) for step in path)]
        y = [sy, *(float(step["alignment"]) for step in path)]
        axes.plot(
            x,
            y,
            color=color,
            marker=marker,
            markersize=4.5,
            linewidth=1.6,
            markevery=slice(1, None),
            zorder=4,
            label=plain(f"train with {name}" if name != "both" else "train with both"),
        )
        axes.plot(x[-1:], y[-1:], color=color, marker=marker, markersize=10, markeredgecolor=INK, zorder=5)
        for k in range(1, len(x)):  # the line between two dots must not be covered either
            points += [
                (x[k - 1] + f / 8 * (x[k] - x[k - 1]), y[k - 1] + f / 8 * (y[k] - y[k - 1]))
                for f in range(1, 9)
            ]
        labels.append((x[-1], y[-1], plain(f"{name}: {_percent(path[-1]['accuracy'])}")))
    axes.plot([sx], [sy], marker="*", markersize=17, color=INK, linestyle="", zorder=6, label="start")
    axes.set_xlabel("Uniformity  (← spread more evenly)")
    axes.set_ylabel("Alignment  (↓ views of one image closer)")
    axes.margins(0.12)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom - 0.07 * (top - bottom), top)
    direction(axes, "↙ better: lower left")
    figure.legend(loc="outside lower center", ncols=4)
    place_labels(axes, labels, points)
    return figure
