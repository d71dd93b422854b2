"""Labels in the JSON export of Label Studio.

https://labelstud.io/guide/export
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rhombus_dataset.labels.label import ImportedLabel, translate_errors


def read(path: Path, content: list[dict[str, Any]]) -> Iterator[ImportedLabel]:
    """Yield a box for each ``rectanglelabels`` result of an annotation, and a class for each ``choices`` result.

    Predictions are not read. Raises UsageError.
    """
    for number, task in enumerate(content):
        with translate_errors(path, f"task {number}"):
            data = task["data"]
            image = str(data.get("frame_id") or data["image"])
            annotations = [a for a in task.get("annotations", []) if not a.get("was_cancelled")]
            labels = [label for annotation in annotations for label in _annotation(image, annotation)]
        yield from labels


def _annotation(image: str, annotation: dict[str, Any]) -> Iterator[ImportedLabel]:
    by = annotation.get("completed_by")
    made_by = by.get("email") or str(by["id"]) if isinstance(by, dict) else None if by is None else str(by)
    for result in annotation["result"]:
        kind, value = result["type"], result.get("value", {})
        if kind == "choices":
            yield from (ImportedLabel(image, str(label), made_by=made_by) for label in value["choices"])
        elif kind == "rectanglelabels" and not value.get("rotation"):
            box = tuple(float(value[side]) for side in ("x", "y", "width", "height"))
            for label in value["rectanglelabels"]:
                yield ImportedLabel(
                    image, str(label), (box[0], box[1], box[2], box[3]), (100.0, 100.0), made_by=made_by
                )
        elif kind != "relation":
            what = "turned box" if kind == "rectanglelabels" else kind
            label = str(value.get(kind, ""))
            yield ImportedLabel(image, label, problem=f"a {str(what)[:60]}, where boxes and choices are taken")
