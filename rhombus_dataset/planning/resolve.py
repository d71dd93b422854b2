"""From a plan to its lock: the only step of planning that depends on anything but its arguments.

It reads the time-zone database, and the timestamps file of a plan that has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import OtherDataset, UsageError
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.hashing import json_sha256
from rhombus_dataset.plan import model
from rhombus_dataset.plan.local_time import DAY_MS, Intervals, moment_ms, window_intervals, zone_offsets
from rhombus_dataset.plan.timestamps_file import TimestampRows, read_timestamps
from rhombus_dataset.planning.lock import (
    SAMPLING_VERSION,
    Assignments,
    CameraSplits,
    ColumnSplits,
    Count,
    DeploymentSplits,
    GroupedTimes,
    LocationSplits,
    Lock,
    LockedBurst,
    LockedCamera,
    LockedDedup,
    LockedInterval,
    LockedRandom,
    LockedScout,
    LockedSource,
    LockedStratified,
    LockedTimestamps,
    LockedZone,
    ScoutSettings,
    Selection,
    Splits,
    Strategy,
    Times,
    TimeSplits,
)

FOOTAGE_LAG_MS: Final = 5 * 60_000
"""5 minutes in ms: footage reaches the cloud's storage late, so ``end: now`` means this much earlier."""


def resolve(
    plan: model.Plan, now_ms: int, selection: Selection | None = None, version: int = SAMPLING_VERSION
) -> Lock:
    """Return the lock of ``plan``. ``now_ms``: what ``end: now`` means, UTC ms. ``version``: of sampling; a dataset
    is continued in its own.

    A plan with strategy scout needs the ``selection`` from its scout pass. Raises InvalidFile for mistakes in the
    timestamps file, UsageError if the selection is missing, and OtherDataset if it was made by other settings than
    the plan's.
    """
    cameras = tuple(
        LockedCamera(
            camera.uuid,
            camera.name,
            camera.location,
            camera.timezone,
            _distinct_views(camera.views or plan.views, plan.views),
            camera.masks,
            _deployments(camera, selection),
        )
        for camera in sorted(plan.cameras, key=lambda camera: camera.uuid)
    )
    windows = _windows_by_zone(plan, now_ms)
    notes: list[str] = []
    times: Times | None = None
    strategy: Strategy
    match plan.sampling:
        case model.TimestampsSampling() as sampling:
            times, notes = _file_times(plan, sampling, cameras, windows, now_ms)
            strategy = LockedTimestamps(times)
        case model.ScoutSampling():
            strategy = LockedScout(scout_settings(plan), _same_inputs(plan, now_ms, selection).result)
            times = strategy.result.times
        case sampling:
            strategy = _strategy(sampling, version)
    return Lock(
        name=plan.name,
        seed=plan.seed,
        now_ms=now_ms if any(window.end.now for window in plan.windows) else None,
        source=LockedSource(
            plan.source.type, plan.source.url if isinstance(plan.source, model.RhombusSource) else None
        ),
        cameras=cameras,
        views=dict(plan.views),
        zones={zone: _locked_zone(zone, intervals, times) for zone, intervals in windows.items()},
        sampling=strategy,
        splits=resolve_splits(plan),
        data_format=plan.output.format,
        frames_per_shard=plan.output.frames_per_shard,
        notes=tuple(notes),
        dedup=None if plan.dedup is None else LockedDedup(plan.dedup.within),
        top_up=getattr(plan.sampling, "top_up", False),
    )


def scout_settings(plan: model.Plan) -> ScoutSettings:
    """Return the scout settings of a plan as its lock holds them. Raises UsageError for another strategy."""
    sampling = plan.sampling
    if not isinstance(sampling, model.ScoutSampling):
        raise UsageError(f"expected a plan with strategy scout, got {sampling.strategy}")
    return ScoutSettings(
        sampling.every,
        sampling.downscale,
        _count(sampling.frames, sampling.frames_per_camera),
        sampling.strata,
        sampling.min_gap,
        sampling.quiet,
    )


def resolve_splits(plan: model.Plan) -> Splits | None:
    """Return the splits of a plan. Cameras are assigned by UUID, whatever the plan calls them."""
    uuids = {camera.name: camera.uuid for camera in plan.cameras}
    match plan.splits:
        case None:
            return None
        case model.TimeSplits() as splits:
            return TimeSplits(splits.block, splits.embargo, tuple(splits.fractions.items()))
        case model.CameraSplits() as splits:
            return CameraSplits(tuple(splits.fractions.items()), _by_uuid(splits.assign, uuids))
        case model.DeploymentSplits() as splits:
            return DeploymentSplits(tuple(splits.fractions.items()), _by_uuid(splits.assign, uuids))
        case model.LocationSplits() as splits:
            return LocationSplits(tuple(splits.fractions.items()), tuple(splits.assign.items()))
        case model.ColumnSplits() as splits:
            return ColumnSplits(splits.column, tuple(splits.fractions.items()), tuple(splits.assign.items()))


def scout_inputs_sha256(plan: model.Plan, now_ms: int) -> str:
    """Return the hex SHA-256 of everything in a plan that decides which frames of a scout pass are chosen.

    Names and limits are not part of it."""
    cameras = sorted((c.uuid, c.timezone, c.masks, _deployments(c, None)) for c in plan.cameras)
    sampling = plan.sampling.model_dump(mode="json", exclude={"top_up"})
    splits = None if plan.splits is None else plan.splits.model_dump(mode="json", exclude={"assign"})
    return json_sha256({"of": [plan.seed, sampling, splits, cameras, _windows_by_zone(plan, now_ms)]})


def inside(timestamps_ms: npt.NDArray[np.int64], intervals: Intervals) -> npt.NDArray[np.bool_]:
    """Return which times (UTC ms) lie in one of the intervals: bool, of the shape of ``timestamps_ms``."""
    if not intervals:
        return np.zeros(timestamps_ms.shape, np.bool_)
    table = np.array(intervals, np.int64)
    place = np.searchsorted(table[:, 0], timestamps_ms, side="right") - 1
    ends: npt.NDArray[np.int64] = table[place, 1]
    return (place >= 0) & (timestamps_ms < ends)


def _strategy(
    sampling: model.IntervalSampling | model.RandomSampling | model.StratifiedSampling | model.BurstSampling,
    version: int,
) -> Strategy:
    match sampling:
        case model.IntervalSampling():
            return LockedInterval(sampling.every, sampling.jitter)
        case model.RandomSampling():
            return LockedRandom(_count(sampling.frames, sampling.frames_per_camera), sampling.min_gap, version)
        case model.StratifiedSampling():
            count = _count(sampling.frames, sampling.frames_per_camera)
            return LockedStratified(count, sampling.strata, sampling.min_gap, version)
        case model.BurstSampling():
            count = _count(sampling.bursts, sampling.bursts_per_camera)
            return LockedBurst(count, sampling.frames_per_burst, sampling.spacing, sampling.min_gap, version)


def _count(total: int | None, per_camera: int | None) -> Count:
    return Count(total or 0, False) if per_camera is None else Count(per_camera, True)


def _same_inputs(plan: model.Plan, now_ms: int, selection: Selection | None) -> Selection:
    """Return the selection if it was made by the plan's settings."""
    if selection is None:
        raise UsageError(
            "the frames of a plan with strategy scout are known once its scout pass is complete: run "
            "`rhombus-dataset plan` to see what the pass costs, and `rhombus-dataset build` to make it"
        )
    expected, found = scout_inputs_sha256(plan, now_ms), selection.result.inputs_sha256
    if expected != found:
        raise OtherDataset(
            "the frames in this folder were chosen by other cameras, windows, splits or sampling settings than the "
            f"plan's: their digest is {found}, the plan's is {expected}. Choose another --out; with --reuse of "
            "this folder, the frames that it holds are not requested again."
        )
    return selection


def _deployments(camera: model.Camera, selection: Selection | None) -> tuple[int, ...]:
    """Return the deployments that the plan gives a camera, or else those that its scout pass shows (UTC ms)."""
    planned = {moment_ms(moment, camera.timezone) for moment in camera.deployments}
    if not planned and selection is not None:
        return selection.deployments.get(camera.uuid, ())
    return tuple(sorted(planned))


def _by_uuid(assign: Mapping[str, Iterable[str]], uuids: Mapping[str, str]) -> Assignments:
    return tuple((split, tuple(sorted(_uuid_of(name, uuids) for name in names))) for split, names in assign.items())


def _uuid_of(name: str, uuids: Mapping[str, str]) -> str:
    """Return ``name`` with the UUID in place of the camera's name; "@" and a deployment's start may follow it."""
    if name in uuids or "@" not in name:
        return uuids.get(name, name)
    camera, _, start = name.rpartition("@")
    return f"{uuids.get(camera, camera)}@{start}"


def _distinct_views(names: Iterable[str], views: Mapping[str, Geometry]) -> tuple[str, ...]:
    """Return the names, ordered by geometry. Of several with the same geometry, the first is kept."""
    first = {views[name]: name for name in reversed(tuple(names))}
    return tuple(sorted(first.values(), key=lambda name: views[name]))


def _windows_by_zone(plan: model.Plan, now_ms: int) -> dict[str, Intervals]:
    zones = sorted({camera.timezone for camera in plan.cameras})
    return {zone: window_intervals(plan.windows, zone, now_ms - FOOTAGE_LAG_MS) for zone in zones}


def _file_times(
    plan: model.Plan,
    sampling: model.TimestampsSampling,
    cameras: tuple[LockedCamera, ...],
    windows: Mapping[str, Intervals],
    now_ms: int,
) -> tuple[Times, list[str]]:
    """Return the times of the plan's timestamps file that lie in its windows, and notes on what was left out."""
    rows = read_timestamps(
        sampling.file,
        {c.uuid: i for i, c in enumerate(cameras)},
        {c.name: i for i, c in enumerate(cameras)},
        [c.timezone for c in cameras],
        now_ms,
        plan.splits.column if isinstance(plan.splits, model.ColumnSplits) else None,
    )
    order = np.lexsort((rows.timestamp_ms, rows.camera))
    camera, timestamp_ms = rows.camera[order], rows.timestamp_ms[order]
    kept = np.ones(len(order), np.bool_)
    kept[1:] = (np.diff(camera) != 0) | (np.diff(timestamp_ms) != 0)
    notes: list[str] = []
    if repeated := int(np.count_nonzero(~kept)):
        notes.append(f"{repeated} times of the timestamps file stand there already: one frame each")
    if plan.windows:
        bounds = np.searchsorted(camera, np.arange(len(cameras) + 1)).tolist()
        for locked, start, stop in zip(cameras, bounds[:-1], bounds[1:], strict=True):
            kept[start:stop] &= inside(timestamp_ms[start:stop], windows[locked.timezone])
    if dropped := len(kept) - repeated - int(np.count_nonzero(kept)):
        notes.append(f"{dropped} times of the timestamps file lie outside the windows: left out")
    return _grouped(rows, camera[kept], timestamp_ms[kept], order[kept]), notes


def _grouped(
    rows: TimestampRows,
    camera: npt.NDArray[np.int32],
    timestamp_ms: npt.NDArray[np.int64],
    kept: npt.NDArray[np.int64],
) -> Times:
    if rows.group is None:
        return Times(camera, timestamp_ms)
    # Groups are numbered by name, among the rows that are left. The order of the file has no influence.
    group = rows.group[kept]
    names = sorted(rows.groups[i] for i in np.unique(group).tolist())
    place = {name: i for i, name in enumerate(names)}
    renumbered = np.array([place.get(name, -1) for name in rows.groups], np.int32)
    return GroupedTimes(camera, timestamp_ms, renumbered[group], tuple(names))


def _locked_zone(zone: str, windows: Intervals, times: Times | None) -> LockedZone:
    bounds = [windows[0][0], windows[-1][1]] if windows else []
    if times is not None and len(times.timestamp_ms):
        bounds += [int(times.timestamp_ms.min()), int(times.timestamp_ms.max())]
    if not bounds:
        return LockedZone(((0, 0),), ())
    # Two more days on each side: a local day may begin well before the first window.
    return LockedZone(zone_offsets(zone, min(bounds) - 2 * DAY_MS, max(bounds) + 2 * DAY_MS), windows)
