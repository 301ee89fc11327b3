"""The page of a run: one HTML file without script or network, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import _figures
from _targets import judged
from _timing import table
from spherometer import plots, report
from spherometer._version import __version__
from spherometer.report import _format, _page

_TEMPLATES = [Path(__file__).parent, Path(report.__file__).parent / "templates"]
_BADGES = {"reached": "yes", "short": "no", "not measured": "open"}


def html(run: Mapping[str, Any]) -> str:
    """The page of a run document (``run.py``)."""
    rows = judged(run["scripts"])
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    contents = {
        "version": __version__,
        "date": run["date"],
        "headline": _headline(rows),
        "must": [_shown(row) for row in rows if row["must"]],
        "yardsticks": [_shown(row) for row in rows if not row["must"]],
        "figures": _drawn(run["scripts"], rows),
        "scripts": [
            {"title": _title(one, name), "seconds": f"{one['seconds']:.0f}", "blocks": blocks(one["text"])}
            for name, one in run["scripts"].items()
        ],
        "notes": run["notes"],
        "machine": _machine(run),
    }
    return environment.get_template("benchmarks.html").render(contents)


def markdown(run: Mapping[str, Any]) -> str:
    """What the page says, without its figures."""
    rows = judged(run["scripts"])
    parts = [f"# Benchmarks of {run['date']}", "", _headline(rows), ""]
    parts += ["; ".join(f"{name} {word}" for name, word in _machine(run)) + ".", ""]
    parts += [f"{note}\n" for note in run["notes"]]
    parts += ["Ratios are time of the other / time of ours, medians with their spread.", ""]
    for heading, must in (("What is asked", True), ("Yardsticks of another processor", False)):
        cells = []
        for row in rows:
            if row["must"] == must:
                shown = _shown(row)
                found = f"{shown['found']} {shown['spread']}".strip()
                cells.append(
                    [row["words"], found, shown["asked"], shown["ceiling"], row["verdict"], row["why"]]
                )
        parts += [
            f"## {heading}",
            "",
            table(["figure", "found", "asked", "floor alone", "", "why"], cells),
            "",
        ]
    for one in run["scripts"].values():
        parts += [one["text"].replace("# ", "## ", 1).rstrip(), ""]
    return "\n".join(parts)


def blocks(text: str) -> list[dict[str, Any]]:
    """Paragraphs and tables of a script's text; its title is left out."""
    found: list[dict[str, Any]] = []
    for part in text.strip().split("\n\n"):
        lines = part.strip().splitlines()
        if not lines or lines[0].startswith("# "):
            continue
        if lines[0].startswith("|"):
            cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
            found.append({"header": cells[0], "rows": cells[2:], "words": ""})
        else:
            found.append({"header": [], "rows": [], "words": " ".join(lines)})
    return found


def _title(one: Mapping[str, Any], name: str) -> str:
    first = one["text"].strip().splitlines()[:1]
    return first[0].removeprefix("# ") if first else name


def _headline(rows: Sequence[Mapping[str, Any]]) -> str:
    asked = [row for row in rows if row["must"]]
    reached = sum(row["verdict"] == "reached" for row in asked)
    missing = sum(row["verdict"] == "not measured" for row in asked)
    told = f"{reached} of {len(asked)} figures that are asked for are reached"
    return f"{told}, {missing} not measured" if missing else told


def _number(value: float) -> str:
    return _format.number(value, 2 if abs(value) < 100 else 0)


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    found = row["found"]
    spread = ""
    if found is not None and found["high"] > found["low"]:
        spread = f"{_number(found['low'])} to {_number(found['high'])}"
    return {
        "words": row["words"],
        "found": _format.DASH if found is None else _number(found["median"]),
        "spread": spread,
        "asked": f"{'at most ' if row['most'] else ''}{row['asked']:g}",
        "ceiling": _format.DASH if row["ceiling"] is None else _number(row["ceiling"]),
        "verdict": row["verdict"],
        "badge": _BADGES[row["verdict"]],
        "why": row["why"],
    }


def _drawn(records: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    asked = [row for row in rows if row["must"]]
    figures = []
    if any(row["found"] is not None for row in asked):
        figures.append(
            {
                "key": "ratios",
                "title": "Ratios",
                "address": _page.image(plots.to_svg(_figures.ratios(asked))),
                "alt": "Each asked figure on a logarithmic scale, with what was found and its spread.",
                "words": "A dot right of its tick is reached (blue), left of it short (red). A ring left of "
                "the tick says that the processor itself cannot give it.",
            }
        )
    growth = records.get("scaling", {}).get("numbers")
    if growth:
        figures.append(
            {
                "key": "growth",
                "title": "Growth",
                "address": _page.image(plots.to_svg(_figures.growth(growth))),
                "alt": "Seconds over the number of rows for each quantity.",
                "words": "Time of ours on one thread. Every pair is visited, so the exponent tends to 2; "
                "below 2 the fixed cost of a call still counts.",
            }
        )
    memory = records.get("memory", {}).get("numbers")
    if memory:
        figures.append(
            {
                "key": "memory",
                "title": "Memory",
                "address": _page.image(plots.to_svg(_figures.memory(memory))),
                "alt": "Memory added at the peak over the number of rows.",
                "words": "The broad line is what is allowed: six times the rows themselves, and two tiles. "
                "Full matrices grow with the square of N.",
            }
        )
    return figures


def _machine(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    words = {"load": "load before", "vectors": "vector instructions"}
    found = [(words.get(name, name), f"{value}") for name, value in run["machine"].items()]
    return [*found, ("date", run["date"]), ("seconds in all", f"{run['seconds']:.0f}")]
