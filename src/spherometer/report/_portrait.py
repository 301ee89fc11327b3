"""The sections of an evaluation that show its rows: figures, groups, neighbours, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spherometer import plots
from spherometer.report import _format, _page

_MOST_NAMED = 8  # sets of features in one figure
_DENSITY = {
    "circle": (
        "Where rows lie on the circle",
        "Rows by their angle: bars whose length is the number of rows, with class means as dots.",
    ),
    "sphere": (
        "Where rows lie on the sphere",
        "The whole sphere as a map of equal areas, coloured by how many rows lie there.",
    ),
    "projection": (
        "Where rows lie, seen along two directions",
        "Rows in the plane of their two leading principal directions, coloured by how many lie there.",
    ),
}


def bands_of(metrics: Mapping[str, Any], axis: str = "uniformity") -> dict[str, Any]:
    """Reference places of the plane, from the baselines of uniformity and alignment."""
    spread = metrics[axis]["baseline"]
    law = spread.get("uniform law")
    unrelated = metrics["alignment"]["baseline"].get("unrelated pairs") if "alignment" in metrics else None
    return {
        "uniform law": law,
        "lower bound": spread.get("lower bound for this n"),
        "random": None if law is None or unrelated is None else [law, unrelated],
        "one point": [spread.get("one point", 0.0), 0.0],
    }


def standing(named: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any] | None:
    """The figure that says where sets of features stand: on the plane, or on the line of uniformity."""
    several = len(named) > 1
    laws = {one["uniformity"]["baseline"].get("uniform law") for _, one in named if "uniformity" in one}
    axis = "uniformity" if len(laws) == 1 else "normalized_uniformity"
    usable = [(name, one) for name, one in named if axis in one][:_MOST_NAMED]
    if not usable or len(usable) < len(named[:_MOST_NAMED]):
        return None
    label = "Uniformity" if axis == "uniformity" else "Normalized uniformity"
    bands = bands_of(usable[0][1], axis)
    if any(one[axis]["num"] != usable[0][1][axis]["num"] for _, one in usable):
        bands["lower bound"] = None
    points: list[dict[str, Any]] = [
        {"name": name, "uniformity": one[axis], "alignment": one.get("alignment")} for name, one in usable
    ]
    if all(one["alignment"] is not None for one in points):
        figure = plots.points_plane(points, bands=bands, axis=label)
        kind = "plane"
    elif axis == "uniformity":
        figure = plots.uniformity_scale(points, bands=bands)
        kind = "line"
    else:
        return None
    return {"kind": kind, "several": several, "figure": _page.image(plots.to_svg(figure)), "label": label}


def section(portrait: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Figures and tables of a ``Portrait`` as in JSON; None where there is none."""
    if portrait is None:
        return None
    distances, spectrum, density = (portrait[name] for name in ("distances", "spectrum", "density"))
    title, alt = _DENSITY[density["kind"]]
    return {
        "num": _format.count(portrait["num"]),
        "subset": portrait["num"] < portrait["num_total"],
        "num_total": _format.count(portrait["num_total"]),
        "dim": _format.count(portrait["dim"]),
        "notes": portrait["notes"],
        "scaled": all(abs(length - 1) < 1e-3 for length in portrait["lengths"].values()),
        "lengths": {name: _format.number(value, 3) for name, value in portrait["lengths"].items()},
        "mean_length": _format.number(portrait["mean_length"], 2),
        "distances": {
            "figure": _page.image(plots.to_svg(plots.portrait_distances(portrait))),
            "num": _format.count(distances["num_random"]),
            "every": distances["every"],
            "positive": distances["positive"] is not None,
            "closer": _format.percent(distances["closer"]),
        },
        "spectrum": {
            "figure": _page.image(plots.to_svg(plots.portrait_spectrum(portrait))),
            "num": _format.count(spectrum["num"]),
            "half": _format.count(spectrum["half"]),
            "most": _format.count(spectrum["most"]),
            "uniform_half": _format.count(spectrum["uniform_half"]),
            "uniform_most": _format.count(spectrum["uniform_most"]),
        },
        "density": {
            "figure": _page.image(plots.to_svg(plots.portrait_density(portrait))),
            "kind": density["kind"],
            "title": title,
            "alt": alt,
            "share": _format.percent(sum(density["shares"])),
            "marks": bool(density["marks"]),
        },
        "groups": [_group(one, portrait) for one in portrait["groups"]],
        "neighbors": _neighbors(portrait["neighbors"]),
    }


def _group(group: Mapping[str, Any], portrait: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": group["name"],
        "labels": group["labels"],
        "num_groups": _format.count(group["num_groups"]),
        "more": group["num_groups"] - len(group["rows"]),
        "num_missing": group["num_missing"] and _format.count(group["num_missing"]),
        "paired": portrait["num_pairs"] > 0,
        "rows": [
            {
                "name": row["name"] or "(empty)",
                "num": _format.count(row["num"]),
                "share": _format.percent(row["num"] / max(1, portrait["num"])),
                "alignment": _format.number(row["alignment"]),
                "uniformity": _format.number(row["uniformity"]),
                "shift": _format.number(row["shift"]),
            }
            for row in group["rows"]
        ],
    }


def _neighbors(near: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if near is None:
        return None
    return {
        "num": _format.count(near["num"]),
        "k": _format.count(near["k"]),
        "equal": _format.count(near["num_equal"]),
        "close": _format.count(near["num_close"]),
        "cosine": f"{near['close']:g}",
        "median": _format.number(near["median"]),
        "duplicates": [
            {
                "one": pair["ids"][0] or "(empty)",
                "two": pair["ids"][1] or "(empty)",
                "cosine": _format.number(pair["cosine"], 4),
                "distance": _format.number(pair["distance"], 4),
            }
            for pair in near["duplicates"]
        ],
        "outliers": [
            {
                "id": row["id"] or "(empty)",
                "distance": _format.number(row["distance"]),
                "times": _format.number(row["distance"] / near["median"], 2)
                if near["median"]
                else _format.DASH,
            }
            for row in near["outliers"]
        ],
    }


def provenance(given: Any) -> dict[str, Any] | None:
    """Files with their checksums, the command, and everything else as pairs of words."""
    if not isinstance(given, Mapping):
        return None
    files = [
        {
            "name": str(one.get("name", "")),
            "size": _size(one.get("num_bytes")),
            "sha256": str(one.get("sha256") or _format.DASH),
        }
        for one in given.get("files") or []
        if isinstance(one, Mapping)
    ]
    others: list[tuple[str, str]] = []
    for key, value in given.items():
        if key not in ("files", "command"):
            others += _flat(key, value)
    command = given.get("command")
    return {"files": files, "command": None if command is None else str(command), "others": others}


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        inside = "" if name in ("settings", "versions") else f"{name} "
        return [pair for key, one in value.items() for pair in _flat(f"{inside}{key}", one)]
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    shown = (
        {None: "none", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else value
    )
    return [(name.replace("_", " "), str(shown))]


def _size(num_bytes: Any) -> str:
    if not isinstance(num_bytes, int):
        return _format.DASH
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if num_bytes >= factor:
            return f"{_format.number(num_bytes / factor, 1)} {unit}"
    return f"{_format.count(num_bytes)} bytes"
