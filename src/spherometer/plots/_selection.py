"""How well each label-free criterion picks an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spherometer.plots._style import BLUE, MUTED, ORANGE, new_figure, plain, styled


def _dots(axes: Axes, rows: Sequence[Mapping[str, Any] | None], scale: float, color: str, form: str) -> None:
    for y, row in enumerate(rows):
        if row is None or row.get("value") is None:
            axes.text(
                0.02,
                y,
                "not defined",
                va="center",
                fontsize=8,
                color=MUTED,
                transform=axes.get_yaxis_transform(),
            )
            continue
        value = scale * float(row["value"])
        interval = row.get("interval")
        if interval is not None:
            axes.plot(
                [scale * float(v) for v in interval],
                [y, y],
                color=color,
                linewidth=2.2,
                solid_capstyle="round",
            )
        axes.plot([value], [y], marker="o", markersize=8, color=color, markeredgecolor="white", zorder=4)
        axes.annotate(
            form.format(value).replace("-", "\N{MINUS SIGN}"),
            (value, y),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )


@styled
def selection(criteria: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw, for each criterion, its rank correlation with accuracy and the accuracy its choice gives away.

    Args:
        criteria: ``document["selection"]["all"]`` or another set of encoders.

    Returns:
        A figure of two panels with one line per criterion.
    """
    names = list(criteria)
    figure = new_figure(10.0, 1.5 + 0.52 * max(1, len(names)))
    left, right = figure.subplots(1, 2, sharey=True)
    _dots(left, [criteria[name].get("rank_correlation") for name in names], 1.0, BLUE, "{:.2f}")
    _dots(right, [criteria[name].get("regret") for name in names], 100.0, ORANGE, "{:.1f}")
    left.set_title("Agreement with accuracy  (→ better)")
    left.set_xlabel("Rank correlation with accuracy")
    left.axvline(0, color=MUTED, linewidth=1)
    left.set_xlim(-1.08, 1.08)
    left.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1\nreversed", "−0.5", "0\nunrelated", "0.5", "1\nsame order"])
    right.set_title("Accuracy lost by its choice  (← better)")
    right.set_xlabel("Percentage points below the best encoder")
    right.axvline(0, color=MUTED, linewidth=1)
    right.set_xscale("symlog", linthresh=1)
    right.set_xlim(-0.15, 130)
    right.set_xticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"])
    right.minorticks_off()
    left.set_yticks(range(len(names)), [plain(criteria[name].get("label", name)) for name in names])
    left.set_ylim(len(names) - 0.4, -0.75)
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return figure
