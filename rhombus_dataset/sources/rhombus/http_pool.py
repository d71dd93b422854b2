"""Connections as ``requests`` sets them up, but cheaper, and with a deadline for an answer as a whole."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from typing import Any, Final

import requests
import requests.adapters
import urllib3
import urllib3.connection

_LOOK_EVERY_S: Final = 0.25
_current = threading.local()


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """One request under way; ``overdue`` once its time was up and its connection was cut."""

    deadline_s: float
    connection: Any = None
    overdue: bool = False


class Deadlines:
    """Cuts the connection of a call whose answer takes too long as a whole.

    A socket's own time-out starts anew with every byte, so an answer that trickles would never end.
    """

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def begin(self, seconds: float) -> Call:
        """The next request of this thread may take ``seconds``, until :meth:`end`."""
        call = Call(time.monotonic() + seconds)
        _current.call = call
        with self._lock:
            self._calls.add(call)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._watcher.start()
        return call

    def end(self, call: Call) -> None:
        """The call is over: its connection may serve another."""
        with self._lock:
            self._calls.discard(call)

    def close(self) -> None:
        """Cut every call that is under way."""
        self._closed.set()
        self._cut(float("inf"))

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_EVERY_S):
            self._cut(time.monotonic())

    def _cut(self, now_s: float) -> None:
        with self._lock:
            late = [c for c in self._calls if c.deadline_s < now_s and c.connection is not None]
            for call in late:
                call.overdue = True
                # Whoever waits for the answer on this socket is woken by an end of file.
                if (sock := call.connection.sock) is not None:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)


class _WholeRequest:
    """Sends a request's head and body in one piece: one system call, and one packet for a small one."""

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


class _HTTPConnection(_WholeRequest, urllib3.connection.HTTPConnection):
    debuglevel = 0  # whoever sets it on http.client would have the key printed


class _HTTPSConnection(_WholeRequest, urllib3.connection.HTTPSConnection):
    debuglevel = 0


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class Adapter(requests.adapters.HTTPAdapter):
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
        pool = self.get_connection_with_tls_context(request, verify, proxies, certificate)
        self.cert_verify(pool, request.url or "", verify, certificate)  # type: ignore[no-untyped-call]
        assert isinstance(pool, urllib3.HTTPConnectionPool)
        return pool
