"""Studies of meta-data: scores against the bandwidth, and two scores against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from spherometer.plots._style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    direction,
    new_figure,
    plain,
    styled,
)

_WITH_BANDWIDTH = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"))
_WITHOUT: tuple[tuple[str, Any, str], ...] = (
    (RED, (0, (5, 2)), "v"),
    (PURPLE, (0, (3, 1, 1, 1)), "P"),
    (INK, (0, (1, 1)), "X"),
    (MUTED, (0, (5, 5)), "D"),
    (MUTED, (0, (1, 3)), "p"),
    (MUTED, (0, (3, 3, 1, 3)), "h"),
    (MUTED, (0, (8, 3)), "<"),
)


@styled
def bandwidth_scores(document: Mapping[str, Any], scores: Sequence[str]) -> Figure:
    """Draw scores on the test part against the bandwidth: what was chosen and what was not.

    Args:
        document: of a study of meta-data.
        scores: names of the scores, one panel each.

    Returns:
        A figure with a line and a 95 % band over seeds for each arm with a bandwidth; arms without one are
        level lines. A ring marks the bandwidth that the validation part chose most often.
    """
    figure = new_figure(8.2, 0.9 + 2.9 * max(1, len(scores)) + 0.23 * len(document["arms"]))
    known = {each["name"]: each for each in document["scores"]}
    every = figure.subplots(max(1, len(scores)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(every, scores, strict=False):
        for curve, (color, marker) in zip(document["curves"], _WITH_BANDWIDTH, strict=False):
            _curve(axes, curve, name, color, marker)
        for arm, (color, line, _) in zip(_others(document), _WITHOUT, strict=False):
            if name in arm["scores"]:
                axes.axhline(
                    float(arm["scores"][name]["value"]), color=color, linestyle=line, linewidth=1.4, zorder=3
                )
        axes.set_title(f"{plain(known[name]['label'])}  (higher is better)")
        if known[name]["kind"] == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    widths = sorted({float(point["bandwidth"]) for curve in document["curves"] for point in curve["points"]})
    every[-1].set_xscale("log", base=2)
    every[-1].set_xticks(widths, [f"{width:g}" for width in widths])
    every[-1].minorticks_off()
    every[-1].set_xlabel(plain(document["bandwidth"]))
    handles = [
        Line2D([], [], color=color, marker=marker, label=plain(curve["name"]))
        for curve, (color, marker) in zip(document["curves"], _WITH_BANDWIDTH, strict=False)
    ]
    handles += [
        Line2D([], [], color=color, linestyle=line, label=plain(arm["name"]))
        for arm, (color, line, _) in zip(_others(document), _WITHOUT, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, labelcolor=INK)
    return figure


def _others(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [arm for arm in document["arms"] if not arm["conditioned"]]


def _curve(axes: Axes, curve: Mapping[str, Any], name: str, color: str, marker: str) -> None:
    points = [point for point in curve["points"] if name in point["scores"]]
    if not points:
        return
    widths = [float(point["bandwidth"]) for point in points]
    values = [float(point["scores"][name]["value"]) for point in points]
    axes.plot(widths, values, color=color, marker=marker, markersize=5, linewidth=1.8, zorder=5)
    ends = [point["scores"][name]["interval"] for point in points]
    if all(end is not None for end in ends):
        low, high = ([float(end[k]) for end in ends] for k in (0, 1))
        axes.fill_between(widths, low, high, color=color, alpha=0.15, linewidth=0, zorder=2)
    most = max(range(len(points)), key=lambda k: (points[k]["num_chosen"], -k))
    axes.plot(
        widths[most], values[most], marker="o", markersize=12, markerfacecolor="none", markeredgecolor=color,
        markeredgewidth=1.4, linestyle="", zorder=6,
    )  # fmt: skip


@styled
def trade(document: Mapping[str, Any]) -> Figure:
    """Draw two scores against each other: what is learned to the right, what is kept upwards.

    Args:
        document: of a study of meta-data whose "trade" names two scores: the upper and the right one.

    Returns:
        A figure with a path along the bandwidths for each arm that has one, and a mark for each other arm.
    """
    up, right = document["trade"]
    known = {each["name"]: each for each in document["scores"]}
    figure = new_figure(8.2, 5.6 + 0.23 * len(document["arms"]))
    axes = figure.subplots()
    handles = []
    for curve, (color, marker) in zip(document["curves"], _WITH_BANDWIDTH, strict=False):
        _path(axes, curve, up, right, color, marker)
        handles.append(Line2D([], [], color=color, marker=marker, label=plain(curve["name"])))
    for arm, (color, _, marker) in zip(_others(document), _WITHOUT, strict=False):
        if up in arm["scores"] and right in arm["scores"]:
            x, y = (float(arm["scores"][name]["value"]) for name in (right, up))
            axes.plot(x, y, color=color, marker=marker, markersize=9, linestyle="", zorder=5)
            handles.append(Line2D([], [], color=color, marker=marker, linestyle="", label=plain(arm["name"])))
    for name, axis in ((up, axes.yaxis), (right, axes.xaxis)):
        axis.set_label_text(plain(known[name]["label"]))
        if known[name]["kind"] == "accuracy":
            axis.set_major_formatter(PercentFormatter(1, 0))
    axes.margins(0.08)
    direction(axes, "better: up and right", "upper right" if not document["curves"] else "lower left")
    figure.legend(handles=handles, loc="outside lower center", ncols=2, labelcolor=INK)
    return figure


def _path(axes: Axes, curve: Mapping[str, Any], up: str, right: str, color: str, marker: str) -> None:
    points = [point for point in curve["points"] if up in point["scores"] and right in point["scores"]]
    xs = [float(point["scores"][right]["value"]) for point in points]
    ys = [float(point["scores"][up]["value"]) for point in points]
    axes.plot(xs, ys, color=color, marker=marker, markersize=6, linewidth=1.6, zorder=4)
    for x, y, point in zip(xs, ys, points, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            note = axes.annotate(
                f"{point['bandwidth']:g}", (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8,
                color=color, zorder=6,
            )  # fmt: skip
            note.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
