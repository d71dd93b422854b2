"""Reading of label files in any supported format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rhombus_dataset.errors import UsageError
from rhombus_dataset.labels import coco, cvat, label_studio, yolo
from rhombus_dataset.labels.label import ImportedLabel
from rhombus_dataset.labels.label_file import check_label_file, read_label_file

_FORMATS = "a COCO or Label Studio file (.json), a CVAT file (.xml) or a YOLO folder"


def read_labels(path: Path) -> Iterator[ImportedLabel]:
    """Return the labels in a file or folder, in their order. The format is detected from the content.

    Raises UsageError, also while iterating, for a file of no known format or with a malformed entry.
    """
    if path.is_dir():
        return yolo.read(path)
    try:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder: expected {_FORMATS}")
        if path.suffix == ".xml":
            return cvat.read(check_label_file(path))
        content: Any = json.loads(read_label_file(path))
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: not JSON: expected {_FORMATS}") from None
    if isinstance(content, dict) and "images" in content and "annotations" in content:
        return coco.read(path, content)
    if isinstance(content, list) and all(isinstance(task, dict) and "data" in task for task in content):
        return label_studio.read(path, content)
    raise UsageError(f"{path}: neither COCO (images, annotations) nor Label Studio (tasks with data): {_FORMATS}")
