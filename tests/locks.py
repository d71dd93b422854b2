"""Locks for tests, without a plan or a time-zone database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.local_time import DAY_MS, HOUR_MS, Intervals
from rhombus_dataset.planning.lock import Lock, LockedCamera, LockedZone, Times
from rhombus_dataset.planning.schedule import Schedule

JANUARY_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
VIEWS = {"full": Geometry(2), "door": Geometry(1, 2500, 1000, 5000, 6000)}
WEEK: Intervals = ((JANUARY_MS, JANUARY_MS + 7 * DAY_MS),)


def uuid(number: int) -> str:
    return f"{number:022d}.v0"


def camera(number: int, zone: str = "Here", views: Sequence[str] = ("full",)) -> LockedCamera:
    return LockedCamera(uuid(number), f"camera-{number}", "HQ", zone, tuple(views), ())


def sampling(strategy: str, **given: Any) -> dict[str, Any]:
    defaults: dict[str, dict[str, Any]] = {
        "interval": {"every": HOUR_MS, "jitter": 0},
        "random": {"frames": None, "frames_per_camera": None, "min_gap": 1000},
        "stratified": {
            "frames": None,
            "frames_per_camera": None,
            "strata": ["camera", "hour"],
            "min_gap": 1000,
        },
        "burst": {
            "bursts": None,
            "bursts_per_camera": None,
            "frames_per_burst": 3,
            "spacing": 500,
            "min_gap": 1000,
        },
        "timestamps": {},
    }
    return {"strategy": strategy, **defaults[strategy], **given}


def lock(
    strategy: Mapping[str, Any],
    cameras: Sequence[LockedCamera] = (camera(1),),
    windows: Mapping[str, Intervals] | Intervals = WEEK,
    splits: dict[str, Any] | None = None,
    seed: int = 7,
    times: Times | None = None,
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
        source={"type": "rhombus", "url": "https://example.com"},
        cameras=tuple(sorted(cameras, key=lambda c: c.uuid)),
        views=VIEWS,
        zones={zone: LockedZone(offsets, of_zone) for zone, of_zone in sorted(windows.items())},
        sampling=dict(strategy),
        splits=splits,
        data_format=data_format,
        frames_per_shard=frames_per_shard,
        times=times,
    )


def by_camera(schedule: Schedule) -> dict[str, dict[int, str]]:
    """The split of each planned time, by camera UUID."""
    found: dict[str, dict[int, str]] = {}
    for row in range(len(schedule)):
        request = schedule.request(row)
        found.setdefault(request.camera_uuid, {})[request.timestamp_ms] = schedule.splits[schedule.split[row]]
    return found
