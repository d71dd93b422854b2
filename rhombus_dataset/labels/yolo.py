"""Labels in YOLO format: a folder with data.yaml and labels/.

https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rhombus_dataset.config.yaml_source import load_marked
from rhombus_dataset.errors import InvalidFile, UsageError
from rhombus_dataset.labels.label import ImportedLabel, translate_errors
from rhombus_dataset.labels.label_file import check_label_file


def read(path: Path) -> Iterator[ImportedLabel]:
    """Yield a box for each line of ``labels/**/*.txt``: class, centre x and y, width, height, optional confidence.

    Raises UsageError.
    """
    described = path / "data.yaml"
    if not described.is_file():
        raise UsageError(f"{path}: has no data.yaml: expected a YOLO folder, or a COCO, CVAT or Label Studio file")
    with translate_errors(described, "names"):
        # The reader of plans: it bounds aliases, depth and size.
        try:
            names = load_marked(check_label_file(described, path)).value["names"]
        except InvalidFile as error:
            raise UsageError(str(error)) from None
        labels = {
            int(number): str(name)
            for number, name in (names if isinstance(names, dict) else dict(enumerate(names))).items()
        }
    for file in sorted(path.rglob("labels/**/*.txt")):
        with translate_errors(file, "its text"):
            lines = check_label_file(file, path).read_text("utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            with translate_errors(file, f"line {number}"):
                values = [float(value) for value in line.split()]
                if not values:
                    continue
                label = labels[int(values[0])]
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
