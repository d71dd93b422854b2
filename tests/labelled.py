"""Labels for tests: boxes on every third frame, of all views, and classes of some images."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import rhombus_dataset
from rhombus_dataset.labels.importer import LabelsOutcome


def coco_of(dataset: Path) -> dict[str, Any]:
    """Return a COCO file with persons, cars, and busy images."""
    rng = random.Random(5)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, frame in enumerate(rhombus_dataset.open_dataset(dataset)[::3]):
        size = {"width": frame.width_px, "height": frame.height_px}
        images.append({"id": number, "file_name": f"{frame.frame_id}.jpg", **size})
        for _ in range(rng.randint(0, 3)):
            width, height = rng.randint(4, frame.width_px // 2), rng.randint(4, frame.height_px // 2)
            left, top = rng.randint(0, frame.width_px - width), rng.randint(0, frame.height_px - height)
            box = [left + rng.choice([0, 0.25]), top, width, height]
            annotations.append({"image_id": number, "category_id": rng.randint(1, 2), "bbox": box})
        if rng.random() < 0.2:
            annotations.append({"image_id": number, "category_id": 3})
    for number, annotation in enumerate(annotations):
        annotation["id"] = number
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}, {"id": 3, "name": "busy"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def label(dataset: Path) -> LabelsOutcome:
    """Import these labels, with the author ana."""
    file = dataset.parent / "people.json"
    file.write_text(json.dumps(coco_of(dataset)))
    return rhombus_dataset.import_labels(dataset, file, made_by="ana")
