"""Every hash, count and image of a dataset, checked again."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from rhombus_dataset.cards.readme import card_texts
from rhombus_dataset.dataset import read_duplicates
from rhombus_dataset.errors import DatasetError, RhombusDatasetError
from rhombus_dataset.frame import Status
from rhombus_dataset.imaging import jpeg
from rhombus_dataset.imaging.threads import single_threaded
from rhombus_dataset.planning.erasures import Erasure, erased_rows, read_erasures
from rhombus_dataset.planning.lock import load_lock
from rhombus_dataset.planning.rounds import rounds
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.quality.duplicates import cross_split_duplicates, find_duplicates
from rhombus_dataset.scout.picks import content_sha256, select_frames
from rhombus_dataset.store import layout, manifest, schema
from rhombus_dataset.store.annotations import annotation_paths, read_annotation_file
from rhombus_dataset.store.files import sha256_of
from rhombus_dataset.store.layout import BUILD_FOLDER, SCOUT_FOLDER
from rhombus_dataset.store.manifest import pending_rewrites


@dataclass(frozen=True, slots=True)
class DatasetProblem:
    """One thing that is not as it should be; ``file`` is relative to the dataset.

    ``shard`` names the shard that is damaged by it, if one is.
    """

    file: str
    message: str
    shard: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked, and every fault that was found."""

    problems: tuple[DatasetProblem, ...]
    shards: int
    rows: int
    images: int
    repaired: tuple[str, ...] = ()
    """Shards that have gone back to "not yet built"; ``kept`` and ``lost`` count their rows."""
    kept: int = 0
    lost: int = 0
    twins: tuple[dict[str, Any], ...] | None = None
    """Frames with a near-duplicate in another split; None where faults left it open."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "problems": [asdict(p) for p in self.problems], "ok": not self.problems}

    def to_text(self) -> str:
        """For a terminal."""
        checked = f"checked {self.shards} shards, {self.rows:,} rows, {self.images:,} images"
        if not self.problems:
            lines = [f"{checked}: all as it should be"]
            if self.twins:
                lines.append(f"warning: {len(self.twins):,} frames have a near-twin in another split, such as")
                lines += [
                    f"  {t['frame_id']} of {t['split']}: {t['twin']} of {t['twin_split']}, "
                    f"{t['apart_ms'] / 1000:g} s before"
                    for t in self.twins[:3]
                ]
            return "\n".join(lines)
        lines = [f"{checked}: {len(self.problems)} faults", *(f"  {p}" for p in self.problems)]
        if self.repaired:
            lines.append(
                f"{len(self.repaired)} shards are to be built again: {self.kept:,} of their rows are kept, "
                f"{self.lost:,} will be asked for. Run the build again."
            )
        return "\n".join(lines)


def verify(dataset: str | Path) -> VerifyReport:
    """Check the dataset in a folder against its own lock, manifest and hashes.

    The schedule is computed from the lock again. Every manifest slice must hold its rows and be written as
    this pyarrow writes them; every data file must have its sha256; every image its own, and the
    measures that are on record. Memory is bounded by a row group of images.

    Raises DatasetError where there is no dataset at all.
    """
    folder = Path(dataset)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    with single_threaded():
        return _Verifying(folder).report()


class _Verifying:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._faults: list[DatasetProblem] = []
        self._rows = 0
        self._images = 0
        self._shards = 0
        self._shard: str | None = None  # what is being checked
        self._erased: list[Erasure] = []
        self._twins: tuple[dict[str, Any], ...] | None = None

    def report(self) -> VerifyReport:
        try:
            schedules = rounds(self._folder, load_lock(self._folder))
        except DatasetError as error:
            if not (self._folder / layout.LOCK_FILE).exists():
                raise
            self._faults.append(DatasetProblem(layout.LOCK_FILE, str(error)))
        except RhombusDatasetError as error:
            self._faults.append(DatasetProblem(layout.LOCK_FILE, f"no schedule can be made from it: {error}"))
        else:
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                self._check(schedules, pool)
            self._scout_pass()
        return VerifyReport(tuple(self._faults), self._shards, self._rows, self._images, twins=self._twins)

    def _check(self, schedules: list[Schedule], pool: concurrent.futures.Executor) -> None:
        try:
            self._erased = read_erasures(self._folder)
        except DatasetError as error:
            self._erased = []
            self._fault(layout.ERASED_FILE, str(error))
        if pending := pending_rewrites(self._folder):
            names = ", ".join(path.name for path in pending[:3])
            self._fault(BUILD_FOLDER, f"shards were being replaced ({names}): run the build again to finish it")
        shards = [(schedule, shard) for schedule in schedules for shard in schedule.shards]
        missing = [
            shard.stem for _, shard in shards if not (self._folder / layout.manifest_file(shard.stem)).exists()
        ]
        if missing:
            self._fault(
                layout.MANIFEST_FOLDER,
                f"{len(missing)} of {len(shards)} shards are not there ({', '.join(missing[:3])}"
                f"{', ...' if len(missing) > 3 else ''}): run the build again",
            )
        for schedule, shard in shards:
            if shard.stem not in missing:
                self._shards += 1
                self._shard = shard.stem
                self._slice(schedule, shard, pool)
                self._shard = None
                self._erasures(schedule, shard)
        self._unexpected_files({shard.stem for _, shard in shards})
        self._texts(complete=not missing)

    def _scout_pass(self) -> None:
        """The pass that the frames were chosen from, if it is kept, and that they are what is chosen from it."""
        folder = self._folder / SCOUT_FOLDER
        if not (folder / layout.LOCK_FILE).exists():
            return
        report = _Verifying(folder).report()
        self._shards += report.shards
        self._rows += report.rows
        self._images += report.images
        for fault in report.problems:
            shard = None if fault.shard is None else f"{SCOUT_FOLDER}/{fault.shard}"
            self._faults.append(DatasetProblem(f"{SCOUT_FOLDER}/{fault.file}", fault.message, shard))
        lock = load_lock(self._folder)
        # Frames that were erased, or came later, would change the choice, which stands.
        if report.problems or lock.scout is None or content_sha256(folder) != lock.scout["content_sha256"]:
            return
        if select_frames(folder, lock.sampling, lock.seed, lock.splits).times != lock.times:
            self._fault(layout.LOCK_FILE, f"its frames are not those that are chosen from {SCOUT_FOLDER}/")

    def _slice(self, schedule: Schedule, shard: Shard, pool: concurrent.futures.Executor) -> None:
        name = layout.manifest_file(shard.stem)
        path = self._folder / name
        try:
            header = manifest.read_header(path)
            table = manifest.read_slice(path)
        except DatasetError as error:
            self._fault(name, f"damaged: {error}")
            return
        self._rows += table.num_rows
        if header.schedule_digest != schedule.digest:
            self._fault(name, f"of another schedule: {header.schedule_digest}, expected {schedule.digest}")
            return
        if _is_by_this_pyarrow(path) and manifest.slice_bytes(table) != path.read_bytes():
            self._fault(name, "its bytes are not those that its rows are written as")
        planned = schedule.planned_table(shard.start, shard.stop)
        columns = [field.name for field in schema.PLANNED]
        if table.num_rows != shard.stop - shard.start:
            self._fault(name, f"{table.num_rows} rows, expected {shard.stop - shard.start}")
            return
        expected = schema.manifest_schema(schedule.more_fields).names
        if table.schema.names != expected:
            self._fault(name, f"columns {table.schema.names}, expected {expected}")
            return
        more = schedule.more_columns(shard.start, shard.stop)
        if any(table.column(column).to_pylist() != values.to_pylist() for column, values in more.items()):
            self._fault(name, "its deployments, or what its frames were chosen for, are not those of the lock")
        if not table.select(columns).replace_schema_metadata(None).equals(planned):
            # Names are not part of the digest: a plan whose names changed half-way may differ there.
            fixed = [c for c in columns if c not in ("camera_name", "location", "view")]
            if not table.select(fixed).replace_schema_metadata(None).equals(planned.select(fixed)):
                self._fault(name, "its rows are not those of the schedule")
        if manifest.content_sha256(table) != header.content_sha256:
            self._fault(name, "its rows do not have the content_sha256 that its header names")
        self._statuses(name, table)
        if header.data_format == "parquet":
            self._parquet(shard, header, table, pool)
        else:
            self._jpegs(shard, header, table, pool)

    def _statuses(self, name: str, table: pa.Table) -> None:
        count = 0
        known = set(map(str, Status))
        for row in table.select(["frame_id", "status", "reason", "file", "row", "sha256"]).to_pylist():
            said = f"frame {row['frame_id']}"
            if row["status"] not in known:
                self._fault(name, f"{said}: unknown status {row['status']!r}")
            elif row["status"] == Status.OK:
                if row["row"] != count or row["file"] is None or row["sha256"] is None:
                    self._fault(name, f"{said}: ok, but it does not say which image is its own")
                count += 1
            elif row["reason"] is None or row["file"] is not None:
                self._fault(name, f"{said}: {row['status']}, but without a reason, or with an image")

    def _parquet(
        self,
        shard: Shard,
        header: manifest.SliceHeader,
        table: pa.Table,
        pool: concurrent.futures.Executor,
    ) -> None:
        name = layout.data_file(shard.stem)
        path = self._folder / name
        if not path.is_file():
            self._fault(name, "missing, though its manifest slice stands")
            return
        found = sha256_of(path)
        if found != header.data_sha256:
            self._fault(name, f"sha256 {found}, expected {header.data_sha256}")
        try:
            with pq.ParquetFile(path) as file:
                ok = table.filter(pa.compute.equal(table.column("status"), str(Status.OK)))
                if file.metadata.num_rows != ok.num_rows:
                    self._fault(name, f"{file.metadata.num_rows} rows, expected {ok.num_rows}")
                    return
                if not file.schema_arrow.equals(schema.data_schema(), check_metadata=True):
                    self._fault(name, "its schema is not that of a data file")
                    return
                at = 0
                for group in range(file.num_row_groups):
                    part = file.read_row_group(group)
                    rows = ok.slice(at, part.num_rows)
                    at += part.num_rows
                    scalars = [f.name for f in (*schema.PLANNED, *schema.MEASURED)]
                    if (
                        not part.select(scalars)
                        .replace_schema_metadata(None)
                        .equals(rows.select(scalars).replace_schema_metadata(None))
                    ):
                        self._fault(name, f"row group {group}: its columns are not the manifest's")
                    images = (value["bytes"].as_py() for value in part.column("image"))
                    self._check_images(name, rows, images, pool)
        except (OSError, pa.ArrowException) as error:
            self._fault(name, f"damaged: {str(error).splitlines()[0][:160]}")

    def _jpegs(
        self,
        shard: Shard,
        header: manifest.SliceHeader,
        table: pa.Table,
        pool: concurrent.futures.Executor,
    ) -> None:
        name = layout.data_folder(shard.stem)
        folder = self._folder / name
        if not folder.is_dir():
            self._fault(name, "missing, though its manifest slice stands")
            return
        ok = table.filter(pa.compute.equal(table.column("status"), str(Status.OK)))
        expected = {f"{frame_id}.jpg" for frame_id in ok.column("frame_id").to_pylist()}
        expected.add(layout.JPEG_METADATA_FILE)
        present = {path.name for path in folder.iterdir()}
        for missing in sorted(expected - present):
            self._fault(f"{name}/{missing}", "missing")
        for extra in sorted(present - expected):
            self._faults.append(DatasetProblem(f"{name}/{extra}", "not part of the dataset"))
        found = manifest.folder_sha256([(n, sha256_of(folder / n)) for n in expected & present])
        if expected <= present and found != header.data_sha256:
            self._fault(name, f"sha256 of its files {found}, expected {header.data_sha256}")
        there = [i for i, f in enumerate(ok.column("frame_id").to_pylist()) if f"{f}.jpg" in present]
        rows = ok.take(pa.array(there, pa.int64()))
        images = ((folder / f"{f}.jpg").read_bytes() for f in rows.column("frame_id").to_pylist())
        self._check_images(name, rows, images, pool)

    def _check_images(
        self,
        name: str,
        rows: pa.Table,
        images: Iterator[bytes | None],
        pool: concurrent.futures.Executor,
    ) -> None:
        self._images += rows.num_rows
        columns = ["frame_id", "sha256", "width", "height", "luma", "sharpness", "dhash"]
        checked = pool.map(_image_fault, rows.select(columns).to_pylist(), images)
        self._faults += [DatasetProblem(name, message, self._shard) for message in checked if message is not None]

    def _unexpected_files(self, stems: set[str]) -> None:
        for folder in (layout.MANIFEST_FOLDER, layout.DATA_FOLDER):
            for path in sorted((self._folder / folder).glob("*")):
                if path.name.removesuffix(".parquet") not in stems:
                    self._fault(f"{folder}/{path.name}", "not part of the dataset")

    def _erasures(self, schedule: Schedule, shard: Shard) -> None:
        gone = erased_rows(self._erased, schedule, shard)
        if not gone.any():
            return
        name = layout.manifest_file(shard.stem)
        with contextlib.suppress(DatasetError):  # told already
            statuses = manifest.read_statuses(self._folder / name)
            if len(statuses) == len(gone) and (statuses[gone] != str(Status.ERASED)).any():
                self._fault(name, "an erasure was interrupted: run the build or the erasure again to finish it")

    def _texts(self, complete: bool) -> None:
        if not (self._folder / layout.PLAN_FILE).is_file():
            self._fault(layout.PLAN_FILE, "missing")
        if not complete:
            return
        self._annotations()
        self._duplicates()
        # Of a damaged manifest no card can be made.
        expected = card_texts(self._folder) if not self._faults else {}
        for name in (layout.CARD_FILE, layout.CROISSANT_FILE):
            path = self._folder / name
            if not path.is_file():
                self._fault(name, "missing: run the build again")
            elif name in expected and path.read_bytes() != expected[name].encode():
                self._fault(
                    name,
                    "not the card of this manifest (changed by hand, or by a run that was killed): build again",
                )

    def _duplicates(self) -> None:
        if self._faults:
            return
        expected = find_duplicates(self._folder)
        try:
            found = read_duplicates(self._folder)
        except DatasetError as error:
            self._fault(layout.DUPLICATES_FILE, str(error))
            return
        if (expected is not None) != (self._folder / layout.DUPLICATES_FILE).exists() or (
            expected is not None and not found.equals(expected)
        ):
            self._fault(layout.DUPLICATES_FILE, "not the duplicates of these images: run the build again")
            return
        self._twins = tuple(cross_split_duplicates(self._folder))

    def _annotations(self) -> None:
        paths = annotation_paths(self._folder)
        if not paths or self._faults:
            return
        known = manifest.read_manifest(self._folder, ["frame_id", "status"])
        known = known.filter(pa.compute.equal(known.column("status"), str(Status.OK))).column("frame_id")
        for path in paths:
            name = str(path.relative_to(self._folder))
            try:
                ids = read_annotation_file(path).column("frame_id")
            except DatasetError as error:
                self._fault(name, str(error))
                continue
            lost = pa.compute.sum(pa.compute.invert(pa.compute.is_in(ids, known))).as_py()
            if lost:
                self._fault(name, f"{lost} annotations are of frames that are not there: import the labels again")

    def _fault(self, file: str, message: str) -> None:
        self._faults.append(DatasetProblem(file, message, self._shard))


def _is_by_this_pyarrow(path: Path) -> bool:
    try:
        return bool(pq.read_metadata(path).created_by == f"parquet-cpp-arrow version {pa.__version__}")
    except UnicodeDecodeError:
        # A damaged name: whoever wrote it, the bytes are not ours.
        return True


def _image_fault(row: dict[str, Any], image: bytes | None) -> str | None:
    said = f"frame {row['frame_id']}"
    if image is None:
        return f"{said}: no image"
    sha256 = hashlib.sha256(image).hexdigest()
    if sha256 != row["sha256"]:
        return f"{said}: sha256 {sha256}, expected {row['sha256']}"
    try:
        m = jpeg.measure(image)
    except jpeg.DamagedImage as error:
        return f"{said}: {error}"
    found = (m.width_px, m.height_px, m.luma, m.sharpness, m.dhash)
    expected = (row["width"], row["height"], row["luma"], row["sharpness"], row["dhash"])
    if found != expected:
        return f"{said}: measures {found}, expected {expected}"
    return None
