"""Exact frames out of video files: the frame that is on screen at a given moment.

A frame is found by seeking to the last packet before it that decoding can start from, and decoding no
further than the frame itself. Each packet on the way is compared with the file's index, and an image with
damage in it, or in what it is made from, is refused.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
import numpy.typing as npt

from rhombus_dataset.sources.recordings.video_index import Index, UnreadableVideo, read_index

MAX_DECODERS: Final = 8
"""Files that are kept open at once, each with its decoder at some position."""

_NOWHERE: Final = -(2**62)


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
                self._indexes[path] = read_index(path)
            return self._indexes[path]

    def frame(self, path: Path, number: int) -> npt.NDArray[np.uint8]:
        """Frame ``number`` of the file, in order of showing: uint8, (H, W, 3), RGB.

        Raises UnreadableVideo, also for damage within the file.
        """
        index = self.index(path)
        decoder = self._take(path, int(index.pts[number])) or _Decoder(path, index)
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
        self.position = _NOWHERE
        self._held: Any = None
        self._packets: Iterator[Any] = iter(())
        self._decoded: collections.deque[Any] = collections.deque()
        self._next = 0
        self._open()

    def frame(self, number: int) -> npt.NDArray[np.uint8]:
        wanted = int(self._index.pts[number])
        try:
            if self.position != wanted:
                self._held = self._decode(wanted)
                self.position = wanted
            return np.asarray(self._held.to_ndarray(format="rgb24"), np.uint8)
        except (OSError, ValueError, av.error.FFmpegError) as error:
            raise UnreadableVideo(f"{self._path}: frame {number} cannot be decoded: {error}") from None

    def close(self) -> None:
        self._held = None
        self._container.close()

    def _open(self) -> None:
        try:
            self._container = av.open(str(self._path))
        except (OSError, av.error.FFmpegError) as error:
            raise UnreadableVideo(f"{self._path}: {error}") from None
        self._stream = self._container.streams.video[0]
        # Slice threads only: frame threads would decode far past the frame that is wanted.
        self._stream.thread_type = "SLICE"
        # By default a decoder hides damage: it fills what it cannot read from other images.
        self._stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}

    def _decode(self, wanted: int) -> Any:
        keys = self._index.keys
        key = max(bisect.bisect_right(keys[:, 0], wanted) - 1, 0)
        if keys[key, 0] <= self.position < wanted:
            # A fault on the way here is met again, and told, by starting from the key.
            with contextlib.suppress(av.error.FFmpegError, _Astray):
                if (frame := self._forward(wanted)) is not None:
                    return frame
        fault = "no such frame comes out of the decoder"
        # In an open group of images, frames shown before a key may need what came before it.
        for back in (0, 1, 2, 4):
            if back > key:
                break
            try:
                self._start_at(key - back)
                if (frame := self._forward(wanted)) is not None:
                    return frame
            except (av.error.FFmpegError, _Astray) as error:
                fault = str(error)
        raise UnreadableVideo(fault)

    def _start_at(self, key: int) -> None:
        """Stand before a key's packet, so that it is the next to be decoded."""
        first = int(self._index.keys[key, 2])
        # Some containers seek only roughly, and to times of decoding: what comes is checked, not believed.
        for before in (0, 1, 2, 4, 8):
            if before <= key:
                self._container.seek(int(self._index.keys[key - before, 1]), stream=self._stream)
                if self._skip_to(first):
                    return
        self._container.close()
        self._open()
        if not self._skip_to(first):
            raise _Astray("the file is no longer as it was")

    def _skip_to(self, first: int) -> bool:
        self._decoded.clear()
        packets = self._container.demux(self._stream)
        for packet in packets:
            number = self._index.packet_number(packet.pts, packet.size)
            if number is not None and number >= first:
                self._packets = itertools.chain([packet], packets)
                self._next = first
                return number == first
        return False

    def _forward(self, wanted: int) -> Any:
        """Decode up to the frame that is shown at ``wanted``; None if that has been passed."""
        while True:
            while self._decoded:
                frame = self._decoded.popleft()
                if frame.pts == wanted:
                    if frame.is_corrupt:
                        raise _Astray("its data are damaged")
                    return frame
                if frame.pts is None or frame.pts > wanted:
                    return None
            packet = next(self._packets, None)
            if packet is None:
                return None
            if packet.size > 0:
                if self._index.packet_number(packet.pts, packet.size) != self._next:
                    raise _Astray("the packets come in another order than before")
                if self._next in self._index.damaged:
                    raise _Astray("its data are damaged")
                self._next += 1
            self._decoded.extend(packet.decode())


class _Astray(Exception):
    """The packets that come are not those that lead to the frame, or are damaged."""
