"""Run the server: in the foreground for the command ``serve``, or in a thread beside other code."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import uvicorn
from pydantic import ValidationError

from rhombus_dataset.errors import UsageError
from rhombus_dataset.server.app import create_app
from rhombus_dataset.server.connections import MAX_HEAD_BYTES, Connections
from rhombus_dataset.sources.recordings.site import InjectedFault, Site, load_site

MAX_CLIENTS: Final = 800
"""Maximum number of connections and of requests at once. Requests on further connections get a 503."""


def serve(
    site_path: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    faults: Sequence[str] = (),
    fault_seed: int | None = None,
) -> None:
    """Serve a site until SIGINT or SIGTERM. Prints ``listening on http://HOST:PORT`` when it accepts connections.

    ``port``: 0 selects a free one. ``faults``, such as ``"http_503=0.05"``, are added to those of the site file.
    ``fault_seed`` replaces that of the site file.

    Raises InvalidFile for errors in the site file, and UsageError if the address cannot be used, or is not loopback
    and the site has no keys.
    """
    site = load_site(site_path)
    site = dataclasses.replace(
        site,
        faults=(*site.faults, *map(_fault, faults)),
        fault_seed=site.fault_seed if fault_seed is None else fault_seed,
    )
    with contextlib.closing(_listen(site, host, port)) as listener:
        server = _Server(_config(site))
        server.announce = f"listening on {_url(listener)}"
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    site.footage.close()


@contextlib.contextmanager
def running_server(site: Site) -> Iterator[str]:
    """Serve ``site`` in a thread, on a free port of loopback. Yields its URL. Raises UsageError."""
    with contextlib.closing(_listen(site, "127.0.0.1", 0)) as listener:
        server = _Server(_config(site))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            if not server.ready.wait(30):
                raise UsageError("the server did not start within 30 s")
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join()


def _fault(text: str) -> InjectedFault:
    kind, equals, rate = text.partition("=")
    try:
        return InjectedFault(kind=kind, rate=float(rate) if equals else 1.0)
    except ValueError as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else f"{rate!r} is not a number"
        raise UsageError(f"fault {text!r}: expected KIND=RATE, such as http_503=0.05: {reason}") from None


class _Config(uvicorn.Config):
    def configure_logging(self) -> None:
        """Leave the loggers of the process as they are."""


def _config(site: Site) -> uvicorn.Config:
    return _Config(
        create_app(site),
        http=Connections,
        ws="none",  # it would take a connection out of the limits
        limit_concurrency=MAX_CLIENTS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self.announce: str | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.announce is not None:
            print(self.announce, flush=True)
        self.ready.set()


def _listen(site: Site, host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:  # the resolver would use it modulo 65536
        raise UsageError(f"port: expected 0 to 65535, got {port}")
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        family, address = info[0], info[4]
    except socket.gaierror:
        raise UsageError(f"{host}: no such address on this machine") from None
    if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback and not site.api_keys:
        raise UsageError(
            f"{site.path} has no api_keys: without keys, the server listens on loopback only, not on {host}"
        )
    # asyncio disables Nagle's algorithm only if the protocol is given: else each small response takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
