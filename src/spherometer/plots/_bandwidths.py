"""Conditional alignment and conditional uniformity against the bandwidth of a kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spherometer.plots._style import BLUE, INK, MUTED, ORANGE, new_figure, plain, styled

_MOST_TICKS = 9
_PANELS = (
    ("alignment", "Conditional alignment", BLUE, "o"),
    ("uniformity", "Conditional uniformity", ORANGE, "s"),
)
_DOTTED: Any = (0, (1, 2))
_DASHED: Any = (0, (5, 3))


@styled
def bandwidths(curve: Mapping[str, Any]) -> Figure:
    """Draw both quantities against the bandwidth, with what no kernel and an infinite bandwidth give.

    Args:
        curve: a ``BandwidthCurve`` as in JSON (``to_dict()``).

    Returns:
        A figure of one panel for each quantity that was measured, on a common logarithmic axis. Above it
        stands how many samples count as similar, on average.
    """
    points = curve["points"]
    shown = [panel for panel in _PANELS if any(point[panel[0]] is not None for point in points)]
    figure = new_figure(8.2, 0.9 + 2.7 * max(1, len(shown)))
    if not shown:
        return figure
    places = [math.log2(float(point["factor"])) for point in points]
    every = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (key, title, color, marker) in zip(every, shown, strict=True):
        _draw(axes, places, points, key, color, marker)
        _references(axes, curve, key)
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
        axes.set_title(f"{title}  (lower is better)")
    every[0].annotate(
        "the kernel's own", (0, 0.97), xycoords=("data", "axes fraction"), xytext=(4, 0),
        textcoords="offset points", va="top", fontsize=8, color=INK, zorder=5,
    )  # fmt: skip
    names = list(points[0]["bandwidths"])
    step = max(1, math.ceil(len(points) / _MOST_TICKS))
    centre = min(range(len(places)), key=lambda k: abs(places[k]))
    marked = [k for k in range(len(points)) if (k - centre) % step == 0]
    one = len(names) == 1
    labels = [_short(points[k]["bandwidths"][names[0]] if one else points[k]["factor"]) for k in marked]
    ticks = [places[k] for k in marked]
    every[-1].set_xticks(ticks, labels)
    every[-1].set_xlabel(
        plain(f"Bandwidth of {names[0]}" if one else f"Bandwidths of {', '.join(names)}: times their own")
    )
    above = every[0].secondary_xaxis("top")
    above.set_xticks(ticks, [_short(points[k]["neighbors"]) for k in marked])
    above.set_xlabel("Similar samples, on average")
    above.spines["top"].set_visible(False)
    return figure


def _draw(
    axes: Axes,
    places: Sequence[float],
    points: Sequence[Mapping[str, Any]],
    key: str,
    color: str,
    marker: str,
) -> None:
    there = [(x, point) for x, point in zip(places, points, strict=True) if point[key] is not None]
    axes.plot(
        [x for x, _ in there], [float(point[key]) for _, point in there], color=color, marker=marker,
        markersize=5, linewidth=1.8, zorder=4,
    )  # fmt: skip
    banded = [(x, point[f"{key}_interval"]) for x, point in there if point[f"{key}_interval"] is not None]
    if banded:
        axes.fill_between(
            [x for x, _ in banded], [float(ends[0]) for _, ends in banded],
            [float(ends[1]) for _, ends in banded], color=color, alpha=0.18, linewidth=0, zorder=2,
        )  # fmt: skip


def _references(axes: Axes, curve: Mapping[str, Any], key: str) -> None:
    """What no kernel gives, named at the left; an infinite bandwidth, named at the right."""
    for part, words, style, x, ha in (
        ("unconditional", "no kernel", _DASHED, 0.01, "left"),
        ("infinite", "infinite bandwidth", _DOTTED, 0.99, "right"),
    ):
        value = curve[part][key]
        if value is None:
            continue
        axes.axhline(float(value), color=MUTED, linewidth=1, linestyle=style, zorder=1)
        axes.annotate(
            words, (x, float(value)), xycoords=("axes fraction", "data"), xytext=(0, 3),
            textcoords="offset points", ha=ha, va="bottom", fontsize=8, color=MUTED, zorder=5,
        )  # fmt: skip


def _short(value: float) -> str:
    """Three digits, without a power of ten where it can be."""
    value = float(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.1e}"
