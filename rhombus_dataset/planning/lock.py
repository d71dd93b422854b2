"""The lock: the plan with everything looked up. The schedule is a pure function of it.

Time zones are stored as numbers and a timestamps file as its rows. A later tzdata or an edited CSV therefore
changes nothing. A lock that exists is consistent: what one strategy or one kind of split needs is in its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

from rhombus_dataset.geometry import Geometry, Polygon
from rhombus_dataset.plan.local_time import Intervals, Offsets, utc_text

FIRST_DEPLOYMENT: Final = "first"
WEEKDAY_NAMES: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NO_MORE_TIME: Final = "its windows hold no more time"
"""The usual reason of a shortfall."""


# -- cameras and time zones


@dataclass(frozen=True, slots=True)
class LockedSource:
    """Where the frames come from. ``url`` is the API's address; None for recordings."""

    type: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class LockedCamera:
    """A camera of the plan. ``views`` are names of views, at most one for each geometry.

    ``deployments`` are the times at which the camera was moved, turned or blocked (UTC ms, ascending). A new
    deployment begins at each of them. The time before the first of them is a deployment too."""

    uuid: str
    name: str
    location: str | None
    timezone: str
    views: tuple[str, ...]
    masks: tuple[Polygon, ...]
    deployments: tuple[int, ...] = ()

    @property
    def deployment_names(self) -> tuple[str, ...]:
        """Return the names of the camera's deployments: "first", then the UTC start of each later one."""
        return (FIRST_DEPLOYMENT, *map(utc_text, self.deployments))

    def deployment_groups(self) -> tuple[str, ...]:
        """Return the names by which splits distinguish the deployments.

        The first is the camera's UUID alone, so that a later move does not change its split."""
        return (self.uuid, *(f"{self.uuid}@{name}" for name in self.deployment_names[1:]))


@dataclass(frozen=True, slots=True)
class LockedZone:
    """A time zone over the plan's times: its UTC offsets, and the windows as UTC intervals."""

    offsets: Offsets
    windows: Intervals


# -- times that a lock holds


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """The times of a timestamps file: ``camera`` (int32, an index of the lock's cameras) and ``timestamp_ms``
    (int64, UTC). Sorted by both; each pair occurs once."""

    camera: npt.NDArray[np.int32]
    timestamp_ms: npt.NDArray[np.int64]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False)
class GroupedTimes(Times):
    """Times with the value that a column of the file has for each: ``group`` (int32) is an index of ``groups``."""

    group: npt.NDArray[np.int32]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ScoutTimes(Times):
    """The times that were chosen from a scout pass, with the spare ones.

    ``score`` (float64) is the share of the image that is new. ``reason_code`` (int32) is an index of ``reasons``:
    why each was chosen. ``rank`` (int32) is the place in the order of selection; spare times have the highest."""

    score: npt.NDArray[np.float64]
    reason_code: npt.NDArray[np.int32]
    reasons: tuple[str, ...]
    rank: npt.NDArray[np.int32]


# -- strategies


@dataclass(frozen=True, slots=True)
class Count:
    """How many frames (or bursts) a plan asks for: in total, or of each camera."""

    number: int
    per_camera: bool


@dataclass(frozen=True, slots=True)
class LockedInterval:
    strategy: ClassVar = "interval"
    every_ms: int
    jitter_ms: int


SAMPLING_VERSION: Final = 2
"""The version of the order in which times are drawn. Datasets that were begun by version 1 keep it."""


@dataclass(frozen=True, slots=True)
class LockedRandom:
    strategy: ClassVar = "random"
    count: Count
    min_gap_ms: int
    version: int = SAMPLING_VERSION


@dataclass(frozen=True, slots=True)
class LockedStratified:
    strategy: ClassVar = "stratified"
    count: Count
    strata: tuple[str, ...]
    min_gap_ms: int
    version: int = SAMPLING_VERSION


@dataclass(frozen=True, slots=True)
class LockedBurst:
    """``count`` is of bursts. ``spacing_ms`` is the time between two frames of a burst."""

    strategy: ClassVar = "burst"
    count: Count
    frames_per_burst: int
    spacing_ms: int
    min_gap_ms: int
    version: int = SAMPLING_VERSION


@dataclass(frozen=True, slots=True)
class LockedTimestamps:
    strategy: ClassVar = "timestamps"
    times: Times


@dataclass(frozen=True, slots=True)
class ScoutSettings:
    """What a plan with strategy scout asks for. ``quiet`` is the share of frames that show nothing new (0 to 1)."""

    every_ms: int
    downscale: int
    count: Count
    strata: tuple[str, ...]
    min_gap_ms: int
    quiet: float


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A stratum that cannot give its fair share of frames.

    ``available`` is how many moments it has, at the plan's gap. ``wanted`` is how many each stratum with enough
    moments gives, or an even share if none has enough. None means all cameras, all hours, all days of the week,
    or any light; Monday is 0. ``reason`` says what the stratum lacks.
    """

    camera_name: str | None
    local_hour: int | None
    available: int
    wanted: int
    weekday: int | None = None
    light: str | None = None
    reason: str = NO_MORE_TIME

    @property
    def stratum(self) -> str:
        """Return the stratum in words, such as "dock, Monday, 06:00"."""
        words = [self.camera_name or "all cameras"]
        if self.weekday is not None:
            words.append(WEEKDAY_NAMES[self.weekday])
        if self.local_hour is not None:
            words.append(f"{self.local_hour:02d}:00")
        return ", ".join([*words, *([self.light] if self.light else [])])


@dataclass(frozen=True, slots=True)
class ScoutResult:
    """What was chosen from a scout pass.

    ``content_sha256`` names the content of the pass; ``inputs_sha256`` names the settings of the plan that decide
    the choice. ``pass_frames`` of the pass were planned and ``pass_ok`` received; ``new`` of those show something
    new, in ``events`` events. ``chosen`` moments were chosen, of ``covered`` events; the others in ``times``
    are spare.
    """

    times: ScoutTimes
    content_sha256: str
    pass_frames: int
    pass_ok: int
    new: int
    events: int
    covered: int
    chosen: int
    shortfalls: tuple[Shortfall, ...]
    notes: tuple[str, ...]
    inputs_sha256: str


@dataclass(frozen=True, slots=True)
class LockedScout:
    strategy: ClassVar = "scout"
    settings: ScoutSettings
    result: ScoutResult


Strategy = LockedInterval | LockedRandom | LockedStratified | LockedBurst | LockedTimestamps | LockedScout


# -- splits

Fractions = tuple[tuple[str, float], ...]
"""The name and the share (0 to 1) of each split, in the plan's order, which is the order of the dataset."""
Assignments = tuple[tuple[str, tuple[str, ...]], ...]
"""The names of splits, each with the groups that are assigned to it."""


@dataclass(frozen=True, slots=True)
class TimeSplits:
    """Blocks of UTC time, the same for all cameras, with an embargo where the split changes."""

    by: ClassVar = "time"
    block_ms: int
    embargo_ms: int
    fractions: Fractions


@dataclass(frozen=True, slots=True)
class CameraSplits:
    """Whole cameras; ``assign`` names them by UUID."""

    by: ClassVar = "camera"
    fractions: Fractions
    assign: Assignments


@dataclass(frozen=True, slots=True)
class LocationSplits:
    by: ClassVar = "location"
    fractions: Fractions
    assign: Assignments


@dataclass(frozen=True, slots=True)
class DeploymentSplits:
    """Whole deployments; ``assign`` names all of a camera by its UUID, or one as UUID@start."""

    by: ClassVar = "deployment"
    fractions: Fractions
    assign: Assignments


@dataclass(frozen=True, slots=True)
class ColumnSplits:
    """Rows of a timestamps file that have the same value in a column."""

    by: ClassVar = "column"
    column: str
    fractions: Fractions
    assign: Assignments


GroupSplits = CameraSplits | LocationSplits | DeploymentSplits | ColumnSplits
Splits = TimeSplits | GroupSplits


# -- the lock


@dataclass(frozen=True, slots=True)
class LockedDedup:
    within_ms: int


@dataclass(frozen=True, slots=True)
class Selection:
    """The second stage of a lock: what was chosen from a scout pass.

    ``deployments`` are those that the pass shows, by camera UUID (UTC ms).
    """

    result: ScoutResult
    deployments: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Lock:
    """Everything that the schedule depends on.

    ``now_ms`` is the time that ``end: now`` was resolved to (UTC ms), and None if no window ends now. Nothing else
    in a lock depends on when it was made. ``zones`` has the zone of each camera and ``views`` each of its views.
    """

    name: str
    seed: int
    now_ms: int | None
    source: LockedSource
    cameras: tuple[LockedCamera, ...]
    views: dict[str, Geometry]
    zones: dict[str, LockedZone]
    sampling: Strategy
    splits: Splits | None
    data_format: Literal["parquet", "jpeg"]
    frames_per_shard: int
    notes: tuple[str, ...] = ()
    dedup: LockedDedup | None = None
    top_up: bool = False

    @property
    def sampling_version(self) -> int:
        """Return the version of the order in which times are drawn."""
        match self.sampling:
            case LockedRandom(version=version) | LockedStratified(version=version) | LockedBurst(version=version):
                return version
        return SAMPLING_VERSION

    @property
    def scout(self) -> ScoutResult | None:
        """Return what was chosen from the scout pass. None for other strategies."""
        return self.sampling.result if isinstance(self.sampling, LockedScout) else None

    @property
    def times(self) -> Times | None:
        """Return the times of the timestamps file or of the scout pass. None for other strategies."""
        if isinstance(self.sampling, LockedTimestamps):
            return self.sampling.times
        return None if self.scout is None else self.scout.times

    @property
    def selection(self) -> Selection | None:
        """Return what was chosen from the scout pass, with its deployments. None for other strategies."""
        if self.scout is None:
            return None
        return Selection(self.scout, {c.uuid: c.deployments for c in self.cameras if c.deployments})

    @property
    def has_deployments(self) -> bool:
        """Return whether the manifest has a column for the deployments of cameras."""
        return self.scout is not None or any(camera.deployments for camera in self.cameras)
