"""Turns contents into one HTML page: the templates, and figures as images inside the page."""

from __future__ import annotations

import base64
import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from spherometer.report import _format

_TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=_format.number, percent=_format.percent, interval=_format.interval, count=_format.count
    )
    return environment


def fill(template: str, contents: dict[str, Any]) -> str:
    """Render a template with everything escaped."""
    return _environment().get_template(template).render(contents)


def image(svg: bytes) -> str:
    """Return a figure as the address of an image that contains it. As an image it can run nothing."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
