"""Exact frames of video files: the frame that is on screen at a given time.

Decoding starts at the last key packet before the frame, and ends at the frame. Each packet is compared with the
index of the file. A frame is refused if it, or a packet that it depends on, is damaged.
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
"""Maximum number of open decoders that are kept between requests. Each needs up to about 50 MB."""

_NO_POSITION: Final = -(2**62)


class Footage:
    """Decodes frames of any number of video files, with bounded memory. Safe to use from several threads.

    Each decoder is used by one thread at a time. If the next frame is later in the same file, its decoder
    continues.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexes: dict[Path, Index] = {}
        self._index_locks: dict[Path, threading.Lock] = {}
        self._idle: collections.OrderedDict[tuple[Path, int], _Decoder] = collections.OrderedDict()
        self._serial = 0

    def index(self, path: Path) -> Index:
        """Return the index of a file. It is read once. Raises UnreadableVideo."""
        with self._lock:
            lock = self._index_locks.setdefault(path, threading.Lock())
        with lock:
            if path not in self._indexes:
                self._indexes[path] = read_index(path)
            return self._indexes[path]

    def frame(self, path: Path, number: int) -> npt.NDArray[np.uint8]:
        """Return frame ``number`` of the file, in display order: uint8, (H, W, 3), RGB.

        Raises UnreadableVideo, also if a part of the file is damaged.
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
        """Close all files that are not in use."""
        with self._lock:
            decoders = list(self._idle.values())
            self._idle.clear()
        for decoder in decoders:
            decoder.close()

    def _take(self, path: Path, pts: int) -> _Decoder | None:
        """Return the idle decoder of this file with the nearest earlier position, else any of the file, else
        None."""
        with self._lock:
            of_file = [key for key in self._idle if key[0] == path]
            if not of_file:
                return None
            near = [key for key in of_file if self._idle[key].position <= pts]
            best = max(near, key=lambda key: self._idle[key].position) if near else of_file[0]
            return self._idle.pop(best)

    def _put(self, path: Path, decoder: _Decoder) -> None:
        with self._lock:
            self._serial += 1
            self._idle[path, self._serial] = decoder
            dropped = self._idle.popitem(last=False)[1] if len(self._idle) > MAX_DECODERS else None
        if dropped is not None:
            dropped.close()


class _Decoder:
    """The decoder of one open file. ``position``: the pts of the frame that was returned last."""

    def __init__(self, path: Path, index: Index) -> None:
        self._path = path
        self._index = index
        self.position = _NO_POSITION
        self._held: Any = None
        self._packets: Iterator[Any] = iter(())
        self._decoded: collections.deque[Any] = collections.deque()
        self._next = 0
        self._open()

    def frame(self, number: int) -> npt.NDArray[np.uint8]:
        """Return frame ``number``. Raises UnreadableVideo."""
        wanted = int(self._index.pts[number])
        try:
            if self.position != wanted:
                self._held = self._decode(wanted)
                self.position = wanted
            return np.asarray(self._held.to_ndarray(format="rgb24"), np.uint8)
        except (OSError, ValueError, av.error.FFmpegError) as error:
            raise UnreadableVideo(f"{self._path}: frame {number} cannot be decoded: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._held = None
        self._container.close()

    def _open(self) -> None:
        try:
            self._container = av.open(str(self._path))
        except (OSError, av.error.FFmpegError) as error:
            raise UnreadableVideo(f"{self._path}: {error}") from None
        self._stream = self._container.streams.video[0]
        # Slice threads only: frame threads would decode many frames after the wanted one.
        self._stream.thread_type = "SLICE"
        # By default, a decoder hides damage: it fills damaged parts from other images.
        self._stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}

    def _decode(self, wanted: int) -> Any:
        keys = self._index.keys
        key = max(bisect.bisect_right(keys[:, 0], wanted) - 1, 0)
        if keys[key, 0] <= self.position < wanted:
            # After an error, start again from the key: if it is real, it occurs again and is reported.
            with contextlib.suppress(av.error.FFmpegError, _WrongPackets):
                if (frame := self._forward(wanted)) is not None:
                    return frame
        cause = "the decoder does not return this frame"
        # In an open group of pictures, frames displayed before a key may depend on packets before it.
        for back in (0, 1, 2, 4):
            if back > key:
                break
            try:
                self._start_at(key - back)
                if (frame := self._forward(wanted)) is not None:
                    return frame
            except (av.error.FFmpegError, _WrongPackets) as error:
                cause = str(error)
        raise UnreadableVideo(cause)

    def _start_at(self, key: int) -> None:
        """Move to a key: its packet is the next to be decoded."""
        first = int(self._index.keys[key, 2])
        # Some containers seek inexactly, and by decoding time, so the packets after it are checked.
        for before in (0, 1, 2, 4, 8):
            if before <= key:
                self._container.seek(int(self._index.keys[key - before, 1]), stream=self._stream)
                if self._skip_to(first):
                    return
        self._container.close()
        self._open()
        if not self._skip_to(first):
            raise _WrongPackets("the file was changed")

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
        """Decode up to the frame with pts ``wanted``. Return None if the decoder is already after it."""
        while True:
            while self._decoded:
                frame = self._decoded.popleft()
                if frame.pts == wanted:
                    if frame.is_corrupt:
                        raise _WrongPackets("its data is damaged")
                    return frame
                if frame.pts is None or frame.pts > wanted:
                    return None
            packet = next(self._packets, None)
            if packet is None:
                return None
            if packet.size > 0:
                if self._index.packet_number(packet.pts, packet.size) != self._next:
                    raise _WrongPackets("the order of its packets was changed")
                if self._next in self._index.damaged:
                    raise _WrongPackets("its data is damaged")
                self._next += 1
            self._decoded.extend(packet.decode())


class _WrongPackets(Exception):
    """The packets do not lead to the frame, or are damaged."""
