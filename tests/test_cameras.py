"""The cameras of a cloud: the command `cameras`, and `init --url`; and that no reply of a server is trusted."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import rhombus_dataset
from rhombus_dataset import wire
from rhombus_dataset.building import fetch
from rhombus_dataset.building.camera_list import CameraList
from rhombus_dataset.cli import main
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.server.run import running_server
from rhombus_dataset.sources.recordings.site import SiteQuota, load_site
from rhombus_dataset.sources.rhombus import client, queries
from rhombus_dataset.sources.rhombus.client import RhombusSource
from tests.conftest import CONFIGS, NOW_MS
from tests.scripted_server import Answer, Asked, ScriptedServer, scripted_server
from tests.videos import write_video

KEY = "rhk-4f9a1c77e2-Kd0xQ"
CODES = "\x1b[31m\x1b]0;title\x07\x9b2J\r\n"
UUIDS = [c * 22 for c in "ABC"]
NOW_S = 1_785_000_000


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF_BASE_S", 0.01)


def run(*arguments: object) -> Result:
    """Run the command. Nothing that it prints has a control character, a traceback or a piece of the key."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert not [c for c in done.output if not c.isprintable() and c != "\n"], repr(done.output)
    pieces = [KEY[i : i + wire.MIN_SECRET_PIECE] for i in range(len(KEY) - wire.MIN_SECRET_PIECE + 1)]
    assert not [piece for piece in pieces if piece in done.output], done.output
    return done


def states(*more: dict[str, Any]) -> dict[str, Any]:
    """The reply with three cameras. ``more``: fields that replace those of each."""
    cameras = [{"uuid": uuid, "name": uuid[0], "locationUuid": "L", "connectionStatus": "GREEN"} for uuid in UUIDS]
    return {"cameraStates": [camera | new for camera, new in zip(cameras, [*more, {}, {}, {}], strict=False)]}


LOCATIONS = {"locations": [{"uuid": "L", "name": "Oakland", "tz": "America/Los_Angeles"}]}


def windows(*spans: tuple[float, float], kind: str = "VideoCloud") -> dict[str, Any]:
    return {"presenceWindows": {kind: [{"startSeconds": a, "durationSeconds": b - a} for a, b in spans]}}


Script = Callable[[Asked], Answer]


def cloud(
    cameras: Any = None, locations: Any = None, presence: Callable[[str], Any] | None = None
) -> Callable[[Asked], Answer]:
    """A server that answers the three calls with these objects, or with an Answer."""

    def script(asked: Asked) -> Answer:
        found = {
            wire.CAMERAS_PATH: states() if cameras is None else cameras,
            wire.LOCATIONS_PATH: LOCATIONS if locations is None else locations,
        }.get(asked.path)
        if found is None:
            assert asked.path == wire.PRESENCE_PATH
            found = (presence or (lambda _: windows((NOW_S, NOW_S + 60))))(asked.body["cameraUuid"])
        return found if isinstance(found, Answer) else Answer(body=json.dumps(found).encode())

    return script


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RHOMBUS_API_KEY", KEY)


# A real server with real video.


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of two cameras that have video and one that has none, and their site file."""
    folder = tmp_path_factory.mktemp("site")
    write_video(folder / "dock.mp4", [Fraction(i, 5) for i in range(25)])
    site = rhombus_dataset.init_site(
        [folder / "dock.mp4", folder / "dock.mp4"], folder / "site.yaml", timezone="Europe/Berlin"
    )
    content = yaml.safe_load(site.read_text())
    for camera, second in zip(content["cameras"], (0, 6), strict=True):
        camera["recordings"][0]["start"] = f"2026-06-01T12:00:{second:02d}+02:00"
    content["cameras"].append({"uuid": "N" * 22, "name": "new", "location": "home"})
    content["api_keys"] = ["local-key"]
    site.write_text(yaml.safe_dump(content))
    with running_server(load_site(site)) as url:
        yield url, site


def test_from_a_server_to_a_dataset(served: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = served
    listed = run("cameras", url)
    assert listed.exit_code == 0
    head, dock, second, new = listed.output.splitlines()[2:]
    assert " ".join(head.split()) == "name UUID location time zone status first footage last footage"
    assert "Europe/Berlin  GREEN   2026-06-01 12:00:00 +0200  2026-06-01 12:00:04 +0200" in dock
    assert second.startswith("dock-2")
    assert new.split()[-2:] == ["none", "none"]
    assert run("init", "--url", url, "--out", tmp_path / "plan.yaml").exit_code == 0
    text = (tmp_path / "plan.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=plan.schema.json\n")
    assert "# Left out, since they have no footage: new.\n" in text
    plan = load_plan(tmp_path / "plan.yaml", NOW_MS)
    assert [(c.name, c.timezone, c.location) for c in plan.cameras] == [
        ("dock", "Europe/Berlin", "home"),
        ("dock-2", "Europe/Berlin", "home"),
    ]
    assert len(plan.windows) == 2
    assert "# The cameras have footage at different times, in 5" in text
    assert run("plan", tmp_path / "plan.yaml").exit_code == 0
    assert run("cameras", tmp_path / "plan.yaml").output == listed.output
    outcome = rhombus_dataset.build(tmp_path / "plan.yaml", tmp_path / "out")
    assert outcome.complete
    assert outcome.counts["ok"] == 8  # type: ignore[index]


def test_init_from_the_url_and_from_the_site_differ_in_the_source_only(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    url, site = served
    plans = [
        yaml.safe_load(rhombus_dataset.init(tmp_path / name, **where).read_text())
        for name, where in (("url.yaml", {"url": url}), ("site.yaml", {"site": site}))
    ]
    assert [plan.pop("source")["type"] for plan in plans] == ["rhombus", "recordings"]
    starts = [plan.pop("windows")[0]["start"] for plan in plans]
    assert starts[0] == starts[1]
    for plan in plans:
        for camera in plan["cameras"]:
            camera["uuid"] = camera["uuid"][:22]
    assert plans[0] == plans[1]


def test_the_json_has_what_the_table_has(demo_url: str) -> None:
    found = json.loads(run("cameras", demo_url, "--json").output)
    assert found["url"] == demo_url
    assert [camera["name"] for camera in found["cameras"]] == ["dock-north", "dock-south", "gate-east", "lobby"]
    assert found["cameras"][3] == {
        "uuid": "DEMO-lobby-AAAAAAAAAAA",
        "name": "lobby",
        "location": "Berlin",
        "timezone": "Europe/Berlin",
        "connection_status": "GREEN",
        "first_footage": "2026-06-01T22:00:00Z",
        "last_footage": "2026-06-07T22:00:00Z",
        "problem": None,
    }


def test_long_footage_gives_five_hundred_frames(demo_url: str, tmp_path: Path) -> None:
    plan = rhombus_dataset.init(tmp_path / "plan.yaml", url=demo_url)
    assert len(rhombus_dataset.schedule_of(plan)) <= 500
    (window,) = yaml.safe_load(plan.read_text())["windows"]
    assert window == {"start": "2026-06-01T07:00:00Z", "end": "2026-06-08T07:00:00Z"}


# Mistakes of a user.


@pytest.mark.parametrize("arguments", [["cameras"], ["init", "plan.yaml", "--url"]])
def test_mistakes(arguments: list[str], demo_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for address, code, said in (
        (
            demo_url + "/nowhere",
            1,
            "HTTP 404: Not Found. This server does not list its cameras. Check the address.",
        ),
        ("http://192.0.2.1", 2, "plain http would send the key unencrypted"),
        ("ftp://x", 2, "expected an address such as https://api2.rhombussystems.com"),
        ("127.0.0.1", 2, "no such file: expected a plan, or an address"),
        (CONFIGS / "recordings.yaml", 2, "this plan reads recordings. Its cameras are in "),
    ):
        done = run(*arguments, address)
        assert done.exit_code == code
        assert said in done.output
    monkeypatch.setenv("RHOMBUS_API_KEY", KEY)
    done = run(*arguments, demo_url)
    assert done.exit_code == 1
    assert "the API refuses the key (HTTP 401)" in done.output
    assert not list(tmp_path.iterdir())


def test_a_plan_that_exists_is_kept_and_nothing_is_requested(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("kept")
    with scripted_server(cloud()) as server:
        assert "exists already" in run("init", tmp_path / "plan.yaml", "--url", server.url).output
        assert "give one of them" in run("init", "a.yaml", "--out", "b.yaml").output
        assert "one source" in run("init", tmp_path / "a.yaml", "--url", server.url, "--site", "s.yaml").output
    assert server.asked == []
    assert (tmp_path / "plan.yaml").read_text() == "kept"


# Replies.


def listed(script: Script) -> tuple[CameraList, ScriptedServer]:
    with scripted_server(script) as server:
        return rhombus_dataset.list_cameras(server.url), server


def test_each_camera_is_asked_for_once_with_its_bare_uuid(keyed: None) -> None:
    facets = states({"uuid": f"{UUIDS[0]}.v0"}, {"uuid": f"{UUIDS[1]}.v3"}, {"mummified": True})
    found, server = listed(cloud(facets))
    assert [camera.uuid for camera in found.cameras] == [UUIDS[0], f"{UUIDS[1]}.v3"]
    assert [asked.path for asked in server.asked] == [
        wire.CAMERAS_PATH,
        wire.LOCATIONS_PATH,
        *[wire.PRESENCE_PATH] * 2,
    ]
    assert [asked.body.get("cameraUuid") for asked in server.asked[2:]] == UUIDS[:2]
    assert all(asked.body["startTimeSec"] == 0 for asked in server.asked[2:])
    assert {asked.headers["x-auth-apikey"] for asked in server.asked} == {KEY}


@pytest.mark.parametrize(
    ("reply", "spans_s"),
    [
        (windows((NOW_S, NOW_S + 60)), [(0, 60)]),
        (windows((NOW_S, NOW_S + 60), kind="VideoLocal"), [(0, 60)]),
        (windows((NOW_S + 61.5, NOW_S + 90), (NOW_S, NOW_S + 60), (NOW_S + 50, NOW_S + 55)), [(0, 90)]),
        (windows((NOW_S, NOW_S + 60), (NOW_S + 62, NOW_S + 90)), [(0, 60), (62, 90)]),
        (windows((NOW_S, NOW_S), (NOW_S, NOW_S - 5)), []),
        (windows((NOW_S * 2, NOW_S * 2 + 60)), []),
        ({"presenceWindows": {}}, []),
        ({"presenceWindows": {"VideoCloud": None, "AudioCloud": 5}, "error": None}, []),
        ({"presenceWindows": None}, "presenceWindows: expected an object, got null"),
        ({"error": False}, "presenceWindows: is missing"),
        ({"error": True, "errorMsg": "no device"}, "no device"),
        ({"presenceWindows": {"VideoCloud": [{}]}}, "presenceWindows.VideoCloud[0].startSeconds: is missing"),
        (
            windows((NOW_S * 1000, NOW_S)),
            "startSeconds: expected less than or equal to 100000000000, got 1.785e+12",
        ),
        ({"presenceWindows": {"VideoCloud": [{"startSeconds": True}]}}, "expected a number, got true or false"),
        (Answer(400, b'{"errorMsg": "bad"}'), "HTTP 400: bad"),
        (Answer(403, b"{}"), "HTTP 403"),
    ],
)
def test_footage(reply: Any, spans_s: Any) -> None:
    """A missing key is an error of that camera. An empty map is no footage."""
    found, server = listed(cloud(presence=lambda uuid: reply if uuid == UUIDS[0] else windows((NOW_S, NOW_S + 1))))
    camera, other, _ = found.cameras
    assert other.problem is None
    assert len(server.asked) == 5
    if isinstance(spans_s, str):
        assert camera.spans_ms is None
        assert spans_s in (camera.problem or "")
        assert f"A: its footage is unknown: {camera.problem}" in found.to_text()
    else:
        assert camera.spans_ms == tuple(((NOW_S + a) * 1000, (NOW_S + b) * 1000) for a, b in spans_s)


def test_the_last_two_minutes_are_called_now() -> None:
    now_s = int(time.time())
    found, _ = listed(cloud(presence=lambda _: windows((NOW_S, now_s - 100))))
    assert found.to_text().endswith(" now")
    found, _ = listed(cloud(presence=lambda _: windows((NOW_S, now_s - 200))))
    assert not found.to_text().endswith(" now")


def test_what_the_cloud_does_not_say_is_unknown(tmp_path: Path) -> None:
    places = {
        "locations": [{"uuid": "L", "name": None, "tz": None}, {"uuid": "M", "name": "Moon", "tz": "Moon/Sea"}]
    }
    cameras = states({"name": None}, {"locationUuid": "M", "connectionStatus": None}, {"locationUuid": None})
    script = cloud(cameras, places, lambda uuid: windows((NOW_S, NOW_S + 9)) if uuid != UUIDS[2] else {})
    found, _ = listed(script)
    assert [c.name for c in found.cameras] == [UUIDS[0], "B", "C"]
    assert [c.location for c in found.cameras] == [None, "Moon", None]
    assert [c.timezone for c in found.cameras] == [None] * 3
    with scripted_server(script) as server:
        plan = rhombus_dataset.init(tmp_path / "plan.yaml", url=server.url)
    assert f"# The cloud names no time zone of {UUIDS[0]}, B. UTC is written: correct it.\n" in plan.read_text()
    assert "# Left out, since their footage is unknown: C.\n" in plan.read_text()
    assert {camera.timezone for camera in load_plan(plan, NOW_MS).cameras} == {"UTC"}


def test_a_plan_of_odd_names_and_many_spans_is_valid(tmp_path: Path) -> None:
    """Equal and long names, and more spans than a person could edit."""
    cameras = states({"name": "dock: #1 'x'"}, {"name": "dock: #1 'x'"}, {"name": "é" * 150})
    spans = [(NOW_S + i * 300, NOW_S + i * 300 + 60) for i in range(5_000)]
    with scripted_server(cloud(cameras, presence=lambda _: windows(*spans, (5, 9)))) as server:
        plan = rhombus_dataset.init(tmp_path / "plan.yaml", url=server.url)
    loaded = load_plan(plan, NOW_MS)
    assert [camera.name for camera in loaded.cameras] == ["dock: #1 'x'", "dock: #1 'x'-2", "é" * 80]
    assert len(loaded.windows) == 1
    assert len(rhombus_dataset.schedule_of(plan)) == 500


def test_without_footage_there_is_no_plan(tmp_path: Path) -> None:
    for presence, said in (
        (windows(), "3 cameras, none with known footage. To see them"),
        ({}, "none with known footage: A: presenceWindows: is missing."),
    ):
        with scripted_server(cloud(presence=lambda _, reply=presence: reply)) as server:  # type: ignore[misc]
            done = run("init", tmp_path / "plan.yaml", "--url", server.url)
        assert done.exit_code == 1
        assert said in done.output
    assert not list(tmp_path.iterdir())


# Hostile replies.


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({}, "cameraStates: is missing"),
        ({"cameraStates": None}, "cameraStates: expected a list, got null"),
        ({"cameraStates": {"a": 1}}, "cameraStates: expected a list, got an object"),
        ({"cameraStates": [7]}, "cameraStates[0]: expected an object, got 7"),
        (states({}, {"uuid": 7}), "cameraStates[1].uuid: expected text, got 7"),
        (states({"uuid": f"../{CODES}"}), "cameraStates[0].uuid: '../ [31m ]0;title"),
        (states({"uuid": UUIDS[1]}), "cameraStates[1].uuid: an earlier camera has the same UUID BBBB"),
        (states({"name": ["x"]}), "cameraStates[0].name: expected text, got a list"),
        (states({"mummified": "no"}), "cameraStates[0].mummified: expected true or false, got text"),
        (
            {"cameraStates": [{"uuid": f"{i:022d}"} for i in range(10_001)]},
            "expected at most 10,000 items, got more",
        ),
        ({"error": True, "errorMsg": f"no {CODES}"}, "no [31m ]0;title 2J. Check that this is the address"),
        (Answer(body=b"<html>sign in"), "the answer is not JSON: <html>sign in"),
        (Answer(body=b"[" * 100_000), "the answer is not JSON"),
        (Answer(302, b"", {"Location": "http://127.0.0.1:1"}), "redirects are refused"),
        (Answer(500, b'{"errorMsg": "down"}'), "HTTP 500: down"),
        (Answer(body=b'{"cameraStates": [', close_after=9, headers={"Content-Length": "400"}), "connection broke"),
    ],
)
def test_a_wrong_list_names_the_endpoint_and_the_field(keyed: None, reply: Any, said: str) -> None:
    with scripted_server(cloud(reply)) as server:
        done = run("cameras", server.url)
    assert done.exit_code == 1
    assert f"error: {server.url}{wire.CAMERAS_PATH}: " in done.output
    assert said in done.output
    assert len(done.output) < 600


@pytest.mark.parametrize("tz", [7, ["UTC"], {"a": 1}])
def test_a_wrong_location_names_the_endpoint_and_the_field(tz: Any) -> None:
    with scripted_server(cloud(locations={"locations": [{"uuid": "L", "tz": tz}]})) as server:
        done = run("cameras", server.url)
    assert done.exit_code == 1
    assert f"{wire.LOCATIONS_PATH}: locations[0].tz: expected text, got " in done.output


@pytest.mark.parametrize("text", [f"x{CODES}{KEY}", f"{KEY[:12]} {KEY[9:]}", "x" * 95 + KEY])
def test_promise_9_the_key_is_printed_nowhere(keyed: None, text: str, tmp_path: Path) -> None:
    """`run` checks what is printed. Here: a key that is repeated in names, errors and footage, and in the plan."""
    fields = {"name": text, "connectionStatus": text, "locationUuid": text}
    places = {"locations": [{"uuid": text, "name": text, "tz": text}]}
    with scripted_server(cloud(states(fields, {"name": f"ok {text}"}), places)) as server:
        assert run("cameras", server.url).exit_code == 0
        assert run("cameras", server.url, "--json").exit_code == 0
        assert run("init", tmp_path / "plan.yaml", "--url", server.url).exit_code == 0
    plan = (tmp_path / "plan.yaml").read_text()
    assert "[key]" in plan
    assert KEY[:8] not in plan
    assert load_plan(tmp_path / "plan.yaml", NOW_MS).cameras
    uuid = states({"uuid": (text * 3)[-22:]})
    for reply in (
        uuid,
        {"error": True, "errorMsg": text},
        *(Answer(s, text.encode()) for s in (200, 400, 401, 404, 500)),
    ):
        with scripted_server(cloud(reply)) as server:
            assert run("cameras", server.url).exit_code == 1
    presence = {"presenceWindows": {"VideoCloud": [{"startSeconds": text}]}, "error": text}
    for reply in (presence, {"error": True, "errorMsg": text}, Answer(400, text.encode())):
        with scripted_server(cloud(presence=lambda _, reply=reply: reply)) as server:  # type: ignore[misc]
            assert run("cameras", server.url).exit_code == 0


def test_a_list_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_LIST_BYTES", 100_000)
    with scripted_server(cloud(Answer(body=b" " * 100_001))) as server:
        assert "the answer is longer than 100000 bytes" in run("cameras", server.url).output


# Waiting.


def test_a_throttled_list_waits_as_long_as_it_is_told(served: tuple[str, Path]) -> None:
    site = dataclasses.replace(load_site(served[1]), quota=SiteQuota(requests_per_second=1, burst=4))
    with running_server(site) as url:
        began_s = time.monotonic()
        assert len(rhombus_dataset.list_cameras(url).cameras) == 3
    assert 0.5 < time.monotonic() - began_s < 5


def test_a_retry_after_of_an_hour_stops_the_command() -> None:
    with scripted_server(lambda _: Answer(429, b"", {"Retry-After": "3600"})) as server:
        done = run("cameras", server.url)
    assert done.exit_code == 1
    assert "answers 429 and asks to wait longer than 60 s" in done.output
    assert len(server.asked) == 1


def test_a_list_that_does_not_come_in_time_is_a_reply() -> None:
    with scripted_server(cloud(Answer(body=b"{" * 50, byte_every_s=0.2))) as server:
        source = RhombusSource(server.url, KEY, timeout_s=0.5)
        began_s = time.monotonic()
        reply = source.ask(queries.CAMERAS)
        source.close()
    assert isinstance(reply, wire.Transient)
    assert "time-out" in reply.reason
    assert time.monotonic() - began_s < 2


def test_cameras_that_do_not_answer_do_not_take_for_ever() -> None:
    """After five failures in a row, the others are not asked for."""
    cameras = {"cameraStates": [{"uuid": f"{i:022d}"} for i in range(40)]}
    found, server = listed(cloud(cameras, presence=lambda _: Answer(503, b"{}")))
    assert [camera.problem for camera in found.cameras[4:6]] == [
        "HTTP 503",
        "not asked for, since the 5 cameras before failed",
    ]
    assert len(server.asked) == 2 + 5
    assert "... and 30 more (--json lists all)" in found.to_text()
