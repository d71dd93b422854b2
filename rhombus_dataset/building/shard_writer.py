"""One shard, from what was received for it to its committed files.

A shard is its data (``data/train-00000-of-00012.parquet``, or a folder of JPEG files of that name) and
its manifest slice, written last: a shard counts once its slice stands.
"""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.frame import Status
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import images, layout, manifest, schema
from rhombus_dataset.store.files import as_storage_error, sha256_of, staged_file, staged_folder
from rhombus_dataset.store.journal import Journal, JournalReader, Record

MAX_FULL_SIDE_PX: Final = 20_000
"""No camera has a longer side: an image that implies one was not cropped or scaled as asked."""


def commit_shard(
    out: Path,
    schedule: Schedule,
    shard: Shard,
    data_format: Literal["parquet", "jpeg"],
    journal: Journal,
) -> collections.Counter[Status]:
    """Write the files of ``shard`` into the dataset folder ``out``; count the outcomes.

    ``journal`` must hold every row of the shard. Memory is bounded by one row group, whatever the
    size of the shard. Raises StorageError.
    """
    with as_storage_error(journal.path), journal.reading() as reading:
        by_row = {record.row: record for record in reading.records()}
        records = [by_row[row] for row in range(shard.start, shard.stop)]
        table = _scalar_table(schedule, shard, records)
        ok = [i for i, record in enumerate(records) if record.frame.status is Status.OK]
        ok_table = table.take(pa.array(ok, pa.int64()))
        ok_records = [records[i] for i in ok]
        if data_format == "parquet":
            name = layout.data_file(shard.stem)
            data_sha256 = _write_parquet(out / name, ok_table, ok_records, reading)
        else:
            name = layout.data_folder(shard.stem)
            data_sha256 = _write_jpegs(out / name, ok_table, ok_records, reading)
    rows = _manifest_table(table, records, name, data_format, _size_warnings(schedule, records))
    for field in schedule.more_fields:
        rows = rows.append_column(field, schedule.more_columns(shard.start, shard.stop)[field.name])
    manifest.write_slice(
        out / layout.manifest_file(shard.stem),
        rows,
        manifest.SliceHeader(
            format_version=schema.FORMAT_VERSION,
            schedule_digest=schedule.digest,
            shard=shard.stem,
            data_format=data_format,
            data_sha256=data_sha256,
            content_sha256=manifest.content_sha256(rows),
        ),
    )
    return collections.Counter(record.frame.status for record in records)


def _scalar_table(schedule: Schedule, shard: Shard, records: list[Record]) -> pa.Table:
    planned = schedule.planned_table(shard.start, shard.stop)
    measures = [record.frame.measures for record in records]
    measured: dict[str, list[Any]] = {
        "width": [m and m.width_px for m in measures],
        "height": [m and m.height_px for m in measures],
        "mime_type": [record.frame.mime_type for record in records],
        "luma": [m and m.luma for m in measures],
        "sharpness": [m and m.sharpness for m in measures],
        "dhash": [m and m.dhash for m in measures],
        "sha256": [record.frame.sha256 for record in records],
    }
    columns = dict(zip(planned.column_names, planned.columns, strict=True))
    return pa.table({**columns, **measured}, schema=pa.schema([*schema.PLANNED, *schema.MEASURED]))


def _manifest_table(
    table: pa.Table,
    records: list[Record],
    data_name: str,
    data_format: str,
    size_warnings: dict[int, str],
) -> pa.Table:
    files: list[str | None] = []
    rows: list[int | None] = []
    warnings: list[str | None] = []
    count = 0
    for frame_id, record in zip(table.column("frame_id").to_pylist(), records, strict=True):
        said = [w for w in (record.frame.warning, size_warnings.get(record.row)) if w]
        warnings.append("; ".join(said) or None)
        if record.frame.status is Status.OK:
            files.append(data_name if data_format == "parquet" else f"{data_name}/{frame_id}.jpg")
            rows.append(count)
            count += 1
        else:
            files.append(None)
            rows.append(None)
    outcome: dict[str, list[Any]] = {
        "status": [record.frame.status.value for record in records],
        "reason": [record.frame.reason for record in records],
        "warning": warnings,
        "file": files,
        "row": rows,
    }
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return pa.table({**columns, **outcome}, schema=schema.manifest_schema())


def _write_parquet(path: Path, table: pa.Table, records: list[Record], reading: JournalReader) -> str:
    data_schema = schema.data_schema()
    with staged_file(path) as staged:
        with images.open_writer(staged, data_schema) as writer:
            for start, stop in images.row_groups([record.stop - record.start for record in records]):
                part = table.slice(start, stop - start)
                names = [f"{frame_id}.jpg" for frame_id in part.column("frame_id").to_pylist()]
                image = _image_column(names, records[start:stop], reading)
                writer.write_table(pa.table([image, *part.columns], schema=data_schema))
        return sha256_of(staged)


def _image_column(names: list[str], records: list[Record], reading: JournalReader) -> pa.Array:
    """The images as Arrow's own buffers, read straight into them from the journal."""
    offsets = np.zeros(len(records) + 1, np.int32)
    np.cumsum([record.stop - record.start for record in records], out=offsets[1:])
    content = np.empty(int(offsets[-1]), np.uint8)
    target = memoryview(content.data)
    bounds = offsets.tolist()
    for record, start, stop in zip(records, bounds[:-1], bounds[1:], strict=True):
        reading.image_into(record, target[start:stop])
    encoded = pa.Array.from_buffers(pa.binary(), len(records), [None, pa.py_buffer(offsets), pa.py_buffer(content)])
    return pa.StructArray.from_arrays([encoded, pa.array(names, pa.string())], fields=list(schema.IMAGE.type))


def _write_jpegs(path: Path, table: pa.Table, records: list[Record], reading: JournalReader) -> str:
    names = [f"{frame_id}.jpg" for frame_id in table.column("frame_id").to_pylist()]
    files: list[tuple[str, str]] = []
    with staged_folder(path) as staged:
        for name, record in zip(names, records, strict=True):
            (staged / name).write_bytes(reading.image_bytes(record))
            files.append((name, record.frame.sha256 or ""))
        pq.write_table(
            table.add_column(0, "file_name", pa.array(names, pa.string())),
            staged / layout.JPEG_METADATA_FILE,
            compression="zstd",
        )
        files.append((layout.JPEG_METADATA_FILE, sha256_of(staged / layout.JPEG_METADATA_FILE)))
    return manifest.folder_sha256(files)


def _size_warnings(schedule: Schedule, records: list[Record]) -> dict[int, str]:
    """Rows whose image was probably not cropped or scaled as asked, and why.

    The full frame's size is not known. But every image implies a range for it, and the ranges of one
    camera's images should share a size; those that disagree with most are told.
    """
    sizes: dict[str, dict[tuple[Geometry, int, int], list[int]]] = {}
    for record in records:
        m = record.frame.measures
        if m is not None:
            request = schedule.request(record.row)
            kinds = sizes.setdefault(request.camera_uuid, {})
            kinds.setdefault((request.geometry, m.width_px, m.height_px), []).append(record.row)
    warnings: dict[int, str] = {}
    for kinds in sizes.values():
        ranges = {kind: kind[0].full_size_range(kind[1], kind[2]) for kind in kinds}
        support = {
            kind: sum(len(kinds[other]) for other in kinds if _agree(ranges[kind], ranges[other])) for kind in kinds
        }
        usual = max(support, key=lambda kind: support[kind])
        for kind, rows in kinds.items():
            wide, high = ranges[kind]
            if max(wide.start, high.start) > MAX_FULL_SIDE_PX:
                said = f"larger than any camera's: implies a full frame {wide.start} px wide or more"
            elif not _agree(ranges[kind], ranges[usual]):
                said = "does not fit the crop and downscale of the camera's other pictures"
            else:
                continue
            warnings.update(dict.fromkeys(rows, f"{schema.SIZE_WARNING} {kind[1]} x {kind[2]} {said}"))
    return warnings


def _agree(a: tuple[range, range], b: tuple[range, range]) -> bool:
    return all(x.start < y.stop and y.start < x.stop for x, y in zip(a, b, strict=True))
