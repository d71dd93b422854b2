"""Random access to the images of a dataset: one read for each image.

Parquet readers read whole row groups, which have several megabytes. But the image column is stored without
encoding and compression, so each image is a range of bytes of its file. The ranges are found by reading the headers
of the column's pages once (parquet-format: parquet.thrift and Encodings.md), and take 12 bytes of memory an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store.files import inside
from rhombus_dataset.store.tables import short

COLUMN: Final = "image.bytes"
_READ_AHEAD: Final = 512
"""Bytes that are read at the start of a page. Its header takes about 30 bytes, the definition levels a few more."""


@dataclass(frozen=True, slots=True)
class _ByteRanges:
    """Start and length in bytes of each image of one Parquet file. ``state``: inode, size and mtime of the file."""

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int32]
    state: tuple[int, int, int]


class ImageReader:
    """Reads the encoded images of a dataset folder, in any order.

    Safe to use from several threads and in forked or spawned processes: it keeps no file open and has no lock. Two
    threads that need the same new file both index it, with the same result.
    """

    def __init__(self, folder: Path, on_read: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        self._on_read = on_read
        self._ranges: dict[str, _ByteRanges] = {}

    def read(self, name: str, row: int) -> bytes:
        """Return the bytes of an image: row ``row`` of a Parquet file, or the whole of a JPEG file.

        ``name`` is relative to the dataset. ``on_read`` is called first. Raises DatasetError if the image does not
        exist, or if the file was replaced after it was first read.
        """
        self._on_read()
        ranges = self._ranges.get(name)
        path = self._folder / name if ranges is not None else inside(self._folder, name)
        try:
            if path.suffix != ".parquet":
                return path.read_bytes()
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if ranges is None:
                    ranges = self._ranges[name] = _index(path, descriptor)
                elif ranges.state != _state(descriptor):
                    raise DatasetError(f"{path}: changed after the dataset was opened: open the dataset again")
                if row >= (count := len(ranges.lengths)):
                    raise DatasetError(f"{path}: has {count} images, but the manifest names row {row}")
                return _read(path, descriptor, int(ranges.lengths[row]), int(ranges.starts[row]))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DatasetError(
                f"{path}: cannot be read ({error.strerror}): check that the dataset was not moved and its disk is "
                "mounted"
            ) from None


def _state(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path, descriptor: int, length: int, start: int) -> bytes:
    content = os.pread(descriptor, length, start)
    if len(content) != length:
        raise DatasetError(f"{path}: damaged: the file ends inside an image, at byte {start + len(content)}")
    return content


def _index(path: Path, descriptor: int) -> _ByteRanges:
    """Return the byte ranges of all images of a Parquet file. Raises DatasetError for a file of another writer."""
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
                position, done = _index_page(descriptor, position, end, starts, lengths, done)
        if done != count:
            raise ValueError(f"{done} images, expected {count}")
    except (pa.ArrowException, LookupError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"{path}: not a data file of this package ({short(error)}). `rhombus-dataset verify` shows all problems"
        ) from None
    return _ByteRanges(starts, lengths, state)


def _image_chunk(group: Any) -> Any:
    chunks = (group.column(i) for i in range(group.num_columns))
    chunk = next((c for c in chunks if c.path_in_schema == COLUMN), None)
    if chunk is None or chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
        raise ValueError(f"no column {COLUMN} without encoding and compression")
    return chunk


def _index_page(
    descriptor: int,
    position: int,
    end: int,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    done: int,
) -> tuple[int, int]:
    """Store the byte ranges of one page's images, from index ``done`` on.

    Returns where the next page starts, and the new ``done``.
    """
    ahead = os.pread(descriptor, min(_READ_AHEAD, end - position), position)
    header, size = _compact_struct(ahead, 0)
    # PageHeader: 1 type (0: data page), 3 compressed_page_size, 5 data_page_header (1 num_values, 2 encoding)
    if header[1] != 0 or header[5][2] != 0:
        raise ValueError("expected data pages of version 1 in plain encoding")
    values = header[5][1]
    stop = position + size + header[3]
    # Four bytes with the length of the definition levels, then the levels. No image is null, so they are skipped.
    levels = int.from_bytes(ahead[size : size + 4], "little")
    at = position + size + 4 + levels
    if not (at <= stop <= end and 0 <= values <= len(starts) - done):
        raise ValueError("a page extends beyond its column")
    for i in range(done, done + values):
        known = at - position
        head = ahead[known : known + 4] if known + 4 <= len(ahead) else os.pread(descriptor, 4, at)
        starts[i], lengths[i] = at + 4, int.from_bytes(head, "little")
        at += 4 + int(lengths[i])
    if at != stop:
        raise ValueError("the images of a page have another size than the page")
    return stop, done + values


def _compact_struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct in Thrift's compact protocol, by number, and the position after it.

    Reads only the types that page headers have: booleans, integers, binaries and structs
    (thrift-compact-protocol.md).
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
            raise ValueError(f"unexpected field of type {kind} in a page header")


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
