"""The plane of alignment and uniformity, one point per encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from spherometer.plots._labels import place_labels
from spherometer.plots._style import BLUE, INK, MUTED, RED, direction, new_figure, plain, styled

FAMILIES = {
    "align_uniform": ("Align + uniform", "o"),
    "info_nce": ("Contrastive (InfoNCE)", "^"),
    "combination": ("Combination", "s"),
    "untrained": ("Untrained", "X"),
    "minilm": ("Pretrained", "P"),
}
_OTHER = ("Other", "D")
_REFERENCE = "minilm"  # made by others, and so much better that it would take all the colours


def _point(trial: Mapping[str, Any], headline: str) -> tuple[float, float, float] | None:
    metrics, accuracy = trial.get("metrics") or {}, trial.get("accuracy") or {}
    if "alignment" not in metrics or "uniformity" not in metrics or headline not in accuracy:
        return None
    return (
        float(metrics["uniformity"]["value"]),
        float(metrics["alignment"]["value"]),
        float(accuracy[headline]["test"]["value"]),
    )


def _lines(axes: Axes, baselines: Mapping[str, Any]) -> None:
    expected = baselines.get("expected_uniformity")
    lowest = baselines.get("minimum_uniformity")
    if expected is not None:
        axes.axvline(float(expected), color=BLUE, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
    if lowest is not None:
        axes.axvline(float(lowest), color=RED, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)


def _scatter(axes: Axes, points: Sequence[tuple[Any, ...]], norm: Normalize, size: float) -> Any:
    drawn = None
    for family in [*FAMILIES, None]:
        marker = FAMILIES.get(family or "", _OTHER)[1]
        for collapsed in (True, False):
            chosen = [
                p for p in points if (p[3] if p[3] in FAMILIES else None) == family and p[4] == collapsed
            ]
            if not chosen:
                continue
            x, y, value = [p[0] for p in chosen], [p[1] for p in chosen], [p[2] for p in chosen]
            if collapsed:
                axes.scatter(
                    x,
                    y,
                    s=size,
                    marker=marker,
                    facecolors="white",
                    edgecolors=MUTED,
                    linewidths=1.1,
                    zorder=3,
                )
            else:
                drawn = axes.scatter(
                    x,
                    y,
                    s=size,
                    c=value,
                    marker=marker,
                    cmap="viridis",
                    norm=norm,
                    edgecolors=INK,
                    linewidths=0.5,
                    zorder=4,
                )
    return drawn


def _range(values: Sequence[float]) -> tuple[float, float, bool]:
    """Ends of the colour scale, and whether a few low values lie below it (one outlier would flatten all)."""
    if not values:
        return 0.0, 1.0, False
    ranked = sorted(values)
    low, high = ranked[len(ranked) // 8], ranked[-1]
    cut = ranked[0] < low - 0.5 * (high - low)
    low = low if cut else ranked[0]
    return (low, high, cut) if high > low else (low - 0.01, high, False)


def _better_half(points: Sequence[tuple[Any, ...]], low: float) -> list[tuple[Any, ...]]:
    """Encoders at least as accurate as the middle one; all of them when they are few."""
    if len(points) < 12:
        return list(points)
    middle = max(low, sorted(p[2] for p in points)[len(points) // 2])
    return [p for p in points if p[2] >= middle]


@styled
def plane(
    trials: Sequence[Mapping[str, Any]],
    *,
    headline: str,
    baselines: Mapping[str, Any],
    best: Sequence[Mapping[str, Any]] = (),
    pair: str = "views of one image",
    noun: str = "images",
) -> Figure:
    """Draw uniformity across, alignment up and accuracy as colour: all encoders, and the better half.

    Args:
        trials: ``document["trials"]``; those without both measures (raw pixels, failed) are left out.
        headline: the accuracy that gives the colour, for instance ``"linear_output"``.
        baselines: ``document["baselines"]``, for the line of the uniform law and of the lowest value.
        best: ``document["best"]``; these encoders are labelled.
        pair: what a positive pair is; noun: what is encoded.

    Returns:
        A figure of two panels; the second zooms in on the more accurate half of the encoders.
    """
    points = []
    for trial in trials:
        place = _point(trial, headline)
        if place is not None:
            points.append((*place, trial.get("family"), bool(trial.get("collapsed")), trial.get("key")))
    good = [p for p in points if not p[4]] or points
    scale = [p for p in good if p[3] != _REFERENCE] or good
    low, high, cut = _range([p[2] for p in scale])
    above = any(p[2] > high for p in good)
    norm = PowerNorm(2.5, low, high)  # more colours where most encoders are
    near = _better_half(good, low)
    figure = new_figure(11.0, 5.4)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    drawn = None
    for axes, shown, title, size in (
        (left, points, "All encoders", 42.0),
        (right, near, "Closer: the more accurate half", 62.0),
    ):
        drawn = _scatter(axes, shown, norm, size) or drawn
        axes.set_title(title)
        axes.set_xlabel("Uniformity  (← spread more evenly)")
        axes.set_ylabel(f"Alignment  (↓ {pair} closer)")
        axes.margins(0.09)
        if axes is left:
            _lines(axes, baselines)
        else:
            limits = axes.get_xlim()
            inside = {k: v for k, v in baselines.items() if k == "dim" or (v and limits[0] <= v <= limits[1])}
            _lines(axes, inside)
            axes.set_xlim(limits)
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - 0.08 * (top - bottom), top)
        direction(axes, "↙ better: lower left")
    if drawn is not None:
        bar = figure.colorbar(
            drawn,
            ax=[left, right],
            aspect=32,
            pad=0.015,
            format=PercentFormatter(1, 1),
            extend={(True, True): "both", (True, False): "min", (False, True): "max"}.get(
                (cut, above), "neither"
            ),
        )
        bar.set_label(f"Accuracy on test {noun}")
        ticks = {round(float(norm.inverse(k / 5)), 3) for k in range(6)}
        bar.set_ticks(sorted(ticks))
        bar.minorticks_off()
        bar.outline.set_visible(False)
    _legend(figure, points, baselines)
    close = {p[5] for p in near}
    at = {p[5]: (p[0], p[1]) for p in points}
    labels = [
        (*at[row["key"]], plain(row["role"]), row["key"] in close) for row in best if row.get("key") in at
    ]
    place_labels(left, [one[:3] for one in labels if not one[3]], list(at.values()))
    place_labels(right, [one[:3] for one in labels if one[3]], [at[key] for key in close])
    return figure


def _legend(figure: Figure, points: Sequence[tuple[Any, ...]], baselines: Mapping[str, Any]) -> None:
    handles = []
    families = {p[3] if p[3] in FAMILIES else None for p in points}
    for family in [*FAMILIES, None]:
        if family in families:
            words, marker = FAMILIES.get(family or "", _OTHER)
            handles.append(
                Line2D([], [], linestyle="", marker=marker, color=INK, markerfacecolor="#9aa5b4", label=words)
            )
    if any(p[4] for p in points):
        handles.append(
            Line2D([], [], linestyle="", marker="o", color=MUTED, markerfacecolor="white", label="Collapsed")
        )
    for name, words, color, dashes in (
        ("expected_uniformity", f"Uniform law in {baselines.get('dim')} dimensions", BLUE, (0, (5, 3))),
        ("minimum_uniformity", "Lowest possible uniformity", RED, (0, (1, 2))),
    ):
        if baselines.get(name) is not None:
            handles.append(Line2D([], [], color=color, linestyle=dashes, linewidth=1.2, label=plain(words)))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
