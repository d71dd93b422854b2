"""The index of a video file: the display time of each frame, and the packets at which decoding can start.

It is read once from the packets, without decoding. A file without reliable times is refused: a frame that is only
probably the right one is worse than no frame.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error
import numpy as np
import numpy.typing as npt

_NO_TIME: Final = -(2**63)
_PACKET: Final = np.dtype(
    [
        ("pts", np.int64),
        ("dts", np.int64),
        ("size", np.int64),
        ("duration", np.int64),
        ("is_key", np.bool_),
        ("is_discarded", np.bool_),
        ("is_corrupt", np.bool_),
    ]
)


class UnreadableVideo(ValueError):
    """The file cannot be opened or decoded as a video, or the times of its frames are not reliable."""


@dataclass(frozen=True, eq=False)
class Index:
    """Display times of the frames of a video, its packets, and its size in pixels.

    ``pts``: int64, (frames,), display times, ascending, in units of ``time_base`` seconds; time 0 of the video is
    the first one. ``end_pts``: end of the last frame. ``sorted_packets``: int64, (packets, 3): pts, size in bytes
    and number in decoding order, sorted by pts. ``keys``: int64, (keys, 3): pts, dts and number of each packet at
    which decoding can start, sorted by pts. ``damaged``: numbers of the packets that the container reports as
    incomplete.
    """

    pts: npt.NDArray[np.int64]
    end_pts: int
    time_base: Fraction
    sorted_packets: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    damaged: frozenset[int]
    width_px: int
    height_px: int

    @property
    def duration_ms(self) -> Fraction:
        """Exact length of the video in milliseconds."""
        return (self.end_pts - int(self.pts[0])) * self.time_base * 1000

    def frame_at(self, time_ms: Fraction) -> int | None:
        """Return the number of the frame on screen at ``time_ms`` of the video: the last one that starts until
        then.

        Returns None before the first frame and after the end of the last one.
        """
        # Frames start at whole units of time_base, so a fraction of a unit does not change the frame.
        at = int(self.pts[0]) + time_ms / 1000 // self.time_base
        if at >= self.end_pts or at < self.pts[0]:
            return None
        return bisect.bisect_right(self.pts, at) - 1

    def packet_number(self, pts: int | None, size_bytes: int) -> int | None:
        """Return the number of a packet in decoding order, or None if the index has no such packet."""
        if pts is None:
            return None
        at = bisect.bisect_left(self.sorted_packets[:, 0], pts)
        if at == len(self.sorted_packets):
            return None
        packet_pts, packet_size_bytes, number = self.sorted_packets[at].tolist()
        return number if (packet_pts, packet_size_bytes) == (pts, size_bytes) else None


def read_index(path: Path) -> Index:
    """Return the index of a file. Raises UnreadableVideo."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableVideo(f"{path}: no video in this file")
            stream = container.streams.video[0]
            packets = np.fromiter(
                (
                    (_time(p.pts), _time(p.dts), p.size, p.duration or 0, p.is_keyframe, p.is_discard, p.is_corrupt)
                    for p in container.demux(stream)
                    if p.size > 0
                ),
                _PACKET,
            )
            time_base = Fraction(stream.time_base or 1)
            average_rate = stream.average_rate
            size_px = stream.codec_context.width, stream.codec_context.height
            # AVI has no display times. They follow from the order of packets only if there are no B-frames.
            is_unordered = container.format.name == "avi" and stream.codec_context.has_b_frames
    except (OSError, av.error.FFmpegError) as error:
        raise UnreadableVideo(f"{path}: not a video that can be read ({error})") from None
    # Packets before the first key cannot be decoded.
    packets = packets[np.argmax(packets["is_key"]) :] if packets["is_key"].any() else packets[:0]
    shown = np.sort(packets[~packets["is_discarded"]], order="pts")
    if not len(shown):
        raise UnreadableVideo(f"{path}: the video has no frames")
    _check_times(path, packets, is_unordered)
    pts = shown["pts"]
    length = int(shown["duration"][-1])
    if length <= 0:
        step = int(pts[-1] - pts[-2]) if len(pts) > 1 else 0
        length = step or (round(1 / average_rate / time_base) if average_rate else 1)
    keys = np.flatnonzero(packets["is_key"])
    seek_dts = np.where(packets["dts"] == _NO_TIME, packets["pts"], packets["dts"])
    by_pts = np.argsort(packets["pts"])
    return Index(
        pts.copy(),
        int(pts[-1]) + length,
        time_base,
        sorted_packets=np.stack([packets["pts"][by_pts], packets["size"][by_pts], by_pts], axis=1),
        keys=np.stack([packets["pts"][keys], seek_dts[keys], keys], axis=1)[np.argsort(packets["pts"][keys])],
        damaged=frozenset(np.flatnonzero(packets["is_corrupt"]).tolist()),
        width_px=size_px[0],
        height_px=size_px[1],
    )


def _time(value: int | None) -> int:
    return _NO_TIME if value is None else value


def _check_times(path: Path, packets: npt.NDArray[np.void], is_unordered: bool) -> None:
    pts, dts = packets["pts"], packets["dts"]
    untimed = int((pts == _NO_TIME).sum())
    dts = dts[dts != _NO_TIME]
    if untimed:
        fault = f"{untimed} of its {len(pts)} packets have no display time"
    elif (np.diff(dts) < 0).any():
        fault = "its times go back, as in files that were concatenated without new times"
    elif len(np.unique(pts)) < len(pts):
        fault = "several of its frames have the same time"
    elif is_unordered and (np.diff(pts) > 0).all():
        fault = "it is an AVI with B-frames, which has no display times"
    else:
        return
    raise UnreadableVideo(
        f"{path}: {fault}, so the times of its frames are not reliable: "
        f"convert it first, for example: ffmpeg -fflags +genpts -i {path.name} {path.stem}.mp4"
    )
