"""The pages in a real browser: figures are there, nothing runs, nothing is fetched, it fits a phone."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

import chromium
import hostile
import spherometer as sm
from chromium import Tab
from result_documents import comparison_document, evaluation_document, selection_document
from spherometer import report

FIGURES = {"evaluation": 6, "comparison": 2, "selection": 2, "hostile": 0}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    contents = {
        "evaluation": report.render_evaluations(
            [("rows.parquet", sm.Evaluation.from_dict(evaluation_document()))]
        ),
        "comparison": report.render_comparison(comparison_document()),
        "selection": report.render_selection(selection_document()),
    }
    with hostile.without_figures():
        several = [
            hostile.page_of(place, " ".join(text[:300] for text in hostile.TEXTS)) for place in hostile.PLACES
        ]
        contents["hostile"] = "\n".join(
            page if place == 0 else page[page.index("<body>") : page.index("</body>")]
            for place, page in enumerate(several)
        )
    for name, page in contents.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in contents}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    binary = chromium.find_chromium()
    if binary is None:
        pytest.skip("Chromium is not installed; on Debian: apt-get install chromium")
    with chromium.opened(binary, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_seen_and_nothing_runs(name: str, tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages[name])
    widths = tab.evaluate("[...document.images].map(image => image.complete ? image.naturalWidth : 0)")
    if name != "hostile":
        assert len(widths) == FIGURES[name]
        assert all(width > 100 for width in widths)
        assert tab.evaluate("[...document.querySelectorAll('figure')].length") == FIGURES[name]
    assert tab.evaluate("document.scripts.length") == 0
    assert tab.evaluate("typeof window.__xss") == "undefined"
    assert tab.seen("Runtime.exceptionThrown") == []
    assert tab.seen("Runtime.consoleAPICalled") == []
    errors = [one["entry"] for one in tab.seen("Log.entryAdded")]
    if name != "hostile":  # its figures are empty on purpose
        assert errors == []
    asked = {one["request"]["url"].split(":")[0] for one in tab.seen("Network.requestWillBeSent")}
    assert asked <= {"file", "data"}
    assert tab.evaluate("location.protocol") == "file:"


@pytest.mark.parametrize("name", ["evaluation", "comparison", "selection"])
def test_a_script_would_not_run(name: str, tab: Tab, pages: dict[str, Path], tmp_path: Path) -> None:
    text = pages[name].read_text(encoding="utf-8")
    planted = tmp_path / "planted.html"
    planted.write_text(text.replace("<main>", "<main><script>window.__xss=1</script>"), encoding="utf-8")
    tab.open(planted)
    assert tab.evaluate("document.scripts.length") == 1
    assert tab.evaluate("typeof window.__xss") == "undefined"
    assert any("Content Security Policy" in one["entry"]["text"] for one in tab.seen("Log.entryAdded"))


@pytest.mark.parametrize("name", ["evaluation", "comparison", "selection"])
def test_it_fits_a_phone_and_the_dark(name: str, tab: Tab, pages: dict[str, Path]) -> None:
    background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    try:
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True
        )
        tab.open(pages[name])
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        assert tab.evaluate("window.innerWidth") == 390
        for scheme, low, high in (("light", 200, 255), ("dark", 0, 60)):
            tab.call(
                "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
            )
            assert all(low <= part <= high for part in tab.evaluate(background))
    finally:
        tab.call("Emulation.clearDeviceMetricsOverride")
        tab.call("Emulation.setEmulatedMedia", features=[])


@pytest.mark.parametrize("name", ["evaluation", "comparison", "selection"])
def test_it_can_be_printed(name: str, tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages[name])
    printed = base64.b64decode(tab.call("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") <= 20
