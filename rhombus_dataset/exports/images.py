"""What several formats share: image files by split, and the manifest's row as JSON."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.store import schema

FIELDS: Final = tuple(field.name for field in (*schema.PLANNED, *schema.MEASURED))
"""What an export says of a frame."""


def image_name(frame: Frame) -> str:
    """Where an export puts the image, whatever the frame's camera is called."""
    return f"images/{frame.split}/{frame.frame_id}.jpg"


def write_images(dataset: Dataset, folder: Path) -> Iterator[tuple[Frame, str]]:
    """Write each image as it is stored; yields the frame and its file, relative to ``folder``."""
    for split in dataset.splits:
        (folder / "images" / split).mkdir(parents=True)
    for frame in dataset:
        name = image_name(frame)
        (folder / name).write_bytes(frame.read())
        yield frame, name


def plain(frame: Frame) -> dict[str, Any]:
    """The frame's fields as JSON values; the timestamp in ISO 8601, to the millisecond."""
    row = frame.to_dict()
    return {name: iso(row[name]) if name == "timestamp" else row[name] for name in FIELDS}


def iso(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_list(file: TextIO, items: Iterable[Any]) -> None:
    """A JSON list, an item a line, without holding it all."""
    file.write("[")
    for number, item in enumerate(items):
        file.write(",\n" if number else "\n")
        json.dump(item, file, ensure_ascii=False)
    file.write("\n]")
