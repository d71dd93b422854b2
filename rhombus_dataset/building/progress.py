"""Shows the progress of a build: a bar on a terminal, a line from time to time in a log."""

from __future__ import annotations

import collections
import threading
import time
from types import TracebackType
from typing import Any, Final, Self, TextIO

from tqdm import tqdm

from rhombus_dataset.building.events import BuildEvents
from rhombus_dataset.frame import Status
from rhombus_dataset.planning.schedule import Schedule, Shard

LINE_INTERVAL_S: Final = 10.0
"""Seconds between two lines where the output is not a terminal."""
LONG_WAIT_S: Final = 10.0
"""Seconds from which on a wait for the rate limit is shown: shorter ones are usual."""


class ProgressDisplay(BuildEvents):
    """Writes the progress to ``stream``, or to nowhere if it is None.

    For work that is not a build, call ``begin`` with the number of frames, and ``on_frame`` for each.
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

    def on_start(self, schedule: Schedule, known: int, shards: int) -> None:
        self.begin(len(schedule), known)
        if self._stream is not None and self._bar is None:
            self._stream.write(f"{self._total:,} frames planned, {known:,} of them already built\n")
            self._stream.flush()

    def begin(self, total: int, done: int = 0) -> None:
        """Start again at ``done`` of ``total`` frames."""
        self._total, self._done = total, done
        self._counts.clear()
        if self._bar is not None:
            self._bar.close()
        if self._stream is not None and self._stream.isatty():
            self._bar = tqdm(total=total, initial=done, unit="frame", file=self._stream, dynamic_ncols=True)

    def on_note(self, text: str) -> None:
        if self._stream is not None:
            tqdm.write(text, file=self._stream)

    def on_wait(self, seconds: float) -> None:
        if seconds >= LONG_WAIT_S:
            self.on_note(f"the API asks to wait {seconds:,.0f} s (429): no frame is requested until then")

    def on_torn_journal(self, shard: Shard, cut_bytes: int) -> None:
        self.on_note(
            f"{shard.stem}: the last {cut_bytes:,} bytes of its journal were incomplete and were removed; "
            "their frame is requested again"
        )

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
                counts = ", ".join(f"{n:,} {s}" for s, n in sorted(self._counts.items()))
                self._stream.write(f"{self._done:,} of {self._total:,} frames ({counts})\n")
                self._stream.flush()
