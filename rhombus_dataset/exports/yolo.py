"""Export to YOLO, in the layout of Ultralytics: https://docs.ultralytics.com/datasets/detect/"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
import yaml

from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.exports.images import write_images

_KEYS: Final = {"validation": "val"}
"""The keys of data.yaml for splits that have another name there."""


def write(dataset: Dataset, folder: Path) -> None:
    """Write ``images/<split>/<frame_id>.jpg``, ``labels/<split>/<frame_id>.txt`` for frames with boxes,
    ``data.yaml``.

    In this format, an image without a label file is background. Classes of whole images are not exported.
    """
    boxes = dataset.annotations().filter(pc.field("kind") == "box")
    labels = sorted(set(boxes.column("label").to_pylist()))
    numbers = {label: number for number, label in enumerate(labels)}
    for frame, name in write_images(dataset, folder):
        lines = [_line(frame, annotation.box, numbers[annotation.label])
                 for annotation in frame.annotations if annotation.kind == "box"]  # fmt: skip
        if lines:
            target = (folder / name.replace("images/", "labels/", 1)).with_suffix(".txt")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(lines))
    # Without `path`, Ultralytics takes the folder of this file, wherever the command runs. It requires `val`.
    has_val = "validation" in dataset.splits or not dataset.splits
    described: dict[str, Any] = {} if has_val else {"val": f"images/{dataset.splits[-1]}"}
    described |= {_KEYS.get(split, split): f"images/{split}" for split in dataset.splits}
    described |= {"nc": len(labels), "names": dict(enumerate(labels))}
    (folder / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False, allow_unicode=True), "utf-8")


def _line(frame: Frame, box: tuple[float, float, float, float], number: int) -> str:
    x, y, width, height = box
    centre = (x + width / 2) / frame.width_px, (y + height / 2) / frame.height_px
    size = width / frame.width_px, height / frame.height_px
    return f"{number} {' '.join(repr(value) for value in (*centre, *size))}\n"
