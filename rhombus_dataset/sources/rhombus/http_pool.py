"""Connections with the configuration of ``requests``, with less work for each request, and with a total timeout."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import socket
import threading
import time
from typing import Any, Final

import requests
import requests.adapters
import urllib3
import urllib3.connection

_CHECK_INTERVAL_S: Final = 0.25
"""Seconds between two checks of the deadlines: a request may take that much longer than its timeout."""
_MAX_INFORMATIONAL: Final = 10
"""Maximum responses with a status from 102 to 199 before the final one. More than one or two are an attack."""
_current = threading.local()


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """One request in progress. ``overdue``: its deadline passed, and its connection was shut down."""

    deadline_s: float
    connection: Any = None
    overdue: bool = False


class Deadlines:
    """Shuts down the connection of a request that takes longer than its total timeout.

    The timeout of a socket restarts with every byte, so a slow response could last forever.
    """

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def begin(self, seconds: float) -> Call:
        """Start the timeout of this thread's next request. :meth:`end` must follow."""
        call = Call(time.monotonic() + seconds)
        _current.call = call
        with self._lock:
            self._calls.add(call)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._watcher.start()
        return call

    def end(self, call: Call) -> None:
        """Stop the timeout: the connection may now serve another request."""
        with self._lock:
            self._calls.discard(call)

    def close(self) -> None:
        """Shut down the connections of all requests in progress."""
        self._closed.set()
        self._shut_down(float("inf"))

    def _watch(self) -> None:
        while not self._closed.wait(_CHECK_INTERVAL_S):
            self._shut_down(time.monotonic())

    def _shut_down(self, now_s: float) -> None:
        with self._lock:
            late = [c for c in self._calls if c.deadline_s < now_s and c.connection is not None]
            for call in late:
                call.overdue = True
                # A thread that reads from this socket gets an end of file.
                if (sock := call.connection.sock) is not None:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)


class _WholeRequest:
    """Sends head and body of a request together: one system call, and one packet for a small request."""

    _parts: list[bytes] | None = None

    def request(self, *args: Any, **options: Any) -> None:
        if (call := getattr(_current, "call", None)) is not None:
            call.connection = self
        self._parts = []
        try:
            super().request(*args, **options)  # type: ignore[misc]
            whole = b"".join(self._parts)
        finally:
            self._parts = None
        self.send(whole)

    def send(self, data: Any) -> None:
        if self._parts is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._parts.append(data)


class _FinalResponse(http.client.HTTPResponse):
    """Skips informational responses: http.client does so for 100 only, and a 103 would count as the answer."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INFORMATIONAL):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 102 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {_MAX_INFORMATIONAL} informational responses")


class _HTTPConnection(_WholeRequest, urllib3.connection.HTTPConnection):
    debuglevel = 0  # if set on http.client, it would print the key
    response_class = _FinalResponse


class _HTTPSConnection(_WholeRequest, urllib3.connection.HTTPSConnection):
    debuglevel = 0
    response_class = _FinalResponse


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class Adapter(requests.adapters.HTTPAdapter):
    """An adapter of ``requests`` whose pools have the connections above."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager

    def pool_for(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,
        proxies: dict[str, str],
        certificate: tuple[str, str] | str | None,
    ) -> urllib3.HTTPConnectionPool:
        """Return the pool for requests like ``request``, with these settings of TLS and proxies."""
        pool = self.get_connection_with_tls_context(request, verify, proxies, certificate)
        self.cert_verify(pool, request.url or "", verify, certificate)  # type: ignore[no-untyped-call]
        assert isinstance(pool, urllib3.HTTPConnectionPool)
        return pool
