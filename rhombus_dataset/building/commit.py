"""Commit a shard: from the known frames to its files, for the first time or again.

A shard that is committed already is written beside the old one first. Then a marker file says that both of its
files are whole, and only then they replace the old ones. A run that ends in between is completed by the next one.
"""

from __future__ import annotations

import collections
from pathlib import Path

from rhombus_dataset.building.reuse import FrameProvider, KnownFrames
from rhombus_dataset.building.shard_writer import commit_shard
from rhombus_dataset.frame import Outcome, Status
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import layout
from rhombus_dataset.store.files import as_storage_error, make_folders, move, remove, write_file
from rhombus_dataset.store.journal import Journal
from rhombus_dataset.store.manifest import pending_rewrites


def finalize_shard(
    out: Path, schedule: Schedule, shard: Shard, journal: Journal, known: KnownFrames
) -> collections.Counter[Status]:
    """Commit ``shard`` from its journal and the ``known`` frames. Return its rows by status.

    The journal is removed. Raises StorageError, and DatasetError where a known frame is damaged.
    """
    outcomes = {record.row: record.frame for record in journal.outcomes()}
    rows = range(shard.start, shard.stop)
    is_committed = known.committed.has(shard)
    if is_committed:
        before = known.committed.outcomes(shard)
        for row, frame in list(outcomes.items()):
            # That a frame does not exist is certain; that it could not be had this time is not.
            if before[row - shard.start][0] == Status.MISSING and frame.status in (Status.FAILED, Status.CORRUPT):
                del outcomes[row]
    for provider in known.others:
        provided = provider.provides(shard)
        wanted = [row for row in rows if row not in outcomes and provided[row - shard.start]]
        _fill(provider, journal, shard, outcomes, wanted)
    if is_committed:
        if all(before[row - shard.start] == (f.status, f.reason, f.sha256) for row, f in outcomes.items()):
            journal.remove()
            return collections.Counter(Status(status) for status, _, _ in before)
        _fill(known.committed, journal, shard, outcomes, [row for row in rows if row not in outcomes])
    if not is_committed:
        counts = commit_shard(out, schedule, shard, journal)
    else:
        stage = out / layout.REWRITE_FOLDER / shard.stem
        remove(stage)
        make_folders(stage)
        counts = commit_shard(stage, schedule, shard, journal)
        write_file(stage / layout.READY_FILE, b"")
        _swap_in(out, stage)
    journal.remove()
    return counts


def _fill(
    provider: FrameProvider, journal: Journal, shard: Shard, outcomes: dict[int, Outcome], rows: list[int]
) -> None:
    if rows:
        provider.fill(journal, shard, rows)
        wanted = set(rows)
        outcomes.update((record.row, record.frame) for record in journal.outcomes() if record.row in wanted)


def roll_forward(out: Path) -> None:
    """Complete the replacements that a killed run had prepared; remove those that it had not finished writing."""
    for stage in pending_rewrites(out):
        _swap_in(out, stage)
    remove(out / layout.REWRITE_FOLDER)


def remove_working_folders(out: Path) -> None:
    """Remove the folders of journals and of rewritten shards, if they are empty."""
    for folder in (out / layout.JOURNAL_FOLDER, out / layout.REWRITE_FOLDER):
        with as_storage_error(folder):
            is_empty = folder.is_dir() and not any(folder.iterdir())
        if is_empty:
            remove(folder)


def _swap_in(out: Path, stage: Path) -> None:
    for folder in (layout.DATA_FOLDER, layout.MANIFEST_FOLDER):
        for path in sorted((stage / folder).glob("*")):
            move(path, out / folder / path.name)
    remove(stage)
