"""The plan's vocabulary as types. What stands in a ``Plan`` is valid; nobody checks it again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rhombus_dataset.geometry import Geometry, Polygon

# Placeholder types: the parsing (durations, crops, times) hangs on these as validators.
DurationMs = Annotated[int, Field(ge=0)]
SplitName = str


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Auth(Model):
    scheme: Literal["api-token", "partner-api-token", "api", "partner-api"] = "api-token"
    org: str | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None


class Limits(Model):
    requests_per_second: float = 5.0
    burst: int = 20
    concurrency: int = 16
    per_camera: int = 4
    timeout: DurationMs = 30_000
    tries: int = 6


class RhombusSource(Model):
    type: Literal["rhombus"]
    url: str = "https://api2.rhombussystems.com"
    auth: Auth = Auth()
    limits: Limits = Limits()
    allow_plain_http: bool = False


class RecordingsSource(Model):
    type: Literal["recordings"]
    site: Path  # absolute once parsed: relative to the plan's folder
    limits: Limits = Limits()


class Camera(Model):
    uuid: str  # canonical, with facet
    name: str
    timezone: str  # IANA
    location: str | None = None
    views: tuple[str, ...]  # view names; all of the plan's where none are given
    masks: tuple[Polygon, ...] = ()


class DailyRange(Model):
    """Minutes of the local day, [start, end), start < end <= 1440; ranges past midnight come as two."""

    start_minute: int
    end_minute: int


class LocalTime(Model):
    """A point in time as written: a wall-clock time of the camera's, or one with an offset (UTC)."""

    local: dt.datetime | None = None  # naive
    utc_ms: int | None = None
    now: bool = False


class Window(Model):
    start: LocalTime
    end: LocalTime
    daily: tuple[DailyRange, ...] = ()  # empty: the whole day
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)  # Monday is 0
    exclude: tuple[dt.date, ...] = ()  # local dates


class IntervalSampling(Model):
    strategy: Literal["interval"]
    every: DurationMs  # 1 ms ... 24 h
    jitter: DurationMs = 0  # <= every


class RandomSampling(Model):
    strategy: Literal["random"]
    frames: int | None = None
    frames_per_camera: int | None = None  # exactly one of the two
    min_gap: DurationMs = 1_000


class StratifiedSampling(Model):
    strategy: Literal["stratified"]
    frames: int | None = None
    frames_per_camera: int | None = None
    strata: tuple[Literal["camera", "hour"], ...] = ("camera", "hour")
    min_gap: DurationMs = 1_000


class BurstSampling(Model):
    strategy: Literal["burst"]
    bursts: int | None = None
    bursts_per_camera: int | None = None
    frames_per_burst: int
    spacing: DurationMs
    min_gap: DurationMs = 1_000  # between the end of a burst and the start of the next


class TimestampsSampling(Model):
    strategy: Literal["timestamps"]
    file: Path  # absolute once parsed; CSV or Parquet with camera and timestamp(_ms)


Sampling = Annotated[
    IntervalSampling | RandomSampling | StratifiedSampling | BurstSampling | TimestampsSampling,
    Field(discriminator="strategy"),
]


class TimeSplits(Model):
    by: Literal["time"]
    block: DurationMs
    embargo: DurationMs = 0
    fractions: dict[SplitName, float]


class CameraSplits(Model):
    by: Literal["camera"]
    fractions: dict[SplitName, float]
    assign: dict[SplitName, tuple[str, ...]] = {}  # split -> camera names or UUIDs


Splits = Annotated[TimeSplits | CameraSplits, Field(discriminator="by")]


class Output(Model):
    format: Literal["parquet", "jpeg"] = "parquet"
    frames_per_shard: int = 1000


class Plan(Model):
    version: Literal[1]
    name: str
    seed: int = 0
    source: Annotated[RhombusSource | RecordingsSource, Field(discriminator="type")]
    cameras: tuple[Camera, ...]
    views: dict[str, Geometry]  # {"full": Geometry()} where the plan has none
    windows: tuple[Window, ...]  # may be empty with strategy timestamps only
    sampling: Sampling
    splits: Splits | None = None
    output: Output = Output()
