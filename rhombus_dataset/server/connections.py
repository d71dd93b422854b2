"""The connections of the server: access for injected faults, and limits for clients that send half a request."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

RECEIVE_TIMEOUT_S: Final = 10.0
"""Seconds from the first byte of a request, or from the connection, to its last byte. It has about 500 bytes."""
MAX_RECEIVING: Final = 500
"""Maximum connections that wait for a complete request. Beyond it, the one that has waited longest is closed: an
honest client waits for milliseconds."""

_open: dict[tuple[str, int], asyncio.Transport] = {}


class Connections(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """The HTTP protocol of uvicorn, which has no time limit for a request that is not complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._peer = _peer(transport)
        _open[self._peer] = transport
        self.access_log = False  # one line for each request
        self._timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._watch()
        waiting = [other for other in self.connections if other._timer is not None]
        if len(waiting) > MAX_RECEIVING:
            min(waiting, key=lambda other: other._timer.when())._give_up()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        _open.pop(self._peer, None)
        self._cancel()
        super().connection_lost(exc)

    def _is_receiving(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def _watch(self) -> None:
        """Limit the time of a request that has begun. More bytes do not extend it."""
        if not self._is_receiving():
            self._cancel()
        elif self._timer is None:
            self._timer = self.loop.call_later(RECEIVE_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        self._cancel()
        if self._is_receiving():
            self.transport.close()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def connection_of(scope: Any) -> asyncio.Transport | None:
    """Return the connection of a request, or None once it is closed. ``scope``: the ASGI scope."""
    host, port = scope.get("client") or ("", 0)
    return _open.get((str(host), int(port)))


def _peer(transport: asyncio.Transport) -> tuple[str, int]:
    host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
    return str(host), int(port)
