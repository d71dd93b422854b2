"""From a scout pass to the frames worth having in full: a pure function of the pass's dataset."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from rhombus_dataset import manifest, novelty
from rhombus_dataset.dataset import Dataset, open_dataset
from rhombus_dataset.decode import SMALL_GREY, DamagedPicture, small_grey
from rhombus_dataset.deployments import View, changes_of_scene, first_of_scene
from rhombus_dataset.errors import DatasetError, UsageError
from rhombus_dataset.frame import Status
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.local_time import DAY_MS, HOUR_MS
from rhombus_dataset.lock import Lock, LockedCamera, Picks, Times
from rhombus_dataset.schedule import Shortfall, local_hours, local_ms, local_weekdays
from rhombus_dataset.selection import QUIET, Candidates, choose
from rhombus_dataset.splits import embargoed

SPARE: Final = (20, 0.25)
"""So many more than the plan asks for are kept in the lock, and so many times its count: for frames that turn out
to be missing."""
CHUNK_FRAMES: Final = 12
"""A chunk is an hour, of as many days as it takes to have about so many pictures."""
CHANGING_LIGHT: Final = 1.1
"""Where the luma of an hour's quarters differs by more, each is a chunk: dawn, dusk, a cloud."""
LEARNT_PAIRS: Final = 40
"""What is usual in a chunk is learnt from so many pairs of pictures, spread evenly."""
AGREEING: Final = 5
"""What is usual is what most of so many chunks in a row say."""
NIGHT_APART: Final = 30
"""Grey levels between day and night in the mean: nearer than that, it is all one."""
NIGHT_LUMA: Final = 60
"""If it is all one, it is night below that."""
UNSURE: Final = -2
"""In place of an event's number: too little is new to count, and too much to be quiet."""

SURE: Final = 3
"""With so many times the cells that make an event, something is there for certain."""

_Log = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a pass has seen of one camera, a row a picture, by time.

    ``event`` (int32) numbers what was going on, or is QUIET or UNSURE; ``cells`` (int32) is how many of the 54 x 96
    cells are new, and ``limit`` (int32) how many make an event; ``signature`` is int8, (N, 48).
    """

    timestamp_ms: npt.NDArray[np.int64]
    event: npt.NDArray[np.int32]
    cells: npt.NDArray[np.int32]
    limit: npt.NDArray[np.int32]
    signature: npt.NDArray[np.int8]
    deployments: tuple[int, ...]


def pick(pass_folder: Path, sampling: dict[str, Any], seed: int, splits: dict[str, Any] | None) -> Picks:
    """Choose from a scout pass what a plan with this ``sampling`` asks for.

    The pass is a complete dataset; ``sampling``, ``seed`` and ``splits`` are as in a lock. Memory is some hundred
    bytes a picture. Raises DatasetError, and UsageError where there is nothing to choose.
    """
    cv2.setNumThreads(1)
    dataset = open_dataset(pass_folder, duplicates=True)
    lock = dataset.lock
    seen = [look(dataset, camera, lock, sampling["every"]) for camera in lock.cameras]
    strata = _Strata(dataset, lock, sampling["strata"])
    candidates = _candidates(lock, seen, strata, seed, splits)
    if (count := sampling["frames_per_camera"]) is not None:
        pools = [[i] for i in range(len(lock.cameras))]
    else:
        pools, count = [list(range(len(lock.cameras)))], sampling["frames"]
    chosen, spare, shortfalls = [], [], []
    for pool in pools:
        mine, more = _choose_from(pool, candidates, strata, sampling, count, seed)
        chosen += mine
        spare += more
        shortfalls += strata.shortfalls(pool, count, candidates, [row for row, _ in mine], spare=bool(more))
    if not chosen:
        raise UsageError(
            f"{pass_folder}: there is nothing to choose: none of its {len(dataset):,} small frames shows "
            "anything new, and the plan wants no quiet ones (sampling.quiet)"
        )
    events = candidates.event[candidates.event != QUIET]
    rows = [row for row, _ in chosen]
    covered = len(np.unique(candidates.event[[row for row in rows if candidates.event[row] != QUIET]]))
    about = {
        "content_sha256": content_sha256(pass_folder),
        "pass_frames": dataset.manifest.num_rows,
        "pass_ok": len(dataset),
        "new": len(events),
        "events": len(np.unique(events)),
        "covered": covered,
        "chosen": len(chosen),
        "shortfalls": [asdict(shortfall) for shortfall in shortfalls],
        "notes": _notes(lock, seen, len(chosen), count * len(pools)),
    }
    deployments = {c.uuid: s.deployments for c, s in zip(lock.cameras, seen, strict=True) if s.deployments}
    return Picks(_times(candidates, [*chosen, *spare]), deployments, about)


def content_sha256(folder: Path) -> str:
    """Hex SHA-256 over what the rows of a dataset say, the hashes of its pictures among it."""
    digest = hashlib.sha256()
    for path in manifest.slice_paths(folder):
        header = manifest.read_header(path)
        digest.update(f"{header.shard} {header.content_sha256}\n".encode())
    return digest.hexdigest()


# -- what there is to see


def look(dataset: Dataset, camera: LockedCamera, lock: Lock, every_ms: int) -> Seen:
    """Tell what is new in each picture of a camera from what the camera usually shows at that hour."""
    rows, table = _rows_of(dataset, camera)
    times = _times_of(table)
    local = local_ms(times, lock.zones[camera.timezone].offsets)
    luma = table.column("luma").to_numpy()
    keys = _chunk_keys(local, luma, every_ms)
    chunks = _Chunks(dataset, rows, times, keys, luma, every_ms)
    deployments = chunks.deployments(local, times)
    if deployments:
        # No chunk holds pictures from before and after.
        deployment = np.searchsorted(deployments, times, "right")
        chunks = _Chunks(dataset, rows, times, keys, luma, every_ms, deployment)
    cells, signature = np.zeros(len(rows), np.int32), np.zeros((len(rows), 48), np.int8)
    usual = np.zeros(len(chunks.members), np.int32)
    for i, members in enumerate(chunks.members):
        around = [chunks.agreed(k) for k in (i, i - 1, i + 1)]
        for row in members.tolist():
            cells[row], signature[row] = _new_in(chunks.logs(row), [habit for habit in around if habit is not None])
        nth = len(members) // 2
        usual[i] = np.partition(cells[members], nth)[nth]
    limit = novelty.MIN_CELLS + novelty.USUAL_TIMES * chunks.smoothed(usual)[chunks.of_row]
    return Seen(times, _events(times, cells, limit, every_ms), cells, limit, signature, deployments)


def _rows_of(dataset: Dataset, camera: LockedCamera) -> tuple[npt.NDArray[np.int64], pa.Table]:
    """A camera's frames by time: their places in the dataset, and their rows."""
    table = dataset.to_arrow()
    mine = np.flatnonzero(np.asarray(pa.compute.equal(table.column("camera_uuid"), camera.uuid)))
    order = np.argsort(_times_of(table)[mine], kind="stable")
    return mine[order], table.take(pa.array(mine[order]))


def _times_of(table: pa.Table) -> npt.NDArray[np.int64]:
    times: npt.NDArray[np.int64] = table.column("timestamp").cast(pa.int64()).to_numpy()
    return times


def _chunk_keys(
    local: npt.NDArray[np.int64], luma: npt.NDArray[np.float64], every_ms: int
) -> npt.NDArray[np.int64]:
    """For each picture (of a time on the local clock), a number for its chunk; chunks sort by time."""
    days = max(1, -(-CHUNK_FRAMES * every_ms // HOUR_MS))
    quarters = (local // DAY_MS // days * 24 + local // HOUR_MS % 24) * 4
    if HOUR_MS // every_ms < 4 * CHUNK_FRAMES:
        return quarters
    by_quarter = pd.Series(luma).groupby(local // (HOUR_MS // 4)).median()
    by_hour = by_quarter.groupby(by_quarter.index // 4).agg(["min", "max"])
    changes = by_hour.index[[not _same_light(*pair) for pair in by_hour.itertuples(index=False, name=None)]]
    changing = np.isin(local // HOUR_MS, changes.to_numpy())
    return quarters + np.where(changing, local // (HOUR_MS // 4) % 4, 0)


def _same_light(luma: float, other: float) -> bool:
    return max(luma, other, 1.0) <= CHANGING_LIGHT * max(min(luma, other), 1.0)


class _Chunks:
    """A camera's pictures in chunks, and what is usual in each.

    ``members`` are the pictures (places in ``rows``) of each chunk, ``of_row`` the chunk of each picture.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
        keys: npt.NDArray[np.int64],
        luma: npt.NDArray[np.float64],
        every_ms: int,
        deployment: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self._dataset = dataset
        self._rows = rows
        whole = keys if deployment is None else keys + deployment * (int(keys.max(initial=0)) + 1)
        numbers, self.of_row = np.unique(whole, return_inverse=True)
        self.members = [np.flatnonzero(self.of_row == i) for i in range(len(numbers))]
        self._deployment = [0 if deployment is None else int(deployment[members[0]]) for members in self.members]
        self._luma = [float(np.median(luma[members])) for members in self.members]
        self.habits = [novelty.habit(self._pairs(members, times, every_ms)) for members in self.members]

    def logs(self, row: int) -> _Log:
        frame = self._dataset[self._rows[row]]
        try:
            return novelty.logs(small_grey(frame.read()))
        except DamagedPicture as error:
            raise DatasetError(f"{frame!r}: {error}. `rhombus-dataset verify` tells more") from None

    def deployments(self, local: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> tuple[int, ...]:
        """When the camera was moved, turned or blocked (UTC ms): the first picture of each scene but the first."""
        views = [
            View(habit.background, int(local[members[0]]) // DAY_MS, int(local[members[0]]) // HOUR_MS % 24, luma)
            for habit, members, luma in zip(self.habits, self.members, self._luma, strict=True)
        ]
        found = []
        for first in changes_of_scene(views):
            around = np.sort(np.concatenate(self.members[first - 1 : first + 1]))
            before, after = views[first - 1].background, views[first + 1].background
            count = first_of_scene([self.logs(row) for row in around.tolist()], before, after)
            found.append(int(times[around[min(count, len(around) - 1)]]))
        return tuple(found)

    def agreed(self, i: int) -> tuple[_Log, _Log] | None:
        """What is usual in chunk ``i``, as most of those around it say: background and limit. None without one."""
        if not 0 <= i < len(self.habits):
            return None
        habit = novelty.agreed([self.habits[k] for k in self._around(i)])
        return habit.background, habit.limit()

    def smoothed(self, values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """For each chunk, the middle of what those around it have."""
        middles = [np.sort(values[self._around(i)]) for i in range(len(values))]
        return np.array([middle[(len(middle) - 1) // 2] for middle in middles], np.int32)

    def _around(self, i: int) -> list[int]:
        """The chunks to ask, as many before as after: of the same deployment, in about the same light."""
        reach = AGREEING // 2
        same = [
            k
            for k in range(max(0, i - AGREEING), min(len(self.members), i + AGREEING + 1))
            if self._deployment[k] == self._deployment[i] and _same_light(self._luma[k], self._luma[i])
        ]
        at = same.index(i)
        half = min(reach, at, len(same) - 1 - at)
        if half == 0:
            first = max(0, min(at - 1, len(same) - 3))
            return same[first : first + 3] if len(same) >= 3 else [i]
        return same[at - half : at + half + 1]

    def _pairs(
        self, members: npt.NDArray[np.int64], times: npt.NDArray[np.int64], every_ms: int
    ) -> list[tuple[_Log, _Log]]:
        near = np.flatnonzero(np.diff(times[members]) <= 2 * every_ms)
        if not len(near):
            return [(one, one) for one in map(self.logs, members[:LEARNT_PAIRS].tolist())]
        count = min(len(near), LEARNT_PAIRS)
        first = near[np.arange(count) * len(near) // count]
        return [(self.logs(members[i]), self.logs(members[i + 1])) for i in first.tolist()]


def _new_in(values: _Log, usual: list[tuple[_Log, _Log]]) -> tuple[int, npt.NDArray[np.int8] | int]:
    """How many cells are new, against whatever of ``usual`` the picture is most like; and its signature."""
    background, limit = usual[0]
    new = novelty.new_cells(values, background, limit)
    count = int(np.count_nonzero(new))
    if not count:
        return 0, 0
    # The hour before and after are as usual: the light changes within an hour too.
    for background_then, limit_then in usual[1:]:
        count = min(count, int(np.count_nonzero(novelty.new_cells(values, background_then, limit_then))))
    return count, novelty.signature(values, background, new)


def _events(
    times: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int32],
    limit: npt.NDArray[np.int32],
    every_ms: int,
) -> npt.NDArray[np.int32]:
    """Pictures in a row that show something new are one event; events are numbered by time."""
    new = cells >= limit
    begins = new.copy()
    begins[1:] &= ~new[:-1] | (np.diff(times) > 2 * every_ms)
    event = np.where(new, np.cumsum(begins) - 1, np.where(cells >= -(-limit // 2), UNSURE, QUIET))
    return np.asarray(event, np.int32)


# -- what to choose


class _Strata:
    """The parts of the footage that get their shares, by what the plan tells apart."""

    def __init__(self, dataset: Dataset, lock: Lock, by: list[str]) -> None:
        self._lock = lock
        self._by = by
        table = dataset.manifest
        uuids = [camera.uuid for camera in lock.cameras]
        self._camera = np.asarray(
            pa.compute.index_in(table.column("camera_uuid"), value_set=pa.array(uuids)), np.int32
        )
        self._times = table.column("timestamp").cast(pa.int64()).to_numpy()
        self._status = np.array(table.column("status").to_pylist())
        self._reason = table.column("reason").to_pylist()
        luma = table.column("luma").to_numpy()
        self._night_below = [_night_below(luma[(self._camera == i) & ~np.isnan(luma)]) for i in range(len(uuids))]
        keys = np.full((len(self._times), 4), -1, np.int32)
        for i, camera in enumerate(lock.cameras):
            mine = self._camera == i
            keys[mine] = self.keys(i, camera, self._times[mine], luma[mine])
        self._keys, self._of_row = np.unique(keys, axis=0, return_inverse=True)
        self._of_row = self._of_row.reshape(-1)
        self.names = [self._name(key) for key in self._keys.tolist()]

    def keys(
        self, i: int, camera: LockedCamera, times: npt.NDArray[np.int64], luma: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int32]:
        offsets = self._lock.zones[camera.timezone].offsets
        found = np.full((len(times), 4), -1, np.int32)
        for column, (name, values) in enumerate(
            {
                "camera": np.int32(i),
                "hour": local_hours(times, offsets),
                "weekday": local_weekdays(times, offsets),
                "light": np.where(np.isnan(luma), -1, luma >= self._night_below[i]),
            }.items()
        ):
            if name in self._by:
                found[:, column] = values
        return found

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
        left = np.bincount(candidates.stratum, minlength=len(self.names)) - given
        mine = np.isin(self._camera, pool)
        there = np.unique(self._of_row[mine]).tolist()
        enough = [int(given[s]) for s in there if left[s] > 0]
        wanted = min(enough) if spare and enough else -(-count // max(1, len(there)))
        found = []
        for s in there:
            if given[s] < wanted and (left[s] == 0 or not spare):
                camera, hour, weekday, light = self._keys[s].tolist()
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
        lost = rows & (self._status != str(Status.OK))
        if 2 * np.count_nonzero(lost) >= np.count_nonzero(rows):
            reasons = Counter(str(self._reason[row]) for row in np.flatnonzero(lost).tolist())
            return f"{np.count_nonzero(lost)} of its {np.count_nonzero(rows)} small frames are not there ({max(reasons, key=lambda r: (reasons[r], r))})"  # noqa: E501
        return "nothing more in it is new"

    def _name(self, key: list[int]) -> str:
        camera, *rest = key
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
    lock: Lock, seen: list[Seen], strata: _Strata, seed: int, splits: dict[str, Any] | None
) -> Candidates:
    columns: list[list[npt.NDArray[Any]]] = [[] for _ in Candidates.__slots__]
    events = 0
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
                one.signature[usable],
                hashes(hash_key(seed, "scout", "quiet", camera.uuid), times),
            ),
            strict=True,
        ):
            column.append(values)
        events += int(one.event.max(initial=-1)) + 1
    return Candidates(*map(np.concatenate, columns))


def _choose_from(
    pool: list[int], candidates: Candidates, strata: _Strata, sampling: dict[str, Any], count: int, seed: int
) -> tuple[list[tuple[int, bool]], list[tuple[int, bool]]]:
    """Rows of the candidates for ``count`` moments of these cameras, and spare ones, each in order."""
    mine = np.flatnonzero(np.isin(candidates.camera, pool))
    part = Candidates(*(getattr(candidates, name)[mine] for name in Candidates.__slots__))
    ranks = [hash_key(seed, "scout", "stratum", name) for name in strata.names]
    taken: dict[int, list[int]] = {}
    new = choose(part, ranks, sampling["min_gap"], taken, quiet=False)
    quiet = choose(part, ranks, sampling["min_gap"], taken, quiet=True)
    want_quiet = round(sampling["quiet"] * count)
    chosen = list(itertools.islice(new, count - want_quiet))
    if len(chosen) < count - want_quiet and sampling["quiet"] < 1:
        # Less is new than was asked for: the share of quiet ones stays what it is.
        of_found = round(len(chosen) * sampling["quiet"] / (1 - sampling["quiet"]))
        want_quiet = min(want_quiet, max(of_found, 1))
    chosen += itertools.islice(quiet, want_quiet)
    spares = SPARE[0] + round(SPARE[1] * count)
    spare = [*itertools.islice(new, spares), *itertools.islice(quiet, round(sampling["quiet"] * spares))]
    return [(int(mine[row]), first) for row, first in chosen], [(int(mine[row]), first) for row, first in spare]


def _times(candidates: Candidates, chosen: list[tuple[int, bool]]) -> Times:
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
    return Times(
        camera=candidates.camera[rows][order],
        timestamp_ms=candidates.timestamp_ms[rows][order],
        score=(candidates.score[rows] / cells)[order],
        why=np.array([place[text] for text in texts], np.int32)[order],
        whys=tuple(names),
        rank=order.astype(np.int32),
    )


def _notes(lock: Lock, seen: list[Seen], chosen: int, asked: int) -> list[str]:
    notes = []
    if chosen < asked:
        notes.append(f"{chosen:,} of {asked:,} frames were chosen: no more show anything new")
    for camera, one in zip(lock.cameras, seen, strict=True):
        notes += [
            f"{camera.name} was moved, turned or blocked at {dt.datetime.fromtimestamp(at / 1000, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"  # noqa: E501
            for at in one.deployments
        ]
    return notes
