"""Texts that want to be more than text, in every place of a page where a text from a file can stand.

``render_all()`` makes the pages and counts those whose elements are not the template's alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

import spherometer as sm
from result_documents import comparison_document, selection_document
from spherometer import plots, report, sphere
from spherometer._portrait import Portrait, portrait_of
from test_report_escaping import PAYLOADS, skeleton

TEXTS = [
    *PAYLOADS,
    "<iframe src=https://example.com></iframe>",
    "<object data=https://example.com/x.swf></object>",
    "<embed src=https://example.com/x.swf>",
    "<link rel=stylesheet href=https://example.com/x.css>",
    "<style>*{display:none}</style>",
    "<form action=https://example.com><input name=x><button>send</button></form>",
    "<input autofocus onfocus=window.__xss=1>",
    "<details open ontoggle=window.__xss=1>",
    "<video><source onerror=window.__xss=1></video>",
    "<body onload=window.__xss=1>",
    "<html onclick=window.__xss=1>",
    "<svg><animate onbegin=window.__xss=1 attributeName=x></svg>",
    "<svg><script href=data:,window.__xss=1 /></svg>",
    "<img/src/onerror=window.__xss=1>",
    "<IMG SRC=JaVaScRiPt:window.__xss=1>",
    "<<script>window.__xss=1//<</script>",
    "<script\x0d\x0a>window.__xss=1</script\x09>",
    "\uff1cscript\uff1ewindow.__xss=1\uff1c/script\uff1e",
    "+ADw-script+AD4-window.__xss=1+ADw-/script+AD4-",
    "data:text/html;base64,PHNjcmlwdD53aW5kb3cuX194c3M9MTwvc2NyaXB0Pg==",
    "</textarea><script>window.__xss=1</script>",
    "</noscript><template><script>window.__xss=1</script></template>",
    "</caption></thead></tbody></figure></main></body></html><p id=x>",
    "</code></pre><dl class=x><dt>y",
    "`${window.__xss=1}`",
    "{# comment #}{{ config }}{{ self }}",
    "{% raw %}{% endraw %}{% include '/etc/passwd' %}",
    "$\\href{javascript:window.__xss=1}{x}$ \\input{/etc/passwd}",
    "\x1b]8;;https://example.com\x07link\x1b]8;;\x07\x1b[31mred",
    "\ufffe\uffff\U000e0001\u200b\u2066\u2069\u0000",
]
PLACES = (
    "ids", "labels", "names of meta-data", "values of meta-data", "file names", "column names", "notes",
    "command",
)  # fmt: skip
HARMLESS = "a harmless text"
_NUM = 24


def documents(place: str, text: str) -> tuple[str, dict[str, Any]]:
    """The name and the document of an evaluation with a text in one place, made as ``measure`` makes it."""

    def at(wanted: str, otherwise: str) -> str:
        return text if place == wanted else otherwise

    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(_NUM, 3, generator=generator)
    labels = [f"{at('labels', 'kind')}{row % 2}" for row in range(_NUM)]
    evaluation = sm.measure(raw, labels=labels)
    kept = {name: evaluation[name] for name in ("uniformity", "normalized_uniformity")}
    note = at("notes", "a note")
    document = sm.Evaluation(kept, notes=(note,), local_density=evaluation.local_density).to_dict()
    portrait = portrait_of(
        sphere.normalize(raw),
        raw,
        ids=[f"{at('ids', 'doc')}{row}" for row in range(_NUM)],
        labels=labels,
        metadata={
            at("names of meta-data", "site"): [
                f"{at('values of meta-data', 'v')}{k % 3}" for k in range(_NUM)
            ]
        },
    )
    document["portrait"] = Portrait.from_json(portrait.to_json()).to_dict() | {"notes": [note]}
    column = at("column names", "embedding")
    document["provenance"] = {
        "files": [{"name": at("file names", "a.npy"), "num_bytes": 10, "sha256": None}],
        "settings": {"column": column, column: 1},
        "command": at("command", "spherometer measure a.npy"),
    }
    return at("file names", "a.npy"), document


def compared(text: str) -> str:
    """The page of a comparison with a text in every place."""
    document = comparison_document()
    document |= {"names": [text, text], "notes": [text], "settings": {f"z{text}": text}, "spherometer": text}
    document["overall"] = {"verdict": text, "words": text}
    one = document["metrics"].pop("uniformity")
    document["metrics"][f"zz{text}"] = one | {"label": text, "method": text}
    for each in document["drift"]["classes"]:
        each["label"] = text
    document["drift"]["mmd"]["verdict"] = text
    document["drift"]["cka"] = {f"z{text}": 0.5}
    for evaluation in document["evaluations"]:
        evaluation |= {"notes": [text], "spherometer": text}
        evaluation["metrics"]["rankme"] |= {"label": text, "settings": {text: text}, "baseline": {text: 1.0}}
    return report.render_comparison(document)


def selected(text: str) -> str:
    """The page of a selection with a text in every place."""
    document = selection_document()
    for place, one in enumerate(document["candidates"]):
        one |= {"name": f"{place}{text}", "run": None if one["run"] is None else f"{text}{one['run']}"}
        one["metrics"]["rankme"]["label"] = text
    document |= {"warnings": [text], "notes": [text], "spherometer": text}
    document["settings"] |= {f"z{text}": text, "criteria": {"sum": {"label": text, "lower_is_better": True}}}
    document["quality"]["sum"] |= {"picked": text}
    document["quality"][f"z{text}"] = document["quality"].pop("rankme")
    return report.render_selection(document)


@contextlib.contextmanager
def without_figures() -> Iterator[None]:
    """Pages with an empty image instead of each figure: drawing takes most of the time."""
    names = [name for name in vars(plots) if not name.startswith("_") and callable(getattr(plots, name))]
    empty: dict[str, Callable[..., Any]] = {name: lambda *_, **__: None for name in names}
    with mock.patch.multiple(plots, **{**empty, "to_svg": lambda *_, **__: b""}):
        yield


def page_of(place: str, text: str) -> str:
    """The page of an evaluation with a text in one place."""
    name, document = documents(place, text)
    return report.render_evaluations([(name, sm.Evaluation.from_json(json.dumps(document)))])


def render_all() -> tuple[int, int]:
    """How many texts were put into how many places, and how many pages that changed.

    Every text stands in each of the eight places of an evaluation, and in all places of a comparison and of
    a selection at once. A page has changed when the tags, the names of their attributes, or what links and
    images lead to are not what they are with a harmless text.
    """
    makers: list[Callable[[str], str]] = [
        *[lambda text, place=place: page_of(place, text) for place in PLACES],  # type: ignore[misc]
        compared,
        selected,
    ]
    num = changed = 0
    with without_figures():
        for make in makers:
            benign = skeleton(make(HARMLESS))
            for text in TEXTS:
                page = make(text)
                page.encode("utf-8")
                num += 1
                changed += skeleton(page) != benign
    return num, changed
