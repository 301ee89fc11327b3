"""What a set of features looks like: distances of pairs, variance by direction, where rows lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge
from matplotlib.ticker import PercentFormatter

from spherometer.plots._labels import place_labels
from spherometer.plots._style import (
    BLUE,
    CLASSES,
    FAINT,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    new_figure,
    plain,
    styled,
)

_DASHED: Any = (0, (5, 3))
_SIZE = (5.4, 4.1)
_FEW = 13
_LEAST = 1e-7  # of the largest share: smaller ones are rounding, and are not drawn


@styled
def portrait_distances(portrait: Mapping[str, Any]) -> Figure:
    """Draw how far apart random pairs and positive pairs lie, beside the uniform law.

    Args:
        portrait: a ``Portrait`` as in JSON (``to_dict()``).

    Returns:
        A figure: histograms over the distance, 0 to 2.
    """
    distances = portrait["distances"]
    figure = new_figure(*_SIZE)
    axes = figure.subplots()
    edges = [float(edge) for edge in distances["edges"]]
    random = _shares(distances["random"])
    axes.stairs(random, edges, fill=True, color=BLUE, alpha=0.35, linewidth=0, label="random pairs", zorder=2)
    top = max(random, default=0.0)
    if distances["positive"] is not None:
        positive = _shares(distances["positive"])
        axes.stairs(positive, edges, fill=True, color=GREEN, alpha=0.35, linewidth=0, label="positive pairs")
        axes.stairs(positive, edges, color=GREEN, linewidth=1, zorder=3)
        top = max(top, max(positive, default=0.0))
    uniform = [float(share) for share in distances["uniform"]]
    axes.stairs(
        uniform, edges, color=INK, linewidth=1.3, linestyle=_DASHED, zorder=4,
        label=f"random pairs of the uniform law, {portrait['dim']} dimensions",
    )  # fmt: skip
    axes.set_xlim(0, 2)
    axes.set_ylim(0, 1.06 * max(min(max(uniform, default=0.0), 2.5 * top), top, 1e-3))
    axes.yaxis.set_major_formatter(PercentFormatter(1, None))
    axes.set_xlabel("Distance of two rows")
    axes.set_ylabel("Share of pairs")
    above = axes.secondary_xaxis("top")
    cosines = (1.0, 0.8, 0.5, 0.0, -0.5, -1.0)
    above.set_xticks([math.sqrt(2 - 2 * each) for each in cosines], [f"{each:g}" for each in cosines])
    above.set_xlabel("Cosine")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _shares(counts: Sequence[Any]) -> list[float]:
    total = sum(counts) or 1
    return [int(count) / total for count in counts]


@styled
def portrait_spectrum(portrait: Mapping[str, Any]) -> Figure:
    """Draw how the variance is shared among directions, beside the uniform law.

    Args:
        portrait: a ``Portrait`` as in JSON.

    Returns:
        A figure: share of the variance over the rank of the direction, both logarithmic.
    """
    spectrum = portrait["spectrum"]
    figure = new_figure(*_SIZE)
    axes = figure.subplots()
    ranks = [int(rank) for rank in spectrum["ranks"]]
    shares = [float(share) for share in spectrum["shares"]]
    uniform = [float(share) for share in spectrum["uniform"]]
    floor = _LEAST * max([*shares, *uniform])
    drawn = [(rank, share) for rank, share in zip(ranks, shares, strict=True) if share > floor]
    if len(ranks) < _FEW:
        _few(axes, ranks, shares, uniform, f"{spectrum['num']} rows of the uniform law")
        figure.legend(loc="outside lower center", ncols=2)
        return figure
    if drawn:
        axes.plot(*zip(*drawn, strict=True), color=BLUE, linewidth=2, label="these rows", zorder=4)
    for words, name, color in (("half", "half", ORANGE), ("90 %", "most", MUTED)):
        if spectrum[name]:
            axes.axvline(spectrum[name], color=color, linewidth=1.1, linestyle=(0, (1, 2)), zorder=2)
            axes.annotate(
                f"{words} in {spectrum[name]}", (spectrum[name], 0.02 if name == "half" else 0.1),
                xycoords=("data", "axes fraction"), xytext=(-3, 0), textcoords="offset points", ha="right",
                fontsize=8.5, color=color, zorder=5,
            )  # fmt: skip
    rows = f"{spectrum['num']} rows of the uniform law"
    axes.plot(ranks, uniform, color=INK, linewidth=1.3, linestyle=_DASHED, label=rows, zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    count = int(spectrum["num_directions"])
    axes.set_xlim(0.85, 1.2 * count)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if tick <= count]
    axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_xlabel("Direction, by its share")
    axes.set_ylabel("Share of the variance")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _few(
    axes: Axes, ranks: Sequence[int], shares: Sequence[float], uniform: Sequence[float], rows: str
) -> None:
    """Bars, for few directions."""
    axes.bar(ranks, shares, width=0.6, color=BLUE, alpha=0.6, label="these rows", zorder=2)
    axes.plot(
        ranks, uniform, linestyle="", marker="_", markersize=34, markeredgewidth=1.6, color=INK, label=rows,
        zorder=3,
    )  # fmt: skip
    axes.set_xticks(ranks)
    axes.set_ylim(0, 1.12 * max([*shares, *uniform]))
    axes.set_xlim(0.4, max(ranks) + 0.6)
    axes.yaxis.set_major_formatter(PercentFormatter(1, None))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("Direction, by its share")
    axes.set_ylabel("Share of the variance")


@styled
def portrait_density(portrait: Mapping[str, Any]) -> Figure:
    """Draw where rows lie: on the circle, on the sphere, or seen along the two leading directions.

    Args:
        portrait: a ``Portrait`` as in JSON.

    Returns:
        A figure of one map.
    """
    density = portrait["density"]
    draw = {"circle": _circle, "sphere": _sphere, "projection": _projection}[density["kind"]]
    figure = new_figure(*((5.4, 5.0) if density["kind"] != "sphere" else (7.6, 4.4)))
    draw(figure, density)
    return figure


def _circle(figure: Figure, density: Mapping[str, Any]) -> None:
    axes = figure.subplots()
    edges = [math.degrees(float(edge)) for edge in density["across"]]
    counts = [int(count) for count in density["counts"][0]]
    mean, most = sum(counts) / len(counts) or 1.0, max(counts) or 1
    for begin, end, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            size = 0.5 * count / most
            axes.add_patch(Wedge((0, 0), 1.04 + size, begin, end, width=size, color=BLUE, alpha=0.55))
    axes.add_patch(Circle((0, 0), 1.0, fill=False, edgecolor=INK, linewidth=1.2))
    even = 1.04 + 0.5 * mean / most
    axes.add_patch(Circle((0, 0), even, fill=False, edgecolor=INK, linewidth=1, linestyle=_DASHED))
    axes.annotate("dashed: as many everywhere", (0, -1.68), ha="center", fontsize=8.5, color=MUTED)
    axes.set_xlim(-1.62, 1.62)
    axes.set_ylim(-1.75, 1.62)
    axes.set_aspect("equal")
    axes.set_axis_off()
    _marks(axes, density["marks"])


def _sphere(figure: Figure, density: Mapping[str, Any]) -> None:
    axes: Any = figure.subplots(subplot_kw={"projection": "mollweide"})
    counts = np.array(density["counts"], dtype=np.float64)
    relative = counts * counts.size / max(counts.sum(), 1.0)
    norm = PowerNorm(0.6, 0.0, max(2.0, float(relative.max())))
    heights = np.arcsin(np.clip(np.array(density["up"], dtype=np.float64), -1, 1))
    axes.pcolormesh(
        np.array(density["across"]), heights, relative, cmap="viridis", norm=norm, rasterized=True
    )
    axes.grid(visible=True, color="white", alpha=0.3, linewidth=0.6)
    axes.set_xticklabels([])
    axes.set_yticklabels([])
    _bar(figure, axes, norm, "Rows, as many times the uniform law")


def _bar(figure: Figure, axes: Axes, norm: Normalize, words: str) -> None:
    bar = figure.colorbar(
        ScalarMappable(norm, "viridis"), ax=axes, orientation="horizontal", aspect=34, pad=0.04, shrink=0.8
    )
    bar.set_label(words)
    bar.outline.set_visible(False)


def _projection(figure: Figure, density: Mapping[str, Any]) -> None:
    axes = figure.subplots()
    across, up = (np.array(density[name], dtype=np.float64) for name in ("across", "up"))
    counts = np.array(density["counts"], dtype=np.float64)
    norm = PowerNorm(0.5, 0.0, max(1.0, float(counts.max())))
    shown = np.ma.masked_equal(counts, 0)
    axes.pcolormesh(across, up, shown, cmap="viridis", norm=norm, rasterized=True, zorder=2)
    radius = density["uniform_radius"]
    reach = [*across[[0, -1]], *up[[0, -1]]]
    if radius is not None:
        axes.add_patch(
            Circle((0, 0), radius, fill=False, edgecolor=INK, linewidth=1.2, linestyle=_DASHED, zorder=4)
        )
        reach += [-radius, radius]
    axes.add_patch(Circle((0, 0), 1.0, fill=False, edgecolor=FAINT, linewidth=1.5, zorder=1))
    pad = 0.06 * max(max(reach) - min(reach), 1e-6)
    inside = radius or 0.0
    axes.set_xlim(min(across[0], -inside) - pad, max(across[-1], inside) + pad)
    axes.set_ylim(min(up[0], -inside) - pad, max(up[-1], inside) + pad)
    axes.set_aspect("equal")
    names = ("First", "Second")
    labels = [f"{name} principal direction" for name in names]
    for place, share in enumerate(density["shares"]):
        labels[place] += f" ({100 * float(share):.1f} % of the variance)"
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    _bar(figure, axes, norm, "Rows in a cell")
    _marks(axes, density["marks"])


def _marks(axes: Axes, marks: Sequence[Mapping[str, Any]]) -> None:
    """Means of classes, with their names."""
    points = [(float(mark["at"][0]), float(mark["at"][1])) for mark in marks]
    for order, (x, y) in enumerate(points):
        axes.plot(
            [x], [y], marker="o", markersize=6.5, color=CLASSES[order % len(CLASSES)],
            markeredgecolor="white", zorder=6,
        )  # fmt: skip
    labels = [(*at, plain(mark["name"], 18)) for at, mark in zip(points, marks, strict=True)]
    if labels:
        place_labels(axes, labels, points)
