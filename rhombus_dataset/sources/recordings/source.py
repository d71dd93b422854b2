"""The source of type ``recordings``: frames from video files, or from the drawn demo scene."""

from __future__ import annotations

import time
from collections.abc import Callable

from rhombus_dataset import wire
from rhombus_dataset.frame import FrameRequest
from rhombus_dataset.imaging.crop import render
from rhombus_dataset.imaging.drawn_scene import draw
from rhombus_dataset.sources.recordings.site import Site, SiteCamera, load_site, offset_ms
from rhombus_dataset.sources.recordings.video_index import UnreadableVideo

__all__ = ["RecordingsSource", "Site", "SiteCamera", "load_site"]


class RecordingsSource:
    """Returns frames of the recordings of a site, with the same replies as the API. Safe to use from several
    threads.

    ``clock`` returns the current time in UTC epoch milliseconds.
    """

    def __init__(self, site: Site, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._site = site
        self._clock = clock

    def get(self, request: FrameRequest) -> wire.Reply:
        """Return the frame that was on screen at the requested time, or why there is none."""
        camera = self._site.cameras.get(request.camera_uuid[:22])
        if camera is None:
            return wire.Rejected(f"no camera {request.camera_uuid} in {self._site.path.name}")
        t = request.timestamp_ms
        if t > self._clock():
            return wire.NoFrame("FUTURE_TIMESTAMP")
        recording = camera.recording_at(t)
        if recording is None:
            return wire.NoFrame("NO_FOOTAGE_AT_TIMESTAMP")
        if recording.path is None:
            rgb = draw(camera.uuid, t, offset_ms(camera.timezone, t))
        else:
            try:
                into_ms = (t - recording.start_ms) % recording.duration_ms
                number = self._site.footage.index(recording.path).frame_at(into_ms)
                if number is None:
                    return wire.NoFrame("NO_FOOTAGE_AT_TIMESTAMP")
                rgb = self._site.footage.frame(recording.path, number)
            except UnreadableVideo:
                return wire.Transient("FRAME_RETRIEVAL_FAILED")
        return wire.Image(render(rgb, request.geometry), "image/jpeg")

    def close(self) -> None:
        """Close the video files."""
        self._site.footage.close()
