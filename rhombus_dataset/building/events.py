"""What happens during a build, as calls: the build log and the progress display listen to them."""

from __future__ import annotations

from collections.abc import Mapping

from rhombus_dataset.frame import FrameRequest, Status
from rhombus_dataset.planning.schedule import Schedule, Shard


class BuildEvents:
    """A listener to a build. Each method does nothing unless a subclass overrides it.

    They are called from the threads of the engine, several at a time, and must return quickly.
    """

    def on_start(self, schedule: Schedule, known: int, shards: int) -> None:
        """A round begins: ``known`` rows of ``schedule`` need no request, ``shards`` shards are to be built."""

    def on_note(self, text: str) -> None:
        """Something that the user should know. One line."""

    def on_retry(self, request: FrameRequest, reason: str) -> None:
        """An attempt for a frame failed, and another one follows."""

    def on_wait(self, seconds: float) -> None:
        """The API asks all requests to wait (429)."""

    def on_torn_journal(self, shard: Shard, cut_bytes: int) -> None:
        """The last ``cut_bytes`` of the journal of ``shard`` were incomplete and were removed."""

    def on_frame(self, status: Status) -> None:
        """A frame has its outcome."""

    def on_shard(self, shard: Shard, counts: Mapping[Status, int]) -> None:
        """A shard was committed; ``counts`` are its rows by status."""

    def on_end(self, requests: int, seconds: float, counts: Mapping[Status, int]) -> None:
        """A round ends, whatever the reason; ``counts`` are the rows of all committed shards by status."""


class EventGroup(BuildEvents):
    """Passes each event on to several listeners, in their order."""

    def __init__(self, *listeners: BuildEvents) -> None:
        self._listeners = listeners

    def on_start(self, schedule: Schedule, known: int, shards: int) -> None:
        for listener in self._listeners:
            listener.on_start(schedule, known, shards)

    def on_note(self, text: str) -> None:
        for listener in self._listeners:
            listener.on_note(text)

    def on_retry(self, request: FrameRequest, reason: str) -> None:
        for listener in self._listeners:
            listener.on_retry(request, reason)

    def on_wait(self, seconds: float) -> None:
        for listener in self._listeners:
            listener.on_wait(seconds)

    def on_torn_journal(self, shard: Shard, cut_bytes: int) -> None:
        for listener in self._listeners:
            listener.on_torn_journal(shard, cut_bytes)

    def on_frame(self, status: Status) -> None:
        for listener in self._listeners:
            listener.on_frame(status)

    def on_shard(self, shard: Shard, counts: Mapping[Status, int]) -> None:
        for listener in self._listeners:
            listener.on_shard(shard, counts)

    def on_end(self, requests: int, seconds: float, counts: Mapping[Status, int]) -> None:
        for listener in self._listeners:
            listener.on_end(requests, seconds, counts)
