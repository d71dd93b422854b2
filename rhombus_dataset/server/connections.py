"""The connections of the server: access for injected faults, and limits for clients that keep them open."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

RECEIVE_TIMEOUT_S: Final = 10.0
"""Seconds from the connection or the last response to the last byte of a request. It has about 500 bytes."""
SEND_TIMEOUT_S: Final = 30.0
"""Seconds in which a client must read a response. It has up to a few megabytes."""
MAX_WAITING: Final = 500
"""Maximum connections that wait for a complete request. Beyond it, the one that has waited longest is closed: an
honest client with 256 connections waits for milliseconds."""
MAX_CONNECTIONS: Final = 900
"""Maximum connections in all, since many systems allow 1,024 open files. Beyond it, the one that has waited longest
is closed."""
MAX_HEAD_BYTES: Final = 16 * 1024
"""Maximum length of the request line and the headers. They have about 300 bytes."""

_LOGGER: Final = logging.getLogger(__name__)
# Without the warnings of uvicorn: a client could fill a log, one line for each wrong request.
_LOGGER.setLevel(logging.ERROR)

_open: dict[tuple[str, int], asyncio.Transport] = {}


class Connections(H11Protocol):
    """The HTTP protocol of uvicorn, with time limits for receiving a request and for sending a response.

    It is the one on h11 in any case: the one on httptools has no limit for headers.
    """

    _receive_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._peer = _peer(transport)
        _open[self._peer] = transport
        self.access_log = False  # one line for each request
        self.logger = _LOGGER
        super().connection_made(transport)
        self._watch()
        others = [other for other in self.connections if isinstance(other, Connections)]
        waiting = [(timer.when(), other) for other in others if (timer := other._receive_timer) is not None]
        if len(waiting) > MAX_WAITING or len(others) > MAX_CONNECTIONS:
            min(waiting, key=lambda pair: pair[0])[1]._end()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(SEND_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_send_timer()

    def timeout_keep_alive_handler(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        _open.pop(self._peer, None)
        self._stop_receive_timer()
        super().connection_lost(exc)
        self._stop_send_timer()

    def _is_receiving(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def _watch(self) -> None:
        """Limit the time for receiving a request. More bytes do not extend it."""
        if not self._is_receiving() or self.transport.is_closing():
            self._stop_receive_timer()
        elif self._receive_timer is None:
            self._receive_timer = self.loop.call_later(RECEIVE_TIMEOUT_S, self._end)

    def _end(self) -> None:
        """Close the connection, after what the client has not read yet, in limited time."""
        self._stop_receive_timer()
        self.transport.close()
        if not self.transport.get_write_buffer_size():
            self.connections.discard(self)  # at once: in a burst, many are closed before the next is accepted
        elif self._send_timer is None:
            self._send_timer = self.loop.call_later(SEND_TIMEOUT_S, self.transport.abort)

    def _stop_receive_timer(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None


def connection_of(scope: Any) -> asyncio.Transport | None:
    """Return the connection of a request, or None once it is closed. ``scope``: the ASGI scope."""
    host, port = scope.get("client") or ("", 0)
    return _open.get((str(host), int(port)))


def _peer(transport: asyncio.Transport) -> tuple[str, int]:
    host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
    return str(host), int(port)
