"""The types of a plan's ``sampling``: one class for each strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rhombus_dataset.plan.source_model import Model
from rhombus_dataset.plan.values import DAY_MS, DurationMs, Flag, Number, Whole

Count = Annotated[Whole, Field(ge=1, le=200_000_000)]
Frames = Annotated[
    Count | None,
    Field(
        description="Number of moments over all cameras. Give either `frames` or `frames_per_camera`.",
        examples=[2000],
    ),
]
FramesPerCamera = Annotated[Count | None, Field(description="Number of moments of each camera.", examples=[500])]
MinGap = Annotated[
    DurationMs,
    Field(le=DAY_MS * 366, description="Minimum time between two moments of one camera.", examples=["30s"]),
]
TopUp = Annotated[
    Flag, Field(description="Draw other frames in place of frames that turn out to be missing.", examples=[True])
]


class IntervalSampling(Model):
    """A frame at a fixed interval, counted from the camera's local midnight."""

    strategy: Literal["interval"] = Field(description="Fixed interval.", examples=["interval"])
    every: Annotated[DurationMs, Field(ge=1, le=DAY_MS)] = Field(description="The interval.", examples=["5m"])
    jitter: DurationMs = Field(
        0, description="Each frame is up to this much later, at random. At most `every`.", examples=["1m"]
    )

    @model_validator(mode="after")
    def _jitter(self) -> Self:
        if self.jitter > self.every:
            raise ValueError(f"jitter ({self.jitter} ms) must not be longer than every ({self.every} ms)")
        return self


class RandomSampling(Model):
    """A number of frames, uniformly distributed over the windows."""

    strategy: Literal["random"] = Field(description="Uniformly random.", examples=["random"])
    frames: Frames = None
    frames_per_camera: FramesPerCamera = None
    min_gap: MinGap = 1_000
    top_up: TopUp = False


class StratifiedSampling(Model):
    """A number of frames, spread evenly over strata."""

    strategy: Literal["stratified"] = Field(description="Evenly over strata.", examples=["stratified"])
    frames: Frames = None
    frames_per_camera: FramesPerCamera = None
    strata: Annotated[tuple[Literal["camera", "hour", "weekday"], ...], Field(min_length=1)] = Field(
        ("camera", "hour"),
        description="What makes a stratum. `hour` and `weekday` are local.",
        examples=[["camera", "hour", "weekday"]],
    )
    min_gap: MinGap = 1_000
    top_up: TopUp = False


class BurstSampling(Model):
    """Groups of frames with a fixed distance in time."""

    strategy: Literal["burst"] = Field(description="Groups of frames.", examples=["burst"])
    bursts: Count | None = Field(
        None,
        description="Number of bursts over all cameras. Give either `bursts` or `bursts_per_camera`.",
        examples=[100],
    )
    bursts_per_camera: Count | None = Field(None, description="Number of bursts of each camera.", examples=[25])
    frames_per_burst: Annotated[Whole, Field(ge=1, le=10_000)] = Field(
        description="Number of frames of a burst.", examples=[5]
    )
    spacing: Annotated[DurationMs, Field(ge=1, le=DAY_MS)] = Field(
        description="Time between two frames of a burst.", examples=["200ms"]
    )
    min_gap: Annotated[DurationMs, Field(le=DAY_MS * 366)] = Field(
        1_000,
        description="Minimum time between the end of a burst and the start of the next one.",
        examples=["10m"],
    )


class ScoutSampling(Model):
    """A cheap pass of small frames first, then full frames of the moments that show something new."""

    strategy: Literal["scout"] = Field(description="By what small frames show.", examples=["scout"])
    every: Annotated[DurationMs, Field(ge=1, le=DAY_MS)] = Field(
        description="Interval of the small frames. Choose it shorter than the time that an object of interest "
        "stays in the image.",
        examples=["10s"],
    )
    downscale: Annotated[Whole, Field(ge=1, le=64)] = Field(
        8, description="Downscale factor of the small frames.", examples=[8]
    )
    frames: Frames = None
    frames_per_camera: FramesPerCamera = None
    strata: Annotated[tuple[Literal["camera", "hour", "weekday", "light"], ...], Field(min_length=1)] = Field(
        ("camera", "hour"),
        description="What makes a stratum. `light` is day or night, by the brightness of the small frames.",
        examples=[["camera", "light"]],
    )
    min_gap: MinGap = 1_000
    quiet: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.05,
        description="Share of frames that show nothing new. A model needs empty scenes too.",
        examples=[0.1],
    )
    top_up: TopUp = False


class TimestampsSampling(Model):
    """The moments that a CSV or Parquet file lists."""

    strategy: Literal["timestamps"] = Field(description="From a file.", examples=["timestamps"])
    file: Path = Field(
        description="A .csv or .parquet file with the columns `camera` and `timestamp` or `timestamp_ms`. "
        "The path is relative to the plan.",
        examples=["timestamps.csv"],
    )


Sampling = Annotated[
    IntervalSampling | RandomSampling | StratifiedSampling | BurstSampling
    | TimestampsSampling | ScoutSampling,
    Field(discriminator="strategy"),
]  # fmt: skip
