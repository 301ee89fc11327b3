"""The study of local density: numbers along the training, near and far at its end, pictures of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from spherometer.plots._style import (
    BLUE,
    CLASSES,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    RED,
    new_figure,
    plain,
    styled,
)

Entry = Mapping[str, Any]
_TRAINED = {"supervised": (BLUE, "o"), "contrastive": (RED, "s"), "align_uniform": (GREEN, "^")}
_TRAINED["bad"] = (ORANGE, "v")
_LEVEL: dict[str, tuple[str, Any]] = {"untrained": (INK, (0, (5, 2))), "raw": (MUTED, (0, (1, 1.5)))}
_TOP = 1.02  # accuracies and purities end at 1, whatever an interval over few seeds says
_DENSE_ENOUGH = 0.05  # an axis of relative local density shows at least so much around its lines


@styled
def density_curves(document: Mapping[str, Any], architecture: str | None) -> Figure:
    """Draw everything that the study of local density follows along the training, for one architecture.

    Args:
        document: of the study of local density.
        architecture: whose arms are drawn, beside raw pixels.

    Returns:
        A figure with nine panels against the epoch: relative local density from the whole set to the nearest
        points; Calinski-Harabasz, purity, contrastive loss; three accuracies. Bands are intervals over seeds.
    """
    arms = _arms(document, architecture)
    figure = new_figure(9.6, 8.6)
    every = figure.subplots(3, 3, sharex=True)
    for axes, (title, find) in zip(every.flat, _panels(document), strict=True):
        for arm, color, marker, line in arms:
            _along(axes, document["curves"].get(arm["id"], []), find, color, marker, line)
        _around_lines(axes)
        axes.set_title(title)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    every[1, 0].set_yscale("log")
    every[1, 0].yaxis.set_major_formatter("{x:g}")
    every[1, 0].yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    every[1, 0].yaxis.set_minor_formatter("")
    every[1, 1].set_ylim(top=min(every[1, 1].get_ylim()[1], _TOP))
    for axes in (every[1, 1], *every[2]):
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    lows, highs = zip(*(axes.get_ylim() for axes in every[2]), strict=True)
    for axes in every[2]:
        axes.set_ylim(min(lows), min(max(highs), _TOP))
        axes.set_xlabel("epoch")
    _names(figure, arms)
    return figure


def _panels(document: Mapping[str, Any]) -> list[tuple[str, Callable[[Entry], Any]]]:
    """Title and place of each of the nine numbers."""
    heats = document["temperatures"]
    shown = [heats[0], heats[len(heats) // 2], heats[-1]]
    k = document["ks"][-1]

    def density(temperature: float) -> Callable[[Entry], Any]:
        return lambda entry: entry["rld"].get(f"{temperature:g}")

    def accuracy(name: str) -> Callable[[Entry], Any]:
        return lambda entry: entry["accuracy"].get(name)

    return [
        *((f"Local density, T = {each:g}", density(each)) for each in shown),
        ("Calinski-Harabasz (log axis)", lambda entry: entry["calinski_harabasz"]),
        (f"Purity of {k} neighbours", lambda entry: entry["purity"].get(f"{k}")),
        ("Contrastive loss", lambda entry: entry["contrastive_loss"]),
        ("Accuracy, linear", accuracy("linear")),
        ("Accuracy, neighbours", accuracy("knn")),
        ("Accuracy, graph (GCN)", accuracy("gcn")),
    ]


def _arms(document: Mapping[str, Any], architecture: str | None) -> list[tuple[Any, str, str, Any]]:
    """Arms of an architecture and those without any, with colour, marker and line."""
    found = []
    for arm in document["arms"]:
        if arm["architecture"] not in (architecture, None):
            continue
        color, marker = _TRAINED.get(arm["objective"], (None, ""))
        line: Any = "-"
        if color is None:
            color, line = _LEVEL.get(arm["objective"], (MUTED, ":"))
        found.append((arm, color, marker, line))
    return found


def _along(
    axes: Axes, entries: Sequence[Entry], find: Callable[[Entry], Any], color: str, marker: str, line: Any
) -> None:
    """A line over the epochs with its band; a level line where there is one entry only."""
    there = [(entry["epoch"], cell) for entry in entries if (cell := find(entry)) is not None]
    if not there:
        return
    if not marker:
        axes.axhline(float(there[-1][1]["value"]), color=color, linestyle=line, linewidth=1.4, zorder=2)
        return
    _banded(axes, [place for place, _ in there], [cell for _, cell in there], color, marker, line)


def _banded(
    axes: Axes, places: Sequence[float], cells: Sequence[Entry], color: str, marker: str, line: Any
) -> None:
    values = [float(cell["value"]) for cell in cells]
    axes.plot(
        places, values, color=color, marker=marker, markersize=4, linewidth=1.6, linestyle=line, zorder=4
    )
    ends = [cell["interval"] for cell in cells]
    if all(end is not None for end in ends):
        low, high = ([float(end[k]) for end in ends] for k in (0, 1))
        axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0, zorder=2)


def _around_lines(axes: Axes) -> None:
    """Axes that show every line with a margin; bands over few seeds, which may be far wider, are cut."""
    values = [float(value) for line in axes.lines for value in np.asarray(line.get_ydata(), dtype=float)]
    if not values:
        return
    low, high = min(values), max(values)
    margin = 0.25 * (high - low) or 0.1 * abs(high) or 0.1
    bottom = low - margin
    if low > 0 >= bottom:
        bottom = 0.5 * low  # also for a logarithmic axis
    axes.set_ylim(bottom, high + margin)


def _names(figure: Figure, arms: Sequence[tuple[Any, str, str, Any]]) -> None:
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle=line, label=plain(arm["name"]))
        for arm, color, marker, line in arms
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, labelcolor=INK)


@styled
def density_scales(document: Mapping[str, Any], architecture: str | None) -> Figure:
    """Draw the end of the training from far to near: density over temperatures, purity over neighbours.

    Args:
        document: of the study of local density.
        architecture: whose arms are drawn, beside raw pixels.

    Returns:
        A figure with two panels, both with the whole set to the left and the nearest points to the right.
    """
    arms = _arms(document, architecture)
    figure = new_figure(9.6, 4.6)
    left, right = figure.subplots(1, 2)
    panels: tuple[tuple[Axes, str, Sequence[float]], ...] = (
        (left, "rld", document["temperatures"]),
        (right, "purity", document["ks"]),
    )
    for axes, part, scale in panels:
        for arm, color, marker, line in arms:
            final = document["final"].get(arm["id"])
            there = [each for each in scale if final and final[part].get(f"{each:g}") is not None]
            if final and there:
                _banded(axes, there, [final[part][f"{each:g}"] for each in there], color, marker, line)
        _around_lines(axes)
        axes.set_xscale("log")
        axes.set_xticks(scale, [f"{each:g}" for each in scale])
        axes.minorticks_off()
        axes.invert_xaxis()
    left.set_title("Relative local density")
    left.set_xlabel("temperature: whole set  →  nearest points")
    right.set_title("Neighbor purity")
    right.set_xlabel("neighbours: many  →  the nearest")
    right.yaxis.set_major_formatter(PercentFormatter(1, 0))
    right.set_ylim(top=_TOP)
    ceiling = 1 - 1 / document["data"]["num_classes"]
    left.axhline(ceiling, color=MUTED, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    left.annotate(
        "ceiling of balanced classes", (0.02, ceiling), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", fontsize=8, color=MUTED,
    )  # fmt: skip
    left.set_ylim(left.get_ylim()[0], ceiling + _DENSE_ENOUGH)
    _names(figure, arms)
    return figure


@styled
def density_panels(document: Mapping[str, Any]) -> Figure:
    """Draw features in two dimensions: a row for each arm, a column for each perplexity.

    Args:
        document: of the study of local density with at least one picture under "panels".

    Returns:
        A figure whose colours are the true classes.
    """
    names = {arm["id"]: arm["name"] for arm in document["arms"]}
    rows = list(dict.fromkeys(panel["arm"] for panel in document["panels"]))
    columns = list(dict.fromkeys(panel["words"] for panel in document["panels"]))
    figure = new_figure(3.1 * len(columns), 3.3 * len(rows) + 0.2)
    every = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes in every.flat:
        axes.set_axis_off()
    for panel in document["panels"]:
        row, column = rows.index(panel["arm"]), columns.index(panel["words"])
        axes = every[row, column]
        _cloud(axes, panel["points"], panel["labels"])
        how = f"{panel['words']} perplexity, {panel['perplexity']:g}" if panel["method"] == "t-SNE" else "PCA"
        head = f"{plain(names.get(panel['arm'], panel['arm']), 40)}\n" if column == 0 else "\n"
        axes.set_title(head + plain(how), fontsize=10)
    used = sorted({label for panel in document["panels"] for label in panel["labels"]})
    _classes(figure, used)
    return figure


def _cloud(axes: Axes, points: Sequence[Sequence[float]], labels: Sequence[int]) -> None:
    axes.set_axis_on()
    colors = [CLASSES[label % len(CLASSES)] for label in labels]
    axes.scatter([x for x, _ in points], [y for _, y in points], c=colors, s=7, linewidths=0, zorder=3)
    axes.set_aspect("equal", "datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(True)
        axes.spines[side].set_color("#d5dae1")


def _classes(figure: Figure, used: Sequence[int]) -> None:
    handles = [
        Line2D([], [], color=CLASSES[label % len(CLASSES)], marker="o", linestyle="", label=f"class {label}")
        for label in used[:20]
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, labelcolor=INK)


@styled
def density_toys(document: Mapping[str, Any]) -> Figure:
    """Draw the toy sets in the plane, each with its two numbers and those of the paper.

    Args:
        document: of the study of local density with at least one set under "toys".

    Returns:
        A figure with a panel for each set, three in a row.
    """
    sets = document["toys"]
    lines = -(-len(sets) // 3)
    figure = new_figure(9.6, 3.7 * lines)
    every = figure.subplots(lines, 3, squeeze=False)
    for axes in every.flat:
        axes.set_axis_off()
    for axes, toy in zip(every.flat, sets, strict=False):
        _cloud(axes, toy["points"], toy["labels"])
        axes.set_title(plain(toy["name"]))
        key = min(toy["rld"], key=float)
        text = f"density (T = {plain(key)})  {toy['rld'][key]:.2f}\n"
        text += f"Calinski-Harabasz  {_index(toy['calinski_harabasz'])}"
        if toy["paper"] is not None:
            text += f"\npaper: {toy['paper']['rld']:.2f},  {_index(toy['paper']['ch'])}"
        axes.set_xlabel(text.replace("-0.00", "0.00"), fontsize=9)
    return figure


def _index(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
