"""Frames and lists from the camera cloud, or from another server with the same API, over HTTP.

``requests`` reads the usual configuration of proxies, CA bundles and client certificates. The requests themselves
use the ``urllib3`` pool that ``requests`` created, which takes half of the processor time.
"""

from __future__ import annotations

import http.client
import re
import time
import zlib
from pathlib import Path
from typing import Final, TypeVar

import requests
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from rhombus_dataset import wire
from rhombus_dataset.errors import UsageError
from rhombus_dataset.frame import FrameRequest
from rhombus_dataset.sources.rhombus.http_pool import Adapter, Deadlines
from rhombus_dataset.sources.rhombus.queries import Query

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Maximum length of a response. The largest expected one, a 100 megapixel JPEG in base64, is near 40 MB."""
MAX_LIST_BYTES: Final = 32 * 1024 * 1024
"""Maximum length of a response with a list: 10,000 cameras of 3 kB. Parsed, it takes up to 20 times that."""
_FAILURES: Final = (
    HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)
"""What urllib3 and the parsers below it raise for a malformed response. A chunk size of -5 is a ValueError, for
example. Whatever it is: it is the reply of one frame, and not the end of the build."""

T = TypeVar("T")


class _Secret(str):
    """A string whose ``repr`` is hidden, since some tracebacks print local variables."""

    def __repr__(self) -> str:
        return "[key]"


class RhombusSource:
    """Fetches frames and lists from the API at ``url``. Safe to use from several threads.

    ``scheme`` and ``org``: the headers x-auth-scheme and x-auth-org. ``timeout_s``: maximum seconds from the start
    of a request to the last byte of its response. ``connections``: maximum connections that are kept open.

    Redirects are not followed. TLS is verified. The key is in no message and no ``repr``. Raises UsageError for an
    invalid key or connection settings.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        scheme: str = "api-token",
        org: str | None = None,
        certificate: Path | None = None,
        certificate_key: Path | None = None,
        timeout_s: float = 30.0,
        connections: int = 16,
    ) -> None:
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise UsageError(
                "the API key is empty, or has spaces, line breaks or characters other than ASCII: copy it again"
            )
        self._api_key = _Secret(api_key)
        self.url = url.rstrip("/")
        address = self.url + wire.EXACT_FRAME_PATH
        self._headers = {
            "x-auth-apikey": self._api_key,
            "x-auth-scheme": scheme,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # base64 of a JPEG does not get much smaller
            "User-Agent": "rhombus-dataset",
        }
        if org is not None:
            self._headers["x-auth-org"] = org
        self._deadlines = Deadlines()
        self._timeout_s = timeout_s
        self._timeout = urllib3.Timeout(connect=min(timeout_s, 10.0), read=timeout_s)
        self._session = requests.Session()
        adapter = Adapter(pool_connections=2, pool_maxsize=connections, pool_block=False)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        settings = self._session.merge_environment_settings(address, {}, True, None, None)
        cert: tuple[str, str] | str | None = settings["cert"]
        if certificate is not None:
            cert = (str(certificate), str(certificate_key)) if certificate_key else str(certificate)
        prepared = requests.Request("POST", address).prepare()
        try:
            self._pool = adapter.pool_for(prepared, settings["verify"] or True, dict(settings["proxies"]), cert)
        except (OSError, requests.exceptions.RequestException) as error:
            raise UsageError(f"{self.url}: the connection settings are not valid: {error}") from None
        # Through a plain HTTP proxy, the request line has the full URL.
        target = adapter.request_url(prepared, settings["proxies"])
        self._target = target.removesuffix(wire.EXACT_FRAME_PATH)

    def __repr__(self) -> str:
        return f"RhombusSource({self.url!r})"

    def get(self, request: FrameRequest) -> wire.Reply:
        """Return the reply to one attempt. Failures of the network and the server are replies, not exceptions."""
        answer = self._send(wire.EXACT_FRAME_PATH, wire.request_body(request), MAX_BODY_BYTES)
        return wire.frame_reply(answer, self._api_key)

    def ask(self, query: Query[T]) -> T | wire.Failure:
        """Return the result of one attempt of another call. Failures are replies, as those of :meth:`get`."""
        answer = self._send(query.path, query.content, MAX_LIST_BYTES)
        return query.read(answer, self._api_key) if isinstance(answer, wire.Answered) else answer

    def _send(self, path: str, body: bytes, max_bytes: int) -> wire.Answered | wire.Failure:
        """Send one request within the total timeout. Every response of the server passes through here."""
        call = self._deadlines.begin(self._timeout_s)
        try:
            answer = self._exchange(path, body, max_bytes)
        finally:
            self._deadlines.end(call)
        if call.overdue and not isinstance(answer, wire.Answered):
            return wire.Transient("no whole answer within the time-out", camera_down=True)
        return answer

    def _exchange(self, path: str, body: bytes, max_bytes: int) -> wire.Answered | wire.Failure:
        try:
            response = self._pool.urlopen(
                "POST",
                self._target + path,
                body=body,
                headers=self._headers,
                retries=False,
                redirect=False,
                assert_same_host=False,  # with a proxy, the pool's host is the proxy
                timeout=self._timeout,
                preload_content=False,
            )
        except _FAILURES as error:
            return self._translate(error)
        try:
            encoding = response.headers.get("Content-Encoding", "")
            content = _decompressed(encoding, self._read(response, max_bytes), max_bytes)
        except _Refused as error:
            response.close()
            return wire.Transient(str(error))
        except _FAILURES as error:
            response.close()
            return self._translate(error, connected=True)
        response.release_conn()
        retry_after = response.headers.get("Retry-After")
        return wire.parse_answer(response.status, content, retry_after, time.time(), self._api_key)

    def close(self) -> None:
        """Close all connections. Requests in progress end like after a timeout."""
        self._deadlines.close()
        self._session.close()

    @staticmethod
    def _read(response: urllib3.BaseHTTPResponse, max_bytes: int) -> bytes:
        """Return the body as it was sent, still compressed. Raises _Refused for one that is too long."""
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and len(length) < 16 and int(length) <= max_bytes:
            return response.read(decode_content=False)
        body = response.read(max_bytes + 1, decode_content=False)
        if len(body) > max_bytes:
            raise _Refused(f"the answer is longer than {max_bytes} bytes")
        return body

    def _translate(self, error: BaseException, connected: bool = False) -> wire.Failure:
        """Return the reply for an exception of the network or of the HTTP parser."""
        cause: BaseException = error
        if isinstance(error, MaxRetryError) and error.reason is not None:
            cause = error.reason
        if isinstance(cause, ReadTimeoutError):
            return wire.Transient("no answer within the time-out", camera_down=True)
        if not connected:
            text = wire.outside_text(_first_line(cause), self._api_key)
            if isinstance(cause, SSLError):
                return wire.Unreachable(f"TLS: {self.url}: {text}")
            # In urllib3, NewConnectionError is a subclass of ConnectTimeoutError for any cause.
            if isinstance(cause, NameResolutionError | NewConnectionError | ProxyError):
                return wire.Unreachable(f"{self.url}: {text}")
            if isinstance(cause, ConnectTimeoutError):
                return wire.Unreachable(f"{self.url}: connecting timed out")
        return wire.Transient(f"the connection broke: {type(cause).__name__}")


class _Refused(Exception):
    """A body that is not read further. The text is the reason."""


def _decompressed(encoding: str, body: bytes, max_bytes: int) -> bytes:
    """Return the body without its compression. Raises _Refused for one that is too long or that is not known.

    No compression was asked for. A server or a proxy may use gzip all the same. The length is limited while the
    body is decompressed: 4 MB can become 4 GB.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise _Refused("the answer is compressed in a way that was not asked for")
    # 32 recognises the headers of gzip and of zlib, the two that these names stand for (RFC 9110, section 8.4.1).
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = decompressor.decompress(body, max_bytes + 1)
    except zlib.error:
        raise _Refused("the compression of the answer is damaged") from None
    if len(plain) > max_bytes:
        raise _Refused(f"the answer is longer than {max_bytes} bytes")
    if not decompressor.eof:
        raise _Refused("the answer ends inside its compression")
    return plain


def _first_line(error: BaseException) -> str:
    # urllib3 puts the repr of the pool before its messages, which does not help a reader.
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r"^(<.*?>|[\w.]+\(.*?\)): ", "", text)[:200]
