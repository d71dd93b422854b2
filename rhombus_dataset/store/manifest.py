"""The manifest: one row for each planned frame, in one Parquet slice for each shard.

A slice commits its shard. Its header, in the file's metadata, has the digest of the schedule and the SHA-256 of
the shard's data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store import layout, schema, tables
from rhombus_dataset.store.files import inside

_HEADER_KEY: Final = b"rhombus_dataset"
_STEM: Final = re.compile(r"[A-Za-z0-9_]{1,40}-(top-up-)?[0-9]{5,9}-of-[0-9]{5,9}", re.ASCII)
"""The name of a shard: its split, its number, and the number of shards."""


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The header of a manifest slice.

    ``shard``: the shard's name. ``data_sha256``: hex SHA-256 of the Parquet file, or of the JPEG files of a folder
    (:func:`folder_sha256`). ``content_sha256``: of the rows' values, independent of pyarrow's version.
    """

    format_version: int
    schedule_digest: str
    shard: str
    data_format: str
    data_sha256: str
    content_sha256: str


def write_slice(path: Path, table: pa.Table, header: SliceHeader) -> None:
    """Write a manifest slice, complete or not at all. The same rows give the same bytes. Raises StorageError."""
    metadata = {_HEADER_KEY: json.dumps(dataclasses.asdict(header), sort_keys=True).encode()}
    tables.write_table(path, table.replace_schema_metadata(metadata), tables.MANIFEST)


def read_header(path: Path) -> SliceHeader:
    """Return the header of a slice. Raises DatasetError if the file is not a manifest slice of this format."""
    try:
        metadata = tables.read_metadata(inside(path.parent.parent, layout.manifest_file(path.stem)))
        header = SliceHeader(**json.loads(metadata[_HEADER_KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: not a manifest slice ({tables.short(error)})") from None
    if header.format_version != schema.FORMAT_VERSION:
        raise DatasetError(
            f"{path}: expected format {schema.FORMAT_VERSION}, got format {header.format_version}: use the version "
            "of rhombus-dataset that wrote this dataset"
        )
    return header


def read_slice(path: Path) -> pa.Table:
    """Return the rows of one slice. Every page is compared with its checksum, and every value that becomes a part
    of a path is checked: a manifest may be from somebody else. Raises DatasetError.
    """
    return _checked(path, tables.read_table(inside(path.parent.parent, layout.manifest_file(path.stem))))


def _checked(path: Path, table: pa.Table) -> pa.Table:
    """Return the rows of a slice. Raises DatasetError where they name anything but the files of their own shard."""
    stem = path.stem
    if not _STEM.fullmatch(stem):
        raise DatasetError(f"{path}: not the name of a shard")
    types = {field.name: field.type for field in schema.manifest_schema([schema.DEPLOYMENT, *schema.CHOICE])}
    for field in table.schema:
        if types.get(field.name, field.type) != field.type:
            raise DatasetError(
                f"{path}: column {field.name} has the type {field.type}, expected {types[field.name]}"
            )
    if missing := [name for name in schema.manifest_schema().names if table.column_names.count(name) != 1]:
        raise DatasetError(f"{path}: expected one column {missing[0]}, got {table.column_names.count(missing[0])}")
    ids, split = table.column("frame_id"), table.column("split")
    file, row = table.column("file"), table.column("row")
    jpegs = pc.binary_join_element_wise(f"{layout.data_folder(stem)}/", ids, ".jpg", "")
    problems = {
        "frame_id": pc.invert(pc.match_substring_regex(ids, "^[0-9a-f]{20}$")),
        "split": pc.invert(pc.match_substring_regex(split, "^[A-Za-z0-9_]{1,40}$")),
        "file": pc.invert(pc.or_(pc.equal(file, layout.data_file(stem)), pc.equal(file, jpegs))),
        "row": pc.less(row, 0),
    }
    for name, is_wrong in problems.items():
        no_value = name in ("frame_id", "split")  # the others are empty where there is no image
        place = pc.index(pc.fill_null(is_wrong, no_value), True).as_py()
        if place >= 0:
            value = table.column(name)[place].as_py()
            raise DatasetError(f"{path}: row {place}: {name} has a value that no build writes ({value!r:.100})")
    return table


def read_statuses(path: Path) -> npt.NDArray[np.str_]:
    """Return the status of each row of a slice, without reading other columns. Raises DatasetError."""
    slice_path = inside(path.parent.parent, layout.manifest_file(path.stem))
    return np.asarray(tables.read_table(slice_path, ["status"]).column(0).to_pylist(), np.str_)


def slice_bytes(table: pa.Table) -> bytes:
    """Return the content of the file that this pyarrow writes for the rows of :func:`read_slice`."""
    return tables.table_bytes(table, tables.MANIFEST)


def slice_paths(dataset: Path) -> list[Path]:
    """Return the paths of the committed slices, sorted by name."""
    return sorted((dataset / layout.MANIFEST_FOLDER).glob("[!.]*.parquet"))


def pending_rewrites(dataset: Path) -> list[Path]:
    """Return the folders of rewritten shards that are complete but not all moved to their final place."""
    return sorted(path.parent for path in (dataset / layout.REWRITE_FOLDER).glob(f"*/{layout.READY_FILE}"))


def read_manifest(dataset: Path, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of all committed slices, in the order of the schedule.

    Raises DatasetError if there is no slice, or one is damaged.
    """
    paths = slice_paths(dataset)
    if not paths:
        raise DatasetError(
            f"{dataset}: no dataset here (no {layout.MANIFEST_FOLDER}/*.parquet). "
            "Expected a folder that `rhombus-dataset build` wrote."
        )
    slices = [read_slice(path).replace_schema_metadata(None) for path in paths]
    return pa.concat_tables([table.select(columns or table.column_names) for table in slices])


def content_sha256(table: pa.Table) -> str:
    """Return the hex SHA-256 of a manifest's values, as JSON with one row a line."""
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
    """Return the hex SHA-256 of the names and hex SHA-256 of a folder's files, sorted by name."""
    digest = hashlib.sha256()
    for name, sha256 in sorted(names_and_hashes):
        digest.update(f"{sha256}  {name}\n".encode())
    return digest.hexdigest()
