"""A server on a real socket that sends any bytes as the response: what no HTTP library would send."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def raw_server(respond: Callable[[int], bytes]) -> Iterator[str]:
    """Yield the URL of a server that answers the n-th request with ``respond(n)`` and closes the connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        stopping = threading.Event()

        def serve() -> None:
            number = 0
            while not stopping.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(10)
                    received = b""
                    # Each request of the source is one packet with head and body.
                    while b"\r\n\r\n" not in received:
                        if not (part := connection.recv(65536)):
                            break
                        received += part
                    if received:
                        connection.sendall(respond(number))
                        number += 1

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def response(body: bytes, *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """Return a response with this body and these additional header lines."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
