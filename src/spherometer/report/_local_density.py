"""The section of an evaluation that says how densely classes lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from spherometer import plots
from spherometer._density import READING_TEMPERATURE
from spherometer.report import _format, _page

_MOST_CLASSES = 20
_BADGES = {
    "both": ("locally and globally dense", "yes"),
    "locally dense": ("locally dense", "open"),
    "globally dense": ("globally dense", "open"),
    "neither": ("neither locally nor globally dense", "no"),
}


def section(density: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Texts, tables and the figure of a ``LocalDensity`` as in JSON; None where there is none."""
    if density is None:
        return None
    points = density["points"]
    shown = min(points, key=lambda point: abs(math.log(point["temperature"] / READING_TEMPERATURE)))
    index = density["calinski_harabasz"]
    words, color = _BADGES[density["reading"]]
    return {
        "reading": words,
        "badge": color,
        "sentence": density["sentence"],
        "num": _format.count(density["num"]),
        "num_classes": _format.count(len(density["classes"])),
        "balanced_ceiling": _format.number(density["balanced_ceiling"]),
        "between_share": _format.percent(density["between_share"]),
        "between_random": _format.percent(density["between_random"]),
        "calinski_harabasz": _format.DASH if index is None else _format.number(index, 1),
        "notes": density["notes"],
        "figure": _page.image(plots.to_svg(plots.local_density(density))),
        "points": [
            {
                "temperature": f"{point['temperature']:g}",
                "cell": _format.cell(point, 4),
                "random": _format.number(point["random"], 4),
                "ceiling": _format.number(point["ceiling"], 4),
            }
            for point in points
        ],
        "purity": [
            {
                "k": _format.count(point["k"]),
                "cell": _format.cell(point, 4),
                "random": _format.number(point["baseline"], 4),
            }
            for point in density["purity"]
        ],
        "temperature": f"{shown['temperature']:g}",
        "classes": _classes(density["classes"], shown),
    }


def _classes(classes: Sequence[Mapping[str, Any]], point: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows, contribution, and the most a class of its share could give; the last of many in one row."""
    every = range(len(classes))
    named = every if len(classes) <= _MOST_CLASSES else every[: _MOST_CLASSES - 1]
    groups = [(classes[at]["name"], [at]) for at in named]
    if rest := every[len(named) :]:
        groups.append((f"{_format.count(len(rest))} more classes", list(rest)))
    shares = point["shares"]
    return [
        {
            "name": name,
            "num": _format.count(sum(classes[at]["num"] for at in group)),
            "share": _format.percent(math.fsum(shares[at] for at in group)),
            "contribution": _format.number(math.fsum(point["contributions"][at] for at in group), 4),
            "most": _format.number(math.fsum(shares[at] * (1 - shares[at]) for at in group), 4),
        }
        for name, group in groups
    ]
