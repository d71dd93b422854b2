"""The lock as JSON values, and back.

What is read is checked value by value, since a file can be damaged in spite of its checksum. The JSON keys are the
plan's; the fields of the types have the unit in their name instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any, Final, Literal

import numpy as np

from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.values import check_slug, check_split_name, check_text
from rhombus_dataset.planning.json_value import JsonValue
from rhombus_dataset.planning.lock import (
    NO_MORE_TIME,
    SAMPLING_VERSION,
    WEEKDAY_NAMES,
    Assignments,
    CameraSplits,
    ColumnSplits,
    Count,
    DeploymentSplits,
    Fractions,
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
    ScoutResult,
    ScoutSettings,
    ScoutTimes,
    Shortfall,
    Splits,
    Strategy,
    Times,
    TimeSplits,
)
from rhombus_dataset.store import layout
from rhombus_dataset.wire import canonical_uuid

LOCK_VERSION: Final = 1
MAX_SPLITS: Final = 255
"""Maximum number of splits of a lock: the schedule holds the split of a row as uint8. Plans allow fewer."""
_MAX_COUNT: Final = 2**40
"""Most frames that a plan asks for. Sampling refuses more than 200 million."""
_MAX_VIEWS: Final = 2**16 - 1
"""Maximum number of views: the schedule holds the view of a row as uint16."""
_MAX_DOWNSCALE: Final = 2**31 - 1
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", re.ASCII)

# -- writing


def lock_to_json(lock: Lock, times_sha256: str | None) -> dict[str, Any]:
    """Return the lock as JSON values, in the order of the file. ``times_sha256`` is of the times beside it."""
    return {
        "lock_version": LOCK_VERSION,
        "name": lock.name,
        "seed": lock.seed,
        "now_ms": lock.now_ms,
        "source": {"type": lock.source.type, **({} if lock.source.url is None else {"url": lock.source.url})},
        "cameras": [
            {name: value for name, value in asdict(camera).items() if name != "deployments" or value}
            for camera in lock.cameras
        ],
        "views": {name: asdict(geometry) for name, geometry in lock.views.items()},
        "zones": {zone: asdict(locked) for zone, locked in lock.zones.items()},
        "sampling": _strategy_json(lock.sampling),
        "splits": None if lock.splits is None else _splits_json(lock.splits),
        "data_format": lock.data_format,
        "frames_per_shard": lock.frames_per_shard,
        "times_sha256": times_sha256,
        "notes": lock.notes,
        **({} if lock.dedup is None else {"dedup": {"within": lock.dedup.within_ms}}),
        **({} if lock.scout is None else {"scout": _result_json(lock.scout)}),
        **({"top_up": True} if lock.top_up else {}),
    }


def _strategy_json(strategy: Strategy) -> dict[str, Any]:
    values: dict[str, Any]
    match strategy:
        case LockedInterval(every_ms, jitter_ms):
            values = {"every": every_ms, "jitter": jitter_ms}
        case LockedRandom(count, min_gap_ms, version):
            values = {**_count_json("frames", count), "min_gap": min_gap_ms, **_version_json(version)}
        case LockedStratified(count, strata, min_gap_ms, version):
            values = {**_count_json("frames", count), "strata": strata, "min_gap": min_gap_ms}
            values |= _version_json(version)
        case LockedBurst(count, frames_per_burst, spacing_ms, min_gap_ms, version):
            values = {
                **_count_json("bursts", count),
                "frames_per_burst": frames_per_burst,
                "spacing": spacing_ms,
                "min_gap": min_gap_ms,
                **_version_json(version),
            }
        case LockedTimestamps():
            values = {}
        case LockedScout(settings):
            values = {
                "every": settings.every_ms,
                "downscale": settings.downscale,
                **_count_json("frames", settings.count),
                "strata": settings.strata,
                "min_gap": settings.min_gap_ms,
                "quiet": settings.quiet,
            }
    return {"strategy": strategy.strategy, **values}


def _count_json(unit: str, count: Count) -> dict[str, int | None]:
    total, per_camera = (None, count.number) if count.per_camera else (count.number, None)
    return {unit: total, f"{unit}_per_camera": per_camera}


def _version_json(version: int) -> dict[str, int]:
    """Return nothing for version 1, whose locks do not name it."""
    return {} if version == 1 else {"version": version}


def _splits_json(splits: Splits) -> dict[str, Any]:
    values: dict[str, Any] = {"by": splits.by}
    if isinstance(splits, TimeSplits):
        values |= {"block": splits.block_ms, "embargo": splits.embargo_ms}
    if isinstance(splits, ColumnSplits):
        values["column"] = splits.column
    values["fractions"] = dict(splits.fractions)
    if not isinstance(splits, TimeSplits):
        values["assign"] = dict(splits.assign)
    return values


def _result_json(result: ScoutResult) -> dict[str, Any]:
    values = {field.name: getattr(result, field.name) for field in fields(result) if field.name != "times"}
    return {**values, "shortfalls": [asdict(shortfall) for shortfall in result.shortfalls]}


# -- reading


def lock_from_json(top: JsonValue, times: Times | None) -> Lock:
    """Return the lock with the content ``top`` and the ``times`` beside it.

    Raises ValueError with the place of the first value that is missing or of another type."""
    lock = Lock(
        name=top["name"].checked(check_slug),
        seed=top["seed"].whole(),
        now_ms=top["now_ms"].optional(JsonValue.time_ms),
        source=LockedSource(top["source"]["type"].text(), top["source"].get("url").optional(JsonValue.text)),
        cameras=top["cameras"].each(_camera),
        views=top["views"].named_entries(check_slug, _geometry),
        zones=top["zones"].named_entries(_check_zone, _zone),
        sampling=_strategy(top, times),
        splits=top["splits"].optional(_splits),
        data_format=_data_format(top["data_format"]),
        frames_per_shard=top["frames_per_shard"].whole(1, _MAX_COUNT),
        notes=top["notes"].each(JsonValue.text),
        dedup=top.get("dedup").optional(lambda dedup: LockedDedup(dedup["within"].duration_ms(1))),
        top_up=top.get("top_up", False).flag(),
    )
    _check_references(lock)
    return lock


def _data_format(value: JsonValue) -> Literal["parquet", "jpeg"]:
    if value.value == "parquet":
        return "parquet"
    if value.value == "jpeg":
        return "jpeg"
    raise value.wrong("parquet or jpeg")


def _camera(camera: JsonValue) -> LockedCamera:
    return LockedCamera(
        uuid=camera["uuid"].checked(canonical_uuid),
        name=camera["name"].checked(check_text),
        location=camera["location"].optional(lambda location: location.checked(check_text)),
        timezone=camera["timezone"].checked(_check_zone),
        views=camera["views"].each(JsonValue.text),
        masks=camera["masks"].each(lambda mask: mask.each(_point)),
        deployments=camera.get("deployments", []).each(JsonValue.time_ms),
    )


def _geometry(view: JsonValue) -> Geometry:
    try:
        return Geometry(**{field.name: view[field.name].whole(0, _MAX_DOWNSCALE) for field in fields(Geometry)})
    except ValueError as error:
        raise ValueError(f"{view.place}: {error}") from None


def _check_zone(name: str) -> str:
    """Return the name of a time zone. Raises ValueError. A lock holds its offsets, so it need not exist here."""
    if not _ZONE.fullmatch(name) or len(name) > 100:
        raise ValueError("not the name of a time zone")
    return name


def _zone(zone: JsonValue) -> LockedZone:
    return LockedZone(
        zone["offsets"].each(lambda pair: _pair(pair, JsonValue.whole, JsonValue.time_ms)),
        zone["windows"].each(lambda pair: _pair(pair, JsonValue.time_ms, JsonValue.time_ms)),
    )


def _point(value: JsonValue) -> tuple[int, int]:
    return _pair(value, JsonValue.permyriad, JsonValue.permyriad)


def _pair(
    value: JsonValue, first: Callable[[JsonValue], int], second: Callable[[JsonValue], int]
) -> tuple[int, int]:
    parts = value.each(lambda part: part)
    if len(parts) != 2:
        raise value.wrong("two whole numbers")
    return first(parts[0]), second(parts[1])


def _strategy(top: JsonValue, times: Times | None) -> Strategy:
    sampling = top["sampling"]
    match sampling["strategy"].text():
        case LockedInterval.strategy:
            return LockedInterval(sampling["every"].duration_ms(1), sampling["jitter"].duration_ms())
        case LockedRandom.strategy:
            return LockedRandom(_count(sampling, "frames"), sampling["min_gap"].duration_ms(), _version(sampling))
        case LockedStratified.strategy:
            strata = sampling["strata"].each(JsonValue.text)
            gap_ms = sampling["min_gap"].duration_ms()
            return LockedStratified(_count(sampling, "frames"), strata, gap_ms, _version(sampling))
        case LockedBurst.strategy:
            return LockedBurst(
                _count(sampling, "bursts"),
                sampling["frames_per_burst"].whole(1, 2**20),
                sampling["spacing"].duration_ms(1),
                sampling["min_gap"].duration_ms(),
                _version(sampling),
            )
        case LockedTimestamps.strategy:
            if times is None or isinstance(times, ScoutTimes):
                raise ValueError(f"{layout.LOCK_TIMES_FILE}: expected the times of a timestamps file")
            return LockedTimestamps(times)
        case LockedScout.strategy:
            if not isinstance(times, ScoutTimes):
                raise ValueError(f"{layout.LOCK_TIMES_FILE}: expected the times of a scout pass")
            settings = ScoutSettings(
                sampling["every"].duration_ms(1),
                sampling["downscale"].whole(1, _MAX_DOWNSCALE),
                _count(sampling, "frames"),
                sampling["strata"].each(JsonValue.text),
                sampling["min_gap"].duration_ms(),
                sampling["quiet"].share(),
            )
            return LockedScout(settings, _result(top["scout"], times))
    raise sampling["strategy"].wrong("a strategy")


def _version(sampling: JsonValue) -> int:
    return sampling.get("version", 1).whole(1, SAMPLING_VERSION)


def _count(sampling: JsonValue, unit: str) -> Count:
    total, per_camera = (
        sampling[name].optional(lambda value: value.whole(0, _MAX_COUNT)) for name in (unit, f"{unit}_per_camera")
    )
    if total is not None and per_camera is None:
        return Count(total, False)
    if per_camera is not None and total is None:
        return Count(per_camera, True)
    raise sampling.wrong(f"one of {unit} and {unit}_per_camera")


def _result(scout: JsonValue, times: ScoutTimes) -> ScoutResult:
    return ScoutResult(
        times,
        content_sha256=scout["content_sha256"].text(),
        **{
            name: scout[name].whole(low=0)
            for name in ("pass_frames", "pass_ok", "new", "events", "covered", "chosen")
        },
        shortfalls=scout["shortfalls"].each(_shortfall),
        notes=scout["notes"].each(JsonValue.text),
        inputs_sha256=scout["inputs_sha256"].text(),
    )


def _shortfall(value: JsonValue) -> Shortfall:
    return Shortfall(
        value["camera_name"].optional(JsonValue.text),
        value["local_hour"].optional(JsonValue.whole),
        value["available"].whole(),
        value["wanted"].whole(),
        value.get("weekday").optional(lambda day: day.whole(0, len(WEEKDAY_NAMES) - 1)),
        value.get("light").optional(JsonValue.text),
        value.get("reason", NO_MORE_TIME).text(),
    )


def _splits(splits: JsonValue) -> Splits:
    # The name becomes a part of file names.
    fractions: Fractions = tuple(splits["fractions"].named_entries(check_split_name, JsonValue.share).items())
    if not 0 < len(fractions) <= MAX_SPLITS:
        raise splits["fractions"].wrong(f"1 to {MAX_SPLITS} splits")
    by = splits["by"].text()
    if by == TimeSplits.by:
        return TimeSplits(splits["block"].duration_ms(1), splits["embargo"].duration_ms(), fractions)
    assign: Assignments = tuple(splits["assign"].entries(lambda names: names.each(JsonValue.text)).items())
    match by:
        case CameraSplits.by:
            return CameraSplits(fractions, assign)
        case LocationSplits.by:
            return LocationSplits(fractions, assign)
        case DeploymentSplits.by:
            return DeploymentSplits(fractions, assign)
        case ColumnSplits.by:
            return ColumnSplits(splits["column"].text(), fractions, assign)
    raise splits["by"].wrong("a kind of split")


def _check_references(lock: Lock) -> None:
    """Raise ValueError where one part of the lock names another that does not exist."""
    if not lock.cameras:
        raise ValueError("cameras: expected at least one")
    uuids = [camera.uuid for camera in lock.cameras]
    if sorted(set(uuids)) != uuids:
        raise ValueError("cameras: expected each once, sorted by UUID")
    if len(lock.views) > _MAX_VIEWS:
        raise ValueError(f"views: expected at most {_MAX_VIEWS}")
    for camera in lock.cameras:
        if not camera.views or len(set(camera.views)) != len(camera.views):
            raise ValueError(f"cameras: {camera.name}: expected at least one view, each once")
        if sorted(set(camera.deployments)) != list(camera.deployments):
            raise ValueError(f"cameras: {camera.name}: expected deployments in the order of time")
        if camera.timezone not in lock.zones:
            raise ValueError(f"cameras: {camera.name}: no zone {camera.timezone!r:.60} in the lock")
        for view in camera.views:
            if view not in lock.views:
                raise ValueError(f"cameras: {camera.name}: no view {view!r:.60} in the lock")
    if any(not zone.offsets for zone in lock.zones.values()):
        raise ValueError("zones: expected at least one offset of each")
    if lock.times is not None and not np.isin(lock.times.camera, np.arange(len(lock.cameras))).all():
        raise ValueError(f"{layout.LOCK_TIMES_FILE}: it names a camera that the lock does not have")
    if isinstance(lock.splits, ColumnSplits) and not isinstance(lock.times, GroupedTimes):
        raise ValueError(f"{layout.LOCK_TIMES_FILE}: expected the column group, by which the plan splits")
