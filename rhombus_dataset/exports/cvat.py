"""Export to CVAT: images with a manifest for its cloud storages, and existing annotations.

https://docs.cvat.ai/docs/dataset_management/dataset_manifest/ and
https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree

from rhombus_dataset.dataset import Dataset
from rhombus_dataset.exports.images import image_name, write_images
from rhombus_dataset.store.annotations import Annotation


def write(dataset: Dataset, folder: Path) -> None:
    """Write ``images/<split>/<frame_id>.jpg``, ``images/manifest.jsonl``, and ``annotations.xml`` if there are any.

    To use it, create a task from the folder ``images``, then upload ``annotations.xml`` to the task as "CVAT 1.1".
    """
    annotations = dataset.annotations()
    (folder / "images").mkdir()
    with (folder / "images" / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        manifest.write('{"version":"1.1"}\n{"type":"images"}\n')
        for frame, name in write_images(dataset, folder):
            entry = {
                "name": name.removeprefix("images/").removesuffix(".jpg"),
                "extension": ".jpg",
                "width": frame.width_px,
                "height": frame.height_px,
                "meta": {"related_images": []},
                # The format requires MD5.
                "checksum": hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest(),
            }
            manifest.write(json.dumps(entry, separators=(",", ":")) + "\n")
    if annotations.num_rows:
        _write_xml(dataset, sorted(set(annotations.column("label").to_pylist())), folder / "annotations.xml")


def _write_xml(dataset: Dataset, labels: list[str], path: Path) -> None:
    meta = ElementTree.Element("meta")
    listed = ElementTree.SubElement(ElementTree.SubElement(meta, "task"), "labels")
    for label in labels:
        described = ElementTree.SubElement(listed, "label")
        ElementTree.SubElement(described, "name").text = label
        ElementTree.SubElement(described, "type").text = "any"
        ElementTree.SubElement(described, "attributes")
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(f"{ElementTree.tostring(meta, 'unicode')}\n")
        for number, frame in enumerate(dataset):
            image = ElementTree.Element(
                "image", {"id": str(number), "name": image_name(frame).removeprefix("images/")}
            )
            image.attrib |= {"width": str(frame.width_px), "height": str(frame.height_px)}
            for annotation in frame.annotations:
                _add(image, annotation)
            file.write(f"{ElementTree.tostring(image, 'unicode')}\n")
        file.write("</annotations>\n")


def _add(image: ElementTree.Element, annotation: Annotation) -> None:
    attributes = {"label": annotation.label, "source": "manual" if annotation.confidence is None else "auto"}
    if annotation.kind == "class":
        ElementTree.SubElement(image, "tag", attributes)
        return
    x, y, width, height = annotation.box
    corners = {"xtl": x, "ytl": y, "xbr": x + width, "ybr": y + height}
    attributes |= {"occluded": "0", **{name: repr(value) for name, value in corners.items()}, "z_order": "0"}
    ElementTree.SubElement(image, "box", attributes)
