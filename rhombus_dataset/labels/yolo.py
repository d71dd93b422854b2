"""Labels in YOLO format: a folder with data.yaml and labels/.

https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from rhombus_dataset.config.yaml_source import load_marked
from rhombus_dataset.errors import InvalidFile, UsageError
from rhombus_dataset.labels.label import ImportedLabel, excerpt, translate_errors
from rhombus_dataset.labels.label_file import MAX_IMAGE_BYTES, check_label_file, read_label_file


def read(path: Path) -> Iterator[ImportedLabel]:
    """Yield a box for each line of ``labels/**/*.txt``: class, centre x and y, width, height, optional confidence.

    Raises UsageError.
    """
    described = path / "data.yaml"
    if not described.is_file():
        raise UsageError(f"{path}: has no data.yaml: expected a YOLO folder, or a COCO, CVAT or Label Studio file")
    with translate_errors(described, "names"):
        labels = _names(described, path)
    with translate_errors(path, "its folders"):
        files = sorted(_label_files(path))
    for file in files:
        with translate_errors(file, "its text"):
            lines = read_label_file(file, path, MAX_IMAGE_BYTES).decode().splitlines()
        for number, line in enumerate(lines, 1):
            with translate_errors(file, f"line {number}"):
                values = [float(value) for value in line.split()]
                if not values:
                    continue
                if values[0] not in labels:
                    raise ValueError(f"no class {values[0]:g} in data.yaml")
                label = labels[values[0]]
                if len(values) in (5, 6):
                    x, y, width, height = values[1:5]
                    found = ImportedLabel(
                        image=file.name,
                        label=label,
                        box=(x - width / 2, y - height / 2, width, height),
                        size=(1.0, 1.0),
                        confidence=values[5] if len(values) == 6 else None,
                    )
                else:
                    found = ImportedLabel(file.name, label, problem="an outline, where boxes are taken")
            yield found


def _names(described: Path, folder: Path) -> dict[float, str]:
    """Return the name of each class, by its number."""
    try:
        # The loader of plans: it limits aliases, depth and size.
        names: Any = load_marked(check_label_file(described, folder)).value["names"]
    except InvalidFile as error:
        first = error.problems[0]
        raise UsageError(str(dataclasses.replace(first, message=excerpt(first.message)))) from None
    if not isinstance(names, list | dict):
        raise TypeError("expected a list of names, or a mapping of numbers to names")
    # Not lists: with aliases, the text of a small list of long texts has gigabytes.
    if any(isinstance(name, list | dict) for name in (names if isinstance(names, list) else names.values())):
        raise TypeError("expected a text for each name")
    return {
        int(number): str(name) for number, name in (names.items() if isinstance(names, dict) else enumerate(names))
    }


def _label_files(folder: Path) -> Iterator[Path]:
    """Yield ``labels/**/*.txt`` in a folder and its folders, in any order. Links to folders are not followed."""
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        place = Path(parent)
        is_of_labels = "labels" in place.relative_to(folder).parts
        for name in folders:
            if (is_of_labels or name == "labels") and (place / name).is_symlink():
                raise UsageError(f"{place / name}: a link to a folder, which is not followed: copy the folder")
        if is_of_labels:
            yield from (place / name for name in files if name.endswith(".txt"))


def _refuse(error: OSError) -> NoReturn:
    raise UsageError(f"{error.filename}: cannot be read ({error.strerror})") from None
