"""Labels in COCO format: boxes, and the classes of whole images of COCO Camera Traps.

https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rhombus_dataset.labels.label import ImportedLabel, translate_errors


def read(path: Path, content: dict[str, Any]) -> Iterator[ImportedLabel]:
    """Yield a box for each annotation with ``bbox``, and a class for each one without. Raises UsageError."""
    with translate_errors(path, "its lists"):
        images = dict(_image(path, number, image) for number, image in enumerate(content["images"]))
        labels = {category["id"]: str(category["name"]) for category in content.get("categories", [])}
        annotations = list(content["annotations"])
    for number, annotation in enumerate(annotations):
        with translate_errors(path, f"annotations[{number}]"):
            image = images.get(annotation["image_id"])
            if image is None:
                image_id = annotation["image_id"]
                yield ImportedLabel(
                    f"image_id {image_id!r:.100}",
                    labels.get(annotation.get("category_id"), "unknown"),
                    problem="its image_id is not among the images of the file",
                )
                continue
            file_name, size = image
            score, made_by = annotation.get("score"), annotation.get("made_by")
            box = annotation.get("bbox")
            outline = box is None and (annotation.get("segmentation") or annotation.get("keypoints"))
            label = ImportedLabel(
                image=file_name,
                label=labels[annotation["category_id"]],
                box=None if box is None else _four(box),
                size=size if box is not None else None,
                confidence=None if score is None else float(score),
                made_by=None if made_by is None else str(made_by),
                problem="an outline without a box, where boxes and classes are taken" if outline else None,
            )
        yield label


def _image(path: Path, number: int, image: dict[str, Any]) -> tuple[Any, tuple[str, tuple[float, float] | None]]:
    """Return an image's id, file name and size. Each is read once: many labels can refer to one image."""
    with translate_errors(path, f"images[{number}]"):
        size = (float(image["width"]), float(image["height"])) if "width" in image else None
        return image["id"], (str(image["file_name"]), size)


def _four(box: Any) -> tuple[float, float, float, float]:
    x, y, width, height = map(float, box)
    return x, y, width, height
