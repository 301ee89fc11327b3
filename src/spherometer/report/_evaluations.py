"""The page of one or several evaluations: every measurement with its interval and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spherometer import plots
from spherometer._results import Evaluation
from spherometer._version import __version__
from spherometer.errors import InputError
from spherometer.report import _document, _format, _local_density, _page, _portrait, _summary, _words
from spherometer.stores import write_file

_BETTER = {"lower": "lower is better", "higher": "higher is better"}
_MEANINGS = {  # where the words of a study speak of images
    "alignment": "How far apart the two sides of a positive pair lie: the mean of their distances to the "
    "power alpha.",
    "uniformity": "How evenly all rows spread over the sphere: the logarithm of the mean of "
    "exp(−t · squared distance) over all pairs of different rows.",
}
_MOST_PORTRAITS = 3
_ARROWS = {"lower": "↓", "higher": "↑"}


def _checked(evaluations: Sequence[tuple[str, Evaluation]]) -> list[tuple[str, dict[str, Any]]]:
    pairs = []
    for entry in evaluations:
        if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], Evaluation)):
            raise InputError(
                "report: evaluations must be pairs (name, Evaluation), because each is shown under its name. "
                f"Got {type(entry).__name__}. Pass for instance [('model A', spherometer.measure(x))]."
            )
        pairs.append(
            (_document.clean_text(str(entry[0])) or "(no name)", _document.cleaned(entry[1].to_dict()))
        )
    if not pairs:
        raise InputError(
            "report: evaluations must hold at least one evaluation, because an empty page says nothing. "
            "Got none. Pass for instance [('model A', spherometer.measure(x))]."
        )
    return pairs


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _settings(settings: dict[str, Any]) -> str:
    shown = [
        f"{key.replace('_', ' ')}: {_shown(value)}"
        for key, value in settings.items()
        if not isinstance(value, dict)  # the kernel in full: its words stand beside it
    ]
    return "; ".join(shown)


def _curve(evaluation: dict[str, Any]) -> dict[str, Any] | None:
    """The measures against the bandwidth: a figure and a table of the same numbers."""
    curve = evaluation.get("bandwidth_curve")
    if curve is None:
        return None
    names = list(curve["points"][0]["bandwidths"])
    rows = [
        {
            "name": "No kernel",
            "bandwidths": [_format.DASH] * len(names),
            "neighbors": _format.DASH,
            "cells": _reference(curve["unconditional"]),
        },
        *(
            {
                "name": "The kernel's own" if point["factor"] == 1 else f"× {point['factor']:.3g}",
                "bandwidths": [f"{point['bandwidths'][name]:.4g}" for name in names],
                "neighbors": _format.number(point["neighbors"], 1),
                "cells": [
                    _format.cell(_number_of(point, "alignment"), 4),
                    _format.cell(_number_of(point, "uniformity"), 4),
                ],
            }
            for point in curve["points"]
        ),
        {
            "name": "Infinite",
            "bandwidths": ["∞"] * len(names),
            "neighbors": _format.DASH,
            "cells": _reference(curve["infinite"]),
        },
    ]
    return {
        "kernel": curve["kernel"],
        "names": names,
        "num": _format.count(curve["num"]),
        "settings": _settings({key: value for key, value in curve["settings"].items() if value is not None}),
        "notes": curve["notes"],
        "rows": rows,
        "figure": _page.image(plots.to_svg(plots.bandwidths(curve))),
    }


def _number_of(point: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = point[name]
    return None if value is None else {"value": value, "interval": point[f"{name}_interval"]}


def _reference(values: dict[str, Any]) -> list[dict[str, str]]:
    return [
        _format.cell({"value": values[name], "interval": None}, 4) for name in ("alignment", "uniformity")
    ]


def _rows(measurements: dict[str, Any]) -> list[dict[str, Any]]:
    """A line of the table for each measurement."""
    rows = []
    for key, one in measurements.items():
        known = _words.MEASURES.get(key)
        rows.append(
            {
                "label": one["label"],
                "cell": _format.cell(one, 4),
                "baseline": [(_format.number(v, 4), words) for words, v in one["baseline"].items()],
                "num": _format.count(one["num"]),
                "better": _BETTER.get(one["better"] or "", "neither side is better by itself"),
                "meaning": _MEANINGS.get(key) or (known[2] if known else ""),
                "settings": _settings(one["settings"]),
            }
        )
    return rows


def plain_section(index: int, name: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation on the page of something else: its table, figures of its rows, its origin."""
    return {
        "id": f"evaluation-{index}",
        "name": name,
        "version": evaluation["spherometer"],
        "notes": evaluation["notes"],
        "rows": _rows(evaluation["metrics"]),
        "portrait": _portrait.section(evaluation.get("portrait")),
        "provenance": _portrait.provenance(evaluation.get("provenance")),
    }


def _section(index: int, name: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    measurements = evaluation["metrics"]
    return {
        **plain_section(index, name, evaluation),
        "summary": _summary.summary(evaluation),
        "standing": _portrait.standing([(name, measurements)]),
        "figure": _page.image(plots.to_svg(plots.intervals(measurements))) if measurements else None,
        "curve": _curve(evaluation),
        "density": _local_density.section(evaluation.get("local_density")),
    }


def _comparison(pairs: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """All evaluations side by side, one row for each measurement that any of them has."""
    labels: dict[str, tuple[str, str]] = {}
    for _, evaluation in pairs:
        for key, one in evaluation["metrics"].items():
            labels.setdefault(key, (one["label"], _ARROWS.get(one["better"] or "", "")))
    rows = [
        {
            "label": label,
            "arrow": arrow,
            "cells": [_format.cell(evaluation["metrics"].get(key), 4) for _, evaluation in pairs],
        }
        for key, (label, arrow) in labels.items()
    ]
    return {
        "names": [name for name, _ in pairs],
        "rows": rows,
        "standing": _portrait.standing([(name, evaluation["metrics"]) for name, evaluation in pairs]),
    }


def render_evaluations(evaluations: Sequence[tuple[str, Evaluation]]) -> str:
    """Return one page for several evaluations, side by side and one by one.

    Args:
        evaluations: (name, Evaluation) pairs, at least one.

    Returns:
        One self-contained page: no script, nothing fetched, the same text for the same evaluations.

    Raises:
        InputError: there is none, or an entry is not such a pair.
    """
    return _page_of(_checked(evaluations))


def _page_of(pairs: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """The page of cleaned documents under their names."""
    if len(pairs) > _MOST_PORTRAITS:  # the page stays one that can be sent
        pairs = [(name, {**evaluation, "portrait": None}) for name, evaluation in pairs]
    sections = [_section(index, name, evaluation) for index, (name, evaluation) in enumerate(pairs, 1)]
    return _page.fill(
        "evaluations.html",
        {
            "version": __version__,
            "sections": sections,
            "rules": _summary.RULES,
            "comparison": _comparison(pairs) if len(pairs) > 1 else None,
        },
    )


def write_evaluations(evaluations: Sequence[tuple[str, Evaluation]], out: Path) -> Path:
    """Write the page of several evaluations.

    Args:
        evaluations: as for :func:`render_evaluations`.
        out: a directory, which gets ``report.html``; or a path that ends in ``.html``.

    Returns:
        The path of the page.

    Raises:
        InputError: as :func:`render_evaluations`; or ``out`` cannot be written to.
    """
    out = Path(out)
    path = out if out.suffix == ".html" else out / "report.html"
    write_file(path, render_evaluations(evaluations).encode("utf-8"))
    return path
