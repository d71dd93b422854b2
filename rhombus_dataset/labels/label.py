"""What a label file says of an image, before it is known which frame that is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from rhombus_dataset.errors import UsageError

MAX_TEXT: Final = 500
"""Characters of a name or label."""


@dataclass(frozen=True, slots=True)
class ImportedLabel:
    """One label of one image.

    ``image``: its file name or URL. ``box``: x, y, width, height, in an image of ``size`` (width, height; 100 by
    100 for percent), or None for a class of the whole image. ``problem`` says why it cannot be taken, if so.
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
        """As plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _one_line(text: str) -> str:
    """Without control characters, line breaks and halves of characters, which would break a table, XML or UTF-8."""
    whole = text.encode("utf-8", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in whole).split())


def _problem(said: ImportedLabel) -> str | None:
    if not said.label:
        return "it has no label"
    if len(said.label) > MAX_TEXT:
        return f"its label has more than {MAX_TEXT} characters"
    if said.box is not None:
        if not all(map(math.isfinite, said.box)) or said.box[2] <= 0 or said.box[3] <= 0:
            return "its box is empty"
        if said.size is not None and not all(length > 0 for length in said.size):
            return "its image has no size"
    return None


@contextmanager
def places(path: object, what: str) -> Iterator[None]:
    """Turns what a malformed entry raises into an error that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
        raise UsageError(f"{path}: {what}: not as the format has it ({type(error).__name__}: {error})") from None
