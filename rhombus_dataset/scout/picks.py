"""Which moments of a scout pass are worth a full frame: a pure function of the dataset of the pass."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.imaging.jpeg import SMALL_GREY
from rhombus_dataset.imaging.threads import single_threaded
from rhombus_dataset.planning.lock import (
    Lock,
    ScoutResult,
    ScoutSettings,
    ScoutTimes,
    Selection,
    Splits,
)
from rhombus_dataset.planning.splits import embargoed
from rhombus_dataset.scout.events import UNSURE, CameraEvents, detect_events
from rhombus_dataset.scout.frames import ScoutFrames
from rhombus_dataset.scout.selection import QUIET, Candidates, choose
from rhombus_dataset.scout.strata import Strata
from rhombus_dataset.store import manifest

SPARE: Final = (20, 0.25)
"""Spare moments that the lock keeps, in case that full frames are missing: 20, and 25 % of the count."""
SURE: Final = 3
"""With 3 times the cells that make an event, something is certainly there. Such images are chosen first."""


def select_frames(
    pass_folder: Path, settings: ScoutSettings, seed: int, splits: Splits | None, inputs_sha256: str
) -> Selection:
    """Choose from a scout pass the frames that a plan with these ``settings`` asks for.

    The pass is a complete dataset; ``settings``, ``seed`` and ``splits`` are those of a lock. ``inputs_sha256``
    names the plan's settings and is recorded in the result. Memory: a few hundred bytes an image. Raises
    DatasetError, and UsageError if nothing can be chosen.
    """
    frames = ScoutFrames(pass_folder)
    lock = frames.lock
    with single_threaded():  # the images are small: more threads would cost more than they save
        of_cameras = [detect_events(frames, camera, settings.every_ms) for camera in range(len(lock.cameras))]
    strata = Strata(frames, settings.strata)
    candidates = _candidates(lock, of_cameras, strata, seed, splits)
    cameras = list(range(len(lock.cameras)))
    pools, count = [[i] for i in cameras] if settings.count.per_camera else [cameras], settings.count.number
    chosen, spare, shortfalls = [], [], []
    for pool in pools:
        of_pool, more = _choose_from(pool, candidates, strata, settings, seed)
        chosen += of_pool
        spare += more
        shortfalls += strata.shortfalls(pool, count, candidates, [row for row, _ in of_pool], spare=bool(more))
    if not chosen:
        raise UsageError(
            f"{pass_folder}: there is nothing to choose: none of its {int(frames.ok.sum()):,} small frames shows "
            "anything new, and the plan asks for no quiet ones: set sampling.quiet above 0, or a longer window"
        )
    events = candidates.event[candidates.event != QUIET]
    rows = [row for row, _ in chosen]
    covered = len(np.unique(candidates.event[[row for row in rows if candidates.event[row] != QUIET]]))
    result = ScoutResult(
        _times(candidates, [*chosen, *spare]),
        content_sha256=content_sha256(pass_folder),
        pass_frames=len(frames),
        pass_ok=int(frames.ok.sum()),
        new=len(events),
        events=len(np.unique(events)),
        covered=covered,
        chosen=len(chosen),
        shortfalls=tuple(shortfalls),
        notes=tuple(_notes(lock, of_cameras, len(chosen), count * len(pools))),
        inputs_sha256=inputs_sha256,
    )
    deployments = {c.uuid: s.deployments for c, s in zip(lock.cameras, of_cameras, strict=True) if s.deployments}
    return Selection(result, deployments)


def content_sha256(folder: Path) -> str:
    """Return the hex SHA-256 of the rows of a dataset, which include the hashes of its images."""
    digest = hashlib.sha256()
    for path in manifest.slice_paths(folder):
        header = manifest.read_header(path)
        digest.update(f"{header.shard} {header.content_sha256}\n".encode())
    return digest.hexdigest()


def _candidates(
    lock: Lock, of_cameras: list[CameraEvents], strata: Strata, seed: int, splits: Splits | None
) -> Candidates:
    columns: list[list[npt.NDArray[Any]]] = [[] for _ in range(8)]
    events = signatures = 0
    for i, (camera, one) in enumerate(zip(lock.cameras, of_cameras, strict=True)):
        usable = (one.event != UNSURE) & ~embargoed(one.timestamp_ms, splits, seed)
        times = one.timestamp_ms[usable]
        event = one.event[usable]
        for column, values in zip(
            columns,
            (
                np.full(len(times), i, np.int32),
                times,
                strata.of_times(i, times),
                np.where(event == QUIET, QUIET, event + events).astype(np.int32),
                one.cells[usable],
                one.cells[usable] >= SURE * one.limit[usable],
                np.where(one.event >= 0, np.cumsum(one.event >= 0) - 1 + signatures, -1)[usable].astype(np.int32),
                hashes(hash_key(seed, "scout", "quiet", camera.uuid), times),
            ),
            strict=True,
        ):
            column.append(values)
        events += int(one.event.max(initial=-1)) + 1
        signatures += len(one.signature)
    columns.append([one.signature for one in of_cameras])
    return Candidates(*map(np.concatenate, columns))


def _choose_from(
    pool: list[int], candidates: Candidates, strata: Strata, settings: ScoutSettings, seed: int
) -> tuple[list[tuple[int, bool]], list[tuple[int, bool]]]:
    """Return the candidates that are chosen of these cameras, and spare ones, each in order.

    Both are rows of the candidates, with whether each is the first of its event."""
    count, quiet_share = settings.count.number, settings.quiet
    of_pool = np.isin(candidates.camera, pool)
    ranks = [hash_key(seed, "scout", "stratum", name) for name in strata.names]
    taken: dict[int, list[int]] = {}
    new = choose(candidates, of_pool, ranks, settings.min_gap_ms, taken, quiet=False)
    quiet = choose(candidates, of_pool, ranks, settings.min_gap_ms, taken, quiet=True)
    want_quiet = round(quiet_share * count)
    chosen = list(itertools.islice(new, count - want_quiet))
    if len(chosen) < count - want_quiet and quiet_share < 1:
        # Fewer new images than the plan asks for: the share of quiet ones stays the same.
        of_found = round(len(chosen) * quiet_share / (1 - quiet_share))
        want_quiet = min(want_quiet, max(of_found, 1))
    chosen += itertools.islice(quiet, want_quiet)
    spares = SPARE[0] + round(SPARE[1] * count)
    spare = [*itertools.islice(new, spares), *itertools.islice(quiet, round(quiet_share * spares))]
    return chosen, spare


def _times(candidates: Candidates, chosen: list[tuple[int, bool]]) -> ScoutTimes:
    rows = np.array([row for row, _ in chosen], np.int64)
    cells = SMALL_GREY[0] * SMALL_GREY[1]
    sizes = Counter(candidates.event.tolist())
    begins: dict[int, int] = {}
    for event, at in zip(candidates.event.tolist(), candidates.timestamp_ms.tolist(), strict=True):
        begins[event] = min(at, begins.get(event, at))
    texts = []
    for row, first in chosen:
        event = int(candidates.event[row])
        if event == QUIET:
            texts.append("quiet: nothing is new")
            continue
        share = 100 * int(candidates.score[row]) / cells
        since = dt.datetime.fromtimestamp(begins[event] / 1000, dt.UTC)
        texts.append(
            f"new: {share:.1f} % of the picture; {'the first' if first else 'another'} of an event of "
            f"{sizes[event]} small frames from {since:%Y-%m-%dT%H:%M:%S}Z"
        )
    names = sorted(set(texts))
    place = {name: i for i, name in enumerate(names)}
    order = np.lexsort((candidates.timestamp_ms[rows], candidates.camera[rows]))
    return ScoutTimes(
        camera=candidates.camera[rows][order],
        timestamp_ms=candidates.timestamp_ms[rows][order],
        score=(candidates.score[rows] / cells)[order],
        reason_code=np.array([place[text] for text in texts], np.int32)[order],
        reasons=tuple(names),
        rank=order.astype(np.int32),
    )


def _notes(lock: Lock, of_cameras: list[CameraEvents], chosen: int, wanted: int) -> list[str]:
    notes = []
    if chosen < wanted:
        notes.append(f"{chosen:,} of {wanted:,} frames were chosen: no more show anything new")
    for camera, one in zip(lock.cameras, of_cameras, strict=True):
        moments = [dt.datetime.fromtimestamp(at / 1000, dt.UTC) for at in one.deployments]
        notes += [f"{camera.name} was moved, turned or blocked at {at:%Y-%m-%d %H:%M:%S} UTC" for at in moments]
    return notes
