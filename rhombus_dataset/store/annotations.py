"""Annotations of frames: boxes and classes, in Parquet files of their own beside the data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.store import layout, tables
from rhombus_dataset.store.files import as_storage_error, folder_inside, inside, remove, write_file

FRAME_ID: Final = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{20}(?![0-9A-Za-z])")
"""Matches a frame_id in a file's name or another text."""
SCHEMA: Final = pa.schema(
    [
        pa.field("frame_id", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("label", pa.string()),
        pa.field("x", pa.float64()),
        pa.field("y", pa.float64()),
        pa.field("width", pa.float64()),
        pa.field("height", pa.float64()),
        pa.field("full_x", pa.float64()),
        pa.field("full_y", pa.float64()),
        pa.field("full_width", pa.float64()),
        pa.field("full_height", pa.float64()),
        pa.field("confidence", pa.float64()),
        pa.field("made_by", pa.string()),
    ]
)
_BOX: Final = ("x", "y", "width", "height", "full_x", "full_y", "full_width", "full_height")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One box or one class of one frame.

    ``x``, ``y`` (top left corner), ``width``, ``height``: the box in pixels of the stored image. ``full_x`` to
    ``full_height``: the same box in permyriads of the camera's full frame. All are None for a class, which
    applies to the whole image. ``made_by``: the person or model. ``confidence``: 0 to 1, None for a person.
    """

    frame_id: str
    kind: Literal["box", "class"]
    label: str
    x: float | None
    y: float | None
    width: float | None
    height: float | None
    full_x: float | None
    full_y: float | None
    full_width: float | None
    full_height: float | None
    confidence: float | None
    made_by: str

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The box as x, y, width, height in pixels of the stored image. Raises ValueError for a class."""
        if self.x is None or self.y is None or self.width is None or self.height is None:
            raise ValueError(f"{self.label!r} is a class of the whole image: it has no box")
        return self.x, self.y, self.width, self.height


def box_annotation(
    frame_id: str,
    label: str,
    box: tuple[float, float, float, float],
    geometry: Geometry,
    size_px: tuple[int, int],
    *,
    made_by: str,
    confidence: float | None = None,
) -> Annotation:
    """Return the annotation of a box on an image of ``geometry``.

    ``box``: x, y, width, height in pixels. ``size_px``: width and height of the image.
    """
    x, y, width, height = box
    left, top = geometry.to_full(x, y, *size_px)
    right, bottom = geometry.to_full(x + width, y + height, *size_px)
    return Annotation(
        frame_id, "box", label, x, y, width, height, left, top, right - left, bottom - top, confidence, made_by
    )  # fmt: skip


def class_annotation(frame_id: str, label: str, *, made_by: str, confidence: float | None = None) -> Annotation:
    """Return the annotation of a class, which applies to the whole image."""
    return Annotation(
        frame_id, "class", label, None, None, None, None, None, None, None, None, confidence, made_by
    )  # fmt: skip


def folder_of(dataset: Path) -> Path:
    """Return the folder of a dataset's annotation files."""
    return dataset / layout.ANNOTATIONS_FOLDER


def annotation_paths(dataset: Path) -> list[Path]:
    """Return the paths of a dataset's annotation files, sorted by name. Raises DatasetError for links out of it."""
    names = sorted(path.name for path in _folder_inside(dataset).glob("[!._]*.parquet"))
    return [inside(dataset, f"{layout.ANNOTATIONS_FOLDER}/{name}") for name in names]


def _folder_inside(dataset: Path) -> Path:
    return folder_inside(dataset, layout.ANNOTATIONS_FOLDER)


def read_annotations(dataset: Path) -> pa.Table:
    """Return all annotations of a dataset, with the columns of SCHEMA. Raises DatasetError."""
    return pa.concat_tables([SCHEMA.empty_table(), *map(read_annotation_file, annotation_paths(dataset))])


def read_annotation_file(path: Path) -> pa.Table:
    """Return the rows of one file, with the columns of SCHEMA. Raises DatasetError, also for wrong values."""
    table = tables.read_table(path)
    try:
        table = table.replace_schema_metadata(None).select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DatasetError(f"{path}: not an annotation file ({tables.short(error)})") from None
    for name, is_right in _checks(table):
        place = pc.index(pc.fill_null(is_right, False), False).as_py()
        if place >= 0:
            value = table.column(name)[place].as_py()
            raise DatasetError(
                f"{path}: row {place + 1}: {name} has a value that no import writes ({value!r:.100})"
            )
    return table


def _checks(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield for each column which of its rows are right."""
    kind = table.column("kind")
    is_class = pc.equal(kind, "class")
    yield "frame_id", pc.match_substring_regex(table.column("frame_id"), "^[0-9a-f]{20}$")
    yield "kind", pc.or_(is_class, pc.equal(kind, "box"))
    for name in ("label", "made_by"):
        yield name, pc.is_valid(table.column(name))
    for name in _BOX:
        # A box has all numbers, and a class none.
        yield name, pc.if_else(is_class, pc.is_null(table.column(name)), pc.is_finite(table.column(name)))
    yield "confidence", pc.coalesce(pc.is_finite(table.column("confidence")), True)


def delete_annotations(dataset: Path, frame_ids: set[str]) -> None:
    """Delete all annotations of these frames, and the report, which shows images of them.

    Safe to repeat after an interruption. Raises DatasetError and StorageError.
    """
    remove(dataset / layout.REPORT_FILE)
    for path in annotation_paths(dataset):
        table = read_annotation_file(path)
        deleted = pa.array(sorted(frame_ids), pa.string())  # without the type, no ids would be an array of nulls
        kept = table.filter(pc.invert(pc.is_in(table.column("frame_id"), deleted)))
        if kept.num_rows < table.num_rows:
            tables.write_table(path, kept)
    for name in sorted(path.name for path in _folder_inside(dataset).glob(f"_*{layout.SKIPPED_LABELS_SUFFIX}")):
        path = inside(dataset, f"{layout.ANNOTATIONS_FOLDER}/{name}")
        with as_storage_error(path):
            lines = path.read_bytes().splitlines(keepends=True)
        # A line is deleted wherever it contains such an id: its format is not known for certain.
        kept_lines = [
            line for line in lines if not frame_ids.intersection(FRAME_ID.findall(line.decode("utf-8", "replace")))
        ]
        if len(kept_lines) < len(lines):
            write_file(path, b"".join(kept_lines))


def write_annotations(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write ``rows``, with the columns of SCHEMA, as one file, complete or not at all. Raises StorageError."""
    tables.write_table(path, pa.Table.from_pylist(rows, schema=SCHEMA))
