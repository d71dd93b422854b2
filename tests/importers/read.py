"""Read an export with its format's own tools, and print the labels as JSON.

It runs in a separate environment (scripts/importers), because these tools need older versions of some packages than
this project.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

FRAME_ID = re.compile(r"[0-9a-f]{20}")


def by_datumaro(path: str, name: str) -> dict[str, Any]:
    import datumaro

    dataset = datumaro.Dataset.import_from(path, name)
    kinds = datumaro.AnnotationType
    labels = [label.name for label in dataset.categories()[kinds.label]]
    frames: dict[str, list[Any]] = {}
    for item in dataset:
        labels_of_frame = frames.setdefault(FRAME_ID.search(item.id).group(), [])  # type: ignore[union-attr]
        for annotation in item.annotations:
            box = annotation.get_bbox() if annotation.type == kinds.bbox else None
            labels_of_frame.append([labels[annotation.label], box and [float(value) for value in box]])
    return {"frames": frames}


def by_ultralytics(path: str) -> dict[str, Any]:
    """Ultralytics' own check of a dataset, and the boxes that its training would see. The folder need not be the
    working directory."""
    os.environ["YOLO_OFFLINE"] = "true"
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    checked = check_det_dataset(str(Path(path) / "data.yaml"), autodownload=False)
    frames: dict[str, list[Any]] = {}
    for split in ("train", "val", "test"):
        for label in YOLODataset(img_path=checked[split], data=checked, augment=False).labels:
            height, width = label["shape"]
            assert (label["bbox_format"], label["normalized"]) == ("xywh", True)
            frames[Path(label["im_file"]).stem] = [
                [checked["names"][int(name)], [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]]
                for (name,), (x, y, w, h) in zip(label["cls"].tolist(), label["bboxes"].tolist(), strict=True)
            ]
    return {"frames": frames}


def by_label_studio(path: str) -> dict[str, Any]:
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(Path(path, "label_config.xml").read_text())
    interface.validate()
    frames: dict[str, list[Any]] = {}
    exported = []
    for number, task in enumerate(json.loads(Path(path, "tasks.json").read_text())):
        labels_of_frame = frames.setdefault(task["data"]["frame_id"], [])
        for prediction in task["predictions"]:
            problems = interface.validate_prediction(prediction, return_errors=True)
            if problems:
                raise SystemExit(f"{task['data']}: {problems}")
            for result in prediction["result"]:
                value = result["value"]
                if result["type"] == "choices":
                    labels_of_frame.append([value["choices"][0], None])
                else:
                    unit = result["original_width"] / 100, result["original_height"] / 100
                    box = [
                        value["x"] * unit[0],
                        value["y"] * unit[1],
                        value["width"] * unit[0],
                        value["height"] * unit[1],
                    ]
                    labels_of_frame.append([value["rectanglelabels"][0], box])
        # The export of a person who accepted the predictions.
        accepted = [
            {
                "id": 1,
                "completed_by": {"id": 7, "email": "ana@example.com"},
                "result": p["result"],
                "was_cancelled": False,
            }
            for p in task["predictions"]
        ]
        exported.append({"id": number, "data": task["data"], "annotations": accepted, "predictions": []})
    Path(path, "exported.json").write_text(json.dumps(exported))
    return {"frames": frames}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    form, folder = sys.argv[1:]
    match form:
        case "label-studio":
            read = by_label_studio(folder)
        case "ultralytics":
            read = by_ultralytics(folder)
        case _:
            read = by_datumaro(folder, form)
    print(json.dumps(read))
