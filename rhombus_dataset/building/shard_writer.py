"""Write the files of one shard from its journal.

A shard is its data (``data/train-00000-of-00012.parquet``, or a folder of JPEG files of that name) and its manifest
slice. The slice is written last: a shard is committed once its slice exists.
"""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from rhombus_dataset.frame import Status
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import data_files, layout, manifest, schema
from rhombus_dataset.store.files import as_storage_error
from rhombus_dataset.store.journal import Journal, Record

MAX_FULL_SIDE_PX: Final = 20_000
"""Longest side of a full frame in pixels. No camera has a longer one: an image that implies it has another crop or
scale than requested."""


def commit_shard(
    out: Path,
    schedule: Schedule,
    shard: Shard,
    journal: Journal,
) -> collections.Counter[Status]:
    """Write the files of ``shard`` into the dataset folder ``out``. Return its rows by status.

    ``journal`` must hold every row of the shard. Memory is bounded by one row group of images. Raises StorageError.
    """
    data_format = schedule.data_format
    with as_storage_error(journal.path), journal.reading() as reading:
        by_row = {record.row: record for record in reading.records()}
        records = [by_row[row] for row in range(shard.start, shard.stop)]
        table = _scalar_table(schedule, shard, records)
        ok = [i for i, record in enumerate(records) if record.frame.status is Status.OK]
        ok_table = table.take(pa.array(ok, pa.int64()))
        ok_records = [records[i] for i in ok]
        if data_format == "parquet":
            name = layout.data_file(shard.stem)
            data_sha256 = data_files.write_parquet(out / name, ok_table, ok_records, reading)
        else:
            name = layout.data_folder(shard.stem)
            data_sha256 = data_files.write_jpegs(out / name, ok_table, ok_records, reading)
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
        texts = [w for w in (record.frame.warning, size_warnings.get(record.row)) if w]
        warnings.append("; ".join(texts) or None)
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


def _size_warnings(schedule: Schedule, records: list[Record]) -> dict[int, str]:
    """Return a warning for each row whose image probably has another crop or scale than requested.

    The size of the full frame is not known, but every image implies a range for it. The ranges of one camera's
    images should have a size in common. Images whose range does not fit that of most others get a warning.
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
                problem = f"larger than any camera's: implies a full frame {wide.start} px wide or more"
            elif not _agree(ranges[kind], ranges[usual]):
                problem = "does not fit the crop and downscale of the camera's other pictures"
            else:
                continue
            warnings.update(dict.fromkeys(rows, f"{schema.SIZE_WARNING} {kind[1]} x {kind[2]} {problem}"))
    return warnings


def _agree(a: tuple[range, range], b: tuple[range, range]) -> bool:
    return all(x.start < y.stop and y.start < x.stop for x, y in zip(a, b, strict=True))
