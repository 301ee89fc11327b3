"""Sixty texts in eight places of a page, and what would be seen if one of them were more than a text."""

from __future__ import annotations

import base64
from unittest import mock

import html5lib
import pytest

import hostile
import spherometer as sm
from spherometer import report
from spherometer.report import _page
from test_plots import elements
from test_report_escaping import skeleton


def test_sixty_texts_in_eight_places_change_no_element() -> None:
    assert len(set(hostile.TEXTS)) == 60
    assert len(hostile.PLACES) == 8
    assert hostile.render_all() == (60 * 8 + 60 + 60, 0)


@pytest.mark.parametrize("place", hostile.PLACES)
def test_every_place_is_on_the_page_and_would_be_seen_unescaped(place: str) -> None:
    mark = "zqxmark"
    with hostile.without_figures():
        page = hostile.page_of(place, mark)
    assert mark in page
    assert skeleton(page.replace(mark, "<i>x</i>")) != skeleton(page)


def test_a_template_that_does_not_escape_is_found() -> None:
    _page._environment.cache_clear()
    plain = _page.Environment
    try:
        with (
            mock.patch.object(_page, "Environment", lambda **given: plain(**{**given, "autoescape": False})),
            mock.patch.object(hostile, "TEXTS", hostile.TEXTS[:2]),
        ):
            _, changed = hostile.render_all()
    finally:
        _page._environment.cache_clear()
    assert changed == 20


def test_figures_with_such_names_stay_images() -> None:
    text = "</svg><script>window.__xss=1</script> $x$ \x00 \ud800 ]]> <image href='https://example.com'/>"
    name, document = hostile.documents("labels", text)
    page = report.render_evaluations([(name, sm.Evaluation.from_dict(document))])
    images = html5lib.parse(page, namespaceHTMLElements=False).findall(".//img")
    assert len(images) == 6
    for image in images:
        kind, _, content = image.get("src").partition(",")
        assert kind == "data:image/svg+xml;base64"
        for element in elements(base64.b64decode(content)):
            tag = element.tag.rsplit("}", 1)[-1]
            assert tag in {"svg", "g", "path", "use", "defs", "clipPath", "rect", "style", "image"}
            for attribute, value in element.attrib.items():
                assert not attribute.lower().startswith("on")
                if attribute.endswith("href"):
                    assert value.startswith(("#", "data:image/png;base64,"))
