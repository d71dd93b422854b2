"""Labels in the format "CVAT for images 1.1".

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from rhombus_dataset.errors import UsageError
from rhombus_dataset.labels.label import ImportedLabel, translate_errors

_SHAPES = ("polygon", "polyline", "points", "ellipse", "cuboid", "skeleton", "mask")


def read(path: Path) -> Iterator[ImportedLabel]:
    """Return a box for each ``box``, a class for each ``tag``, and a label with a problem for each other shape.

    Raises UsageError.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return _read(path)


def _read(path: Path) -> Iterator[ImportedLabel]:
    depth = 0
    owner: str | None = None
    try:
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            depth += 1 if event == "start" else -1
            if depth == 1 and event == "start" and element.tag != "annotations":
                raise UsageError(f"{path}: begins with <{element.tag[:60]}>, expected CVAT's <annotations>")
            if depth == 2 and element.tag == "track":
                raise UsageError(
                    f"{path}: has tracks of a video. Export the task from CVAT as 'CVAT for images 1.1'"
                )
            if event == "end" and element.tag == "username" and owner is None:
                owner = element.text
            if event == "end" and element.tag == "image" and depth == 1:
                yield from _image(path, element, owner)
                element.clear()
    except ElementTree.ParseError as error:
        raise UsageError(f"{path}: not XML: {error}") from None


def _image(path: Path, image: ElementTree.Element, owner: str | None) -> Iterator[ImportedLabel]:
    with translate_errors(path, "an image"):
        name = image.attrib["name"]
        size = float(image.attrib["width"]), float(image.attrib["height"])
    for shape in image:
        with translate_errors(path, f"image {name!r}, {shape.tag}"):
            label = shape.attrib["label"]
            made_by = "auto" if shape.attrib.get("source") == "auto" else owner
            if shape.tag == "tag":
                found = ImportedLabel(name, label, made_by=made_by)
            elif shape.tag == "box" and not float(shape.attrib.get("rotation", 0)):
                left, top, right, bottom = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
                found = ImportedLabel(name, label, (left, top, right - left, bottom - top), size, made_by=made_by)
            elif shape.tag in _SHAPES or shape.tag == "box":
                what = "turned box" if shape.tag == "box" else shape.tag
                found = ImportedLabel(name, label, problem=f"a {what}, where boxes and tags are taken")
            else:
                raise ValueError(f"unknown shape {shape.tag}")
        yield found
