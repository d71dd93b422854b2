"""A first plan for cameras whose footage is known: all of them, all of their footage, a few hundred frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rhombus_dataset.config.yaml_text import yaml_text
from rhombus_dataset.plan.local_time import Intervals, merged, utc_text

_MOMENTS: Final = 500
"""Frames of the plan, for all cameras together: enough to look at, and built in a minute."""
_STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
"""Steps between the frames, in seconds, of which the smallest that gives at most _MOMENTS is taken."""
_SEAMS_MS: Final = (2_000, 60_000, 600_000, 3_600_000, 86_400_000, 7 * 86_400_000)
"""Gaps in milliseconds below which two spans of footage become one window: the first that gives at most _WINDOWS.
Gaps below 2 s are where two files of a recording meet."""
MIN_COVERAGE: Final = 0.6
"""Smallest usual share of footage in the windows. A plan's windows are the same for all cameras: with less, about
half of the frames would be missing."""
_WINDOWS: Final = 50
"""Maximum windows of the plan: more could not be edited by hand."""

_HEAD: Final = """\
# yaml-language-server: $schema=plan.schema.json
# For completion in an editor:    rhombus-dataset schema > plan.schema.json
# Count frames before building:   rhombus-dataset plan {path}
# Build the dataset:              rhombus-dataset build {path} --out my-dataset
"""
_TAIL: Final = """\
# More to choose: views (crops), masks, splits, other strategies. `rhombus-dataset init` writes an example of each.
# splits: {by: time, block: 1h, embargo: 5m, fractions: {train: 0.8, test: 0.2}}
"""
_SPARSE: Final = (
    "The cameras have footage at different times, in {share:.0%} of the windows: the other frames will be missing. "
    "Narrow the windows."
)


@dataclass(frozen=True, slots=True)
class CameraFootage:
    """A camera and its footage. ``spans_ms``: start and end of each span, UTC milliseconds; they may overlap."""

    uuid: str
    name: str
    timezone: str
    location: str | None
    spans_ms: Sequence[tuple[int, int]]


def first_plan(
    source: dict[str, Any], cameras: Sequence[CameraFootage], path: str, notes: Sequence[str] = ()
) -> str:
    """Return a plan for ``cameras`` and all of their footage.

    ``source`` is the section of that name. ``path`` names the plan in its comments. ``notes``: more lines for a
    person to read, at the top.
    """
    names: set[str] = set()
    entries: list[dict[str, str]] = []
    for camera in cameras:
        entry = {"uuid": camera.uuid, "name": free_name(camera.name, names), "timezone": camera.timezone}
        entries.append(entry | ({"location": camera.location} if camera.location else {}))
    windows_ms = _windows_ms(cameras)
    planned_s = len(cameras) * _length_s(windows_ms)
    share = sum(_length_s(merged(camera.spans_ms)) for camera in cameras) / planned_s
    if share < MIN_COVERAGE:
        notes = [*notes, _SPARSE.format(share=share)]
    content = {
        "version": 1,
        "name": "my-dataset",
        "seed": 7,
        "source": source,
        "cameras": entries,
        "windows": [{"start": utc_text(start), "end": utc_text(end)} for start, end in windows_ms],
        "sampling": _sampling(planned_s),
    }
    head = _HEAD.format(path=path) + "".join(f"# {note}\n" for note in notes)
    return head + yaml_text(content) + _TAIL


def _windows_ms(cameras: Sequence[CameraFootage]) -> Intervals:
    spans = [span for camera in cameras for span in camera.spans_ms]
    for seam_ms in _SEAMS_MS:
        if len(windows := merged(spans, seam_ms)) <= _WINDOWS:
            return windows
    return ((windows[0][0], windows[-1][1]),)


def _sampling(planned_s: float) -> dict[str, Any]:
    """Return the strategy for this many seconds of windows, of all cameras together."""
    for step_s in _STEPS_S:
        if planned_s / step_s <= _MOMENTS:
            return {"strategy": "interval", "every": f"{step_s}s"}
    return {"strategy": "stratified", "frames": _MOMENTS, "min_gap": "30s", "top_up": True}


def _length_s(spans_ms: Sequence[tuple[int, int]]) -> float:
    return sum(end - start for start, end in spans_ms) / 1000


def free_name(name: str, used: set[str]) -> str:
    """Return the name, or the name with the first number that is free, and add it to ``used``."""
    free, number = name[:80].strip(), 1
    while free in used:
        number += 1
        free = f"{name[:80].strip()}-{number}"
    used.add(free)
    return free
