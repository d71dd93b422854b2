"""What a video file holds, read once from its packets, without decoding an image.

When each frame is shown, by the stream's own timestamps, and which packets a decoder can start from.
A file whose packets do not tell that for certain is refused: a frame that is only probably the right one is
worse than none.
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
    """The file cannot be opened or decoded as a video, or its frames cannot be told apart."""


@dataclass(frozen=True, eq=False)
class Index:
    """When the frames of a video are shown, and its packets in the order of decoding.

    ``pts``: int64, (frames,), ascending, in ``time_base`` seconds; time 0 is that of the first frame, and
    ``end_pts`` is when the last one leaves the screen. ``sorted_packets``: int64, (packets, 3): pts, size in
    bytes and number in the order of decoding, by pts. ``keys``: int64, (keys, 3): pts, dts and number of each
    packet that decoding can start from, by pts. ``damaged``: numbers of packets that the container knows to be
    incomplete.
    """

    pts: npt.NDArray[np.int64]
    end_pts: int
    time_base: Fraction
    sorted_packets: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    damaged: frozenset[int]

    @property
    def duration_ms(self) -> Fraction:
        """How long the video lasts, exactly."""
        return (self.end_pts - int(self.pts[0])) * self.time_base * 1000

    def frame_at(self, time_ms: Fraction) -> int | None:
        """The number of the frame on screen at ``time_ms``: the last that is not shown later than that.

        None before the first and after the last frame.
        """
        # Frames begin at whole units of time, so a part of a unit never changes which one it is.
        at = int(self.pts[0]) + time_ms / 1000 // self.time_base
        if at >= self.end_pts or at < self.pts[0]:
            return None
        return bisect.bisect_right(self.pts, at) - 1

    def packet_number(self, pts: int | None, size_bytes: int) -> int | None:
        """Which packet this is, in the order of decoding; None if the index has no such packet."""
        if pts is None:
            return None
        at = bisect.bisect_left(self.sorted_packets[:, 0], pts)
        if at == len(self.sorted_packets):
            return None
        packet_pts, packet_size_bytes, number = self.sorted_packets[at].tolist()
        return number if (packet_pts, packet_size_bytes) == (pts, size_bytes) else None


def read_index(path: Path) -> Index:
    """Read the index of a file. Raises UnreadableVideo."""
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
            # AVI stores no times of showing: they follow only from the order, if no frame waits for another.
            is_unordered = container.format.name == "avi" and stream.codec_context.has_b_frames
    except (OSError, av.error.FFmpegError) as error:
        raise UnreadableVideo(f"{path}: not a video that can be read ({error})") from None
    # What stands before the first key can be decoded by nobody.
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
    )


def _time(value: int | None) -> int:
    return _NO_TIME if value is None else value


def _check_times(path: Path, packets: npt.NDArray[np.void], is_unordered: bool) -> None:
    pts, dts = packets["pts"], packets["dts"]
    untimed = int((pts == _NO_TIME).sum())
    dts = dts[dts != _NO_TIME]
    if untimed:
        fault = f"{untimed} of its {len(pts)} packets do not say when they are shown"
    elif (np.diff(dts) < 0).any():
        fault = "its times jump back, as in files that were joined without rewriting them"
    elif len(np.unique(pts)) < len(pts):
        fault = "several of its frames claim the same time"
    elif is_unordered and (np.diff(pts) > 0).all():
        fault = "it is an AVI with B-frames, which does not say when they are shown"
    else:
        return
    raise UnreadableVideo(
        f"{path}: {fault}, so its frames cannot be told apart for certain; "
        f"convert it first, such as with: ffmpeg -fflags +genpts -i {path.name} {path.stem}.mp4"
    )
