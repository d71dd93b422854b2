"""Export to Label Studio: tasks with local files, existing annotations as predictions, and a labelling interface.

https://labelstud.io/guide/tasks and https://labelstud.io/guide/predictions
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.exports.images import iso, write_images, write_list
from rhombus_dataset.store.annotations import Annotation

_BOXES: Final = "box"
_CLASSES: Final = "class"


def write(dataset: Dataset, folder: Path) -> None:
    """Write ``images/<split>/<frame_id>.jpg``, ``tasks.json`` and ``label_config.xml``.

    The image URLs of the tasks are those of Label Studio's local files, with this folder as
    ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`` and its subfolder ``images`` as the local storage.
    """
    with (folder / "tasks.json").open("w", encoding="utf-8") as file:
        write_list(file, (_task(frame, name) for frame, name in write_images(dataset, folder)))
        file.write("\n")
    (folder / "label_config.xml").write_text(_config(dataset), "utf-8")


def _task(frame: Frame, path: str) -> dict[str, Any]:
    makers: dict[str, list[Annotation]] = {}
    for annotation in frame.annotations:
        makers.setdefault(annotation.made_by, []).append(annotation)
    return {
        "data": {
            "image": f"/data/local-files/?d={path}",
            "frame_id": frame.frame_id,
            "camera_name": frame.camera_name,
            "timestamp": iso(frame.timestamp),
            "view": frame.view,
            "split": frame.split,
        },
        "predictions": [
            {"model_version": made_by, "result": list(_results(frame, annotations))}
            for made_by, annotations in makers.items()
        ],
    }


def _results(frame: Frame, annotations: list[Annotation]) -> Iterator[dict[str, Any]]:
    for number, annotation in enumerate(annotations):
        name = f"{frame.frame_id} {annotation.made_by} {number}"
        result: dict[str, Any] = {
            "id": hashlib.sha256(name.encode()).hexdigest()[:10],
            "to_name": "image",
            "original_width": frame.width_px,
            "original_height": frame.height_px,
        }
        if annotation.kind == "class":
            result |= {"type": "choices", "from_name": _CLASSES, "value": {"choices": [annotation.label]}}
        else:
            x, y, width, height = annotation.box
            # The format uses percent of the image.
            value = {
                "x": 100 * x / frame.width_px,
                "y": 100 * y / frame.height_px,
                "width": 100 * width / frame.width_px,
                "height": 100 * height / frame.height_px,
                "rotation": 0,
                "rectanglelabels": [annotation.label],
            }
            result |= {"type": "rectanglelabels", "from_name": _BOXES, "image_rotation": 0, "value": value}
        if annotation.confidence is not None:
            result["score"] = annotation.confidence
        yield result


def _config(dataset: Dataset) -> str:
    table = dataset.annotations().select(["kind", "label"]).to_pylist()
    boxes, classes = (sorted({row["label"] for row in table if row["kind"] == kind}) for kind in ("box", "class"))
    lines = ["<View>", '  <Image name="image" value="$image"/>']
    if classes:
        lines.append(f'  <Choices name="{_CLASSES}" toName="image" choice="multiple">')
        lines += [f"    <Choice value={quoteattr(label)}/>" for label in classes]
        lines.append("  </Choices>")
    # Without any labels yet, the interface offers one called "object".
    if boxes or not classes:
        lines.append(f'  <RectangleLabels name="{_BOXES}" toName="image">')
        lines += [f"    <Label value={quoteattr(label)}/>" for label in boxes or ["object"]]
        lines.append("  </RectangleLabels>")
    return "\n".join([*lines, "</View>", ""])
