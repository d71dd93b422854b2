"""Frames from video files on this machine, as a site file describes them."""

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
    """Answers as the cloud would, from the recordings of a site; safe to use from many threads.

    ``clock`` gives UTC epoch milliseconds: what lies beyond it is the future.
    """

    def __init__(self, site: Site, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._site = site
        self._clock = clock

    def get(self, request: FrameRequest) -> wire.Reply:
        """The frame that was on screen at that moment, or why there is none."""
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
