"""Sets of features on the plane of alignment and uniformity, with what to compare them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spherometer.plots._labels import place_labels
from spherometer.plots._style import (
    BLUE,
    CLASSES,
    FAINT,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    RED,
    direction,
    new_figure,
    plain,
    styled,
)

_DASHED: Any = (0, (5, 3))
_DOTTED: Any = (0, (1, 2))
_LABELS = 9  # more names would hide the points


@styled
def points_plane(
    points: Sequence[Mapping[str, Any]],
    *,
    bands: Mapping[str, Any],
    axis: str = "Uniformity",
    paths: Sequence[Sequence[str]] = (),
) -> Figure:
    """Draw sets of features by uniformity (across) and alignment (up), both lower is better.

    Args:
        points: ``{"name", "uniformity", "alignment"}`` of each, the last two with ``value`` and ``interval``;
            ``"front": True`` marks those that no other beats in both, ``"named": True`` those to name.
        bands: ``"uniform law"``, ``"lower bound"`` (uniformity), ``"random"`` (uniformity and alignment of
            random directions), ``"one point"``: any of them may be missing.
        axis: what lies across.
        paths: names of points in the order of training, joined by a line.

    Returns:
        A figure of one panel for one point; of two for several, the second closer.
    """
    several = len(points) > 1
    figure = new_figure(10.4 if several else 5.8, 4.9 if several else 4.5)
    panels = list(figure.subplots(1, 2 if several else 1, squeeze=False)[0])
    for place, axes in enumerate(panels):
        close = place == 1
        _points(axes, points, paths)
        if close:
            axes.margins(0.16)
            axes.autoscale_view()
            limits = axes.get_xlim(), axes.get_ylim()
            _bands(axes, bands, named=False)
            axes.set_xlim(limits[0])
            axes.set_ylim(limits[1])
            axes.set_title("Closer")
        else:
            _bands(axes, bands, named=True)
            axes.margins(0.1)
            axes.autoscale_view()
            if several:
                axes.set_title("With what to compare")
        axes.set_xlabel(f"{axis}  (← spread more evenly)")
        axes.set_ylabel("Alignment  (↓ pairs closer)")
        direction(axes, "↙ better: lower left")
    _legend(figure, points, bands, paths)
    marks = [(_value(one["uniformity"]), _value(one["alignment"])) for one in points]
    named = [one.get("named", True) for one in points]
    if sum(named) > _LABELS:
        named = [bool(one.get("front")) for one in points]
    labels = [
        (*at, plain(one["name"], 26)) for at, one, shown in zip(marks, points, named, strict=True) if shown
    ]
    place_labels(panels[-1], labels[:_LABELS], marks)
    return figure


def _value(measurement: Mapping[str, Any]) -> float:
    return float(measurement["value"])


def _points(axes: Axes, points: Sequence[Mapping[str, Any]], paths: Sequence[Sequence[str]]) -> None:
    places = [(_value(one["uniformity"]), _value(one["alignment"])) for one in points]
    at = dict(zip((one["name"] for one in points), places, strict=True))
    for order, path in enumerate(paths):
        steps = [at[name] for name in path if name in at]
        if len(steps) > 1:
            color = CLASSES[order % len(CLASSES)]
            axes.plot(*zip(*steps, strict=True), color=color, linewidth=1.2, alpha=0.7, zorder=2)
    for order, (one, (x, y)) in enumerate(zip(points, places, strict=True)):
        color = _color(order, len(points))
        for interval, fixed in (
            (one["uniformity"].get("interval"), y),
            (one["alignment"].get("interval"), x),
        ):
            if interval is not None:
                ends = [float(end) for end in interval]
                across = interval is one["uniformity"].get("interval")
                line = (ends, [fixed] * 2) if across else ([fixed] * 2, ends)
                axes.plot(*line, color=color, linewidth=4, alpha=0.3, solid_capstyle="butt", zorder=3)
        edge = INK if one.get("front") else "white"
        axes.plot(
            [x], [y], marker="o", markersize=8, color=color, markeredgecolor=edge,
            markeredgewidth=1.6 if one.get("front") else 0.8, zorder=5,
        )  # fmt: skip


def _color(order: int, count: int) -> str:
    return (BLUE, PURPLE)[order] if count <= 2 else BLUE


def _bands(axes: Axes, bands: Mapping[str, Any], *, named: bool) -> None:
    for name, color, dashes in (("uniform law", BLUE, _DASHED), ("lower bound", RED, _DOTTED)):
        if bands.get(name) is not None:
            axes.axvline(float(bands[name]), color=color, linewidth=1.2, linestyle=dashes, zorder=1)
    if not named:
        return
    for name, words in (("random", "random directions,\nunrelated pairs"), ("one point", "one point")):
        if bands.get(name) is not None:
            x, y = (float(value) for value in bands[name])
            axes.plot([x], [y], marker="X", markersize=8, color=MUTED, markeredgecolor="white", zorder=4)
            left = name == "random"
            axes.annotate(
                words, (x, y), xytext=(8, -2) if left else (-8, 8), textcoords="offset points",
                ha="left" if left else "right", va="center", fontsize=8.5, color=MUTED,
            )  # fmt: skip


def _legend(
    figure: Figure,
    points: Sequence[Mapping[str, Any]],
    bands: Mapping[str, Any],
    paths: Sequence[Sequence[str]],
) -> None:
    handles = [
        Line2D([], [], color=color, linestyle=dashes, linewidth=1.2, label=words)
        for name, words, color, dashes in (
            ("uniform law", "Uniform law", BLUE, _DASHED),
            ("lower bound", "No set of this size lies lower", RED, _DOTTED),
        )
        if bands.get(name) is not None
    ]
    if any(one.get("front") for one in points):
        handles.append(
            Line2D([], [], linestyle="", marker="o", markersize=8, color=FAINT, markeredgecolor=INK,
                   markeredgewidth=1.6, label="No other is better in both")
        )  # fmt: skip
    if any(len(path) > 1 for path in paths):
        handles.append(Line2D([], [], color=GREEN, linewidth=1.2, label="One run, step by step"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4)


@styled
def uniformity_scale(points: Sequence[Mapping[str, Any]], *, bands: Mapping[str, Any]) -> Figure:
    """Draw uniformity on its own, where there are no pairs: from the most even spread to a single point.

    Args:
        points: ``{"name", "uniformity"}`` of each, as for :func:`points_plane`.
        bands: as for :func:`points_plane`.

    Returns:
        A figure of one strip for each point.
    """
    figure = new_figure(8.4, 1.35 + 0.42 * len(points))
    axes = figure.subplots()
    for order, one in enumerate(points):
        y = -order
        axes.axhline(y, color=FAINT, linewidth=2, zorder=1)
        interval = one["uniformity"].get("interval")
        if interval is not None:
            axes.plot(
                [float(end) for end in interval], [y, y], color=BLUE, linewidth=6, alpha=0.35,
                solid_capstyle="butt", zorder=3,
            )  # fmt: skip
        axes.plot(
            [_value(one["uniformity"])], [y], marker="o", markersize=9, color=BLUE, markeredgecolor="white",
            zorder=5,
        )  # fmt: skip
    axes.set_yticks([-order for order in range(len(points))], [plain(one["name"], 24) for one in points])
    axes.set_ylim(-len(points) + 0.3, 0.7)
    _bands(axes, {name: bands.get(name) for name in ("uniform law", "lower bound")}, named=False)
    low = min([_value(one["uniformity"]) for one in points] + [float(v) for v in _ends(bands)])
    axes.set_xlim(low * 1.06 if low < 0 else -1.0, 0.12 * -low or 0.1)
    axes.axvline(0, color=MUTED, linewidth=1.2, zorder=1)
    axes.annotate(
        "one point", (0, 1), xycoords=("data", "axes fraction"), xytext=(4, -2), textcoords="offset points",
        va="top", fontsize=8.5, color=MUTED,
    )  # fmt: skip
    axes.set_xlabel("Uniformity  (← spread more evenly)")
    axes.grid(visible=False, axis="y")
    _legend(figure, points, bands, ())
    return figure


def _ends(bands: Mapping[str, Any]) -> list[float]:
    return [bands[name] for name in ("uniform law", "lower bound") if bands.get(name) is not None]
