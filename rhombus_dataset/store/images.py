"""Random access to the images of a dataset: one read for each image.

Parquet readers read whole row groups, which have several megabytes. But the image column is stored without
encoding and compression, so each image is a range of bytes of its file. The ranges are found by reading the headers
of the column's pages once (parquet-format: Encodings.md), and take 12 bytes of memory an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store.files import inside
from rhombus_dataset.store.parquet_pages import Chunk, Page, pages, row_groups
from rhombus_dataset.store.tables import short

COLUMN: Final = "image.bytes"
_UNCOMPRESSED: Final = 0
"""The codec of a column without compression."""
MAX_IMAGE_BYTES: Final = 256 << 20
"""Most bytes of an image. The source accepts 64 MiB, and an image with masks is encoded anew."""


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
                return read_jpeg(path)
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


def read_jpeg(path: Path) -> bytes:
    """Return the content of a JPEG file of a dataset. Raises OSError, and DatasetError if it is too large."""
    with path.open("rb") as file:
        content = file.read(MAX_IMAGE_BYTES + 1)
    if len(content) > MAX_IMAGE_BYTES:
        raise DatasetError(f"{path}: larger than {MAX_IMAGE_BYTES >> 20} MiB, the most that an image has")
    return content


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
        chunks = [image_chunk(group) for group in row_groups(descriptor)]
        count = sum(chunk.rows for chunk in chunks)
        if count > state[1] // 4:
            raise ValueError(f"{count} images in {state[1]} bytes")
        starts, lengths = np.empty(count, np.int64), np.empty(count, np.int32)
        done = 0
        for chunk in chunks:
            for page in pages(descriptor, chunk):
                done = _index_page(descriptor, page, starts, lengths, done)
        if done != count:
            raise ValueError(f"{done} images, expected {count}")
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"{path}: not a data file of this package ({short(error)}). `rhombus-dataset verify` shows all problems"
        ) from None
    return _ByteRanges(starts, lengths, state)


def image_chunk(group: Sequence[Chunk]) -> Chunk:
    """Return the column chunk of the images. Raises ValueError where it is missing, encoded or compressed."""
    chunk = next((c for c in group if c.path == COLUMN), None)
    if chunk is None or chunk.codec != _UNCOMPRESSED or chunk.has_dictionary:
        raise ValueError(f"no column {COLUMN} without encoding and compression")
    return chunk


def _index_page(
    descriptor: int,
    page: Page,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    done: int,
) -> int:
    """Store the byte ranges of one page's images, from index ``done`` on. Return the new ``done``."""
    header, ahead = page.header, page.ahead
    # PageHeader: 1 type (0: data page), 5 data_page_header (1 num_values, 2 encoding)
    if header[1] != 0 or header[5][2] != 0:
        raise ValueError("expected data pages of version 1 in plain encoding")
    values = header[5][1]
    # Four bytes with the length of the definition levels, then the levels. No image is null, so they are skipped.
    size = page.content - page.start
    levels = int.from_bytes(ahead[size : size + 4], "little")
    at = page.content + 4 + levels
    if not (at <= page.stop and 0 <= values <= len(starts) - done):
        raise ValueError("a page extends beyond its column")
    for i in range(done, done + values):
        known = at - page.start
        head = ahead[known : known + 4] if known + 4 <= len(ahead) else os.pread(descriptor, 4, at)
        starts[i], lengths[i] = at + 4, int.from_bytes(head, "little")
        at += 4 + int(lengths[i])
    if at != page.stop:
        raise ValueError("the images of a page have another size than the page")
    return int(done + values)
