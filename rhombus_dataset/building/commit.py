"""From what is known of a shard's frames to its committed files, the first time or anew.

A shard that stands already is written beside it first. Then comes a mark that both of its files are whole,
and only then they take the old ones' places; a run that ends in between is rolled forward by the next.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rhombus_dataset.building.reuse import CommittedFrames, FrameProvider
from rhombus_dataset.building.shard_writer import commit_shard
from rhombus_dataset.frame import Outcome, Status
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import layout
from rhombus_dataset.store.files import make_folders, move, remove, write_file
from rhombus_dataset.store.journal import Journal
from rhombus_dataset.store.layout import READY_FILE, REWRITE_FOLDER
from rhombus_dataset.store.manifest import pending_rewrites


def finalize_shard(
    out: Path,
    schedule: Schedule,
    shard: Shard,
    data_format: Literal["parquet", "jpeg"],
    journal: Journal,
    own: CommittedFrames,
    others: Sequence[FrameProvider] = (),
) -> collections.Counter[Status]:
    """Commit ``shard`` from its journal, from what ``others`` hold, and from what stands; count the outcomes.

    The journal is removed. Raises StorageError, and DatasetError where a frame to be taken over is damaged.
    """
    known = {record.row: record.frame for record in journal.outcomes()}
    stands = own.stands(shard)
    if stands:
        before = own.outcomes(shard)
        for row, frame in list(known.items()):
            # That there is no such frame was said by the source; that it could not be had now says less.
            if before[row - shard.start][0] == Status.MISSING and frame.status in (Status.FAILED, Status.CORRUPT):
                del known[row]
    for holdings in others:
        has = holdings.of(shard)
        _fill(holdings, journal, shard, known, [r for r in _rows(shard) if r not in known and has[r - shard.start]])
    if stands:
        if all(before[row - shard.start] == (f.status, f.reason, f.sha256) for row, f in known.items()):
            journal.remove()
            return collections.Counter(Status(status) for status, _, _ in before)
        _fill(own, journal, shard, known, [row for row in _rows(shard) if row not in known])
    if not stands:
        counts = commit_shard(out, schedule, shard, data_format, journal)
    else:
        stage = out / REWRITE_FOLDER / shard.stem
        remove(stage)
        make_folders(stage)
        counts = commit_shard(stage, schedule, shard, data_format, journal)
        write_file(stage / READY_FILE, b"")
        _swap_in(out, stage)
    journal.remove()
    return counts


def _rows(shard: Shard) -> range:
    return range(shard.start, shard.stop)


def _fill(
    holdings: FrameProvider, journal: Journal, shard: Shard, known: dict[int, Outcome], rows: list[int]
) -> None:
    if rows:
        holdings.fill(journal, shard, rows)
        wanted = set(rows)
        known.update((record.row, record.frame) for record in journal.outcomes() if record.row in wanted)


def roll_forward(out: Path) -> None:
    """Finish what a killed run was putting in place; drop what it had not finished writing."""
    for stage in pending_rewrites(out):
        _swap_in(out, stage)
    remove(out / REWRITE_FOLDER)


def _swap_in(out: Path, stage: Path) -> None:
    for folder in (layout.DATA_FOLDER, layout.MANIFEST_FOLDER):
        for path in sorted((stage / folder).glob("*")):
            move(path, out / folder / path.name)
    remove(stage)
