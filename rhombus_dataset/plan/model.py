"""The types of a plan. A ``Plan`` is valid: later code does not check it again.

Validators read values as a person writes them (``5m``, ``25%``, ``06:00-20:00``); the fields hold them in one
unit (milliseconds, permyriads, minutes). The descriptions are shown in the JSON Schema and in the plan reference.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan import values
from rhombus_dataset.plan.sampling_model import (
    BurstSampling,
    IntervalSampling,
    RandomSampling,
    Sampling,
    ScoutSampling,
    StratifiedSampling,
    TimestampsSampling,
)
from rhombus_dataset.plan.source_model import (
    Auth,
    Limits,
    Model,
    RecordingsSource,
    RhombusSource,
    check_encrypted,
    check_url,
)
from rhombus_dataset.plan.values import (
    DAY_MS,
    DateValue,
    DurationMs,
    Number,
    Permyriad,
    Slug,
    SplitName,
    Text,
    Uuid,
    Whole,
    Zone,
)

__all__ = [
    "Auth",
    "BurstSampling",
    "Camera",
    "CameraSplits",
    "ColumnSplits",
    "CropInput",
    "DailyRange",
    "Dedup",
    "DeploymentSplits",
    "IntervalSampling",
    "Limits",
    "LocalTime",
    "LocationSplits",
    "Model",
    "Moment",
    "Output",
    "Plan",
    "RandomSampling",
    "RecordingsSource",
    "RhombusSource",
    "Sampling",
    "ScoutSampling",
    "Splits",
    "StratifiedSampling",
    "TimeSplits",
    "TimestampsSampling",
    "View",
    "Window",
    "check_encrypted",
    "check_url",
]

Point = Annotated[tuple[Permyriad, Permyriad], Field()]


class LocalTime(Model):
    """A time as written: the camera's local time, a time with a UTC offset, or now."""

    local: dt.datetime | None = None
    utc_ms: int | None = None
    now: bool = False


Moment = Annotated[
    LocalTime,
    BeforeValidator(lambda v: v if isinstance(v, LocalTime) else values.parse_moment(v)),
    values.MomentSchema,
]


class Camera(Model):
    """A camera by its UUID, with the settings of all of its frames."""

    uuid: Uuid = Field(
        description="UUID of the camera: 22 characters, with an optional facet such as `.v0`.",
        examples=["AAAAAAAAAAAAAAAAAAAAAA"],
    )
    name: Text = Field(description="Name in tables and files. Default: the UUID.", examples=["dock-north"])
    timezone: Zone = Field(
        description="IANA time zone of the camera. Local times in the plan refer to it.",
        examples=["America/Los_Angeles"],
    )
    location: Text | None = Field(
        None, description="Name of its location. Required for `splits: {by: location}`.", examples=["Oakland"]
    )
    views: tuple[str, ...] = Field((), description="Names of its views. Default: all views.", examples=[["full"]])
    masks: tuple[Annotated[tuple[Point, ...], Field(min_length=3)], ...] = Field(
        (),
        description="Privacy masks: polygons that are painted black before anything is stored. "
        "Each point is [x, y] in the full frame.",
        examples=[[[["0%", "0%"], ["25%", "0%"], ["25%", "18%"]]]],
    )
    deployments: Annotated[tuple[Moment, ...], Field(max_length=1_000)] = Field(
        (),
        description="Times at which the camera was moved, turned or replaced. Each starts a new deployment.",
        examples=[["2026-06-03T14:20"]],
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, dict) and "name" not in data and isinstance(data.get("uuid"), str):
            return {**data, "name": data["uuid"]}
        return data


class CropInput(Model):
    """The part of the full frame that a view shows, in percent or permyriads (1/10000)."""

    x: Permyriad = Field(description="Left edge, as a share of the frame's width.", examples=["25%"])
    y: Permyriad = Field(description="Upper edge, as a share of the frame's height.", examples=["10%"])
    width: Permyriad = Field(description="Width, as a share of the frame's width.", examples=["50%"])
    height: Permyriad = Field(description="Height, as a share of the frame's height.", examples=["60%"])

    @model_validator(mode="after")
    def _inside(self) -> Self:
        Geometry(1, self.x, self.y, self.width, self.height)
        return self


class View(Model):
    """A crop of the frame, or the full frame, at full or reduced size."""

    downscale: Annotated[Whole, Field(ge=1, le=64)] = Field(
        1, description="Number by which the width and the height are divided.", examples=[2]
    )
    crop: CropInput | None = Field(None, description="Part of the frame. Default: the full frame.")

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
    """A span of time from which frames may be taken. Start included, end excluded."""

    start: Moment = Field(
        description="A date (local midnight), a local time, or a time with a UTC offset.", examples=["2026-06-01"]
    )
    end: Moment = Field(description="As `start`, or `now`.", examples=["2026-07-01T06:00"])
    daily: Annotated[
        tuple[DailyRange, ...],
        BeforeValidator(lambda v: v if isinstance(v, tuple) else values.parse_daily(v)),
        values.DailySchema,
    ] = Field(
        (),
        description="Hours of the camera's local clock. A range may cross midnight. Default: the whole day.",
        examples=[["06:00-20:00"]],
    )
    weekdays: Annotated[
        tuple[int, ...],
        BeforeValidator(lambda v: v if isinstance(v, tuple) else values.parse_weekdays(v)),
        values.WeekdaysSchema,
    ] = Field((0, 1, 2, 3, 4, 5, 6), description="Local days of the week.", examples=[["mon", "tue", "wed"]])
    exclude: tuple[DateValue, ...] = Field(
        (), description="Local dates that are left out, such as holidays.", examples=[["2026-06-19"]]
    )


Fractions = Annotated[
    dict[SplitName, Annotated[Number, Field(gt=0, le=1)]],
    Field(
        min_length=1,
        max_length=20,
        description="Name and share of each split. The shares sum to 1.",
        examples=[{"train": 0.8, "test": 0.2}],
    ),
]


class TimeSplits(Model):
    """Split by blocks of UTC time. The blocks are the same for all cameras."""

    by: Literal["time"] = Field(description="Blocks of time.", examples=["time"])
    block: Annotated[DurationMs, Field(ge=1_000, le=DAY_MS * 366)] = Field(
        description="Length of a block. All frames of a block are in one split.", examples=["1h"]
    )
    embargo: DurationMs = Field(
        0, description="Gap without frames where the split changes. Shorter than `block`.", examples=["5m"]
    )
    fractions: Fractions

    @model_validator(mode="after")
    def _embargo(self) -> Self:
        if self.embargo >= self.block:
            raise ValueError(f"embargo ({self.embargo} ms) must be shorter than block ({self.block} ms)")
        return self


class CameraSplits(Model):
    """Split by camera: all frames of a camera are in one split, by a hash or as assigned."""

    by: Literal["camera"] = Field(description="Whole cameras.", examples=["camera"])
    fractions: Fractions
    assign: dict[str, tuple[str, ...]] = Field(
        {}, description="Cameras of a split, by name or UUID.", examples=[{"test": ["gate-east"]}]
    )


class LocationSplits(Model):
    """Split by location: all cameras of a location are in one split, by a hash or as assigned."""

    by: Literal["location"] = Field(description="Whole locations.", examples=["location"])
    fractions: Fractions
    assign: dict[str, tuple[str, ...]] = Field(
        {}, description="Locations of a split, by name.", examples=[{"test": ["Berlin"]}]
    )


class DeploymentSplits(Model):
    """Split by deployment: all frames of a deployment are in one split, by a hash or as assigned.

    A camera that is moved, turned or blocked starts a new deployment."""

    by: Literal["deployment"] = Field(description="Whole deployments.", examples=["deployment"])
    fractions: Fractions
    assign: dict[str, tuple[str, ...]] = Field(
        {},
        description="Deployments of a split: a camera for all of its deployments, or camera@start for one.",
        examples=[{"test": ["dock-north@first"]}],
    )


class ColumnSplits(Model):
    """Split by a column of a timestamps file: rows with the same value are in one split."""

    by: Literal["column"] = Field(description="Values of a column.", examples=["column"])
    column: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        description="Name of the column in the timestamps file.", examples=["shift"]
    )
    fractions: Fractions
    assign: dict[str, tuple[str, ...]] = Field({}, description="Values of a split.", examples=[{"test": ["night"]}])


Splits = Annotated[
    TimeSplits | CameraSplits | LocationSplits | DeploymentSplits | ColumnSplits, Field(discriminator="by")
]


class Dedup(Model):
    """List near-duplicates: frames that repeat an earlier frame of the same camera, view and split.

    Readers and exports skip them."""

    within: Annotated[DurationMs, Field(ge=1_000, le=DAY_MS)] = Field(
        600_000, description="Maximum time between a frame and the frame that it repeats.", examples=["10m"]
    )


class Output(Model):
    """How the dataset is stored."""

    format: Literal["parquet", "jpeg"] = Field(
        "parquet",
        description="`parquet` stores images in Parquet files, `jpeg` as single files.",
        examples=["jpeg"],
    )
    frames_per_shard: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        1000, description="Number of planned frames in a shard.", examples=[1000]
    )


class Plan(Model):
    """A sampling plan: which frames of which cameras, and how the dataset is stored."""

    version: Literal[1] = Field(description="Version of the plan format.", examples=[1])
    name: Slug = Field(description="Name of the dataset.", examples=["loading-dock"])
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = Field(
        0, description="Seed of all random choices. Another seed draws another sample.", examples=[7]
    )
    source: Annotated[RhombusSource | RecordingsSource, Field(discriminator="type")] = Field(
        description="Where frames come from."
    )
    cameras: Annotated[tuple[Camera, ...], Field(min_length=1, max_length=10_000)] = Field(
        description="The cameras."
    )
    views: dict[Slug, Annotated[Geometry, WithJsonSchema({"type": "object"})]] = Field(
        {"full": Geometry()},
        description="Views by name. Each moment gives one frame for each view. Default: the full frame, as `full`.",
    )
    windows: Annotated[tuple[Window, ...], Field(max_length=1_000)] = Field(
        (), description="Times from which frames may be taken. Optional with strategy `timestamps` only."
    )
    sampling: Sampling = Field(description="How the moments are chosen.")
    splits: Splits | None = Field(None, description="Division into splits. Default: one split, `all`.")
    dedup: Dedup | None = Field(None, description="Near-duplicates. Default: they are not searched for.")
    output: Output = Field(Output(), description="Format of the images, and size of the shards.")
