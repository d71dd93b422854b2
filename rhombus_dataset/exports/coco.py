"""Export to COCO, with the fields of COCO Camera Traps.

https://cocodataset.org/#format-data and
https://github.com/agentmorris/MegaDetector/blob/main/megadetector/data_management/README.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from rhombus_dataset.dataset import Dataset
from rhombus_dataset.exports.images import image_name, write_images, write_list
from rhombus_dataset.planning.lock import LockedBurst


def write(dataset: Dataset, folder: Path) -> None:
    """Write ``images/<split>/<frame_id>.jpg``, and ``annotations/instances_<split>.json`` for each split.

    Image and category ids are integers; the categories are the same in every split. Frames of one burst have the
    same ``seq_id``. Classes of whole images are annotations without ``bbox``, as in COCO Camera Traps. Readers of
    plain COCO reject those, so they are in separate files: ``annotations/classes_<split>.json``.
    """
    for _ in write_images(dataset, folder):
        pass
    labels = sorted(set(dataset.annotations().column("label").to_pylist()))
    categories = {label: number for number, label in enumerate(labels, 1)}
    sequences = _sequences(dataset)
    (folder / "annotations").mkdir()
    has_classes = "class" in dataset.annotations().column("kind").to_pylist()
    for split in dataset.splits:
        part = dataset[split]
        for kind, name in [("box", "instances"), *([("class", "classes")] if has_classes else [])]:
            with (folder / "annotations" / f"{name}_{split}.json").open("w", encoding="utf-8") as file:
                file.write('{"info": ')
                info = {"version": "1.0", "description": f"{dataset.name}, split {split}"}
                json.dump(info, file, ensure_ascii=False)
                file.write(', "licenses": [],\n"categories": ')
                write_list(file, ({"id": number, "name": label} for label, number in categories.items()))
                file.write(',\n"images": ')
                write_list(file, _images(part, sequences))
                file.write(',\n"annotations": ')
                write_list(file, _annotations(part, kind, categories))
                file.write("}\n")


def _images(part: Dataset, sequences: dict[str, tuple[str, int, int]]) -> Iterator[dict[str, Any]]:
    for number, frame in enumerate(part, 1):
        seq_id, frame_num, seq_num_frames = sequences.get(frame.frame_id, (frame.frame_id, 0, 1))
        yield {
            "id": number,
            "file_name": image_name(frame),
            "width": frame.width_px,
            "height": frame.height_px,
            "datetime": f"{frame.local_time:%Y-%m-%d %H:%M:%S}",
            "location": frame.camera_uuid,
            "seq_id": seq_id,
            "frame_num": frame_num,
            "seq_num_frames": seq_num_frames,
            "corrupt": False,
            "frame_id": frame.frame_id,
            "camera_name": frame.camera_name,
            "view": frame.view,
            "timestamp_ms": frame.timestamp_ms,
        }


def _annotations(part: Dataset, kind: str, categories: dict[str, int]) -> Iterator[dict[str, Any]]:
    count = 0
    for number, frame in enumerate(part, 1):
        for annotation in frame.annotations:
            if annotation.kind != kind:
                continue
            count += 1
            found: dict[str, Any] = {
                "id": count,
                "image_id": number,
                "category_id": categories[annotation.label],
            }
            if kind == "class":
                found["sequence_level_annotation"] = False
            else:
                box = annotation.box
                found |= {"bbox": list(box), "area": box[2] * box[3], "segmentation": [], "iscrowd": 0}
            if annotation.confidence is not None:
                found["score"] = annotation.confidence
            yield {**found, "made_by": annotation.made_by}


def _sequences(dataset: Dataset) -> dict[str, tuple[str, int, int]]:
    """Return, for each frame of a burst, the id of the burst (its first frame), the position in it, and its
    length."""
    sampling = dataset.lock.sampling
    if not isinstance(sampling, LockedBurst):
        return {}
    # All planned frames count: a missing frame does not divide a burst.
    rows = dataset.manifest.select(["frame_id", "camera_uuid", "view", "timestamp"]).sort_by(
        [("camera_uuid", "ascending"), ("view", "ascending"), ("timestamp", "ascending")]
    )
    times = rows.column("timestamp").cast("int64").to_numpy()
    same = np.ones(max(0, len(rows) - 1), np.bool_)
    for name in ("camera_uuid", "view"):
        codes = pc.dictionary_encode(rows.column(name).combine_chunks()).indices.to_numpy()
        same &= np.diff(codes) == 0
    ids = rows.column("frame_id").to_pylist()
    found: dict[str, tuple[str, int, int]] = {}
    start = 0
    for i in range(1, len(ids) + 1):
        continues = i < len(ids) and same[i - 1] and times[i] - times[i - 1] == sampling.spacing_ms
        if not continues or i - start == sampling.frames_per_burst:
            found |= {ids[j]: (ids[start], j - start, i - start) for j in range(start, i)}
            start = i
    return found
