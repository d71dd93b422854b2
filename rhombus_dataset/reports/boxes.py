"""The boxes and classes of an image in the report, drawn over its thumbnail as SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rhombus_dataset.quality.text import counted
from rhombus_dataset.store.annotations import Annotation

COLOURS: Final = 6
"""Colours of boxes in the style sheet. More could not be told apart on a small image."""
_MAX_BOXES: Final = 20
"""Boxes drawn on one image. More would hide it, and each takes about 200 bytes of the page."""
_MAX_DRAWN_TEXT: Final = 14
"""Characters of a label on the image: half of the width of a thumbnail."""
_MAX_TEXT: Final = 30
"""Characters of a label in the caption."""
_MAX_NAMED: Final = 4
"""Labels named in the caption."""
_SHOWN_PX: Final = (160, 90)
"""Width and height of the area of a thumbnail on the page, about. The text on boxes is scaled for it."""
_TEXT_PX: Final = 10
_LETTER_PX: Final = 6
"""Height and width of a letter of a label, in pixels of the page."""


def colours_of(labels: Iterable[str]) -> dict[str, int]:
    """Return the number of the colour of each label, from 0 to COLOURS - 1, in the order of the alphabet."""
    return {label: i % COLOURS for i, label in enumerate(sorted(set(labels)))}


def overlay(
    annotations: Sequence[Annotation], size_px: tuple[int, int], colours: Mapping[str, int]
) -> dict[str, Any] | None:
    """Return what is drawn over an image of ``size_px`` (width and height) and named in its caption.

    Coordinates are pixels of the stored image, cut at its edges. None without annotations.
    """
    if not annotations:
        return None
    boxes = [annotation for annotation in annotations if annotation.kind == "box"]
    width, height = size_px
    unit = max(width / _SHOWN_PX[0], height / _SHOWN_PX[1])
    drawn = []
    for annotation in boxes[:_MAX_BOXES]:
        x, y, box_width, box_height = annotation.box
        left, right = (min(max(at, 0), width) for at in (x, x + box_width))
        top, bottom = (min(max(at, 0), height) for at in (y, y + box_height))
        if right <= left or bottom <= top:
            continue
        text = _cut(annotation.label, _MAX_DRAWN_TEXT)
        # The text begins at the left edge of its box, or ends at the right edge if it would leave the image.
        ends = left + len(text) * _LETTER_PX * unit > width
        above = top > (_TEXT_PX + 2) * unit
        drawn.append(
            {
                "rectangle": [round(value, 1) for value in (left, top, right - left, bottom - top)],
                "text": text,
                "x": round(right if ends else left, 1),
                "y": round(top - 2 * unit if above else top + _TEXT_PX * unit, 1),
                "ends": ends,
                "colour": colours[annotation.label],
                "label": _cut(annotation.label, 10 * _MAX_TEXT),
            }
        )
    return {
        "width": width,
        "height": height,
        "text_size": round(_TEXT_PX * unit, 1),
        "boxes": drawn,
        "caption": "; ".join(
            text
            for text in (
                _named(boxes, "box", "boxes"),
                _named([a for a in annotations if a.kind == "class"], "class", "classes"),
                f"{_MAX_BOXES} boxes drawn" if len(boxes) > _MAX_BOXES else "",
            )
            if text
        ),
    }


def _named(annotations: Sequence[Annotation], one: str, many: str) -> str:
    """Return such as `2 boxes: car, van`, with how often each label occurs if more than once."""
    if not annotations:
        return ""
    labels = Counter(annotation.label for annotation in annotations)
    named = [
        _cut(label, _MAX_TEXT) + (f" ({n:,})" if n > 1 else "")
        for label, n in sorted(labels.items(), key=lambda item: (-item[1], item[0]))[:_MAX_NAMED]
    ]
    if len(labels) > _MAX_NAMED:
        named.append(f"{counted(len(labels) - _MAX_NAMED, 'other label')}")
    return f"{counted(len(annotations), one, many)}: {', '.join(named)}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
