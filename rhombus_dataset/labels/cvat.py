"""Labels in the format "CVAT for images 1.1".

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final
from xml.etree import ElementTree
from xml.parsers import expat

from rhombus_dataset.errors import UsageError
from rhombus_dataset.labels.label import MAX_IMAGE_NAME, ImportedLabel, excerpt, translate_errors

_SHAPES = ("polygon", "polyline", "points", "ellipse", "cuboid", "skeleton", "mask")
MAX_DEPTH: Final = 32
"""Maximum depth of elements. CVAT's files have about 8 levels."""
_CHUNK_BYTES: Final = 1 << 16


def read(path: Path) -> Iterator[ImportedLabel]:
    """Return a box for each ``box``, a class for each ``tag``, and a label with a problem for each other shape.

    Raises UsageError.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return _read(path)


def _read(path: Path) -> Iterator[ImportedLabel]:
    try:
        with path.open("rb") as file:
            _refuse_document_type(path, file)
            file.seek(0)
            yield from _labels(path, file)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    # The last two: an encoding that is unknown, or not supported in XML.
    except (ElementTree.ParseError, expat.ExpatError, ValueError, LookupError) as error:
        raise UsageError(f"{path}: not XML: {excerpt(str(error))}") from None


class _RootReached(Exception):
    pass


def _refuse_document_type(path: Path, file: BinaryIO) -> None:
    """Raise UsageError if there is a document type before the first element.

    Only there, entities can be declared: short names that expand to gigabytes, or to other files.
    """

    def refuse(*_: object) -> None:
        raise UsageError(f"{path}: has a document type (<!DOCTYPE>), which CVAT does not write. Remove it")

    def stop(*_: object) -> None:
        raise _RootReached

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = stop
    try:
        while chunk := file.read(_CHUNK_BYTES):
            parser.Parse(chunk)
    except _RootReached:
        pass


def _labels(path: Path, file: BinaryIO) -> Iterator[ImportedLabel]:
    depth = 0
    root: ElementTree.Element | None = None
    owner: str | None = None
    for event, element in ElementTree.iterparse(file, events=("start", "end")):
        if root is None:
            root = element
            if element.tag != "annotations":
                raise UsageError(f"{path}: begins with <{excerpt(element.tag)}>, expected CVAT's <annotations>")
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH:
            raise UsageError(f"{path}: expected at most {MAX_DEPTH} levels of elements")
        if depth == 2 and element.tag == "track":
            raise UsageError(f"{path}: has tracks of a video. Export the task from CVAT as 'CVAT for images 1.1'")
        if event == "end" and element.tag == "username" and owner is None:
            owner = element.text
        if event == "end" and depth == 1:
            if element.tag == "image":
                yield from _image(path, element, owner)
            root.clear()


def _image(path: Path, image: ElementTree.Element, owner: str | None) -> Iterator[ImportedLabel]:
    with translate_errors(path, "an image"):
        name = image.attrib["name"][: MAX_IMAGE_NAME + 1]
        size = float(image.attrib["width"]), float(image.attrib["height"])
    for shape in image:
        with translate_errors(path, f"image {name[:60]!r}, {shape.tag[:40]}"):
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
