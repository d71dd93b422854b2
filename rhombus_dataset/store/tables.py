"""Small Parquet files of a dataset. The settings are in one place: the same table always gives the same bytes."""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store.files import staged_file
from rhombus_dataset.store.parquet_pages import group_bytes, row_groups

MANIFEST: Final[dict[str, Any]] = {
    "compression": "zstd",
    "row_group_size": 64 * 1024,
    "write_page_checksum": True,
    "store_schema": True,
}
"""Settings of a manifest slice. 64 Ki rows a group: a slice is read whole, and has about 1,000 rows."""
LISTS: Final[dict[str, Any]] = {"compression": "snappy", "write_page_checksum": True}
"""Settings of lists of frames: annotations, near-duplicates."""
PLAIN: Final[dict[str, Any]] = {"compression": "zstd"}
"""Settings of files that have a checksum elsewhere: times of the lock, columns of a folder of JPEG files."""

MAX_EXPANSION: Final = 200
"""Maximum memory of a table, as a multiple of its file. A manifest takes at most 30 times its file: ids hardly
compress."""
MIN_TABLE_BYTES: Final = 1 << 20
"""Memory that a table may take whatever the size of its file: a short one has mostly a footer."""
MAX_COLUMNS: Final = 64
"""Maximum columns of a table. The manifest has 28."""
_ERRORS: Final = (OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError, pa.ArrowException)


def write_table(path: Path, table: pa.Table, settings: dict[str, Any] = LISTS) -> None:
    """Write a Parquet file, complete or not at all. Raises StorageError."""
    with staged_file(path) as staged:
        pq.write_table(table, staged, **settings)


def table_bytes(table: pa.Table, settings: dict[str, Any]) -> bytes:
    """Return the content of the Parquet file that this pyarrow writes for ``table``."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **settings)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of a Parquet file. Every page is compared with its checksum, if it has one.

    Memory is bounded by the size of the file, whatever its footer says. Raises DatasetError if the file cannot be
    read, is damaged, or would take more.
    """
    try:
        most_bytes = MIN_TABLE_BYTES + MAX_EXPANSION * path.stat().st_size
        coded = _check_size(path, columns, most_bytes)
        with pq.ParquetFile(path, read_dictionary=coded, page_checksum_verification=True) as file:
            table = file.read(columns, use_threads=False)
        table = _with_plain_texts(table, coded, most_bytes)
        table.validate(full=True)
        return table
    except _ERRORS as error:
        raise DatasetError(f"{path}: damaged ({short(error)})") from None


def _check_size(path: Path, columns: list[str] | None, most_bytes: int) -> list[str]:
    """Return the columns of texts that must be read as codes: one long text could be the value of every row.

    Raises ValueError where reading would take too much memory.
    """
    pages: collections.Counter[str] = collections.Counter()
    repeated: collections.Counter[str] = collections.Counter()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for group in row_groups(descriptor):
            if len(group) > MAX_COLUMNS or any("." in chunk.path for chunk in group):
                raise ValueError(f"expected at most {MAX_COLUMNS} columns of numbers and texts")
            for name, size in group_bytes(descriptor, group, columns).items():
                pages[name] += size.pages
                repeated[name] += size.repeated_texts
    finally:
        os.close(descriptor)
    _check_bytes(sum(pages.values()), most_bytes)
    return [name for name, size in repeated.items() if size > most_bytes // 2 // MAX_COLUMNS]


def _with_plain_texts(table: pa.Table, coded: list[str], most_bytes: int) -> pa.Table:
    """Return the table with its coded texts as plain ones. Raises ValueError where they are too long."""
    size = 0
    for name in coded:
        i = table.schema.get_field_index(name)
        if i < 0 or not pa.types.is_dictionary(table.schema.field(i).type):
            raise ValueError(f"expected one column {name} of texts")
        column = table.column(i)
        size += sum(
            len(chunk) * (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) for chunk in column.chunks
        )
        _check_bytes(size, most_bytes)
        plain = table.schema.field(i).with_type(column.type.value_type)
        table = table.set_column(i, plain, column.cast(plain.type))
    return table


def _check_bytes(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise ValueError(f"reading it would take {size >> 20:,} MiB, at most {most_bytes >> 20:,} MiB are expected")


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """Return the key-value metadata of a Parquet file's schema. Raises DatasetError."""
    try:
        return pq.read_schema(path).metadata or {}
    except _ERRORS as error:
        raise DatasetError(f"{path}: damaged ({short(error)})") from None


def count_rows(path: Path) -> int:
    """Return the number of rows that the footer of a Parquet file gives. Raises DatasetError."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except _ERRORS as error:
        raise DatasetError(f"{path}: damaged ({short(error)})") from None


def is_from_this_pyarrow(path: Path) -> bool:
    """Return whether this version of pyarrow wrote a Parquet file. Raises OSError and ArrowException."""
    try:
        return bool(pq.read_metadata(path).created_by == f"parquet-cpp-arrow version {pa.__version__}")
    except UnicodeDecodeError:
        # The name is damaged: compare the bytes as if this version had written them.
        return True


def short(error: Exception) -> str:
    """Return the first line of an error's text, at most 160 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
