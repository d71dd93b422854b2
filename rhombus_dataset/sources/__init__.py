"""Where frames come from: the camera cloud over HTTP (``rhombus``), or video files (``recordings``)."""

from __future__ import annotations

from typing import Protocol

from rhombus_dataset import wire
from rhombus_dataset.frame import FrameRequest


class FrameSource(Protocol):
    """Asks for one frame at a time; safe to use from many threads.

    ``get`` asks once, and raises nothing for a frame's own failure: that is a reply too. ``close`` cuts
    what is under way.
    """

    def get(self, request: FrameRequest) -> wire.Reply: ...

    def close(self) -> None: ...
