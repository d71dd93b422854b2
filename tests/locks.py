"""Locks for tests, without a plan or a time-zone database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS, Intervals
from rhombus_dataset.planning.lock import (
    Count,
    Lock,
    LockedBurst,
    LockedCamera,
    LockedInterval,
    LockedRandom,
    LockedSource,
    LockedStratified,
    LockedZone,
    Splits,
    Strategy,
)
from rhombus_dataset.planning.schedule import Schedule

JANUARY_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
VIEWS = {"full": Geometry(2), "door": Geometry(1, 2500, 1000, 5000, 6000)}
COUNTS = ("frames", "frames_per_camera", "bursts", "bursts_per_camera")
WEEK: Intervals = ((JANUARY_MS, JANUARY_MS + 7 * DAY_MS),)


def uuid(number: int) -> str:
    return f"{number:022d}.v0"


def camera(number: int, zone: str = "Here", views: Sequence[str] = ("full",)) -> LockedCamera:
    return LockedCamera(uuid(number), f"camera-{number}", "HQ", zone, tuple(views), ())


def sampling(strategy: str, **given: Any) -> Strategy:
    """A strategy by its name, with the fields of a plan: times in ms, ``frames_per_camera`` instead of a total."""
    gap_ms = given.pop("min_gap", 1000)
    counts = {name: given.pop(name) for name in COUNTS if name in given}
    count = Count(0, per_camera=False)
    for name, number in counts.items():
        count = Count(number, per_camera=name.endswith("_per_camera"))
    match strategy:
        case "interval":
            return LockedInterval(given.pop("every", HOUR_MS), given.pop("jitter", 0), **given)
        case "random":
            return LockedRandom(count, gap_ms, **given)
        case "stratified":
            return LockedStratified(count, tuple(given.pop("strata", ("camera", "hour"))), gap_ms, **given)
        case "burst":
            size, spacing_ms = given.pop("frames_per_burst", 3), given.pop("spacing", 500)
            return LockedBurst(count, size, spacing_ms, gap_ms, **given)
    raise ValueError(strategy)


def lock(
    strategy: Strategy,
    cameras: Sequence[LockedCamera] = (camera(1),),
    windows: Mapping[str, Intervals] | Intervals = WEEK,
    splits: Splits | None = None,
    seed: int = 7,
    frames_per_shard: int = 1000,
    data_format: Literal["parquet", "jpeg"] = "parquet",
) -> Lock:
    """A lock with zones that no database knows: eight hours behind UTC, seven from the fourth day on."""
    offsets = (
        (JANUARY_MS - 400 * DAY_MS, -8 * HOUR_MS),
        (JANUARY_MS + 3 * DAY_MS + 10 * HOUR_MS, -7 * HOUR_MS),
    )
    if not isinstance(windows, Mapping):
        windows = {c.timezone: windows for c in cameras}
    return Lock(
        name="test",
        seed=seed,
        now_ms=JANUARY_MS + 400 * DAY_MS,
        source=LockedSource("rhombus", "https://example.com"),
        cameras=tuple(sorted(cameras, key=lambda c: c.uuid)),
        views=VIEWS,
        zones={zone: LockedZone(offsets, of_zone) for zone, of_zone in sorted(windows.items())},
        sampling=strategy,
        splits=splits,
        data_format=data_format,
        frames_per_shard=frames_per_shard,
    )


def by_camera(schedule: Schedule) -> dict[str, dict[int, str]]:
    """The split of each planned time, by camera UUID."""
    found: dict[str, dict[int, str]] = {}
    for row in range(len(schedule)):
        request = schedule.request(row)
        found.setdefault(request.camera_uuid, {})[request.timestamp_ms] = schedule.splits[schedule.split[row]]
    return found
