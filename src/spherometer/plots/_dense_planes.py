"""Planes of a study of feature maps: numbers of cells, and of whole images, coloured by what can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from spherometer.plots._style import INK, MUTED, direction, new_figure, plain, styled

LOSSES = {
    "dense_info_nce": ("Dense InfoNCE", "o"),
    "dense_align_uniform": ("Dense align + uniform", "s"),
    "info_nce": ("InfoNCE of whole images", "^"),
    "align_uniform": ("Align + uniform of whole images", "v"),
}
_OTHER = ("Other", "D")
UNTRAINED = ("untrained", "raw")
NUMBERS = {
    "dense": ("Numbers of cells", "dense_alignment", "dense_uniformity"),
    "instance": ("Numbers of whole images", "alignment", "uniformity"),
}

Point = tuple[float, float, float, str]  # uniformity, alignment, score, loss


@styled
def dense_planes(document: Mapping[str, Any], data: str, tasks: Sequence[tuple[str, str]]) -> Figure:
    """Draw uniformity across, alignment up, the score as colour, for one data set of a study of feature maps.

    Args:
        document: of the study.
        data: name of the data set.
        tasks: (name, label), a column each.

    Returns:
        A figure of two rows: the numbers of cells, and those of whole images, for the trained encoders that
        have them. The colours of a column are the same in both rows.
    """
    figure = new_figure(11.0, 8.6)
    grid = figure.subplots(2, max(1, len(tasks)), squeeze=False)
    losses: set[str] = set()
    for column, (task, label) in enumerate(tasks):
        every = {kind: _points(document, data, task, kind) for kind in NUMBERS}
        scores = [point[2] for points in every.values() for point in points]
        norm = _norm(scores)
        drawn = None
        for axes, (kind, points) in zip(grid[:, column], every.items(), strict=True):
            drawn = _scatter(axes, points, norm) or drawn
            losses |= {point[3] for point in points}
            axes.set_title(f"{NUMBERS[kind][0]}: {plain(label, 30)}", fontsize=9.5)
            axes.set_xlabel("Uniformity  (← spread more evenly)")
            axes.set_ylabel("Alignment  (↓ partners closer)")
            _between(axes, (document["correlations"].get(data) or {}).get(kind), bool(points))
        if drawn is not None:
            bar = figure.colorbar(
                drawn, ax=list(grid[:, column]), aspect=38, pad=0.02, format=PercentFormatter(1)
            )
            bar.set_label(f"{plain(label, 40)} on test images")
            bar.outline.set_visible(False)
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=INK, markerfacecolor="#9aa5b4", label=words)
        for loss, (words, marker) in [*LOSSES.items(), ("", _OTHER)]
        if loss in losses or (not loss and losses - set(LOSSES))
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _points(document: Mapping[str, Any], data: str, task: str, kind: str) -> list[Point]:
    losses = {each["id"]: each["loss"] for each in document["configurations"]}
    _, align, uniform = NUMBERS[kind]
    found = []
    for trial in document["trials"]:
        loss = losses.get(trial["configuration"], "")
        score = trial["tasks"].get(task)
        two = trial["metrics"].get(uniform), trial["metrics"].get(align)
        if trial["data"] == data and loss not in UNTRAINED and score and two[0] and two[1]:
            found.append((float(two[0]["value"]), float(two[1]["value"]), float(score["value"]), loss))
    return found


def _norm(scores: Sequence[float]) -> Normalize:
    if not scores:
        return Normalize(0.0, 1.0)
    low, high = min(scores), max(scores)
    return Normalize(low, high) if high > low else Normalize(low - 0.01, high + 0.01)


def _scatter(axes: Axes, points: Sequence[Point], norm: Normalize) -> Any:
    drawn = None
    for loss in [*LOSSES, None]:
        chosen = [point for point in points if (point[3] if point[3] in LOSSES else None) == loss]
        if chosen:
            drawn = axes.scatter(
                [point[0] for point in chosen],
                [point[1] for point in chosen],
                s=58.0,
                c=[point[2] for point in chosen],
                marker=LOSSES.get(loss or "", _OTHER)[1],
                cmap="viridis",
                norm=norm,
                edgecolors=INK,
                linewidths=0.5,
                zorder=4,
            )
    axes.margins(0.1)
    if points:
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - 0.1 * (top - bottom), top + 0.1 * (top - bottom))
        direction(axes, "↙ lower is better in both")
    else:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no encoder has them", transform=axes.transAxes, ha="center", color=MUTED, fontsize=9
        )
    return drawn


def _between(axes: Axes, correlation: float | None, drawn: bool) -> None:
    if correlation is not None and drawn:
        words = f"correlation of the two: {correlation:+.2f}".replace("-", "\N{MINUS SIGN}")
        axes.text(
            0.985,
            0.98,
            words,
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=9,
            color=MUTED,
            zorder=6,
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.9},
        )
