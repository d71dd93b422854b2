"""A label from a label file, before it is known which frame it belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from rhombus_dataset.errors import UsageError

MAX_TEXT: Final = 500
"""Maximum characters of a label. Longer text is not a class name, and would break tables."""


MAX_EXCERPT: Final = 120
"""Maximum characters of a label file in an error message."""


@dataclass(frozen=True, slots=True)
class ImportedLabel:
    """One label of one image.

    ``image``: file name or URL of the image. ``box``: x, y, width, height, in an image of ``size`` (width, height;
    100 by 100 for percent); None for a class of the whole image. ``problem``: why the label cannot be imported, or
    None.
    """

    image: str
    label: str
    box: tuple[float, float, float, float] | None = None
    size: tuple[float, float] | None = None
    confidence: float | None = None
    made_by: str | None = None
    problem: str | None = None

    def __post_init__(self) -> None:
        for name in ("image", "label", "made_by"):
            text = getattr(self, name)
            if text is not None:
                object.__setattr__(self, name, _one_line(text))
        if self.problem is None:
            object.__setattr__(self, "problem", _problem(self))

    def to_json(self) -> dict[str, Any]:
        """Return the values that are not None, as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _one_line(text: str) -> str:
    """Return text without control characters, line breaks and lone surrogates, which break tables, XML or UTF-8."""
    whole = text.encode("utf-8", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in whole).split())


def _problem(label: ImportedLabel) -> str | None:
    if not label.label:
        return "it has no label"
    if len(label.label) > MAX_TEXT:
        return f"its label has more than {MAX_TEXT} characters"
    if label.box is not None:
        if not all(map(math.isfinite, label.box)) or label.box[2] <= 0 or label.box[3] <= 0:
            return "its box is empty"
        if label.size is not None and not all(length > 0 for length in label.size):
            return "its image has no size"
    return None


@contextmanager
def translate_errors(path: object, what: str) -> Iterator[None]:
    """Translate the exceptions of a malformed entry (``what``) into a UsageError that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, LookupError, OverflowError, RecursionError) as error:
        excerpt = _one_line(str(error))[:MAX_EXCERPT]
        kind = type(error).__name__
        raise UsageError(f"{path}: {what}: not valid in this format ({kind}: {excerpt})") from None
