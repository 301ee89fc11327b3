"""Colours, type and bytes of every figure; nothing global is changed."""

from __future__ import annotations

import functools
import io
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

P = ParamSpec("P")

INK, MUTED, FAINT = "#1c2430", "#5b6675", "#d5dae1"
BLUE, RED, GREEN, ORANGE, PURPLE = "#0072b2", "#c8102e", "#00876c", "#e08214", "#7b4fa3"
# ten classes, after Paul Tol's muted scheme
CLASSES = (
    "#332288",
    "#88ccee",
    "#44aa99",
    "#117733",
    "#999933",
    "#ddcc77",
    "#cc6677",
    "#882255",
    "#aa4499",
    "#888888",
)

_SETTINGS: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e9ecf0",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "spherometer",
}

_MAX_LABEL = 60


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function with the settings above, and put the former ones back."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context():
            matplotlib.rcdefaults()  # a user's matplotlibrc does not change our bytes
            with rc_context(_SETTINGS):
                figure = draw(*args, **kwargs)
                freeze(figure)
                return figure

    return wrapper


def freeze(figure: Figure) -> None:
    """Keep the spacing as it is now: a second drawing would move things by a hair, and change the bytes."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches with automatic spacing."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@functools.cache
def _glyphs() -> frozenset[int]:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return frozenset(FT2Font(str(path)).get_charmap())


def plain(text: object, limit: int = _MAX_LABEL) -> str:
    """Make a text from data safe to draw: one line, known glyphs, no mathematics, at most ``limit`` long."""
    line = " ".join(str(text)[: 4 * limit].split())
    known = _glyphs()
    line = "".join(
        c if ord(c) in known and unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for c in line
    )
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    line = line.replace("$", r"\$")  # matplotlib draws \$ as a dollar sign, and $...$ as mathematics
    return f" {line}" if line.startswith("_") else line  # legends leave out what starts with _


def direction(axes: Axes, text: str, corner: str = "lower left") -> None:
    """Write a quiet hint into a corner saying which way is better."""
    x, ha = (0.015, "left") if "left" in corner else (0.985, "right")
    y, va = (0.02, "bottom") if "lower" in corner else (0.98, "top")
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        ha=ha,
        va=va,
        fontsize=9,
        color=GREEN,
        fontweight="bold",
        zorder=6,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.9},
    )


def to_svg(figure: Figure) -> bytes:
    """Return the figure as SVG: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with rc_context(_SETTINGS):
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata=none)
    FigureCanvasAgg(figure)
    text = buffer.getvalue().decode("utf-8")
    text = re.sub(r"<!DOCTYPE.*?>\s*", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)  # matplotlib repeats every label as a comment
    return text.encode("utf-8")


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Return the figure as PNG."""
    buffer = io.BytesIO()
    with rc_context(_SETTINGS):
        canvas: Any = FigureCanvasAgg(figure)
        figure.set_dpi(dpi)
        canvas.print_png(buffer, metadata={"Software": None})
        figure.set_dpi(100)
    return buffer.getvalue()
