"""Sources of frames: the camera cloud over HTTP (``rhombus``), or video files (``recordings``)."""

from __future__ import annotations

from typing import Protocol

from rhombus_dataset import wire
from rhombus_dataset.frame import FrameRequest


class FrameSource(Protocol):
    """Returns one frame for each request. Safe to use from several threads.

    ``get`` makes one attempt. The failure of a frame is a reply, not an exception. ``close`` interrupts requests
    that are in progress.
    """

    def get(self, request: FrameRequest) -> wire.Reply: ...

    def close(self) -> None: ...
