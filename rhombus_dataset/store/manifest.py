"""The manifest: one row a planned frame, in one Parquet slice a shard.

A slice commits its shard. Its header, in the file's own metadata, names the schedule that it belongs
to and the sha256 of the shard's data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store import layout, schema
from rhombus_dataset.store.files import staged_file

_HEADER_KEY: Final = b"rhombus_dataset"


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What a manifest slice says of its shard.

    ``data_sha256``: of the Parquet file's bytes, or of a JPEG folder's files (:func:`folder_sha256`).
    ``content_sha256``: of what the rows say, which does not depend on pyarrow's version.
    """

    format_version: int
    schedule_digest: str
    shard: str
    data_format: str
    data_sha256: str
    content_sha256: str


def write_slice(path: Path, table: pa.Table, header: SliceHeader) -> None:
    """Write a manifest slice, whole or not at all. The same rows give the same bytes."""
    metadata = {_HEADER_KEY: json.dumps(dataclasses.asdict(header), sort_keys=True).encode()}
    with staged_file(path) as staged:
        _write(staged, table.replace_schema_metadata(metadata))


def read_header(path: Path) -> SliceHeader:
    """Raises DatasetError where the file is not a manifest slice of this format."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        header = SliceHeader(**json.loads(metadata[_HEADER_KEY]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: not a readable manifest slice ({_short(error)})") from None
    if header.format_version != schema.FORMAT_VERSION:
        raise DatasetError(
            f"{path}: written in format {header.format_version}; this version of rhombus-dataset "
            f"reads format {schema.FORMAT_VERSION}"
        )
    return header


def read_slice(path: Path) -> pa.Table:
    """The rows of one slice, every page checked against its checksum. Raises DatasetError."""
    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DatasetError(f"{path}: damaged ({_short(error)})") from None


def read_statuses(path: Path) -> npt.NDArray[np.str_]:
    """The status of each row of a slice, without reading the rest. Raises DatasetError."""
    try:
        column = pq.read_table(path, columns=["status"], page_checksum_verification=True, partitioning=None)
        return np.asarray(column.column(0).to_pylist(), np.str_)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: damaged ({_short(error)})") from None


def slice_bytes(table: pa.Table) -> bytes:
    """The file that ``table``, as read by :func:`read_slice`, is written as by this pyarrow."""
    sink = pa.BufferOutputStream()
    _write(sink, table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def slice_paths(dataset: Path) -> list[Path]:
    """The committed slices of a dataset folder, by name."""
    return sorted((dataset / layout.MANIFEST_FOLDER).glob("[!.]*.parquet"))


def pending_rewrites(dataset: Path) -> list[Path]:
    """Return the folders of rewritten shards that are whole and not yet moved into place completely."""
    return sorted(path.parent for path in (dataset / layout.REWRITE_FOLDER).glob(f"*/{layout.READY_FILE}"))


def read_manifest(dataset: Path, columns: list[str] | None = None) -> pa.Table:
    """Every row of the dataset's manifest, in the order of the schedule.

    Raises DatasetError where there is none, or where it is damaged.
    """
    paths = slice_paths(dataset)
    if not paths:
        raise DatasetError(
            f"{dataset}: no dataset here (no {layout.MANIFEST_FOLDER}/*.parquet). "
            "Expected a folder that `rhombus-dataset build` has written."
        )
    tables = [read_slice(path) for path in paths]
    return pa.concat_tables(
        [table.replace_schema_metadata(None).select(columns or table.column_names) for table in tables]
    )


def content_sha256(table: pa.Table) -> str:
    """SHA-256 over what the rows of a manifest say, whatever wrote them: JSON, a row a line."""
    digest = hashlib.sha256()
    plain = table.set_column(
        table.schema.get_field_index("timestamp"),
        "timestamp",
        table.column("timestamp").cast(pa.int64()),
    )
    for batch in plain.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            digest.update(json.dumps(list(row.values()), ensure_ascii=True).encode())
            digest.update(b"\n")
    return digest.hexdigest()


def folder_sha256(names_and_hashes: list[tuple[str, str]]) -> str:
    """SHA-256 over the names and hex SHA-256 of a folder's files, in the order of the names."""
    digest = hashlib.sha256()
    for name, sha256 in sorted(names_and_hashes):
        digest.update(f"{sha256}  {name}\n".encode())
    return digest.hexdigest()


def _write(where: Path | pa.NativeFile, table: pa.Table) -> None:
    pq.write_table(
        table,
        where,
        compression="zstd",
        row_group_size=64 * 1024,
        write_page_checksum=True,
        store_schema=True,
    )


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
