"""Requests to the cloud: within the limits, over verified TLS, through the configured proxy."""

from __future__ import annotations

import http.server
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

import rhombus_dataset
from rhombus_dataset import wire
from rhombus_dataset.frame import FrameRequest
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.sources.rhombus.client import RhombusSource
from tests.building.test_build import same_for_each_frame, write_plan
from tests.scripted_server import Answer, Asked, frame_answer, jpeg, scripted_server

REQUEST = FrameRequest("AAAAAAAAAAAAAAAAAAAAAA.v0", 1_700_000_000_000, Geometry())


@pytest.mark.parametrize(("concurrency", "per_camera"), [(1, 1), (6, 2), (16, 16)])
def test_requests_in_flight_are_bounded_in_all_and_by_camera(
    tmp_path: Path, concurrency: int, per_camera: int
) -> None:
    lock = threading.Lock()
    flying: Counter[str] = Counter()
    most_in_all, most_of_one = 0, 0

    def script(asked: Asked) -> Answer:
        nonlocal most_in_all, most_of_one
        camera = asked.body["cameraUuid"]
        with lock:
            flying[camera] += 1
            most_in_all = max(most_in_all, flying.total())
            most_of_one = max(most_of_one, flying[camera])
        time.sleep(0.02)
        with lock:
            flying[camera] -= 1
        return same_for_each_frame(asked)

    with scripted_server(script) as server:
        limits = {"requests_per_second": 5000, "burst": 500, "concurrency": concurrency, "per_camera": per_camera}
        source = {"type": "rhombus", "url": server.url, "limits": limits}
        rhombus_dataset.build(write_plan(tmp_path, server.url, source=source), tmp_path / "out")
    assert most_in_all <= concurrency
    assert most_of_one <= per_camera
    if concurrency > 1:
        assert most_in_all > 1, "requests overlap"


@contextmanager
def tls_server(certificate: trustme.LeafCert) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = frame_answer(jpeg(1)).body
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that does not trust the certificate is no error here."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_promise_9_tls_is_verified_against_the_users_ca_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    with tls_server(authority.issue_cert("127.0.0.1")) as url:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        stranger = RhombusSource(url, "key").get(REQUEST)
        assert isinstance(stranger, wire.Unreachable)
        assert stranger.reason.startswith("TLS: ")
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        assert isinstance(RhombusSource(url, "key").get(REQUEST), wire.Image)


def test_a_certificate_for_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with tls_server(authority.issue_cert("elsewhere.example")) as url:
        assert isinstance(RhombusSource(url, "key").get(REQUEST), wire.Unreachable)


def test_the_users_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain proxy gets the full URL in the request line, and forwards the response."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with scripted_server(lambda _: frame_answer(jpeg(1))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        reply = RhombusSource("http://cloud.example", "key").get(REQUEST)
    assert isinstance(reply, wire.Image)
    assert proxy.asked[0].path == "http://cloud.example" + wire.EXACT_FRAME_PATH


def test_promise_9_a_redirect_is_not_followed_and_carries_no_key() -> None:
    with (
        scripted_server(lambda _: frame_answer(jpeg(1))) as elsewhere,
        scripted_server(lambda _: Answer(307, b"", {"Location": elsewhere.url + "/x"})) as server,
    ):
        reply = RhombusSource(server.url, "key").get(REQUEST)
    assert isinstance(reply, wire.Rejected)
    assert "redirects are refused" in reply.reason
    assert not elsewhere.asked
