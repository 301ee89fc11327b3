"""The page of the study of local density: what was found, all arms at their end, curves, pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spherometer import plots
from spherometer._density import READING_TEMPERATURE
from spherometer.report import _document, _format, _page, _table
from spherometer.report._document import check, check_value, refuse
from spherometer.stores import write_file

SCHEMA = "spherometer.study/local-density/1"
_VERDICTS = {"shown": "yes", "not shown": "no"}
_NUMBER = (int, float)
_MAYBE = type(None)
_TOP: dict[str, _document.Kinds] = {
    "spherometer": str, "study": str, "quick": bool, "seeds": list, "environment": dict, "data": dict,
    "protocol": dict, "arms": list, "temperatures": list, "ks": list, "curves": dict, "final": dict,
    "heads": list, "panels": list, "toys": list, "findings": list,
}  # fmt: skip
_DATA: dict[str, _document.Kinds] = {
    "name": str, "source": str, "num_train": int, "num_test": int, "num_classes": int, "size": list,
    "chance": _NUMBER,
}  # fmt: skip
_ARM: dict[str, _document.Kinds] = {
    "id": str, "name": str, "objective": str, "architecture": (str, _MAYBE), "num": int,
    "message": (str, _MAYBE),
}  # fmt: skip
_ENTRY: dict[str, _document.Kinds] = {
    "epoch": int, "rld": dict, "purity": dict, "calinski_harabasz": (dict, _MAYBE),
    "between_share": (dict, _MAYBE), "contrastive_loss": (dict, _MAYBE), "accuracy": dict,
    "few": (dict, _MAYBE),
}  # fmt: skip
_PANEL: dict[str, _document.Kinds] = {
    "arm": str, "perplexity": _NUMBER, "method": str, "words": str, "points": list, "labels": list,
}  # fmt: skip
_TOY: dict[str, _document.Kinds] = {
    "name": str, "words": str, "points": list, "labels": list, "rld": dict, "calinski_harabasz": _NUMBER,
    "paper": (dict, _MAYBE),
}  # fmt: skip
_FINDING: dict[str, _document.Kinds] = {"claim": str, "verdict": str, "evidence": str}
_HEADS = {"linear": "Linear probe", "knn": "Nearest neighbours", "gcn": "Graph classifier (GCN)"}
_ACCURACIES = (
    ("accuracy", "linear"), ("accuracy", "knn"), ("accuracy", "gcn"), ("accuracy", "gcn_attached"),
    ("accuracy", "gcn_chosen_on_test"), ("few", "linear"), ("few", "knn"), ("few", "gcn"),
)  # fmt: skip
_KINDS = {"conv": "ConvNet", "vit": "ViT"}
_TOLD = ("name", "source", "num_train", "num_test", "num_classes", "size", "chance")


def checked(given: Any) -> dict[str, Any]:
    """Return a cleaned copy of the document, or raise InputError naming what is missing or wrong."""
    document: dict[str, Any] = _document.cleaned(given)
    check("", document, _TOP)
    check(".data", document["data"], _DATA)
    if document["data"]["num_classes"] < 2:
        refuse(".data.num_classes", "be at least 2", str(document["data"]["num_classes"]))
    for name in ("temperatures", "ks"):
        scale = document[name]
        if not scale or not all(
            isinstance(each, _NUMBER) and not isinstance(each, bool) and each > 0 for each in scale
        ):
            refuse(f".{name}", "be numbers above 0, at least one", str(scale)[:60])
    for index, arm in enumerate(document["arms"]):
        check(f".arms[{index}]", arm, _ARM)
    for name, entries in document["curves"].items():
        if not isinstance(entries, list):
            refuse(f".curves.{name}", "be a list", type(entries).__name__)
        for index, entry in enumerate(entries):
            _check_entry(f".curves.{name}[{index}]", entry)
    for name, entry in document["final"].items():
        if entry is not None:
            _check_entry(f".final.{name}", entry)
    for index, head in enumerate(document["heads"]):
        check(f".heads[{index}]", head, {"name": str, "parameters": int, "words": str})
    for kind, part in (("panels", _PANEL), ("toys", _TOY)):
        for index, picture in enumerate(document[kind]):
            check(f".{kind}[{index}]", picture, part)
            _check_points(f".{kind}[{index}]", picture)
    for index, toy in enumerate(document["toys"]):
        _check_toy(f".toys[{index}]", toy)
    for index, finding in enumerate(document["findings"]):
        check(f".findings[{index}]", finding, _FINDING)
    return document


def _check_toy(where: str, toy: Mapping[str, Any]) -> None:
    if not toy["rld"]:
        refuse(f"{where}.rld", "have at least one temperature", "none")
    for key, value in toy["rld"].items():
        try:
            float(key)
        except ValueError:
            refuse(f"{where}.rld", "have temperatures as keys", repr(key)[:60])
        check(f"{where}.rld", {key: value}, {key: _NUMBER})
    if toy["paper"] is not None:
        check(f"{where}.paper", toy["paper"], {"rld": _NUMBER, "ch": _NUMBER})


def _check_entry(where: str, entry: Any) -> None:
    check(where, entry, _ENTRY)
    cells = {name: entry[name] for name in ("calinski_harabasz", "between_share", "contrastive_loss")}
    for part in ("rld", "purity", "accuracy", "few"):
        cells |= {f"{part}.{name}": cell for name, cell in (entry[part] or {}).items()}
    for name, cell in cells.items():
        if cell is not None:
            check_value(f"{where}.{name}", cell)


def _check_points(where: str, picture: Mapping[str, Any]) -> None:
    points, labels = picture["points"], picture["labels"]
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(isinstance(x, _NUMBER) for x in point):
            refuse(f"{where}.points", "be pairs of numbers", str(point)[:60])
    if len(labels) != len(points) or not all(isinstance(each, int) for each in labels):
        refuse(f"{where}.labels", "be one whole number for each point", f"{len(labels)} for {len(points)}")


def _architectures(document: dict[str, Any]) -> list[str]:
    kinds = (arm["architecture"] for arm in document["arms"] if document["curves"].get(arm["id"]))
    return [kind for kind in dict.fromkeys(kinds) if kind is not None]


def _figures(document: dict[str, Any]) -> dict[str, Figure]:
    drawn = {}
    for kind in _architectures(document):
        drawn[f"scales-{kind}"] = plots.density_scales(document, kind)
        drawn[f"curves-{kind}"] = plots.density_curves(document, kind)
    if document["panels"]:
        drawn["panels"] = plots.density_panels(document)
    if document["toys"]:
        drawn["toys"] = plots.density_toys(document)
    return drawn


def _columns(document: dict[str, Any]) -> list[tuple[str, Callable[[Any], Any], bool]]:
    """Heads of the table of structure, where the numbers lie, and whether they are shares."""
    heats = [f"{each:g}" for each in document["temperatures"]]
    far, near = heats[0], f"{READING_TEMPERATURE:g}"
    k = f"{document['ks'][-1]:g}"
    return [
        (f"Density, T = {far}", lambda entry: entry["rld"].get(far), False),
        (f"Density, T = {near}", lambda entry: entry["rld"].get(near), False),
        (f"Purity of {k}", lambda entry: entry["purity"].get(k), True),
        ("Calinski-Harabasz", lambda entry: entry["calinski_harabasz"], False),
        ("Variance between classes", lambda entry: entry["between_share"], True),
        ("Contrastive loss", lambda entry: entry["contrastive_loss"], False),
    ]


def _reading(entry: Mapping[str, Any]) -> str:
    """Locally, globally, both or neither, by the rule of a single measurement on the means over seeds."""
    share = (entry.get("rld_share") or {}).get(f"{READING_TEMPERATURE:g}")
    between = entry["between_share"]
    if share is None or between is None:
        return _format.DASH
    found = [word for word, cell in (("locally", share), ("globally", between)) if cell["value"] >= 0.5]
    return " and ".join(found) or "neither"


def _rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for arm in document["arms"]:
        entry = document["final"].get(arm["id"])
        failed = max(0, len(document["seeds"]) - arm["num"])
        row = {"name": arm["name"], "note": f"{failed} failed: {arm['message']}" if failed else ""}
        if entry is None:
            row |= {"structure": None, "accuracy": None, "reading": _format.DASH}
        else:
            row |= {
                "structure": [
                    _format.cell(find(entry), 3 if "Calinski" not in name else 1, share=share)
                    for name, find, share in _columns(document)
                ],
                "accuracy": [
                    _format.cell((entry[part] or {}).get(name), share=True) for part, name in _ACCURACIES
                ],
                "reading": _reading(entry),
            }
        rows.append(row)
    return rows


def _contents(document: dict[str, Any]) -> dict[str, Any]:
    seeds, data, protocol = document["seeds"], document["data"], document["protocol"]
    words = ["spherometer", "study", "local-density", "--data", data["name"]]
    label = "local-density" if data["name"] == "digits" else f"local-density-{data['name']}"
    words += ["--out", f"runs/{label}", "--seeds", str(len(seeds))]
    if document["quick"]:
        words.append("--quick")
    return {
        "version": document["spherometer"],
        "quick": document["quick"],
        "seeds": seeds,
        "data": data,
        "size": " x ".join(str(each) for each in data["size"]),
        "findings": [{**row, "look": _VERDICTS.get(row["verdict"], "open")} for row in document["findings"]],
        "columns": [name for name, _, _ in _columns(document)],
        "rows": _rows(document),
        "far": f"{document['temperatures'][0]:g}",
        "near": f"{READING_TEMPERATURE:g}",
        "few": protocol.get("few_labels", "few"),
        "heads": [{**head, "name": _HEADS.get(head["name"], head["name"])} for head in document["heads"]],
        "architectures": [(kind, _KINDS.get(kind, kind)) for kind in _architectures(document)],
        "methods": sorted({panel["method"] for panel in document["panels"]}),
        "toys": document["toys"],
        "protocol": [
            (name.replace("_", " ").capitalize(), _text(value)) for name, value in sorted(protocol.items())
        ],
        "environment": sorted(document["environment"].items()),
        "command": " ".join(words),
    }


def _text(value: Any) -> str:
    """A plain value in words."""
    if isinstance(value, bool) or value is None:
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _render(document: dict[str, Any], vectors: dict[str, bytes]) -> str:
    contents = _contents(document)
    contents["figures"] = {"panels": None, "toys": None}
    contents["figures"] |= {name: _page.image(svg) for name, svg in vectors.items()}
    return _page.fill("study_density.html", contents)


def render_density(document: Any) -> str:
    """The page of a document with schema ``spherometer.study/local-density/1``; as ``render``."""
    document = checked(document)
    return _render(document, {name: plots.to_svg(each) for name, each in _figures(document).items()})


def write_density(document: Any, out: Path) -> Path:
    """Write ``report.html``, ``curves.csv`` and ``figures/`` into ``out``; as ``write_study``."""
    document = checked(document)
    figures = _figures(document)
    vectors = {name: plots.to_svg(figure) for name, figure in figures.items()}
    page = _render(document, vectors).encode("utf-8")
    files = {out / "curves.csv": csv_table(document)}
    for name, figure in figures.items():
        files[out / "figures" / f"{name}.svg"] = vectors[name]
        files[out / "figures" / f"{name}.png"] = plots.to_png(figure)
    for path, content in files.items():
        write_file(path, content)
    write_file(out / "report.html", page)
    return out / "report.html"


def csv_table(document: dict[str, Any]) -> bytes:
    """Every number of every arm at every epoch with its interval over seeds, one a line, as CSV."""
    rows: list[list[Any]] = []
    for arm in document["arms"]:
        for entry in document["curves"].get(arm["id"], []):
            for name, cell in _numbers(entry):
                ends = cell.get("interval") or [None, None]
                rows.append([arm["id"], entry["epoch"], name, cell["value"], *ends, cell.get("num")])
    return _table.table(["arm", "epoch", "measure", "value", "low", "high", "num_seeds"], rows)


def _numbers(entry: Mapping[str, Any], above: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    found: list[tuple[str, Mapping[str, Any]]] = []
    for name, part in sorted(entry.items()):
        if isinstance(part, Mapping):
            found += [(above + name, part)] if "value" in part else _numbers(part, f"{above}{name} ")
    return found
