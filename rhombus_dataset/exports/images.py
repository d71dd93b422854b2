"""Parts that several formats share: image files by split, and the fields of a frame as JSON."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.store import schema

FIELDS: Final = tuple(field.name for field in (*schema.PLANNED, *schema.MEASURED))
"""Columns that an export gives for each frame."""


def image_name(frame: Frame) -> str:
    """Return the path of an image in an export. It does not contain the name of the camera, which may be any
    text."""
    return f"images/{frame.split}/{frame.frame_id}.jpg"


def write_images(dataset: Dataset, folder: Path) -> Iterator[tuple[Frame, str]]:
    """Write each image as it is stored, and yield the frame and the path relative to ``folder``."""
    for split in dataset.splits:
        (folder / "images" / split).mkdir(parents=True)
    for frame in dataset:
        name = image_name(frame)
        (folder / name).write_bytes(frame.read())
        yield frame, name


def plain(frame: Frame) -> dict[str, Any]:
    """Return the fields of a frame as JSON values, with the timestamp in ISO 8601, to the millisecond."""
    row = frame.to_dict()
    return {name: iso(row[name]) if name == "timestamp" else row[name] for name in FIELDS}


def iso(moment: dt.datetime) -> str:
    """Return a UTC time such as ``2026-06-01T13:00:00.000Z``."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_list(file: TextIO, items: Iterable[Any]) -> None:
    """Write a JSON list, one item a line, without having the whole list in memory."""
    file.write("[")
    for number, item in enumerate(items):
        file.write(",\n" if number else "\n")
        json.dump(item, file, ensure_ascii=False)
    file.write("\n]")
