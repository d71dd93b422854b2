"""Checks of one shard: its manifest slice, its data file or folder, and every image."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.frame import Status
from rhombus_dataset.imaging import jpeg
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.quality.problems import DatasetProblem
from rhombus_dataset.store import layout, manifest, schema, tables
from rhombus_dataset.store.data_files import DataFile
from rhombus_dataset.store.files import folder_inside, inside, sha256_of
from rhombus_dataset.store.images import read_jpeg

_PLANNED = [field.name for field in schema.PLANNED]
_SCALARS = [field.name for field in (*schema.PLANNED, *schema.MEASURED)]
_NAMES = ("camera_name", "location", "view")
"""Columns that the digest does not cover: a plan may rename cameras and views between two runs of a build."""
_IMAGE_COLUMNS = ["frame_id", "sha256", "width", "height", "luma", "sharpness", "dhash"]


class ShardCheck:
    """The check of one shard. After :meth:`run`, ``problems`` lists what is wrong; ``rows`` and ``images`` count
    what was checked. Memory is bounded by one row group of images."""

    def __init__(self, folder: Path, schedule: Schedule, shard: Shard, pool: concurrent.futures.Executor) -> None:
        self.problems: list[DatasetProblem] = []
        self.rows = 0
        self.images = 0
        self._folder = folder
        self._schedule = schedule
        self._shard = shard
        self._pool = pool

    def run(self) -> None:
        """Check the manifest slice, and if its rows can be trusted, the data."""
        name = layout.manifest_file(self._shard.stem)
        path = self._folder / name
        try:
            header = manifest.read_header(path)
            table = manifest.read_slice(path)
        except DatasetError as error:
            self._problem(name, f"damaged: {error}")
            return
        self.rows += table.num_rows
        if not self._is_of_the_schedule(name, header, table):
            return
        if tables.is_from_this_pyarrow(path) and not _has_bytes(path, manifest.slice_bytes(table)):
            self._problem(name, "its bytes are not those that this version of pyarrow writes for its rows")
        self._check_planned_columns(name, table)
        if manifest.content_sha256(table) != header.content_sha256:
            self._problem(name, f"its rows do not have the content_sha256 of its header, {header.content_sha256}")
        self._check_outcomes(name, table)
        ok = table.filter(pc.equal(table.column("status"), str(Status.OK)))
        of_format, other = layout.data_file(self._shard.stem), layout.data_folder(self._shard.stem)
        if header.data_format == "jpeg":
            of_format, other = other, of_format
        if os.path.lexists(self._folder / other):
            self._problem(other, f"not part of the dataset: the images of the shard are in {of_format}")
        try:
            if header.data_format == "parquet":
                self._check_parquet(header, ok)
            else:
                self._check_jpegs(header, ok)
        except (OSError, pa.ArrowException, DatasetError) as error:
            self._problem(of_format, f"damaged: {tables.short(error)}")

    def _is_of_the_schedule(self, name: str, header: manifest.SliceHeader, table: pa.Table) -> bool:
        """Return whether the slice has the digest, the number of rows and the columns of the schedule."""
        planned = self._shard.stop - self._shard.start
        columns = schema.manifest_schema(self._schedule.more_fields).names
        if header.schedule_digest != self._schedule.digest:
            self._problem(
                name, f"is of another schedule: digest {header.schedule_digest}, expected {self._schedule.digest}"
            )
        elif table.num_rows != planned:
            self._problem(name, f"{table.num_rows} rows, expected {planned}")
        elif table.schema.names != columns:
            self._problem(name, f"columns {table.schema.names}, expected {columns}")
        else:
            return True
        return False

    def _check_planned_columns(self, name: str, table: pa.Table) -> None:
        start, stop = self._shard.start, self._shard.stop
        more = self._schedule.more_columns(start, stop)
        if any(table.column(column).to_pylist() != values.to_pylist() for column, values in more.items()):
            self._problem(name, "the deployments of its frames, or why they were chosen, differ from the lock")
        planned = self._schedule.planned_table(start, stop)
        if not table.select(_PLANNED).replace_schema_metadata(None).equals(planned):
            fixed = [column for column in _PLANNED if column not in _NAMES]
            if not table.select(fixed).replace_schema_metadata(None).equals(planned.select(fixed)):
                self._problem(name, "its rows are not those of the schedule")

    def _check_outcomes(self, name: str, table: pa.Table) -> None:
        count = 0
        known = set(map(str, Status))
        for row in table.select(["frame_id", "status", "reason", "file", "row", "sha256"]).to_pylist():
            frame, status = f"frame {row['frame_id']}", row["status"]
            if status not in known:
                self._problem(name, f"{frame}: unknown status {status!r}")
            elif status == Status.OK:
                if row["row"] != count or row["file"] is None or row["sha256"] is None:
                    self._problem(name, f"{frame}: status ok, but file, row or sha256 of its image is wrong")
                count += 1
            elif row["reason"] is None:
                self._problem(name, f"{frame}: status {status}, but no reason")
            elif row["file"] is not None:
                self._problem(name, f"{frame}: status {status}, but an image ({row['file']})")

    def _check_parquet(self, header: manifest.SliceHeader, ok: pa.Table) -> None:
        name = layout.data_file(self._shard.stem)
        path = inside(self._folder, name)
        if not path.is_file():
            self._problem(name, "missing, although its manifest slice exists")
            return
        found = sha256_of(path)
        if found != header.data_sha256:
            self._problem(name, f"sha256 {found}, expected {header.data_sha256}")
        with DataFile(path) as file:
            self._check_row_groups(name, file, ok)

    def _check_row_groups(self, name: str, file: DataFile, ok: pa.Table) -> None:
        if (count := sum(file.rows())) != ok.num_rows:
            self._problem(name, f"{count} rows, expected {ok.num_rows}")
            return
        if not file.schema.equals(schema.data_schema(), check_metadata=True):
            self._problem(name, "its schema is not that of a data file")
            return
        start = 0
        expected = ok.select(_SCALARS).replace_schema_metadata(None)
        for group in range(len(file.rows())):
            part = file.read(group)
            part.validate(full=True)
            if not part.select(_SCALARS).replace_schema_metadata(None).equals(expected.slice(start, part.num_rows)):
                self._problem(name, f"row group {group}: its columns differ from the manifest")
            images = ((value.as_py() or {}).get("bytes") for value in part.column("image"))
            self._check_images(name, ok.slice(start, part.num_rows), images)
            start += part.num_rows

    def _check_jpegs(self, header: manifest.SliceHeader, ok: pa.Table) -> None:
        name = layout.data_folder(self._shard.stem)
        folder = folder_inside(self._folder, name)
        if not folder.is_dir():
            self._problem(name, "missing, although its manifest slice exists")
            return
        ids = ok.column("frame_id").to_pylist()
        expected = {layout.JPEG_METADATA_FILE, *(f"{frame_id}.jpg" for frame_id in ids)}
        present = {path.name for path in folder.iterdir()}
        for file in sorted(present):
            inside(self._folder, f"{name}/{file}")
        for missing in sorted(expected - present):
            self._problem(f"{name}/{missing}", "missing")
        for extra in sorted(present - expected):
            # Building the shard again would not remove it.
            self.problems.append(DatasetProblem(f"{name}/{extra}", "not part of the dataset"))
        found = manifest.folder_sha256([(file, sha256_of(folder / file)) for file in expected & present])
        if expected <= present and found != header.data_sha256:
            self._problem(name, f"sha256 of its files {found}, expected {header.data_sha256}")
        there = [i for i, frame_id in enumerate(ids) if f"{frame_id}.jpg" in present]
        images = (read_jpeg(folder / f"{ids[i]}.jpg") for i in there)
        self._check_images(name, ok.take(pa.array(there, pa.int64())), images)

    def _check_images(self, name: str, rows: pa.Table, images: Iterator[bytes | None]) -> None:
        self.images += rows.num_rows
        messages = self._pool.map(_image_problem, rows.select(_IMAGE_COLUMNS).to_pylist(), images)
        for message in messages:
            if message is not None:
                self._problem(name, message)

    def _problem(self, file: str, message: str) -> None:
        self.problems.append(DatasetProblem(file, message, self._shard.stem))


def _has_bytes(path: Path, expected: bytes) -> bool:
    return path.stat().st_size == len(expected) and path.read_bytes() == expected


def _image_problem(row: dict[str, Any], image: bytes | None) -> str | None:
    """Return what is wrong with an image whose manifest row is ``row``, or None."""
    frame = f"frame {row['frame_id']}"
    if image is None:
        return f"{frame}: no image"
    sha256 = hashlib.sha256(image).hexdigest()
    if sha256 != row["sha256"]:
        return f"{frame}: sha256 {sha256}, expected {row['sha256']}"
    try:
        m = jpeg.measure(image)
    except jpeg.DamagedImage as error:
        return f"{frame}: {error}"
    found = (m.width_px, m.height_px, m.luma, m.sharpness, m.dhash)
    expected = (row["width"], row["height"], row["luma"], row["sharpness"], row["dhash"])
    if found != expected:
        return f"{frame}: width, height, luma, sharpness and dhash are {found}, expected {expected}"
    return None
