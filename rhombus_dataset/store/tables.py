"""Small Parquet files of a dataset. The settings are in one place: the same table always gives the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store.files import staged_file

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

    Raises DatasetError if the file cannot be read or is damaged.
    """
    try:
        # No partitioning: else a folder called `split=train` would add a column.
        return pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: damaged ({short(error)})") from None


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """Return the key-value metadata of a Parquet file's schema. Raises DatasetError."""
    try:
        return pq.read_schema(path).metadata or {}
    except (OSError, ValueError, pa.ArrowException) as error:
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
