"""Exact frames out of video files: the frame that is on screen at a given moment.

A file's index is read once, from its packets, without decoding a picture: when each frame is shown, by the
stream's own timestamps, and which packets a decoder can start from. A frame is then found by seeking to
the last such packet before it, and decoding no further than the frame itself. The only module that knows
PyAV.
"""

from __future__ import annotations

import bisect
import collections
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
import av.video.stream
import numpy as np
import numpy.typing as npt

MAX_DECODERS: Final = 8
"""Files that are kept open at once, each with its decoder at some position."""


class UnreadableVideo(ValueError):
    """The file cannot be opened or decoded as a video."""


@dataclass(frozen=True)
class Index:
    """When the frames of a video are shown.

    ``pts`` (ascending, in ``time_base`` seconds) has one entry a frame; ``keyframe_pts`` those that decoding
    can start from. Time 0 is that of the first frame. ``end_pts`` is when the last one leaves the screen.
    """

    pts: tuple[int, ...]
    keyframe_pts: tuple[int, ...]
    end_pts: int
    time_base: Fraction

    @property
    def duration_ms(self) -> Fraction:
        """How long the video lasts, exactly."""
        return (self.end_pts - self.pts[0]) * self.time_base * 1000

    def frame_at(self, time_ms: Fraction) -> int | None:
        """The number of the frame on screen at ``time_ms``: the last that is not shown later than that.

        None before the first and after the last frame.
        """
        at = time_ms / 1000 / self.time_base + self.pts[0]
        if at >= self.end_pts or at < self.pts[0]:
            return None
        return bisect.bisect_right(self.pts, at) - 1


class Footage:
    """Decoded frames of any number of video files, for many threads, with bounded memory.

    Each open file is used by one thread at a time. A frame that follows the one before is decoded on
    from there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexes: dict[Path, Index] = {}
        self._index_locks: dict[Path, threading.Lock] = {}
        self._idle: collections.OrderedDict[tuple[Path, int], _Decoder] = collections.OrderedDict()
        self._serial = 0

    def index(self, path: Path) -> Index:
        """The file's index, read once. Raises UnreadableVideo."""
        with self._lock:
            lock = self._index_locks.setdefault(path, threading.Lock())
        with lock:
            if path not in self._indexes:
                self._indexes[path] = _read_index(path)
            return self._indexes[path]

    def frame(self, path: Path, number: int) -> npt.NDArray[np.uint8]:
        """Frame ``number`` of the file, in order of showing: uint8, (H, W, 3), RGB.

        Raises UnreadableVideo, also for damage within the file.
        """
        index = self.index(path)
        decoder = self._take(path, index.pts[number]) or _Decoder(path, index)
        try:
            rgb = decoder.frame(number)
        except BaseException:
            decoder.close()
            raise
        self._put(path, decoder)
        return rgb

    def close(self) -> None:
        """Close every file that is not in use."""
        with self._lock:
            decoders = list(self._idle.values())
            self._idle.clear()
        for decoder in decoders:
            decoder.close()

    def _take(self, path: Path, pts: int) -> _Decoder | None:
        """The idle decoder of this file that stands nearest before the frame, or any of the file's."""
        with self._lock:
            mine = [key for key in self._idle if key[0] == path]
            if not mine:
                return None
            near = [key for key in mine if self._idle[key].position <= pts]
            best = max(near, key=lambda key: self._idle[key].position) if near else mine[0]
            return self._idle.pop(best)

    def _put(self, path: Path, decoder: _Decoder) -> None:
        with self._lock:
            self._serial += 1
            self._idle[path, self._serial] = decoder
            dropped = self._idle.popitem(last=False)[1] if len(self._idle) > MAX_DECODERS else None
        if dropped is not None:
            dropped.close()


class _Decoder:
    """One open file. ``position`` is the pts of the frame that was given last."""

    def __init__(self, path: Path, index: Index) -> None:
        self._path = path
        self._index = index
        self.position = -(2**62)
        try:
            self._container = av.open(str(path))
        except (OSError, av.error.FFmpegError) as error:
            raise UnreadableVideo(f"{path}: {error}") from None
        self._stream = self._container.streams.video[0]
        # Slice threads only: frame threads would decode far past the frame that is wanted.
        self._stream.thread_type = "SLICE"
        self._frames: Any = None
        self._held: Any = None

    def frame(self, number: int) -> npt.NDArray[np.uint8]:
        wanted = self._index.pts[number]
        try:
            if self._held is None or self._held.pts != wanted:
                self._held = self._decode(wanted)
            self.position = wanted
            return np.asarray(self._held.to_ndarray(format="rgb24"), np.uint8)
        except (OSError, ValueError, av.error.FFmpegError) as error:
            raise UnreadableVideo(f"{self._path}: frame {number} cannot be decoded: {error}") from None

    def close(self) -> None:
        self._frames = self._held = None
        self._container.close()

    def _decode(self, wanted: int) -> Any:
        keys = self._index.keyframe_pts
        key = bisect.bisect_right(keys, wanted) - 1
        goes_on = self._frames is not None and self.position < wanted and keys[max(key, 0)] <= self.position
        if goes_on and (frame := self._forward(wanted)) is not None:
            return frame
        # In an open group of pictures, frames shown before a keyframe may need what came before it,
        # and some containers seek by decoding time: step back until the frame itself turns up.
        for back in (0, 1, 2, 4):
            start = keys[max(key - back, 0)] if key >= 0 else self._index.pts[0]
            self._container.seek(start, stream=self._stream, backward=True)
            self._frames = self._container.decode(self._stream)
            if (frame := self._forward(wanted)) is not None:
                return frame
        self._container.seek(self._index.pts[0], stream=self._stream, backward=True)
        self._frames = self._container.decode(self._stream)
        if (frame := self._forward(wanted)) is not None:
            return frame
        raise UnreadableVideo("no such frame comes out of the decoder")

    def _forward(self, wanted: int) -> Any:
        for frame in self._frames:
            if frame.pts == wanted:
                if frame.is_corrupt:
                    raise UnreadableVideo("its data are damaged")
                return frame
            if frame.pts is not None and frame.pts > wanted:
                return None
        return None


def _read_index(path: Path) -> Index:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableVideo(f"{path}: no video in this file")
            stream = container.streams.video[0]
            assert stream.time_base is not None
            packets = [
                (packet.pts, packet.duration or 0, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.pts is not None and packet.size > 0 and not packet.is_discard
            ]
            time_base = Fraction(stream.time_base)
            average_rate = stream.average_rate
    except (OSError, av.error.FFmpegError) as error:
        raise UnreadableVideo(f"{path}: not a video that can be read ({error})") from None
    if not packets:
        raise UnreadableVideo(f"{path}: the video has no frames")
    packets.sort()
    pts = tuple(dict.fromkeys(p for p, _, _ in packets))
    length = packets[-1][1]
    if length <= 0:
        step = pts[-1] - pts[-2] if len(pts) > 1 else 0
        length = step or (round(1 / average_rate / time_base) if average_rate else 1)
    keys = tuple(sorted({p for p, _, is_key in packets if is_key})) or pts[:1]
    return Index(pts, keys, pts[-1] + length, time_base)
