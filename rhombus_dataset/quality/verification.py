"""Verification: every hash, count and image of a dataset is checked against its lock and manifest."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from rhombus_dataset.cards.readme import card_texts
from rhombus_dataset.dataset import read_duplicates
from rhombus_dataset.errors import DatasetError, RhombusDatasetError
from rhombus_dataset.frame import Status
from rhombus_dataset.imaging.threads import single_threaded
from rhombus_dataset.planning.erasures import Erasure, erased_rows, read_erasures
from rhombus_dataset.planning.lock import LockedScout
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.rounds import rounds
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.planning.splits import split_names
from rhombus_dataset.quality.duplicates import find_duplicates
from rhombus_dataset.quality.leakage import COLUMNS, NEAR_MS, CrossSplitDuplicates, cross_split_duplicates
from rhombus_dataset.quality.problems import DatasetProblem
from rhombus_dataset.quality.shard_checks import ShardCheck
from rhombus_dataset.quality.text import counted
from rhombus_dataset.scout.picks import content_sha256, select_frames
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.annotations import annotation_paths, read_annotation_file
from rhombus_dataset.store.files import folder_inside, read_small_file
from rhombus_dataset.store.layout import BUILD_FOLDER, SCOUT_FOLDER
from rhombus_dataset.store.manifest import pending_rewrites

_THREADS: Final = 2
"""Threads that check images. Decoding releases Python's lock; more threads than 2 would wait for the disk."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked, and every problem that was found."""

    problems: tuple[DatasetProblem, ...]
    shards: int
    rows: int
    images: int
    repaired: tuple[str, ...] = ()
    """Shards that were reset to "not built yet". ``kept`` and ``lost`` count their rows."""
    kept: int = 0
    lost: int = 0
    cross_split_duplicates: tuple[CrossSplitDuplicates, ...] | None = None
    """Look-alikes across every two splits. None where problems prevented the comparison."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**asdict(self), "problems": [asdict(p) for p in self.problems], "ok": not self.problems}

    def to_text(self) -> str:
        """Return the report as lines for a terminal."""
        checked = f"{counted(self.shards, 'shard')}, {counted(self.images, 'image')}"
        if not self.problems:
            return "\n".join([f"verify: no problems found in {checked}", *self._leakage()])
        lines = [f"verify: {counted(len(self.problems), 'problem')} found in {checked}"]
        lines += [f"  {problem}" for problem in self.problems]
        if self.repaired:
            lines.append(
                f"repaired: {counted(len(self.repaired), 'shard')} will be built again: {self.kept:,} of the rows "
                f"are kept, {self.lost:,} will be fetched again. Run the build again."
            )
        return "\n".join(lines)

    def _leakage(self) -> Iterator[str]:
        """Yield a warning for look-alikes that are near in time or have the same bytes, with examples.

        Other look-alikes are a note: a still scene has many, without a mistake in the splits.
        """
        for pair in self.cross_split_duplicates or ():
            is_warning = any(side.near_in_time or side.same_bytes for side in pair.sides)
            kind = "warning" if is_warning else "note"
            for side in pair.sides:
                if side.look_alikes:
                    frames = f"{side.look_alikes:,} of {counted(side.frames, 'frame')} of split {side.split}"
                    yield (
                        f"{kind}: {frames} have a look-alike in split {side.other} ({side.near_in_time:,} within "
                        f"{NEAR_MS // 1000} s, {side.same_bytes:,} with the same bytes)"
                    )
            for one in pair.examples if is_warning else ():
                likeness = "same bytes" if one["same_bytes"] else f"{one['differing_bits']} of 64 hash bits differ"
                yield (
                    f"  {one['frame_id']} ({one['split']}) and {one['other_frame_id']} ({one['other_split']}): "
                    f"{likeness}, {one['apart_ms'] / 1000:g} s apart"
                )


def verify_dataset(dataset: str | Path) -> VerifyReport:
    """Check the dataset in a folder against its own lock, manifest and hashes, and return what was found.

    The schedule is computed from the lock again. Every manifest slice must have the rows of the schedule and the
    bytes that this version of pyarrow writes for them. Every data file must have its sha256. Every image must have
    its sha256 and its recorded measures. Memory is bounded by one row group of images.

    Raises DatasetError if the folder has no dataset at all.
    """
    folder = Path(dataset)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    with single_threaded():
        return _Verification(folder).report()


class _Verification:
    """Checks one dataset, and collects the problems in the order of the checks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._problems: list[DatasetProblem] = []
        self._rows = 0
        self._images = 0
        self._shards = 0
        self._cross_split: tuple[CrossSplitDuplicates, ...] | None = None

    def report(self) -> VerifyReport:
        try:
            schedules = rounds(self._folder, load_lock(self._folder))
        except DatasetError as error:
            if not (self._folder / layout.LOCK_FILE).exists():
                raise
            self._problem(layout.LOCK_FILE, str(error))
        except RhombusDatasetError as error:
            self._problem(layout.LOCK_FILE, f"no schedule can be computed from it: {error}")
        else:
            self._check_shards(schedules)
            self._check_scout_pass()
        return VerifyReport(
            tuple(self._problems),
            self._shards,
            self._rows,
            self._images,
            cross_split_duplicates=self._cross_split,
        )

    def _check_shards(self, schedules: list[Schedule]) -> None:
        erasures = self._read_erasures()
        pending: list[Path] = []
        with self._reported(layout.REWRITE_FOLDER):
            pending = pending_rewrites(self._folder)
        if pending:
            names = ", ".join(path.name for path in pending[:3])
            self._problem(BUILD_FOLDER, f"replacing shards ({names}) was interrupted: run the build again")
        shards = [(schedule, shard) for schedule in schedules for shard in schedule.shards]
        missing = [
            shard.stem for _, shard in shards if not (self._folder / layout.manifest_file(shard.stem)).exists()
        ]
        if missing:
            more = ", ..." if len(missing) > 3 else ""
            self._problem(
                layout.MANIFEST_FOLDER,
                f"{len(missing):,} of {counted(len(shards), 'shard')} missing ({', '.join(missing[:3])}{more}): "
                "run the build again",
            )
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            for schedule, shard in shards:
                if shard.stem not in missing:
                    check = ShardCheck(self._folder, schedule, shard, pool)
                    check.run()
                    self._shards += 1
                    self._rows += check.rows
                    self._images += check.images
                    self._problems += check.problems
                    self._check_erasures(erasures, schedule, shard)
        self._check_unexpected_files({shard.stem for _, shard in shards})
        self._check_other_files(schedules, complete=not missing)

    def _read_erasures(self) -> list[Erasure]:
        try:
            return read_erasures(self._folder)
        except DatasetError as error:
            self._problem(layout.ERASED_FILE, str(error))
            return []

    def _check_erasures(self, erasures: list[Erasure], schedule: Schedule, shard: Shard) -> None:
        erased = erased_rows(erasures, schedule, shard)
        if not erased.any():
            return
        name = layout.manifest_file(shard.stem)
        with contextlib.suppress(DatasetError):  # ShardCheck has reported it
            statuses = manifest.read_statuses(self._folder / name)
            if len(statuses) == len(erased) and (statuses[erased] != str(Status.ERASED)).any():
                self._problem(
                    name, "an erasure was interrupted: run the build or the same erasure again to finish it"
                )

    def _check_unexpected_files(self, stems: set[str]) -> None:
        for folder in layout.FOLDERS:
            with self._reported(folder):
                paths = sorted(folder_inside(self._folder, folder).glob("*"))
                if folder in (layout.MANIFEST_FOLDER, layout.DATA_FOLDER):
                    for path in paths:
                        if path.name.removesuffix(".parquet") not in stems:
                            self._problem(f"{folder}/{path.name}", "not part of the dataset")

    def _check_other_files(self, schedules: list[Schedule], *, complete: bool) -> None:
        if self._content(layout.PLAN_FILE) is None:
            self._problem(layout.PLAN_FILE, "missing")
        if not complete:
            return
        with self._reported(layout.ANNOTATIONS_FOLDER):
            self._check_annotations()
        self._check_duplicates()
        # A card cannot be computed from a damaged manifest.
        expected = card_texts(self._folder) if not self._problems else {}
        for name in (layout.CARD_FILE, layout.CROISSANT_FILE):
            content = self._content(name)
            if content is None:
                self._problem(name, "missing: run the build again")
            elif name in expected and content != expected[name].encode():
                self._problem(
                    name,
                    "not the card of this manifest (edited by hand, or a run was killed): run the build again",
                )

    def _content(self, name: str) -> bytes | None:
        """Return the content of a small file, or None if it does not exist or a problem was noted."""
        with self._reported(name), contextlib.suppress(FileNotFoundError):
            return read_small_file(self._folder, name)
        return None

    @contextlib.contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        """Note a DatasetError of the block as a problem of the file or folder ``name``."""
        try:
            yield
        except DatasetError as error:
            self._problem(name, str(error))

    def _check_annotations(self) -> None:
        paths = annotation_paths(self._folder)
        if not paths or self._problems:
            return
        known = manifest.read_manifest(self._folder, ["frame_id", "status"])
        known = known.filter(pc.equal(known.column("status"), str(Status.OK))).column("frame_id")
        for path in paths:
            name = str(path.relative_to(self._folder))
            try:
                ids = read_annotation_file(path).column("frame_id")
            except DatasetError as error:
                self._problem(name, str(error))
                continue
            unknown = pc.sum(pc.invert(pc.is_in(ids, known))).as_py()
            if unknown:
                what = counted(unknown, "annotation is", "annotations are")
                self._problem(name, f"{what} of frames that the dataset does not have: import the labels again")

    def _check_duplicates(self) -> None:
        if self._problems:
            return
        expected = find_duplicates(self._folder)
        try:
            found = read_duplicates(self._folder)
        except DatasetError as error:
            self._problem(layout.DUPLICATES_FILE, str(error))
            return
        if (expected is not None) != (self._folder / layout.DUPLICATES_FILE).exists() or (
            expected is not None and not found.equals(expected)
        ):
            self._problem(layout.DUPLICATES_FILE, "not the near-duplicates of these images: run the build again")
            return
        table = manifest.read_manifest(self._folder, list(COLUMNS))
        self._cross_split = cross_split_duplicates(table, split_names(load_lock(self._folder).splits))

    def _check_scout_pass(self) -> None:
        """Check the scout pass if it is kept, and that the frames are those that are selected from it."""
        folder = self._folder / SCOUT_FOLDER
        with contextlib.suppress(DatasetError):  # a link out of the dataset has been reported
            folder = folder_inside(self._folder, SCOUT_FOLDER)
            if not (folder / layout.LOCK_FILE).exists():
                return
        report = _Verification(folder).report()
        self._shards += report.shards
        self._rows += report.rows
        self._images += report.images
        for problem in report.problems:
            shard = None if problem.shard is None else f"{SCOUT_FOLDER}/{problem.shard}"
            self._problems.append(DatasetProblem(f"{SCOUT_FOLDER}/{problem.file}", problem.message, shard))
        lock = load_lock(self._folder)
        if report.problems or not isinstance(lock.sampling, LockedScout):
            return
        settings, result = lock.sampling.settings, lock.sampling.result
        # Frames that were erased or arrived later change the pass, but not the selection in the lock.
        if content_sha256(folder) != result.content_sha256:
            return
        selection = select_frames(folder, settings, lock.seed, lock.splits, result.inputs_sha256)
        if selection.result.times != result.times:
            self._problem(layout.LOCK_FILE, f"its frames are not those that are selected from {SCOUT_FOLDER}/")

    def _problem(self, file: str, message: str) -> None:
        self._problems.append(DatasetProblem(file, message))
