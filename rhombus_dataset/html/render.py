"""Rendering of the HTML templates in this folder. Every value is escaped."""

from __future__ import annotations

import base64
import functools
from typing import Any

import jinja2


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("rhombus_dataset.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def html(template: str, **values: Any) -> str:
    """Return a template rendered with these values. Raises jinja2.UndefinedError if one is missing."""
    return _environment().get_template(template).render(**values)


def data_uri(jpeg: bytes) -> str:
    """Return a URI that contains the image itself, for a page without other files."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
