"""The Parquet files of images: how they are laid out, and how one image is read from them by one read.

Parquet readers hand out row groups, which here are megabytes. But the image column is stored plain and
uncompressed, so every image lies in its file as it is: its place is found by walking the column's pages once
(parquet-format: parquet.thrift and Encodings.md), and kept in 12 bytes an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store import schema

COLUMN: Final = "image.bytes"
ROW_GROUP_IMAGES: Final = 100
ROW_GROUP_BYTES: Final = 64 * 1024 * 1024
_SCALARS: Final = [field.name for field in (*schema.PLANNED, *schema.MEASURED)]
_REPEATING: Final = [
    "split", "camera_uuid", "camera_name", "location", "timezone", "view", "downscale",
    "crop_x", "crop_y", "crop_width", "crop_height", "width", "height", "mime_type",
]  # fmt: skip
_READ_AHEAD: Final = 512
"""Bytes; a page header without statistics takes some thirty, the definition levels a few more."""


def open_writer(path: Path, data_schema: pa.Schema) -> pq.ParquetWriter:
    """A writer for a data file: ``data_schema`` is schema.data_schema(), perhaps with more columns."""
    return pq.ParquetWriter(
        path,
        data_schema,
        # Images do not get smaller, and statistics would put small ones whole in the footer. Snappy, since
        # zstd sets up a large context for each of twenty small columns of a row group.
        compression={"image.bytes": "NONE", "image.path": "NONE"} | dict.fromkeys(_SCALARS, "SNAPPY"),
        use_dictionary=_REPEATING,
        write_statistics=_SCALARS,
        write_page_index=True,
    )


def row_groups(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """From where to where each row group goes, for images of these lengths in bytes."""
    start = 0
    size = 0
    for i, length in enumerate(lengths):
        if i > start and (i - start == ROW_GROUP_IMAGES or size + length > ROW_GROUP_BYTES):
            yield start, i
            start, size = i, 0
        size += length
    if start < len(lengths):
        yield start, len(lengths)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the images of one Parquet file stand; ``state`` is the file's at that time."""

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int32]
    state: tuple[int, int, int]


class ImageReader:
    """The encoded images of a dataset folder, in no matter which order.

    Safe to use from many threads and in forked or spawned processes: it keeps no file open and
    holds no lock (two threads that meet at a new file both walk it, to the same end).
    """

    def __init__(self, folder: Path, on_read: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        self._on_read = on_read
        self._places: dict[str, _Places] = {}

    def read(self, name: str, row: int) -> bytes:
        """The bytes of an image: the ``row``-th of a Parquet file, or all of a file of its own.

        ``name`` is relative to the dataset. Raises DatasetError where it is not there, or where the file was
        written anew since it was first read. ``on_read`` is called before each.
        """
        self._on_read()
        path = self._folder / name
        try:
            if path.suffix != ".parquet":
                return path.read_bytes()
            places = self._places.get(name)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if places is None:
                    places = self._places[name] = _walk(path, descriptor)
                elif places.state != _state(descriptor):
                    raise DatasetError(f"{path}: has changed since the dataset was opened: open it again")
                if row >= len(places.lengths):
                    raise DatasetError(f"{path}: {len(places.lengths)} images, but the manifest names row {row}")
                length = int(places.lengths[row])
                return _read(path, descriptor, length, int(places.starts[row]))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DatasetError(
                f"{path}: cannot be read ({error.strerror}). Was the dataset moved, or is a disk gone?"
            ) from None


def _state(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path, descriptor: int, length: int, start: int) -> bytes:
    content = os.pread(descriptor, length, start)
    if len(content) != length:
        raise DatasetError(f"{path}: ends at byte {start + len(content)}, inside an image: it is damaged")
    return content


def _walk(path: Path, descriptor: int) -> _Places:
    """Find every image of a Parquet file. Raises DatasetError where it is not as this package writes it."""
    state = _state(descriptor)
    try:
        metadata = pq.read_metadata(path)
        count = metadata.num_rows
        starts, lengths = np.empty(count, np.int64), np.empty(count, np.int32)
        done = 0
        for group in range(metadata.num_row_groups):
            chunk = _image_chunk(metadata.row_group(group))
            position = chunk.data_page_offset
            end = position + chunk.total_compressed_size
            while position < end:
                position, done = _walk_page(descriptor, position, end, starts, lengths, done)
        if done != count:
            raise ValueError(f"{done} images, expected {count}")
    except (pa.ArrowException, LookupError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"{path}: not a data file as this package writes it ({str(error).splitlines()[0][:160]}). "
            "`rhombus-dataset verify` tells more"
        ) from None
    return _Places(starts, lengths, state)


def _image_chunk(group: Any) -> Any:
    chunks = (group.column(i) for i in range(group.num_columns))
    chunk = next((c for c in chunks if c.path_in_schema == COLUMN), None)
    if chunk is None or chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
        raise ValueError(f"no plain, uncompressed column {COLUMN}")
    return chunk


def _walk_page(
    descriptor: int,
    position: int,
    end: int,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    done: int,
) -> tuple[int, int]:
    """Note the places of one page's images, from the ``done``-th on; where the next page begins."""
    ahead = os.pread(descriptor, min(_READ_AHEAD, end - position), position)
    header, size = _compact_struct(ahead, 0)
    # PageHeader: 1 type (0: data page), 3 compressed_page_size, 5 data_page_header (1 num_values, 2 encoding)
    if header[1] != 0 or header[5][2] != 0:
        raise ValueError("a page that is not a plain data page of version 1")
    values = header[5][1]
    stop = position + size + header[3]
    # The definition levels, after their length in four bytes: all images are there, or not even one row is.
    levels = int.from_bytes(ahead[size : size + 4], "little")
    at = position + size + 4 + levels
    if not (at <= stop <= end and 0 <= values <= len(starts) - done):
        raise ValueError("a page that leaves its column")
    for i in range(done, done + values):
        known = at - position
        head = ahead[known : known + 4] if known + 4 <= len(ahead) else os.pread(descriptor, 4, at)
        starts[i], lengths[i] = at + 4, int.from_bytes(head, "little")
        at += 4 + int(lengths[i])
    if at != stop:
        raise ValueError("a page whose images do not fill it")
    return stop, done + values


def _compact_struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct in Thrift's compact protocol, by number, and where it ends.

    Only what page headers hold: booleans, integers, binaries and structs (thrift-compact-protocol.md).
    """
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return fields, at
        kind = head & 0x0F
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(data, at)
        if kind in (1, 2):
            fields[number] = kind == 1
        elif kind in (4, 5, 6):
            fields[number], at = _zigzag(data, at)
        elif kind == 8:
            length, at = _varint(data, at)
            fields[number], at = data[at : at + length], at + length
        elif kind == 12:
            fields[number], at = _compact_struct(data, at)
        else:
            raise ValueError(f"a page header with a field of type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
