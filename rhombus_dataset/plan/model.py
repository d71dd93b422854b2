"""The plan's vocabulary as types. What stands in a ``Plan`` is valid; nobody checks it again.

Validators read values as a person writes them (``5m``, ``25%``, ``06:00-20:00``); the fields hold them in one
unit.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from rhombus_dataset.config.validation import shown
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan import values
from rhombus_dataset.plan.values import (
    DateValue,
    DurationMs,
    Flag,
    Number,
    Permyriad,
    Slug,
    SplitName,
    Text,
    Uuid,
    Whole,
    Zone,
)

DAY_MS = 86_400_000


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Auth(Model):
    """How requests are signed. The key itself comes from the environment, never from a plan."""

    scheme: Literal["api-token", "partner-api-token", "api", "partner-api"] = "api-token"
    org: Text | None = Field(None, description="The organisation of a partner's call (x-auth-org).")
    certificate: Path | None = Field(None, description="Client certificate, PEM; for scheme api.")
    certificate_key: Path | None = Field(None, description="Its private key, if in a file of its own.")

    @model_validator(mode="after")
    def _certificate(self) -> Self:
        if self.scheme == "api" and self.certificate is None:
            raise ValueError("scheme api signs with a client certificate: give certificate, a PEM file")
        return self


class Limits(Model):
    """How hard the source is asked. The cloud's rate limit belongs to the whole organisation."""

    requests_per_second: Annotated[Number, Field(gt=0, le=100_000)] = 5.0
    burst: Annotated[Whole, Field(ge=1, le=100_000)] = 20
    concurrency: Annotated[Whole, Field(ge=1, le=256)] = 16
    per_camera: Annotated[Whole, Field(ge=1, le=256)] = 4
    timeout: Annotated[DurationMs, Field(ge=1_000, le=600_000)] = 30_000
    tries: Annotated[Whole, Field(ge=1, le=20)] = 6
    deadline: Annotated[DurationMs, Field(ge=1_000, le=86_400_000)] = Field(
        300_000, description="For a frame as a whole, its pauses included; what a 429 asks for doesn't count."
    )
    min_success_rate: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.1, description="A build stops when fewer of its last 200 frames came; 0 never stops it."
    )


def check_url(value: Any) -> str:
    """An address of the API, without a slash at its end. Raises ValueError for anything else."""
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"expected an address such as https://api2.rhombussystems.com, got {shown(value)}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("expected an address without user, password, query or fragment")
    return str(value).rstrip("/")


class RhombusSource(Model):
    """The camera cloud, or anything that answers its API."""

    type: Literal["rhombus"]
    url: Annotated[str, BeforeValidator(check_url)] = "https://api2.rhombussystems.com"
    auth: Auth = Auth()
    limits: Limits = Limits()
    allow_plain_http: Flag = Field(False, description="Send the key unencrypted to another machine.")

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        check_encrypted(self.url, self.allow_plain_http)
        return self


def check_encrypted(url: str, allowed: bool) -> None:
    """Raises ValueError for plain HTTP to another machine: it would show the key to everyone between."""
    parts = urlsplit(url)
    if parts.scheme == "https" or allowed:
        return
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise ValueError(f"plain http would send the key unencrypted to {host}: use https")


class RecordingsSource(Model):
    """Video files on this machine, as a site file describes them, without HTTP."""

    type: Literal["recordings"]
    site: Path
    limits: Limits = Limits(requests_per_second=100_000, burst=1_000, concurrency=4)


Point = Annotated[tuple[Permyriad, Permyriad], Field()]


class LocalTime(Model):
    """A moment as written: a wall-clock time of the camera's, one with an offset, or now."""

    local: dt.datetime | None = None
    utc_ms: int | None = None
    now: bool = False


Moment = Annotated[
    LocalTime,
    BeforeValidator(lambda v: v if isinstance(v, LocalTime) else values.parse_moment(v)),
    values.MomentSchema,
]


class Camera(Model):
    """A camera by its UUID, with what holds for all of its frames."""

    uuid: Uuid
    name: Text
    timezone: Zone
    location: Text | None = None
    views: tuple[str, ...] = Field((), description="Names of views; all of them where none are given.")
    masks: tuple[Annotated[tuple[Point, ...], Field(min_length=3)], ...] = Field(
        (), description="Polygons that are painted black: [x, y] points of the full frame."
    )
    deployments: Annotated[tuple[Moment, ...], Field(max_length=1_000)] = Field(
        (), description="When the camera was moved, turned or replaced: each begins another deployment."
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, dict) and "name" not in data and isinstance(data.get("uuid"), str):
            return {**data, "name": data["uuid"]}
        return data


class CropInput(Model):
    """The part of the full frame that a view shows."""

    x: Permyriad
    y: Permyriad
    width: Permyriad
    height: Permyriad

    @model_validator(mode="after")
    def _inside(self) -> Self:
        Geometry(1, self.x, self.y, self.width, self.height)
        return self


class View(Model):
    """A crop, or the full frame, and how much smaller it is asked for."""

    downscale: Annotated[Whole, Field(ge=1, le=64)] = 1
    crop: CropInput | None = None

    @property
    def geometry(self) -> Geometry:
        if self.crop is None:
            return Geometry(self.downscale)
        return Geometry(self.downscale, self.crop.x, self.crop.y, self.crop.width, self.crop.height)


class DailyRange(Model):
    """Minutes of the local day, [start, end)."""

    start_minute: int
    end_minute: int


class Window(Model):
    """When frames may be from: start included, end excluded, by the camera's local clock."""

    start: Moment
    end: Moment
    daily: Annotated[
        tuple[DailyRange, ...],
        BeforeValidator(lambda v: v if isinstance(v, tuple) else values.parse_daily(v)),
        values.DailySchema,
    ] = ()
    weekdays: Annotated[
        tuple[int, ...],
        BeforeValidator(lambda v: v if isinstance(v, tuple) else values.parse_weekdays(v)),
        values.WeekdaysSchema,
    ] = (0, 1, 2, 3, 4, 5, 6)
    exclude: tuple[DateValue, ...] = Field((), description="Local dates that are left out.")


Count = Annotated[Whole, Field(ge=1, le=200_000_000)]


class IntervalSampling(Model):
    """A frame every so often, anchored at the camera's local midnight."""

    strategy: Literal["interval"]
    every: Annotated[DurationMs, Field(ge=1, le=DAY_MS)]
    jitter: DurationMs = 0

    @model_validator(mode="after")
    def _jitter(self) -> Self:
        if self.jitter > self.every:
            raise ValueError(f"jitter ({self.jitter} ms) must not be longer than every ({self.every} ms)")
        return self


class RandomSampling(Model):
    """A number of frames, uniformly over the windows."""

    strategy: Literal["random"]
    frames: Count | None = None
    frames_per_camera: Count | None = None
    min_gap: Annotated[DurationMs, Field(le=DAY_MS * 366)] = 1_000
    top_up: Flag = Field(False, description="Draw others for frames that turn out to be missing.")


class StratifiedSampling(Model):
    """A number of frames, spread evenly over strata."""

    strategy: Literal["stratified"]
    frames: Count | None = None
    frames_per_camera: Count | None = None
    strata: Annotated[tuple[Literal["camera", "hour", "weekday"], ...], Field(min_length=1)] = ("camera", "hour")
    min_gap: Annotated[DurationMs, Field(le=DAY_MS * 366)] = 1_000
    top_up: Flag = Field(False, description="Draw others for frames that turn out to be missing.")


class BurstSampling(Model):
    """Groups of frames a fixed time apart."""

    strategy: Literal["burst"]
    bursts: Count | None = None
    bursts_per_camera: Count | None = None
    frames_per_burst: Annotated[Whole, Field(ge=1, le=10_000)]
    spacing: Annotated[DurationMs, Field(ge=1, le=DAY_MS)]
    min_gap: Annotated[DurationMs, Field(le=DAY_MS * 366)] = 1_000


class ScoutSampling(Model):
    """A cheap pass of small frames first; then full frames of what is new in them."""

    strategy: Literal["scout"]
    every: Annotated[DurationMs, Field(ge=1, le=DAY_MS)] = Field(
        description="A small frame so often: shorter than what is looked for stays in the image."
    )
    downscale: Annotated[Whole, Field(ge=1, le=64)] = Field(8, description="Of the small frames.")
    frames: Count | None = None
    frames_per_camera: Count | None = None
    strata: Annotated[tuple[Literal["camera", "hour", "weekday", "light"], ...], Field(min_length=1)] = (
        "camera",
        "hour",
    )
    min_gap: Annotated[DurationMs, Field(le=DAY_MS * 366)] = 1_000
    quiet: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.05, description="The share of frames that show nothing new: a model has to see the empty scene too."
    )
    top_up: Flag = False


class TimestampsSampling(Model):
    """The moments of a CSV or Parquet file with the columns camera and timestamp_ms or timestamp."""

    strategy: Literal["timestamps"]
    file: Path


Sampling = Annotated[
    IntervalSampling | RandomSampling | StratifiedSampling | BurstSampling | TimestampsSampling | ScoutSampling,
    Field(discriminator="strategy"),
]

Fractions = Annotated[dict[SplitName, Annotated[Number, Field(gt=0, le=1)]], Field(min_length=1, max_length=20)]


class TimeSplits(Model):
    """Blocks of UTC time, the same for all cameras, with a gap where the split changes."""

    by: Literal["time"]
    block: Annotated[DurationMs, Field(ge=1_000, le=DAY_MS * 366)]
    embargo: DurationMs = 0
    fractions: Fractions

    @model_validator(mode="after")
    def _embargo(self) -> Self:
        if self.embargo >= self.block:
            raise ValueError(f"embargo ({self.embargo} ms) must be shorter than block ({self.block} ms)")
        return self


class CameraSplits(Model):
    """Whole cameras, by hash or as assigned."""

    by: Literal["camera"]
    fractions: Fractions
    assign: dict[str, tuple[str, ...]] = {}


class LocationSplits(Model):
    """Whole locations with all their cameras, by hash or as assigned."""

    by: Literal["location"]
    fractions: Fractions
    assign: dict[str, tuple[str, ...]] = {}


class DeploymentSplits(Model):
    """Whole deployments, by hash or as assigned: a camera that was moved, turned or blocked begins another.

    ``assign`` names a camera for all of its deployments, or one as camera@start."""

    by: Literal["deployment"]
    fractions: Fractions
    assign: dict[str, tuple[str, ...]] = {}


class ColumnSplits(Model):
    """By a column of a timestamps file: rows that say the same are in one split, by hash or as assigned."""

    by: Literal["column"]
    column: Annotated[str, Field(min_length=1, max_length=100)]
    fractions: Fractions
    assign: dict[str, tuple[str, ...]] = {}


Splits = Annotated[
    TimeSplits | CameraSplits | LocationSplits | DeploymentSplits | ColumnSplits, Field(discriminator="by")
]


class Dedup(Model):
    """Frames that repeat an earlier one of their camera, view and split are listed, and readers pass over them."""

    within: Annotated[DurationMs, Field(ge=1_000, le=DAY_MS)] = 600_000


class Output(Model):
    """How the dataset is stored."""

    format: Literal["parquet", "jpeg"] = "parquet"
    frames_per_shard: Annotated[Whole, Field(ge=1, le=100_000)] = 1000


class Plan(Model):
    """A sampling plan: which frames of which cameras, and the dataset that they make."""

    version: Literal[1]
    name: Slug
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    source: Annotated[RhombusSource | RecordingsSource, Field(discriminator="type")]
    cameras: Annotated[tuple[Camera, ...], Field(min_length=1, max_length=10_000)]
    views: dict[Slug, Annotated[Geometry, WithJsonSchema({"type": "object"})]] = {"full": Geometry()}
    windows: Annotated[tuple[Window, ...], Field(max_length=1_000)] = ()
    sampling: Sampling
    splits: Splits | None = None
    dedup: Dedup | None = None
    output: Output = Output()
