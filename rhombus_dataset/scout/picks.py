"""From a scout pass to the frames worth having in full: a pure function of the pass's dataset."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from collections import Counter
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import UsageError
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.imaging.jpeg import SMALL_GREY
from rhombus_dataset.plan.local_time import local_hours, local_weekdays
from rhombus_dataset.planning.lock import (
    Lock,
    LockedCamera,
    ScoutResult,
    ScoutSettings,
    ScoutTimes,
    Selection,
    Shortfall,
    Splits,
)
from rhombus_dataset.planning.splits import embargoed
from rhombus_dataset.scout.events import UNSURE, CameraEvents, ScoutFrames, detect_events
from rhombus_dataset.scout.selection import QUIET, Candidates, choose
from rhombus_dataset.store import manifest

SPARE: Final = (20, 0.25)
"""So many more than the plan asks for are kept in the lock, and so many times its count: for frames that turn out
to be missing."""
NIGHT_APART: Final = 30
"""Grey levels between day and night in the mean: nearer than that, it is all one."""
NIGHT_LUMA: Final = 60
"""If it is all one, it is night below that."""
SURE: Final = 3
"""With so many times the cells that make an event, something is there for certain."""


def select_frames(
    pass_folder: Path, settings: ScoutSettings, seed: int, splits: Splits | None, inputs_sha256: str
) -> Selection:
    """Choose from a scout pass the frames that a plan with these ``settings`` asks for.

    The pass is a complete dataset; ``settings``, ``seed`` and ``splits`` are those of a lock. ``inputs_sha256``
    names the plan's settings and is recorded in the result. Memory: a few hundred bytes an image. Raises
    DatasetError, and UsageError if nothing can be chosen.
    """
    cv2.setNumThreads(1)
    frames = ScoutFrames(pass_folder)
    lock = frames.lock
    seen = [detect_events(frames, camera, settings.every_ms) for camera in range(len(lock.cameras))]
    strata = _Strata(frames, settings.strata)
    candidates = _candidates(lock, seen, strata, seed, splits)
    cameras = list(range(len(lock.cameras)))
    pools, count = [[i] for i in cameras] if settings.count.per_camera else [cameras], settings.count.number
    chosen, spare, shortfalls = [], [], []
    for pool in pools:
        mine, more = _choose_from(pool, candidates, strata, settings, seed)
        chosen += mine
        spare += more
        shortfalls += strata.shortfalls(pool, count, candidates, [row for row, _ in mine], spare=bool(more))
    if not chosen:
        raise UsageError(
            f"{pass_folder}: there is nothing to choose: none of its {int(frames.ok.sum()):,} small frames shows "
            "anything new, and the plan wants no quiet ones (sampling.quiet)"
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
        notes=tuple(_notes(lock, seen, len(chosen), count * len(pools))),
        inputs_sha256=inputs_sha256,
    )
    deployments = {c.uuid: s.deployments for c, s in zip(lock.cameras, seen, strict=True) if s.deployments}
    return Selection(result, deployments)


def content_sha256(folder: Path) -> str:
    """Hex SHA-256 over what the rows of a dataset say, the hashes of its images among it."""
    digest = hashlib.sha256()
    for path in manifest.slice_paths(folder):
        header = manifest.read_header(path)
        digest.update(f"{header.shard} {header.content_sha256}\n".encode())
    return digest.hexdigest()


_PLACES: Final = {"hour": 25, "weekday": 8, "light": 3}


class _Strata:
    """The parts of the footage that get their shares, by what the plan tells apart."""

    def __init__(self, frames: ScoutFrames, by: tuple[str, ...]) -> None:
        self._lock = lock = frames.lock
        self._frames = frames
        self._by = by
        self._camera, self._times, luma = frames.camera, frames.timestamp_ms, frames.luma
        self._night_below = [_night_below(luma[frames.of_camera(i)]) for i in range(len(lock.cameras))]
        keys = np.empty(len(self._times), np.int32)
        for i, camera in enumerate(lock.cameras):
            mine = self._camera == i
            keys[mine] = self._keys_of(i, camera, self._times[mine], luma[mine])
        self._keys, self._of_row = np.unique(keys, return_inverse=True)
        self.names = [self._name(key) for key in self._keys.tolist()]

    def _keys_of(
        self, i: int, camera: LockedCamera, times: npt.NDArray[np.int64], luma: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int32]:
        """A number for what tells the strata apart; 0 in each place stands for what does not."""
        offsets = self._lock.zones[camera.timezone].offsets
        keys = np.full(len(times), i + 1 if "camera" in self._by else 0, np.int32)
        light = np.where(np.isnan(luma), 0, 1 + (luma >= self._night_below[i]))
        for name, values in (
            ("hour", 1 + local_hours(times, offsets).astype(np.int32)),
            ("weekday", 1 + local_weekdays(times, offsets).astype(np.int32)),
            ("light", light.astype(np.int32)),
        ):
            keys = keys * _PLACES[name] + (values if name in self._by else 0)
        return keys

    @staticmethod
    def _parts(key: int) -> list[int]:
        """Camera, hour, weekday and light of a key; -1 for what does not tell strata apart."""
        found = []
        for places in reversed(_PLACES.values()):
            key, part = divmod(key, places)
            found.append(part - 1)
        return [key - 1, *reversed(found)]

    def of_times(self, i: int, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The stratum of each time of camera ``i``, which is one of the pass's."""
        mine = np.flatnonzero(self._camera == i)
        order = mine[np.argsort(self._times[mine], kind="stable")]
        return np.asarray(self._of_row[order[np.searchsorted(self._times[order], times)]], np.int32)

    def shortfalls(
        self, pool: list[int], count: int, candidates: Candidates, chosen: list[int], *, spare: bool
    ) -> list[Shortfall]:
        """The strata of these cameras that gave less than their share, and what they lack."""
        given = np.bincount(candidates.stratum[chosen], minlength=len(self.names))
        is_new = candidates.event != QUIET
        of_new = np.bincount(candidates.stratum[[row for row in chosen if is_new[row]]], minlength=len(self.names))
        left = np.bincount(candidates.stratum[is_new], minlength=len(self.names)) - of_new
        mine = np.isin(self._camera, pool)
        there = np.unique(self._of_row[mine]).tolist()
        enough = [int(given[s]) for s in there if left[s] > 0]
        wanted = min(enough) if spare and enough else -(-count // max(1, len(there)))
        found = []
        for s in there:
            if given[s] < wanted and (left[s] == 0 or not spare):
                camera, hour, weekday, light = self._parts(int(self._keys[s]))
                found.append(
                    Shortfall(
                        self._lock.cameras[camera].name if camera >= 0 else None,
                        hour if hour >= 0 else None,
                        int(given[s]),
                        wanted,
                        weekday if weekday >= 0 else None,
                        ("night", "day")[light] if light >= 0 else None,
                        self._lack(mine & (self._of_row == s)),
                    )
                )
        return found

    def _lack(self, rows: npt.NDArray[np.bool_]) -> str:
        lost = rows & ~self._frames.ok
        count = int(np.count_nonzero(lost))
        if 2 * count < np.count_nonzero(rows):
            return "nothing more in it is new"
        reasons = np.bincount(self._frames.reason[lost])
        most = self._frames.reasons[int(np.argmax(reasons))]
        return f"{count:,} of its {np.count_nonzero(rows):,} small frames are not there ({most})"

    def _name(self, key: int) -> str:
        camera, *rest = self._parts(key)
        return " ".join([self._lock.cameras[camera].uuid if camera >= 0 else "", *map(str, rest)])


def _night_below(luma: npt.NDArray[np.float64]) -> float:
    """Where a camera's night ends and its day begins: between the two classes of its lumas that are most apart
    (Otsu, "A threshold selection method from gray-level histograms", 1979)."""
    counts = np.bincount(luma.astype(np.int64), minlength=256).astype(object)
    values = np.arange(256).astype(object)
    below, weight = np.cumsum(counts), np.cumsum(counts * values)
    total, sums = below[-1], weight[-1]
    best, best_at, apart = -1.0, 0, 0.0
    for at in range(1, 256):
        dark, light = below[at - 1], total - below[at - 1]
        if dark and light:
            means = weight[at - 1] / dark, (sums - weight[at - 1]) / light
            between = dark * light * (means[1] - means[0]) ** 2
            if between > best:
                best, best_at, apart = between, at, means[1] - means[0]
    return float(best_at if apart >= NIGHT_APART else NIGHT_LUMA)


def _candidates(
    lock: Lock, seen: list[CameraEvents], strata: _Strata, seed: int, splits: Splits | None
) -> Candidates:
    columns: list[list[npt.NDArray[Any]]] = [[] for _ in range(8)]
    events = signatures = 0
    for i, (camera, one) in enumerate(zip(lock.cameras, seen, strict=True)):
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
    columns.append([one.signature for one in seen])
    return Candidates(*map(np.concatenate, columns))


def _choose_from(
    pool: list[int], candidates: Candidates, strata: _Strata, settings: ScoutSettings, seed: int
) -> tuple[list[tuple[int, bool]], list[tuple[int, bool]]]:
    """Rows of the candidates for the moments of these cameras, and spare ones, each in order."""
    count, quiet_share = settings.count.number, settings.quiet
    mine = np.isin(candidates.camera, pool)
    ranks = [hash_key(seed, "scout", "stratum", name) for name in strata.names]
    taken: dict[int, list[int]] = {}
    new = choose(candidates, mine, ranks, settings.min_gap_ms, taken, quiet=False)
    quiet = choose(candidates, mine, ranks, settings.min_gap_ms, taken, quiet=True)
    want_quiet = round(quiet_share * count)
    chosen = list(itertools.islice(new, count - want_quiet))
    if len(chosen) < count - want_quiet and quiet_share < 1:
        # Less is new than was asked for: the share of quiet ones stays what it is.
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


def _notes(lock: Lock, seen: list[CameraEvents], chosen: int, asked: int) -> list[str]:
    notes = []
    if chosen < asked:
        notes.append(f"{chosen:,} of {asked:,} frames were chosen: no more show anything new")
    for camera, one in zip(lock.cameras, seen, strict=True):
        moments = [dt.datetime.fromtimestamp(at / 1000, dt.UTC) for at in one.deployments]
        notes += [f"{camera.name} was moved, turned or blocked at {at:%Y-%m-%d %H:%M:%S} UTC" for at in moments]
    return notes
