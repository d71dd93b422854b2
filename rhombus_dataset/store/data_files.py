"""A shard's data: its images and their columns in one Parquet file, or a folder of JPEG files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store import layout, manifest, schema, tables
from rhombus_dataset.store.files import sha256_of, staged_file, staged_folder
from rhombus_dataset.store.images import MAX_IMAGE_BYTES, image_chunk
from rhombus_dataset.store.journal import JournalReader, Record
from rhombus_dataset.store.parquet_pages import group_bytes, row_groups

ROW_GROUP_IMAGES: Final = 100
"""Maximum images of a row group: Parquet readers read a whole group, so it should stay near 10 MB."""
ROW_GROUP_BYTES: Final = 64 * 1024 * 1024
"""Maximum bytes of images of a row group. It bounds the memory of a commit when images are large."""
_SCALARS: Final = [field.name for field in (*schema.PLANNED, *schema.MEASURED)]
_REPEATING: Final = [
    "split", "camera_uuid", "camera_name", "location", "timezone", "view", "downscale",
    "crop_x", "crop_y", "crop_width", "crop_height", "width", "height", "mime_type",
]  # fmt: skip


def open_writer(path: Path, data_schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer of a data file. ``data_schema`` is schema.data_schema(), with more columns if needed."""
    return pq.ParquetWriter(
        path,
        data_schema,
        # JPEG does not compress further, and statistics of small images would be as large as the images. Snappy,
        # because zstd allocates a large context for each of twenty small columns of a row group.
        compression={"image.bytes": "NONE", "image.path": "NONE"} | dict.fromkeys(_SCALARS, "SNAPPY"),
        use_dictionary=_REPEATING,
        write_statistics=_SCALARS,
        write_page_index=True,
    )


def split_into_groups(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first row, and the row after the last, of each row group. ``lengths``: bytes of each image."""
    start = 0
    size = 0
    for i, length in enumerate(lengths):
        if i > start and (i - start == ROW_GROUP_IMAGES or size + length > ROW_GROUP_BYTES):
            yield start, i
            start, size = i, 0
        size += length
    if start < len(lengths):
        yield start, len(lengths)


def write_parquet(path: Path, table: pa.Table, records: Sequence[Record], journal: JournalReader) -> str:
    """Write the data file of a shard, and return its hex SHA-256.

    ``table`` has the scalar columns of the ``ok`` rows, ``records`` their images, in the same order. Memory is
    bounded by one row group. Raises StorageError.
    """
    data_schema = schema.data_schema()
    with staged_file(path) as staged:
        with open_writer(staged, data_schema) as writer:
            for start, stop in split_into_groups([record.stop - record.start for record in records]):
                part = table.slice(start, stop - start)
                names = [f"{frame_id}.jpg" for frame_id in part.column("frame_id").to_pylist()]
                image = _image_column(names, records[start:stop], journal)
                writer.write_table(pa.table([image, *part.columns], schema=data_schema))
        return sha256_of(staged)


def _image_column(names: list[str], records: Sequence[Record], journal: JournalReader) -> pa.Array:
    """Return the column ``image``. Its bytes are read from the journal into Arrow's buffer without a copy."""
    offsets = np.zeros(len(records) + 1, np.int32)
    np.cumsum([record.stop - record.start for record in records], out=offsets[1:])
    content = np.empty(int(offsets[-1]), np.uint8)
    target = memoryview(content.data)
    bounds = offsets.tolist()
    for record, start, stop in zip(records, bounds[:-1], bounds[1:], strict=True):
        journal.image_into(record, target[start:stop])
    encoded = pa.Array.from_buffers(pa.binary(), len(records), [None, pa.py_buffer(offsets), pa.py_buffer(content)])
    return pa.StructArray.from_arrays([encoded, pa.array(names, pa.string())], fields=list(schema.IMAGE.type))


def write_jpegs(path: Path, table: pa.Table, records: Sequence[Record], journal: JournalReader) -> str:
    """Write the folder of a shard, one JPEG file a row and their columns, and return its manifest.folder_sha256.

    Arguments and errors as in :func:`write_parquet`.
    """
    names = [f"{frame_id}.jpg" for frame_id in table.column("frame_id").to_pylist()]
    columns = table.add_column(0, "file_name", pa.array(names, pa.string()))
    files: list[tuple[str, str]] = []
    with staged_folder(path) as staged:
        for name, record in zip(names, records, strict=True):
            (staged / name).write_bytes(journal.image_bytes(record))
            files.append((name, record.frame.sha256 or ""))
        metadata = staged / layout.JPEG_METADATA_FILE
        metadata.write_bytes(tables.table_bytes(columns, tables.PLAIN))
        files.append((metadata.name, sha256_of(metadata)))
    return manifest.folder_sha256(files)


class DataFile:
    """An open data file. Memory is bounded by one row group, whatever the file says of itself.

    Raises DatasetError if it is not a data file of this package, and OSError and ArrowException if it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pq.ParquetFile(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._groups = row_groups(self._descriptor)
        except ValueError as error:
            self.__exit__()
            raise self._wrong(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._file.close()

    @property
    def schema(self) -> pa.Schema:
        return self._file.schema_arrow

    def rows(self) -> list[int]:
        """Return the number of rows of each row group."""
        return [group[0].rows if group else 0 for group in self._groups]

    def read(self, group: int, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of a row group. Its sizes are checked first, so that they fit into memory."""
        try:
            image_chunk(self._groups[group])
            sizes = group_bytes(self._descriptor, self._groups[group])
            if sum(size.pages for size in sizes.values()) > ROW_GROUP_BYTES + MAX_IMAGE_BYTES:
                raise ValueError(f"row group {group} is larger than {ROW_GROUP_BYTES >> 20} MiB and an image")
            if sum(size.repeated_texts for size in sizes.values()) > ROW_GROUP_BYTES:
                raise ValueError(f"row group {group} has too long texts")
            return self._file.read_row_group(group, columns=columns)
        except (ValueError, IndexError) as error:
            if isinstance(error, pa.ArrowException):
                raise
            raise self._wrong(error) from None

    def _wrong(self, error: Exception) -> DatasetError:
        return DatasetError(f"{self._path}: not a data file of this package ({tables.short(error)})")


def read_images(path: Path, rows: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the images in ``rows`` of a data file. Damaged row groups and empty images are left out.

    One row group is in memory at a time. Raises as :class:`DataFile` if the file as a whole is damaged.
    """
    with DataFile(path) as file:
        start = 0
        for group, count in enumerate(file.rows()):
            stop = start + count
            wanted = [row for row in rows if start <= row < stop]
            if wanted and (part := _read_group(file, group, ["image"])) is not None:
                column = part.column("image")
                for row in wanted:
                    image = (column[row - start].as_py() or {}).get("bytes")
                    if isinstance(image, bytes):
                        yield row, image
            start = stop


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data file, images included. Damaged row groups are left out.

    A file with another schema has none. Memory and errors as in :func:`read_images`.
    """
    with DataFile(path) as file:
        if not file.schema.equals(schema.data_schema()):
            return
        for group in range(len(file.rows())):
            if (part := _read_group(file, group)) is not None:
                yield from part.to_pylist()


def _read_group(file: DataFile, group: int, columns: list[str] | None = None) -> pa.Table | None:
    try:
        part = file.read(group, columns)
        part.validate(full=True)
        return part
    except (OSError, pa.ArrowException, DatasetError):
        return None
