"""Figures of a run: ratios against what is asked, growth with N, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from spherometer.plots._style import BLUE, CLASSES, FAINT, GREEN, INK, MUTED, RED, new_figure, plain, styled


@styled
def ratios(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Found ratios as dots with their spread, what is asked as ticks, the floor as rings; one line each."""
    shown = [row for row in rows if row["found"] is not None][::-1]
    figure = new_figure(8.6, 0.8 + 0.27 * max(1, len(shown)))
    axes = figure.add_subplot()
    for place, row in enumerate(shown):
        found = row["found"]
        color = BLUE if row["verdict"] == "reached" else RED
        axes.plot([found["low"], found["high"]], [place, place], color=color, linewidth=4, alpha=0.35)
        axes.plot([found["median"]], [place], marker="o", color=color, markersize=6, zorder=4)
        axes.plot([row["asked"]], [place], marker="|", color=INK, markersize=13, markeredgewidth=2, zorder=3)
        if row["ceiling"] is not None:
            axes.plot([row["ceiling"]], [place], marker="o", color=MUTED, markersize=8, fillstyle="none")
    axes.set_xscale("log")
    axes.set_yticks(range(len(shown)), [plain(row["words"], 90) for row in shown], fontsize=8)
    axes.axvline(1, color=FAINT, linewidth=1.5, zorder=1)
    axes.set_xlabel("ratio: dot found, tick asked, ring the floor alone")
    axes.set_ylim(-0.7, len(shown) - 0.3)
    return figure


@styled
def growth(numbers: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Seconds over the number of rows, both logarithmic, with fitted exponents."""
    figure = new_figure(8.6, 5.4)
    axes = figure.add_subplot()
    for color, (name, one) in zip(CLASSES, numbers.items(), strict=False):
        points = sorted((int(num), each["median"]) for num, each in one["seconds"].items())
        label = f"{plain(name)}: N^{one['exponent']:.2f}"
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=color, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("rows N (128 dimensions)")
    axes.set_ylabel("seconds of processor time, one thread")
    axes.legend(loc="upper left")
    return figure


@styled
def memory(numbers: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Bytes added over the number of rows of 128 dimensions, beside what is allowed."""
    figure = new_figure(8.6, 5.0)
    axes = figure.add_subplot()
    curves: dict[str, list[tuple[int, float]]] = {}
    bound: dict[int, float] = {}
    for case, one in numbers.items():
        name, num, _, dim = case.rsplit(" ", 3)
        if dim == "128":
            curves.setdefault(name, []).append((int(num), one["bytes"] / 2**20))
            bound[int(num)] = one["allowed"] / 2**20
    axes.plot(*zip(*sorted(bound.items()), strict=True), color=GREEN, linewidth=6, alpha=0.3, label="allowed")
    for color, (name, points) in zip(CLASSES, curves.items(), strict=False):
        axes.plot(
            *zip(*sorted(points), strict=True), marker="o", markersize=5, color=color, label=plain(name)
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("rows N (128 dimensions)")
    axes.set_ylabel("MiB added at the peak")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure
