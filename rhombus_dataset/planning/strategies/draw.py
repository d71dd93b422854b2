"""Draw times evenly over strata, with a minimum gap: the start of one fixed order of candidates.

In each round one candidate of each stratum that has one left is taken. What a plan that grows takes away or adds is
therefore at the end of the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rhombus_dataset.hashing import hash_key
from rhombus_dataset.plan.local_time import Intervals, Offsets
from rhombus_dataset.planning.lock import Count, Shortfall
from rhombus_dataset.planning.strategies.candidates import NONE, Candidates, Chosen, Clock, Segments
from rhombus_dataset.planning.strategies.cells import Cells, check_count
from rhombus_dataset.planning.strategies.hour_blocks import HourBlocks
from rhombus_dataset.planning.strategies.sampled_times import CameraWindows, SampledTimes


@dataclass(frozen=True, slots=True)
class _Camera:
    windows: CameraWindows
    segments: Segments
    candidates: Candidates


def draw(
    windows: list[CameraWindows],
    *,
    seed: int,
    purpose: str,
    strata: Sequence[str],
    count: Count,
    gap_ms: int,
    version: int,
    missing: list[npt.NDArray[np.int64]] | None = None,
) -> SampledTimes:
    """Return ``count`` times, in total or of each camera, spread evenly over the strata.

    ``strata`` names what makes a stratum: "camera", "hour" and "weekday", both local. The sample is the start of
    one order: in each round one candidate of each stratum that has one left, the strata ordered by hash. Two times
    of one camera are at least ``gap_ms`` apart, and at least 1 ms. ``version`` is that of sampling: of the order.

    With ``missing``, the times (UTC ms) of each camera without a frame: the candidates that follow in the order and
    replace them, from the same strata as far as possible. Raises UsageError for a gap that gives too many cells.
    """
    clock = Clock("hour" in strata, "weekday" in strata)
    cameras = _cameras(windows, clock, seed, purpose, max(1, gap_ms), version)
    if not count.per_camera:
        return _sample(cameras, "camera" in strata, clock, count.number, seed, purpose, missing)
    parts = [
        _sample([camera], True, clock, count.number, seed, purpose, None if missing is None else [missing[i]])
        for i, camera in enumerate(cameras)
    ]
    return SampledTimes(
        # Each camera was drawn separately, as camera 0.
        np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.timestamp_ms) for part in parts]),
        np.concatenate([part.timestamp_ms for part in parts]),
        shortfalls=tuple(shortfall for part in parts for shortfall in part.shortfalls),
    )


def _cameras(
    windows: list[CameraWindows], clock: Clock, seed: int, purpose: str, gap_ms: int, version: int
) -> list[_Camera]:
    # Cameras of one time zone share their windows.
    segments: dict[tuple[Intervals, Offsets], Segments] = {}
    for camera in windows:
        if (key := (camera.intervals, camera.offsets)) not in segments:
            segments[key] = clock.segments(*key)
    of_cameras = [segments[camera.intervals, camera.offsets] for camera in windows]
    candidates: Sequence[Candidates]
    if version == 1:
        candidates = cells = [Cells(camera, clock, seed=seed, purpose=purpose, gap_ms=gap_ms) for camera in windows]
        check_count(cells, gap_ms)
    else:
        candidates = [
            HourBlocks(camera.uuid, part, clock.count, seed=seed, purpose=purpose, gap_ms=gap_ms)
            for camera, part in zip(windows, of_cameras, strict=True)
        ]
    return [_Camera(*parts) for parts in zip(windows, of_cameras, candidates, strict=True)]


def _sample(
    cameras: list[_Camera],
    by_camera: bool,
    clock: Clock,
    count: int,
    seed: int,
    purpose: str,
    missing: list[npt.NDArray[np.int64]] | None,
) -> SampledTimes:
    """Return the first ``count`` candidates in turn over the strata, or those that follow for ``missing`` ones.

    A pool is a set of cameras that is drawn from together: one camera, or all. A stratum is a time of the week of a
    pool: a row and a column of the tables here.
    """
    pools = [[i] for i in range(len(cameras))] if by_camera else [list(range(len(cameras)))]
    available = np.zeros((len(pools), clock.count), np.int64)
    ranks: list[int] = []
    for row, pool in enumerate(pools):
        for i in pool:
            available[row] += cameras[i].candidates.available()
        name = cameras[row].windows.uuid if by_camera else ""
        ranks += [hash_key(seed, purpose, "stratum", name, str(column)) for column in range(clock.count)]
    quotas = _fill(available.ravel(), count, ranks).reshape(available.shape)
    if missing is not None:
        missing_counts = np.zeros_like(available)
        for row, pool in enumerate(pools):
            for i in pool:
                columns = clock.columns(missing[i], cameras[i].windows.offsets)
                missing_counts[row] += np.bincount(columns, minlength=clock.count)
        # A stratum without a single frame has no footage: other strata replace its frames.
        room = np.where((missing_counts > 0) & (missing_counts >= quotas), 0, available - quotas)
        more = _replacements(room, missing_counts, ranks)
        more_parts = (
            _next(cameras, pool, available[row], quotas[row], more[row])
            for row, pool in enumerate(pools)
            if more[row].any()
        )
        return _joined(more_parts, int(more.sum()))
    parts = (
        _first(cameras, pool, available[row], quotas[row]) for row, pool in enumerate(pools) if quotas[row].any()
    )
    found = _joined(parts, int(quotas.sum()))
    return replace(found, shortfalls=_shortfalls(cameras, by_camera, clock, available, quotas, count))


def _joined(parts: Iterable[SampledTimes], count: int) -> SampledTimes:
    """Return the times of all ``parts``, of which there are ``count`` in all. Only one part is in memory twice."""
    camera, timestamp_ms = np.empty(count, np.int32), np.empty(count, np.int64)
    start = 0
    for part in parts:
        stop = start + len(part.camera)
        camera[start:stop], timestamp_ms[start:stop] = part.camera, part.timestamp_ms
        start = stop
    return SampledTimes(camera, timestamp_ms)


def _replacements(
    room: npt.NDArray[np.int64], missing: npt.NDArray[np.int64], ranks: list[int]
) -> npt.NDArray[np.int64]:
    """Return how many more each stratum gives: first for its own ``missing`` ones, up to ``room``, then in turn."""
    own = np.minimum(room, missing)
    left = int(missing.sum() - own.sum())
    return own + _fill((room - own).ravel(), left, ranks).reshape(room.shape)


def _next(
    cameras: list[_Camera],
    pool: list[int],
    available: npt.NDArray[np.int64],
    quotas: npt.NDArray[np.int64],
    more: npt.NDArray[np.int64],
) -> SampledTimes:
    """Return the candidates of a pool that follow the first ``quotas``, as many as ``more``."""
    through = _first(cameras, pool, available, quotas + more)
    kept = np.ones(len(through.camera), np.bool_)
    if quotas.any():
        before = _first(cameras, pool, available, quotas)
        for i in pool:
            of_camera = through.camera == i
            kept[of_camera] = ~np.isin(through.timestamp_ms[of_camera], before.timestamp_ms[before.camera == i])
    return SampledTimes(through.camera[kept], through.timestamp_ms[kept])


def _fill(available: npt.NDArray[np.int64], count: int, ranks: list[int]) -> npt.NDArray[np.int64]:
    """Return how many each stratum gives when they take turns: int64, of the shape of ``available``.

    If the last round is not complete, the strata with the lowest ``ranks`` are served.
    """
    low, high = 0, int(available.max(initial=0))
    while low < high:  # the maximum number of whole rounds
        middle = (low + high + 1) // 2
        if int(np.minimum(available, middle).sum()) <= count:
            low = middle
        else:
            high = middle - 1
    quotas = np.minimum(available, low)
    more = sorted(np.flatnonzero(available > low).tolist(), key=ranks.__getitem__)
    quotas[more[: count - int(quotas.sum())]] += 1
    return quotas


def _first(
    cameras: list[_Camera], pool: list[int], available: npt.NDArray[np.int64], quotas: npt.NDArray[np.int64]
) -> SampledTimes:
    """Return the first candidates of each stratum of a pool, as many as the ``quotas``.

    Hashes are uniform, so the place in the order that a quota reaches can be estimated. Only candidates up to there
    are kept in memory; if they are too few, the estimate is raised.
    """
    limits, slack = None, 2.0
    while limits is None:
        slack *= 2
        likely = _likely_limits(available, quotas, slack)
        found = [cameras[i].candidates.below(likely) for i in pool]
        limits = _exact_limits(found, quotas)
    timestamp_ms, counts = np.empty(int(quotas.sum()), np.int64), []
    start = 0
    for i, chosen in enumerate(found):
        times = chosen.timestamp_ms[(chosen.order <= limits[chosen.column]) & (quotas[chosen.column] > 0)]
        # Two candidates with the same place are not known, but possible: the count holds all the same.
        times = times[: len(timestamp_ms) - start]
        timestamp_ms[start : start + len(times)] = times
        start += len(times)
        counts.append(len(times))
        found[i] = NONE  # Memory is released as early as possible, since there may be many millions.
    return SampledTimes(np.repeat(np.array(pool, np.int32), counts), timestamp_ms)


def _likely_limits(
    available: npt.NDArray[np.int64], quotas: npt.NDArray[np.int64], slack: float
) -> npt.NDArray[np.uint64]:
    """Return the places in the order up to which there are probably ``quotas`` of the ``available`` candidates."""
    share = np.where(quotas > 0, quotas + slack * np.sqrt(quotas) + 2, 0) / np.maximum(available, 1)
    limits = (np.minimum(share, 0.5) * 2.0**64).astype(np.uint64)
    return np.where(share < 0.5, limits, np.iinfo(np.uint64).max)


def _exact_limits(found: list[Chosen], quotas: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64] | None:
    """Return the place in the order of the last candidate of each column's quota: uint64, (C,).

    None if a column has too few candidates."""
    limits = np.zeros(len(quotas), np.uint64)
    for column in np.flatnonzero(quotas).tolist():
        last = int(quotas[column]) - 1
        orders = np.concatenate([chosen.order[chosen.column == column] for chosen in found])
        if len(orders) <= last:
            return None
        orders.partition(last)
        limits[column] = orders[last]
    return limits


def _shortfalls(
    cameras: list[_Camera],
    by_camera: bool,
    clock: Clock,
    available: npt.NDArray[np.int64],
    quotas: npt.NDArray[np.int64],
    count: int,
) -> tuple[Shortfall, ...]:
    """Return the strata with fewer candidates than each stratum with enough candidates gives."""
    exists = np.zeros(available.shape, np.bool_)
    for i, of_camera in enumerate(cameras):
        exists[i if by_camera else 0, of_camera.segments.column] = True
    # A camera without any window lacks all of its frames.
    exists[:, 0] |= ~exists.any(axis=1)
    enough = available > quotas
    wanted = int(quotas[enough].min()) if enough.any() else -(-count // max(1, int(exists.sum())))
    return tuple(
        Shortfall(
            cameras[row].windows.name if by_camera else None,
            clock.hour(column) if available[row].any() else None,
            int(available[row, column]),
            max(1, wanted),
            clock.weekday(column) if available[row].any() else None,
        )
        for row, column in np.argwhere(exists & (available < max(1, wanted))).tolist()
    )
