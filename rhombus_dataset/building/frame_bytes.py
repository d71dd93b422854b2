"""Measure the bytes of a few planned frames, for the estimate of a dry run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from rhombus_dataset.building.fetch import Fetcher
from rhombus_dataset.building.open_source import open_fetcher
from rhombus_dataset.frame import FrameRequest, Outcome
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.model import Plan
from rhombus_dataset.planning.dry_run import MeasuredFrames
from rhombus_dataset.planning.schedule import Schedule

CAMERAS: Final = 3
"""Number of cameras that are measured, spread over the plan's: cameras of one site seldom differ more in bytes."""
MOMENTS: Final = (0.5, 0.25, 0.75)
"""Where in a camera's planned moments a frame is requested; the later ones where there is no frame before."""


def measure_frames(
    plan: Plan, schedule: Schedule, geometries: Iterable[Geometry], url: str | None
) -> MeasuredFrames:
    """Fetch a frame in each of ``geometries`` from up to three cameras of ``schedule``. Return their mean bytes.

    Raises UsageError, InvalidFile for a wrong site file, MissingExtra, AccessRefused and HostUnreachable.
    """
    present = np.unique(schedule.camera).tolist()
    cameras = [present[i * len(present) // CAMERAS] for i in range(CAMERAS)] if len(present) > CAMERAS else present
    with open_fetcher(plan, url) as fetcher:
        found = {
            geometry: [size for camera in cameras if (size := _size(fetcher, schedule, camera, geometry))]
            for geometry in dict.fromkeys(geometries)
        }
    means = {geometry: sum(sizes) / len(sizes) for geometry, sizes in found.items() if sizes}
    return MeasuredFrames(means, sum(map(len, found.values())), fetcher.requests)


def _size(fetcher: Fetcher, schedule: Schedule, camera: int, geometry: Geometry) -> int | None:
    """Return the bytes of one frame of the camera, or None if there is none at the tried moments."""
    rows = np.flatnonzero(schedule.camera == camera)
    for moment in MOMENTS:
        timestamp_ms = int(schedule.timestamp_ms[rows[int(moment * len(rows))]])
        outcome = fetcher.fetch(FrameRequest(schedule.cameras[camera].uuid, timestamp_ms, geometry))
        if isinstance(outcome, Outcome) and outcome.image is not None:
            return len(outcome.image)
    return None
