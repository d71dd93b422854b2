"""COCO: https://cocodataset.org/#format-data (boxes, and COCO Camera Traps' classes of whole images)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rhombus_dataset.labels.label import ImportedLabel, places


def read(path: Path, content: dict[str, Any]) -> Iterator[ImportedLabel]:
    """A box an annotation with ``bbox``, a class one without."""
    with places(path, "its lists"):
        images = {image["id"]: image for image in content["images"]}
        labels = {category["id"]: str(category["name"]) for category in content.get("categories", [])}
        annotations = list(content["annotations"])
    for number, annotation in enumerate(annotations):
        with places(path, f"annotations[{number}]"):
            image = images[annotation["image_id"]]
            score, made_by = annotation.get("score"), annotation.get("made_by")
            box = annotation.get("bbox")
            outline = box is None and (annotation.get("segmentation") or annotation.get("keypoints"))
            size = (float(image["width"]), float(image["height"])) if "width" in image else None
            said = ImportedLabel(
                image=str(image["file_name"]),
                label=labels[annotation["category_id"]],
                box=None if box is None else _four(box),
                size=size if box is not None else None,
                confidence=None if score is None else float(score),
                made_by=None if made_by is None else str(made_by),
                problem="an outline without a box, where boxes and classes are taken" if outline else None,
            )
        yield said


def _four(box: Any) -> tuple[float, float, float, float]:
    x, y, width, height = map(float, box)
    return x, y, width, height
