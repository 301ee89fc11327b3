"""A study of feature maps: relations with each task, the rule of matching, where on an image cells agree."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spherometer.plots._style import BLUE, FAINT, GREEN, INK, MUTED, ORANGE, new_figure, plain, styled

_KINDS = {"dense": ("of cells", BLUE, -0.16), "instance": ("of whole images", ORANGE, 0.16)}


@styled
def dense_relations(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Figure:
    """Draw how alignment and uniformity together go with each task, of cells beside whole images.

    Args:
        rows: for each task ``{"dense": relation or None, "instance": relation or None}``, a relation being
            ``Relation.to_dict()``.
        labels: of the rows; they may have several lines.

    Returns:
        A figure of three panels: multiple R, signed rho and direction, each with 95 % intervals. A tick
        marks the multiple R of numbers that have nothing to do with the task.
    """
    figure = new_figure(11.0, 1.9 + 0.85 * max(1, len(rows)))
    strength, sign, way = figure.subplots(1, 3, sharey=True)
    for y, row in enumerate(rows):
        for kind, (_, color, shift) in _KINDS.items():
            relation = row.get(kind)
            place = y + shift
            if relation is None:
                for axes in (strength, sign, way):
                    axes.text(
                        0.03, place, "not computed", va="center", fontsize=8, color=MUTED,
                        transform=axes.get_yaxis_transform(),
                    )  # fmt: skip
                continue
            _dot(strength, relation, "multiple_r", place, color)
            _dot(sign, relation, "rho", place, color)
            _dot(way, relation, "direction", place, color, "{:.0f}°")
            unrelated = math.sqrt(2 / max(2, relation["num_groups"] - 1))
            strength.plot(
                [unrelated], [place], marker="|", markersize=13, markeredgewidth=2, color=INK, zorder=3
            )
    strength.set_title("How strongly: multiple R")
    strength.set_xlim(-0.03, 1.06)
    strength.set_xlabel("0: not at all, 1: exactly")
    sign.set_title("In which sense: signed ρ")
    sign.set_xlim(-1.08, 1.08)
    sign.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "0.5", "1"])
    sign.set_xlabel("← high is good      low is good →")
    sign.axvline(0, color=MUTED, linewidth=1)
    way.set_title("Which of the two: direction")
    way.axvspan(0, 90, color=GREEN, alpha=0.1, linewidth=0)
    way.set_xlim(-200, 200)
    way.set_xticks([-180, -90, 0, 90, 180], ["−180°", "−90°", "0°", "90°", "180°"])
    way.set_xlabel("0°: alignment alone, 90°: uniformity alone")
    strength.set_yticks(range(len(rows)), [_lines(label) for label in labels])
    strength.set_ylim(max(1, len(rows)) - 0.45, -0.62)
    for axes in (strength, sign, way):
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        for y in range(1, len(rows)):
            axes.axhline(y - 0.5, color=FAINT, linewidth=0.8, zorder=1)
    handles = [
        Line2D([], [], color=color, marker="o", linewidth=2.2, label=f"Alignment and uniformity {words}")
        for words, color, _ in _KINDS.values()
    ]
    handles.append(
        Line2D([], [], color=INK, marker="|", markersize=11, markeredgewidth=2, linestyle="",
               label="R of unrelated numbers, about")
    )  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, labelcolor=INK)
    return figure


def _lines(text: str) -> str:
    """A label of several lines, each safe to draw."""
    return "\n".join(plain(line, 40) for line in text.split("\n"))


def _dot(
    axes: Axes, relation: Mapping[str, Any], name: str, y: float, color: str, form: str = "{:.2f}"
) -> None:
    value = float(relation[name])
    ends = (relation.get("intervals") or {}).get(name)
    if ends is not None:
        axes.plot(
            [float(v) for v in ends], [y, y], color=color, linewidth=2.2, solid_capstyle="butt", zorder=3
        )
    axes.plot([value], [y], marker="o", markersize=7, color=color, markeredgecolor="white", zorder=4)
    axes.annotate(
        form.format(round(value, 2) + 0.0).replace("-", "\N{MINUS SIGN}"),
        (value, y), xytext=(0, 5.5), textcoords="offset points", ha="center", fontsize=8, zorder=5,
        bbox={"boxstyle": "round,pad=0.08", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )  # fmt: skip


@styled
def dense_matching(panels: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw what each rule of matching gives, seed by seed.

    Args:
        panels: ``{"title", "rows": [{"label", "value", "interval", "seeds"}]}``; all values are shares.

    Returns:
        A figure with a panel for each: small dots are seeds, a large one their mean, the bar its interval.
    """
    most = max([1, *(len(panel["rows"]) for panel in panels)])
    down = max(1, math.ceil(len(panels) / 2))
    figure = new_figure(10.0, down * (1.25 + 0.42 * most) + 0.2)
    if not panels:
        return figure
    across = 2 if len(panels) > 1 else 1
    every = figure.subplots(down, across, squeeze=False)
    for axes in every.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(every.flat, panels, strict=False):
        rows = panel["rows"]
        for y, row in enumerate(rows):
            value = float(row["value"])
            if row["interval"] is not None:
                axes.plot(
                    [float(v) for v in row["interval"]], [y, y], color=BLUE, linewidth=6, alpha=0.3,
                    solid_capstyle="butt", zorder=2,
                )  # fmt: skip
            axes.plot(
                [float(v) for v in row["seeds"]], [y] * len(row["seeds"]), linestyle="", marker="o",
                markersize=4, color=ORANGE, zorder=3,
            )  # fmt: skip
            axes.plot([value], [y], marker="o", markersize=8, color=BLUE, markeredgecolor="white", zorder=4)
            axes.annotate(
                f"{100 * value:.1f}", (value, y), xytext=(0, 7), textcoords="offset points", ha="center",
                fontsize=8.5, zorder=5,
            )  # fmt: skip
        axes.set_title(_lines(panel["title"]), fontsize=10)
        axes.set_xlabel("→ better")
        axes.set_yticks(range(len(rows)), [plain(row["label"], 30) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.8)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.margins(x=0.08)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return figure


@styled
def dense_heat(examples: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw, beside each image, how far its cells lie from their partners, one map for each encoder.

    Args:
        examples: ``document["heat"]``: ``{"image" [H][W][C], "alignment" [h][w], "name"}``; None where a cell
            has no partner. Examples of one image stand in one row.

    Returns:
        A figure with one row for each image and one scale for all maps. Cells without a partner are grey;
        white lines are outlines of what is on the image.
    """
    images: list[Any] = []
    names: list[str] = []
    for example in examples:
        if example["image"] not in images:
            images.append(example["image"])
        if example["name"] not in names:
            names.append(example["name"])
    figure = new_figure(2.6 * (1 + len(names)) + 0.7, 0.35 + 2.5 * max(1, len(images)))
    if not examples:
        return figure
    grid = figure.subplots(len(images), 1 + len(names), squeeze=False)
    maps = [_map(example["alignment"]) for example in examples]
    seen = np.concatenate([each.compressed() for each in maps])
    top = float(seen.max()) if len(seen) and seen.max() > 0 else 1.0
    for axes in grid.flat:
        axes.set_axis_off()
    drawn = None
    for row, image in enumerate(images):
        pixels = np.clip(np.asarray(image, dtype=np.float64), 0.0, 1.0)
        grey = pixels.mean(axis=2)
        grid[row, 0].imshow(grey if pixels.shape[2] != 3 else pixels, cmap="gray", vmin=0.0, vmax=1.0)
        for example, cells in zip(examples, maps, strict=True):
            if example["image"] == image:
                axes = grid[row, 1 + names.index(example["name"])]
                drawn = _heat(axes, cells, grey, top)
    grid[0, 0].set_title("Image", fontsize=10)
    for column, name in enumerate(names, 1):
        grid[0, column].set_title("\n".join(textwrap.wrap(plain(name), 24)), fontsize=10)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=list(grid.flat), aspect=30, pad=0.02)
        bar.set_label("Distance of a cell to its partner, squared")
        bar.outline.set_visible(False)
    return figure


def _map(rows: Sequence[Sequence[float | None]]) -> Any:
    values = np.array([[math.nan if value is None else float(value) for value in row] for row in rows])
    return np.ma.masked_invalid(values)


def _heat(axes: Axes, cells: Any, grey: Any, top: float) -> Any:
    height, width = grey.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(np.ones(cells.shape), cmap="gray", vmin=0.0, vmax=1.3, extent=extent, interpolation="nearest")
    drawn = axes.imshow(cells, cmap="inferno", vmin=0.0, vmax=top, extent=extent, interpolation="nearest")
    if min(height, width) > 1 and grey.max() > grey.min():
        middle = 0.5 * float(grey.max() + grey.min())
        axes.contour(grey, levels=[middle], colors="white", linewidths=0.8, alpha=0.9)
    return drawn
