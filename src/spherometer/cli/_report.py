"""``spherometer report``: one HTML page from results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from spherometer.errors import InputError

_MAX_BYTES = 256 << 20
_MOST_DEPTH = 60
_PLURALS = {"study": "studies", "comparison": "comparisons", "selection": "selections"}


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS",
            help="results.json of a study (or its directory), evaluations, a comparison or a selection.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the page, or except for a study a file that ends in .html."),
    ] = None,
) -> int:
    """Write one HTML page from the results of a study, or of `measure`, `compare` or `select`."""
    paths = [path / "results.json" if path.is_dir() else path for path in results]
    documents = [_read(path) for path in paths]
    kinds = [_kind(one) for one in documents]
    alone = [kind for kind in kinds if kind != "evaluation"]
    if alone and len(documents) > 1:
        _refuse(
            f"RESULTS must be one {alone[0]}, or one or several evaluations",
            "a page shows one or the other",
            f"{len(alone)} {_PLURALS[alone[0]]} among {len(documents)} files",
            f"Call report once for each {alone[0]}",
        )
    if kinds[0] == "study":
        from spherometer.report import write_study

        page = write_study(documents[0], out or paths[0].parent)
    elif kinds[0] == "comparison":
        from spherometer.report import write_comparison

        page = write_comparison(documents[0], out or paths[0].with_suffix(".html"))
    elif kinds[0] == "selection":
        from spherometer.report import write_selection

        page = write_selection(documents[0], out or paths[0].with_suffix(".html"))
    else:
        from spherometer._results import Evaluation
        from spherometer.report import write_evaluations

        named = [(path.stem, Evaluation.from_dict(one)) for path, one in zip(paths, documents, strict=True)]
        page = write_evaluations(named, out or paths[0].with_suffix(".html"))
    typer.echo(str(page))
    return 0


def _refuse(must: str, because: str, got: str, fix: str) -> NoReturn:
    raise InputError(" ".join(f"report: {must}, because {because}. Got {got}. {fix}.".split()))


def _kind(document: Any) -> str:
    """What a document says it is; what says nothing we know is refused as an evaluation."""
    schema = document.get("schema") if isinstance(document, dict) else None
    said = schema.split("/")[0].removeprefix("spherometer.") if isinstance(schema, str) else ""
    return said if said in _PLURALS else "evaluation"


def _read(path: Path) -> Any:
    """Read one JSON file of ours, whole and strictly."""
    try:
        if not path.is_file():
            kind = "no such file" if not path.exists() else "something that is not a regular file"
            _unreadable(path, kind)
        if path.stat().st_size > _MAX_BYTES:
            _unreadable(path, f"{path.stat().st_size} bytes, more than {_MAX_BYTES}")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        _unreadable(path, str(getattr(error, "strerror", None) or error).lower())
    try:
        document = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _unreadable(path, f"no JSON ({' '.join(str(error).split())[:120]})")
    if _is_deeper(document, _MOST_DEPTH):
        _unreadable(path, f"objects and lists nested deeper than {_MOST_DEPTH}")
    return document


def _is_deeper(document: Any, depth: int) -> bool:
    """Whether objects and lists are nested deeper than that, without going there by recursion."""
    level = [document] if isinstance(document, (dict, list)) else []
    for _ in range(depth):
        inside = [list(one.values()) if isinstance(one, dict) else one for one in level]
        level = [one for many in inside for one in many if isinstance(one, (dict, list))]
        if not level:
            return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unreadable(path: Path, got: str) -> NoReturn:
    _refuse(
        f"RESULTS {str(path)!r} must be a JSON file that spherometer wrote",
        "the page is drawn from it",
        got,
        "Pass results.json of a study, or what measure --out saved",
    )
