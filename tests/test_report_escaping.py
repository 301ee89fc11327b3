"""Texts from data are words on the page and nothing else, wherever they appear."""

from __future__ import annotations

from collections import Counter
from typing import Any

import html5lib
import pytest

from spherometer import report
from spherometer._results import Evaluation, Measurement
from spherometer.report import _evaluations, _study
from study_document import study_document

PAYLOADS = [
    "<script>window.__xss=1</script>",
    "</script><img src=x onerror=window.__xss=1>",
    '"><svg onload=window.__xss=1>',
    "'><svg/onload=window.__xss=1>",
    "</title><script>window.__xss=1</script>",
    "</style><script>window.__xss=1</script>",
    "</td></tr></table><h1>x</h1>",
    "<a href=javascript:window.__xss=1>x</a>",
    "javascript:window.__xss=1",
    "{{7*7}}",
    "{% for x in [1] %}x{% endfor %}",
    "{{ ''.__class__.__mro__ }}",
    "<!--",
    "--><script>window.__xss=1</script>",
    "]]><script>window.__xss=1</script>",
    "<![CDATA[<script>x</script>]]>",
    "&lt;script&gt;window.__xss=1&lt;/script&gt;",
    "&#x3c;script&#x3e;",
    "\u202e>tpircs<",
    "\x00<\x00script>",
    "\ud800<img src=x>",
    "x" * 1_000_000 + "<img src=x onerror=1>",
    '" onmouseover="window.__xss=1',
    "' style='background:url(https://example.com/x)",
    "<img src=https://example.com/x.png>",
    "<meta http-equiv=refresh content=0;url=https://example.com>",
    "<base href=https://example.com/>",
    "=cmd|' /C calc'!A0",
    "\u2028\u2029</p>",
    "<math><mtext></p><script>x</script>",
]


def planted(text: str) -> dict[str, Any]:
    """A study with the text in every place where a text from data can stand."""
    document = study_document()
    document["spherometer"] = document["study"] = text
    document["environment"]["torch"] = text
    document["environment"][f"z{text}"] = "1"
    document["data"] |= {"name": text, "source": text}
    document["protocol"] |= {"views": text, f"z{text}": {text: text}, "zz": [text], "measured_on": text}
    trial = document["trials"][0]
    trial |= {"name": text, "family": text, "message": text, "status": text}
    trial["config"][f"z{text}"] = text
    trial["metrics"]["zz" + text] = dict(trial["metrics"]["alignment"], label=text)
    trial["accuracy"]["zz" + text] = trial["accuracy"]["linear_output"]
    document["relation"]["linear_output"]["zz" + text] = {"refused": text}
    document["relation"]["linear_output"]["all"]["warnings"] = [text]
    document["relation"]["zz" + text] = document["relation"]["few_output"]
    for criteria in document["selection"].values():
        criteria["sum"] |= {"label": text, "picked_name": text}
    document["selection"]["zz" + text] = {"refused": text}
    document["best"][0] |= {"role": text, "name": text}
    document["findings"][0] |= {"claim": text, "verdict": text, "evidence": text}
    document["trajectories"]["start"]["name"] = text
    return document


def skeleton(page: str) -> tuple[Counter[tuple[str, tuple[str, ...]]], set[str]]:
    """How often each element with its attribute names occurs, and all values that lead somewhere."""
    elements: Counter[tuple[str, tuple[str, ...]]] = Counter()
    links = set()
    for element in html5lib.parse(page, namespaceHTMLElements=False).iter():
        elements[str(element.tag), tuple(sorted(element.attrib))] += 1
        links |= {v for k, v in element.attrib.items() if k in {"href", "src", "style", "class", "id"}}
    return elements, links


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without drawing: an empty image instead of each figure."""
    names = ("plane", "sweep", "trajectories", "circle", "selection")
    monkeypatch.setattr(_study, "_figures", lambda document: {})
    monkeypatch.setattr(_study, "_vectors", lambda figures: dict.fromkeys(names, b""))
    monkeypatch.setattr(_evaluations.plots, "intervals", lambda measurements: None)
    monkeypatch.setattr(_evaluations.plots, "to_svg", lambda figure: b"")


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: ascii(p[:24]))
def test_study_page_keeps_its_elements(payload: str) -> None:
    benign = skeleton(report.render(planted("a harmless text")))
    page = report.render(planted(payload))
    assert skeleton(page) == benign
    assert "49" not in words_of(page) or payload != "{{7*7}}"
    page.encode("utf-8")


def words_of(page: str) -> str:
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    return "".join(paragraph.text or "" for paragraph in tree.iter("p"))


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: ascii(p[:24]))
def test_evaluation_page_keeps_its_elements(payload: str) -> None:
    def page(text: str) -> str:
        one = Measurement(
            name="m",
            value=1.0,
            interval=(0.0, 2.0),
            baseline={text: 1.0},
            num=3,
            settings={text: text},
            better="lower",
            label=text,
        )
        evaluation = Evaluation({text: one}, notes=(text,), version=text)
        return report.render_evaluations([(text, evaluation), (text, evaluation)])

    assert skeleton(page(payload)) == skeleton(page("a harmless text"))


def test_real_figures_stay_images() -> None:
    elements, links = skeleton(report.render(planted(PAYLOADS[2])))
    assert elements["img", ("alt", "src")] + elements["img", ("alt", "class", "src")] == 5
    assert not any("example.com" in link for link in links)
