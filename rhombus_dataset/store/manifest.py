"""The manifest: one row for each planned frame, in one Parquet slice for each shard.

A slice commits its shard. Its header, in the file's metadata, has the digest of the schedule and the SHA-256 of
the shard's data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.frame import Status
from rhombus_dataset.geometry import PERMYRIAD
from rhombus_dataset.store import layout, schema, tables
from rhombus_dataset.store.files import folder_inside, inside
from rhombus_dataset.wire import UUID_PATTERN

_HEADER_KEY: Final = b"rhombus_dataset"
_STEM: Final = re.compile(r"(?!all-)([A-Za-z0-9_]{1,40})-(top-up-)?[0-9]{5,9}-of-[0-9]{5,9}", re.ASCII)
"""The name of a shard: its split, its number, and the number of shards."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ZONE: Final = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"
_LATEST_MS: Final = 2**63 // 10**6
"""The year 2262, the last that fits into the nanoseconds of pandas."""
_AXES: Final = {"x": "width", "y": "height"}


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The header of a manifest slice. Raises ValueError for values that no build writes.

    ``shard``: the shard's name. ``data_sha256``: hex SHA-256 of the Parquet file, or of the JPEG files of a folder
    (:func:`folder_sha256`). ``content_sha256``: of the rows' values, independent of pyarrow's version.
    """

    format_version: int
    schedule_digest: str
    shard: str
    data_format: str
    data_sha256: str
    content_sha256: str

    def __post_init__(self) -> None:
        """Check the values: the shard's name becomes a part of paths."""
        if type(self.format_version) is not int:
            raise ValueError(f"format_version: expected a number, got {self.format_version!r:.60}")
        split_of_stem(self.shard)
        if self.data_format not in ("parquet", "jpeg"):
            raise ValueError(f"data_format: expected parquet or jpeg, got {self.data_format!r:.60}")
        for value in (self.schedule_digest, self.data_sha256, self.content_sha256):
            if not isinstance(value, str) or not _SHA256.fullmatch(value):
                raise ValueError(f"expected a SHA-256, got {value!r:.60}")


def split_of_stem(stem: str) -> str:
    """Return the split of a shard's name, such as train-00000-of-00012. Raises ValueError for another text."""
    match = _STEM.fullmatch(stem) if isinstance(stem, str) else None
    if match is None:
        raise ValueError(f"not the name of a shard: {stem!r:.60}")
    return match.group(1)


def write_slice(path: Path, table: pa.Table, header: SliceHeader) -> None:
    """Write a manifest slice, complete or not at all. The same rows give the same bytes. Raises StorageError."""
    metadata = {_HEADER_KEY: json.dumps(dataclasses.asdict(header), sort_keys=True).encode()}
    tables.write_table(path, table.replace_schema_metadata(metadata), tables.MANIFEST)


def read_header(path: Path) -> SliceHeader:
    """Return the header of a slice. Raises DatasetError if the file is not a manifest slice of this format."""
    return _header(path, tables.read_metadata(_inside(path)))


def _header(path: Path, metadata: dict[bytes, bytes]) -> SliceHeader:
    try:
        header = SliceHeader(**json.loads(metadata[_HEADER_KEY]))
        if header.shard != path.stem:
            raise ValueError(f"its header names the shard {header.shard}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not a manifest slice ({tables.short(error)})") from None
    if header.format_version != schema.FORMAT_VERSION:
        raise DatasetError(
            f"{path}: expected format {schema.FORMAT_VERSION}, got format {header.format_version}: use the version "
            "of rhombus-dataset that wrote this dataset"
        )
    return header


def count_rows(path: Path) -> int:
    """Return the number of rows of a slice, by its footer alone. Raises DatasetError."""
    return tables.count_rows(_inside(path))


def _inside(path: Path) -> Path:
    return inside(path.parent.parent, layout.manifest_file(path.stem))


def read_slice(path: Path) -> pa.Table:
    """Return the rows of one slice. Every page is compared with its checksum, and every value is checked.

    A manifest may be from somebody else, and its values become parts of paths. Raises DatasetError.
    """
    header, table = _read(path)
    _check_values([path], [header], [table.num_rows], table)
    return table


def _read(path: Path) -> tuple[SliceHeader, pa.Table]:
    """Return the header and the rows of one slice. Header and columns are checked, but not yet the values."""
    table = tables.read_table(_inside(path))
    header = _header(path, table.schema.metadata or {})
    more = [field for field in (schema.DEPLOYMENT, *schema.CHOICE) if field.name in table.column_names]
    expected = schema.manifest_schema(more)
    if not table.schema.equals(expected):
        wrong = [field for field in table.schema if field not in expected] or [table.schema.names]
        raise DatasetError(f"{path}: not the columns of a manifest slice ({str(wrong[0])!r:.100})")
    return header, table


def _check_values(paths: list[Path], headers: list[SliceHeader], rows: list[int], table: pa.Table) -> None:
    """Raise DatasetError where ``table`` has a value that no build writes. It has ``rows`` rows of each slice."""
    of_slice = pa.array(np.repeat(np.arange(len(rows)), rows), pa.int32())

    def by_slice(values: list[str]) -> pa.Array:
        return pa.array(values, pa.string()).take(of_slice)

    stems = [header.shard for header in headers]
    is_jpeg = [header.data_format == "jpeg" for header in headers]
    frame_id, is_ok = table.column("frame_id"), pc.equal(table.column("status"), str(Status.OK))
    if any(is_jpeg):
        folders = [
            f"{layout.data_folder(stem)}/" if jpeg else "" for stem, jpeg in zip(stems, is_jpeg, strict=True)
        ]
        ends = [".jpg" if jpeg else layout.data_file(stem) for stem, jpeg in zip(stems, is_jpeg, strict=True)]
        names = pc.if_else(pa.array(is_jpeg).take(of_slice), frame_id, "")
        files = pc.binary_join_element_wise(by_slice(folders), names, by_slice(ends), "")
    else:
        files = by_slice([layout.data_file(stem) for stem in stems])
    timestamp = table.column("timestamp").cast(pa.int64())
    room = {axis: pc.subtract(PERMYRIAD, table.column(f"crop_{size}")) for axis, size in _AXES.items()}
    checks: list[tuple[str, Any]] = [
        ("frame_id", pc.match_substring_regex(frame_id, "^[0-9a-f]{20}$")),
        ("split", pc.equal(table.column("split"), by_slice([split_of_stem(stem) for stem in stems]))),
        ("camera_uuid", _each(table, "camera_uuid", lambda a: pc.match_substring_regex(a, UUID_PATTERN))),
        ("timestamp", pc.and_(pc.greater_equal(timestamp, 0), pc.less(timestamp, _LATEST_MS))),
        ("timezone", _each(table, "timezone", lambda a: pc.match_substring_regex(a, _ZONE))),
        ("downscale", pc.greater(table.column("downscale"), 0)),
        *((f"crop_{axis}", pc.greater_equal(table.column(f"crop_{axis}"), 0)) for axis in _AXES),
        *((f"crop_{axis}", pc.less_equal(table.column(f"crop_{axis}"), room[axis])) for axis in _AXES),
        *((f"crop_{size}", pc.greater(table.column(f"crop_{size}"), 0)) for size in _AXES.values()),
        ("status", pc.is_in(table.column("status"), pa.array([str(status) for status in Status]))),
        *((name, pc.is_valid(table.column(name))) for name in ("camera_name", "view")),
    ]
    # The others are null where there is no image.
    optional = [
        ("file", pc.equal(table.column("file"), files)),
        ("row", pc.greater_equal(table.column("row"), 0)),
        *((name, pc.greater(table.column(name), 0)) for name in ("width", "height")),
        *((name, pc.is_finite(table.column(name))) for name in ("luma", "sharpness")),
        ("dhash", pc.match_substring_regex(table.column("dhash"), "^[0-9a-f]{16}$")),
        ("sha256", pc.match_substring_regex(table.column("sha256"), "^[0-9a-f]{64}$")),
    ]
    no_image = pc.invert(is_ok)
    checks += [(name, pc.coalesce(is_right, no_image)) for name, is_right in optional]
    checks.append(("mime_type", pc.or_(pc.is_valid(table.column("mime_type")), no_image)))
    checks.append(("reason", pc.or_(pc.is_valid(table.column("reason")), is_ok)))
    if "score" in table.column_names:
        checks.append(("score", pc.is_finite(table.column("score"))))
    for name, is_right in checks:
        place = pc.index(pc.fill_null(is_right, False), False).as_py()
        if place >= 0:
            value = table.column(name)[place]
            shown = value.value if name == "timestamp" else value.as_py()
            path = paths[of_slice[place].as_py()]
            raise DatasetError(f"{path}: {name} has a value that no build writes ({shown!r:.100})")


def _each(table: pa.Table, column: str, check: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    """Return ``check`` of the values of a column that has few different ones."""
    encoded = table.column(column).combine_chunks().dictionary_encode()
    return check(encoded.dictionary).take(encoded.indices)


def read_statuses(path: Path) -> npt.NDArray[np.str_]:
    """Return the status of each row of a slice, without reading other columns. Raises DatasetError."""
    table = tables.read_table(_inside(path), ["status"])
    if table.num_columns != 1 or table.schema.field(0).type != pa.string():
        raise DatasetError(f"{path}: expected one column status of texts")
    statuses = np.asarray(table.column(0).to_pylist(), np.str_)
    if unknown := set(np.unique(statuses).tolist()) - set(map(str, Status)):
        raise DatasetError(f"{path}: unknown status {min(unknown)!r:.60}")
    return statuses


def slice_bytes(table: pa.Table) -> bytes:
    """Return the content of the file that this pyarrow writes for the rows of :func:`read_slice`."""
    return tables.table_bytes(table, tables.MANIFEST)


def slice_paths(dataset: Path) -> list[Path]:
    """Return the paths of the committed slices, sorted by name."""
    return sorted(folder_inside(dataset, layout.MANIFEST_FOLDER).glob("[!.]*.parquet"))


def pending_rewrites(dataset: Path) -> list[Path]:
    """Return the folders of rewritten shards that are complete but not all moved to their final place."""
    folder = folder_inside(dataset, layout.REWRITE_FOLDER)
    return sorted(path.parent for path in folder.glob(f"*/{layout.READY_FILE}") if not path.parent.is_symlink())


def read_manifest(dataset: Path, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of all committed slices, in the order of the schedule.

    Raises DatasetError if there is no slice, or one is damaged.
    """
    table, _ = read_manifest_and_headers(dataset)
    return table.select(columns or table.column_names)


def read_manifest_and_headers(dataset: Path) -> tuple[pa.Table, list[SliceHeader]]:
    """Return the rows of all committed slices and their headers. Order and errors as in :func:`read_manifest`."""
    paths = slice_paths(dataset)
    if not paths:
        raise DatasetError(
            f"{dataset}: no dataset here (no {layout.MANIFEST_FOLDER}/*.parquet). "
            "Expected a folder that `rhombus-dataset build` wrote."
        )
    slices = [_read(path) for path in paths]
    try:
        table = pa.concat_tables([part.replace_schema_metadata(None) for _, part in slices])
    except pa.ArrowException as error:
        raise DatasetError(f"{dataset}: its slices have different columns ({tables.short(error)})") from None
    headers = [header for header, _ in slices]
    # All rows at once: each check has a cost of its own.
    _check_values(paths, headers, [part.num_rows for _, part in slices], table)
    return table, headers


def fingerprint(headers: list[SliceHeader]) -> str:
    """Return 16 hex digits of the SHA-256 of the headers of all slices. They identify the dataset's content."""
    digest = hashlib.sha256()
    for header in headers:
        digest.update(f"{header.shard} {header.data_sha256} {header.content_sha256}\n".encode())
    return digest.hexdigest()[:16]


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
