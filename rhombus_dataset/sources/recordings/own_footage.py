"""From video files to a site file, and from a site file to a plan: the first two steps with one's own footage."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import av

from rhombus_dataset.config.yaml_text import yaml_text
from rhombus_dataset.errors import InvalidFile, Problem, UsageError
from rhombus_dataset.plan.first_plan import MIN_COVERAGE, CameraFootage, first_plan, free_name
from rhombus_dataset.plan.local_time import merged, utc_text
from rhombus_dataset.plan.values import check_zone
from rhombus_dataset.sources.recordings.site import Site
from rhombus_dataset.sources.recordings.video_index import UnreadableVideo, read_index

_LOCATION: Final = "home"
_SHIFTED: Final = "# The times that the files name are far apart, so all recordings start at the latest of them.\n"

_SITE_HEAD: Final = """\
# Cameras and their recordings. Check `tz` and each `start`: the time of a frame follows from them.
# Write a plan for these cameras:   rhombus-dataset init plan.yaml --site {name}
# Serve them like the cloud:        rhombus-dataset serve {name}
"""


def site_text(videos: Sequence[Path], folder: Path, zone: str, name: str) -> str:
    """Return the content of a site file in ``folder`` with a camera for each video, called as its file.

    A recording starts at the creation time that its file names, or ends when the file was last changed. Where most
    of the footage would then lie at times without footage of the other cameras, all recordings start with the
    latest. ``zone``: IANA time zone of all cameras. Raises InvalidFile with all videos that cannot be read, and
    UsageError.
    """
    try:
        check_zone(zone)
    except ValueError as error:
        raise UsageError(f"--timezone: {error}") from None
    problems: list[Problem] = []
    spans: list[tuple[int, int]] = []
    for video in videos:
        try:
            spans.append(_span_ms(video))
        except (UnreadableVideo, OSError) as error:
            problems.append(Problem(str(video), None, None, "", str(error)))
    if problems:
        raise InvalidFile(problems)
    head = _SITE_HEAD.format(name=name)
    covered_ms = sum(end - start for start, end in merged(spans))
    if sum(end - start for start, end in spans) < MIN_COVERAGE * len(spans) * covered_ms:
        head += _SHIFTED
        latest_ms = max(start for start, _ in spans)
        spans = [(latest_ms, latest_ms + end - start) for start, end in spans]
    cameras: list[dict[str, Any]] = []
    names: set[str] = set()
    for video, (start_ms, _) in zip(videos, spans, strict=True):
        camera = free_name(re.sub(r"[^A-Za-z0-9_.-]+", "-", video.stem).strip("-") or "camera", names)
        # As on the path: relative where the file is below the folder, so that both can be moved.
        path = video.absolute()
        shown = path.relative_to(folder.absolute()) if path.is_relative_to(folder.absolute()) else path
        recording = {"path": str(shown), "start": utc_text(start_ms)}
        cameras.append({"uuid": _uuid(camera), "name": camera, "location": _LOCATION, "recordings": [recording]})
    content = {"locations": [{"uuid": _uuid(_LOCATION), "name": _LOCATION, "tz": zone}], "cameras": cameras}
    return head + yaml_text(content)


def plan_text(site: Site, site_file: str, name: str) -> str:
    """Return a plan for all cameras of a site that have recordings, and all of their footage.

    ``site_file`` is the path of the site file as the plan names it. Raises UsageError for a site without footage.
    """
    cameras = [camera for camera in site.cameras.values() if camera.recordings]
    if not cameras:
        raise UsageError(f"{site.path}: no camera has a recording")
    found = [
        CameraFootage(c.uuid, c.name, c.timezone, c.location, [(r.start_ms, int(r.end_ms)) for r in c.recordings])
        for c in cameras
    ]
    return first_plan({"type": "recordings", "site": site_file}, found, name)


def _span_ms(video: Path) -> tuple[int, int]:
    """Return when a video starts and ends, in UTC milliseconds. Raises UnreadableVideo and OSError."""
    duration_ms = int(read_index(video).duration_ms)
    start_ms = _created_ms(video)
    if start_ms is None:
        start_ms = int(video.stat().st_mtime - duration_ms / 1000) * 1000
    return start_ms, start_ms + duration_ms


def _created_ms(video: Path) -> int | None:
    """Return the creation time that a video names, in UTC milliseconds, or None."""
    with contextlib.suppress(ValueError, av.FFmpegError), av.open(str(video)) as container:
        written = dt.datetime.fromisoformat(container.metadata.get("creation_time", ""))
        if 1990 <= written.year <= 2200:
            return int(written.timestamp()) * 1000
    return None


def _uuid(name: str) -> str:
    """Return 22 characters that depend on the name only: the same file gives the same camera."""
    return base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest())[:22].decode()
