"""A label from a label file, before it is known which frame it belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from rhombus_dataset.errors import UsageError

MAX_TEXT: Final = 500
"""Maximum characters of a label or an author. Longer text is not a class name, and would break tables."""
MAX_IMAGE_NAME: Final = 4_000
"""Maximum characters of the name of an image: signed URLs have up to 2,000. Each label repeats its image's name."""
MAX_COORDINATE: Final = 1e9
"""Maximum of the numbers of a box or a size, in pixels. Images have up to 1e5; beyond 1e300, scaling overflows."""
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
        if self.problem is None:
            object.__setattr__(self, "problem", _problem(self))
        limits = {"image": MAX_IMAGE_NAME, "label": MAX_TEXT, "made_by": MAX_TEXT, "problem": MAX_TEXT}
        for name, limit in limits.items():
            text = getattr(self, name)
            if text is not None:
                object.__setattr__(self, name, _one_line(text[:limit]))

    def to_json(self) -> dict[str, Any]:
        """Return the values that are not None, as plain values. Numbers that JSON lacks become text."""
        values = asdict(self)
        for name in ("box", "size"):
            if values[name] is not None:
                values[name] = [number if math.isfinite(number) else str(number) for number in values[name]]
        if self.confidence is not None and not math.isfinite(self.confidence):
            values["confidence"] = str(self.confidence)
        return {name: value for name, value in values.items() if value is not None}


def _one_line(text: str) -> str:
    """Return text without control characters, line breaks and lone surrogates, which break tables, XML or UTF-8."""
    whole = text.encode("utf-8", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in whole).split())


def excerpt(text: str) -> str:
    """Return the beginning of a text of a label file, for an error message."""
    return _one_line(text[:MAX_EXCERPT])


def _problem(label: ImportedLabel) -> str | None:
    if not _one_line(label.label[: MAX_TEXT + 1]):
        return "it has no label"
    if len(label.label) > MAX_TEXT:
        return f"its label has more than {MAX_TEXT} characters"
    if len(label.image) > MAX_IMAGE_NAME:
        return f"the name of its image has more than {MAX_IMAGE_NAME:,} characters"
    if label.made_by is not None and len(label.made_by) > MAX_TEXT:
        return f"its author has more than {MAX_TEXT} characters"
    if label.confidence is not None and not math.isfinite(label.confidence):
        return "its confidence is not a finite number"
    if label.box is not None:
        if not all(abs(number) <= MAX_COORDINATE for number in label.box):
            return f"its box has a number that is not finite, or beyond {MAX_COORDINATE:,.0f}"
        if label.box[2] <= 0 or label.box[3] <= 0:
            return "its box is empty"
        if label.size is not None and not all(1 <= length <= MAX_COORDINATE for length in label.size):
            return "its image has no size"
    return None


@contextmanager
def translate_errors(path: object, what: str) -> Iterator[None]:
    """Translate the exceptions of a malformed entry (``what``) into a UsageError that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, LookupError, OverflowError, RecursionError) as error:
        found = f"{type(error).__name__}: {excerpt(str(error))}"
        raise UsageError(f"{path}: {excerpt(what)}: not valid in this format ({found})") from None
