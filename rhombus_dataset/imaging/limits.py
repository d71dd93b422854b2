"""Limits of the time and the memory of decoding. They are checked before decoding, since anybody can send an image.

The decoder itself has no limits: a JPEG of 125 kB with thousands of scans keeps it busy for a minute.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from typing import Final

MAX_ENCODED_BYTES: Final = 64 * 1024 * 1024
"""Maximum length of a JPEG: as long as the longest response that is accepted. Dense data costs the decoder up to
35 ns a byte: 2 s."""
MAX_SEGMENTS: Final = 10_000
"""Maximum number of segments (tables, metadata, scans) of a JPEG. Cameras write about 10, editors up to 300."""
MAX_SCANS: Final = 100
"""Maximum number of scans of a JPEG. Cameras write 1, progressive encoders about 10."""
MAX_SCANNED_PIXELS: Final = 250_000_000
"""Maximum product of scans and pixels. Each scan costs the decoder up to 5 ns a pixel: 1.3 s. A progressive JPEG of
25 million pixels with 10 scans is allowed."""
MAX_BUFFERED_PIXELS: Final = 40_000_000
"""Maximum number of pixels of a JPEG with several scans. Its coefficients stay in memory until the last scan, with
up to 8 bytes a pixel: 320 MB."""
MAX_BYTES_IN_USE: Final = 600_000_000
"""Maximum memory of all decodes of the process at once, in bytes: 200 million pixels in RGB, or 24 images
of 4K. Further decodes wait."""

_MARKER: Final = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
"""The markers that begin a segment, and the end of the image. FF 00 is data, FF 01 and FF D0 to D7 have no segment,
and in a run of FF the last one counts."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC: Final = frozenset(range(0xC9, 0xD0)) - {0xCC}
_PROGRESSIVE: Final = 0xC2
_END: Final = 0xD9
_SCAN: Final = 0xDA


class CostlyImage(ValueError):
    """Decoding the image would take too long, or too much memory."""


def buffered_bytes(image: bytes, width_px: int, height_px: int) -> int:
    """Return the memory in bytes for the coefficients of a JPEG, which is 0 if it has a single scan.

    Reads the segments before the data if there is a single scan, as in most images: about 10 microseconds. Else
    reads all of it. Raises CostlyImage if a limit is exceeded.
    """
    if len(image) > MAX_ENCODED_BYTES:
        raise CostlyImage(f"the JPEG has {len(image)} bytes, more than {MAX_ENCODED_BYTES}")
    frame = components = scans = 0
    at = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(image, at)
        if found is None:
            break
        at = found.end()
        marker = image[at - 1]
        if marker == _SCAN:
            scans += 1
            if scans == 1 and frame != _PROGRESSIVE and image[at + 2 : at + 3] == bytes([components]):
                return 0  # all components: the decoder refuses a second scan
        elif marker in _FRAMES and not frame:
            frame, components = marker, int.from_bytes(image[at + 7 : at + 8])
            if marker in _ARITHMETIC:
                # A few bytes describe any number of coefficients, so nothing would bound the time.
                raise CostlyImage(f"arithmetic coding (frame type {marker - 0xC0}) is not supported")
        elif marker == _END:
            break
        at += max(2, int.from_bytes(image[at : at + 2]))
    else:
        raise CostlyImage(f"the JPEG has more than {MAX_SEGMENTS} segments")
    pixels = width_px * height_px
    if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
        raise CostlyImage(f"{scans} scans of {width_px} x {height_px} pixels would take too long to decode")
    if pixels > MAX_BUFFERED_PIXELS:
        raise CostlyImage(f"{scans} scans of {width_px} x {height_px} pixels would take too much memory to decode")
    return 2 * components * pixels


class MemoryBudget:
    """Limits the memory that the threads of a process reserve at once. Threads get it in the order of arrival."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self.reset()

    def reset(self) -> None:
        """Remove all reservations: after a fork, the threads that made them do not exist."""
        self._changed = threading.Condition(threading.Lock())
        self._waiting: list[object] = []
        self._used_bytes = 0

    @contextlib.contextmanager
    def reserve(self, size_bytes: int) -> Iterator[None]:
        """Wait until ``size_bytes`` are free, and reserve them for the block.

        A size above the total waits until no other is reserved. Blocks of one budget must not be nested: the inner
        one could wait for the outer one.
        """
        size_bytes = min(size_bytes, self._total_bytes)
        self._take(size_bytes)
        try:
            yield
        finally:
            with self._changed:
                self._used_bytes -= size_bytes
                if self._waiting:
                    self._changed.notify_all()

    def _take(self, size_bytes: int) -> None:
        with self._changed:
            if not self._waiting and self._used_bytes + size_bytes <= self._total_bytes:
                self._used_bytes += size_bytes
                return
            ticket = object()
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or self._used_bytes + size_bytes > self._total_bytes:
                    self._changed.wait()
                self._used_bytes += size_bytes
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()


DECODING: Final = MemoryBudget(MAX_BYTES_IN_USE)
"""The memory of all decodes of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=DECODING.reset)
