"""HTML from the templates beside this module; every value that goes in is escaped."""

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
    """A template, filled in."""
    return _environment().get_template(template).render(**values)


def data_uri(jpeg: bytes) -> str:
    """An image that stands in a page itself."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
