"""Ctrl-C and SIGTERM during a build."""

from __future__ import annotations

import os
import signal
import threading
import types
from typing import Any


class Stopper:
    """The first Ctrl-C or SIGTERM stops a build after the requests in flight; a second one exits at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.exit_code = 1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: types.FrameType | None) -> None:
        if self.event.is_set():
            # Everything that was received is in the journals: an immediate exit loses nothing.
            os._exit(128 + number)
        self.exit_code = 128 + number
        self.event.set()
        os.write(2, b"\nstopping: waiting for the requests in flight (press Ctrl-C again to exit at once)\n")
