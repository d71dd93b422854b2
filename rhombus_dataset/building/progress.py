"""How a build tells how far it is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import collections
import threading
import time
from types import TracebackType
from typing import Any, Final, Self, TextIO

from tqdm import tqdm

from rhombus_dataset.frame import Status
from rhombus_dataset.planning.schedule import Schedule

LINE_INTERVAL_S: Final = 10.0


class Progress:
    """Hand ``on_start`` and ``on_frame`` to a build. Writes to ``stream``; to nowhere if it is None.

    For what is not built, ``begin`` with the number of frames, and call ``on_frame`` for each.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._bar: tqdm[Any] | None = None
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0
        self._counts: collections.Counter[Status] = collections.Counter()
        self._next_line_s = time.monotonic() + LINE_INTERVAL_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_start(self, schedule: Schedule, committed: int) -> None:
        self.begin(len(schedule), committed)
        if self._stream is not None and self._bar is None:
            self._stream.write(f"{self._total} frames planned, {committed} of them built already\n")
            self._stream.flush()

    def begin(self, total: int, done: int = 0) -> None:
        self._total, self._done = total, done
        self._counts.clear()
        if self._bar is not None:
            self._bar.close()
        if self._stream is not None and self._stream.isatty():
            self._bar = tqdm(total=total, initial=done, unit="frame", file=self._stream, dynamic_ncols=True)

    def on_note(self, text: str) -> None:
        """Something that its reader should know, on a line of its own."""
        if self._stream is not None:
            tqdm.write(text, file=self._stream)

    def on_frame(self, status: Status) -> None:
        with self._lock:
            self._done += 1
            self._counts[status] += 1
            if self._bar is not None:
                if status is not Status.OK:
                    self._bar.set_postfix(
                        {str(s): n for s, n in self._counts.items() if s is not Status.OK}, refresh=False
                    )
                self._bar.update()
            elif self._stream is not None and time.monotonic() >= self._next_line_s:
                self._next_line_s = time.monotonic() + LINE_INTERVAL_S
                counts = ", ".join(f"{n} {s}" for s, n in sorted(self._counts.items()))
                self._stream.write(f"{self._done} of {self._total} frames ({counts})\n")
                self._stream.flush()
