"""The frame on screen at a millisecond is the right one, for any file and any order of requests."""

from __future__ import annotations

import concurrent.futures
import json
import math
import random
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg

from rhombus_dataset.geometry import Geometry
from rhombus_dataset.imaging.crop import render
from rhombus_dataset.server.run import running_server
from rhombus_dataset.sources.recordings.footage import MAX_DECODERS, Footage
from rhombus_dataset.sources.recordings.site import load_site
from rhombus_dataset.sources.recordings.video_index import UnreadableVideo
from tests import scale
from tests.videos import write_video

START_MS = 1_750_000_000_000
Frames = list[npt.NDArray[np.uint8]]


def decoded(path: Path) -> tuple[list[Fraction], Frames]:
    """Every frame, decoded from the start, with its time in ms from that of the first."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [(frame.pts, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        base = Fraction(stream.time_base or 1)
    found.sort(key=lambda pair: pair[0] or 0)
    first = found[0][0] or 0
    return [((pts or 0) - first) * base * 1000 for pts, _ in found], [np.asarray(rgb, np.uint8) for _, rgb in found]


STEADY = [Fraction(i, 25) for i in range(60)]
UNEVEN = [Fraction(sum((7, 40, 3, 100, 33)[k % 5] for k in range(i)), 1000) for i in range(60)]
LATE = [t + Fraction(3, 2) for t in STEADY]
VIDEOS = {
    "steady.mp4": (STEADY, {}),
    "b-frames.mp4": (STEADY, {"b_frames": 3, "gop": 20}),
    "uneven.mkv": (UNEVEN, {"b_frames": 2}),
    "late.mkv": (LATE, {}),
    "open-gop.mp4": (STEADY, {"b_frames": 3, "gop": 10, "options": {"x264-params": "open-gop=1"}}),
    "one-keyframe.mp4": (STEADY, {"gop": 1000}),
    "b-frames.ts": (UNEVEN, {"b_frames": 2}),
    "open-gop.ts": (STEADY, {"b_frames": 3, "gop": 10, "options": {"x264-params": "open-gop=1"}}),
    "mpeg4.ts": (STEADY, {"codec": "mpeg4"}),
    "mpeg4-b-frames.avi": (STEADY, {"codec": "mpeg4", "b_frames": 2}),
    "h264.avi": (STEADY, {}),
    "mjpeg.avi": (STEADY, {"codec": "mjpeg"}),
    "mpeg2.mpg": (STEADY, {"codec": "mpeg2video", "b_frames": 2}),
}


@pytest.fixture(scope="module", params=sorted(VIDEOS))
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    times, options = VIDEOS[request.param]
    path: Path = tmp_path_factory.mktemp("videos") / request.param
    write_video(path, times, **options)  # type: ignore[arg-type]
    return path


def test_every_frame_in_any_order_is_the_one_that_plain_decoding_gives(video: Path) -> None:
    times, frames = decoded(video)
    footage = Footage()
    index = footage.index(video)
    assert len(index.pts) == len(frames)
    order = list(range(len(frames))) + random.Random(1).sample(range(len(frames)), len(frames))
    for number in order:
        assert index.frame_at(times[number]) == number
        assert np.array_equal(footage.frame(video, number), frames[number])
    footage.close()


def test_a_frame_stays_until_the_next_and_the_last_has_its_length(video: Path) -> None:
    times, frames = decoded(video)
    index = Footage().index(video)
    tiny = Fraction(1, 1000)
    assert index.frame_at(-tiny) is None
    for number in range(1, len(frames)):
        assert index.frame_at(times[number] - tiny) == number - 1
    assert index.frame_at(index.duration_ms - tiny) == len(frames) - 1
    assert index.frame_at(index.duration_ms) is None


def test_many_threads_get_the_right_frames_and_few_files_stay_open(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    write_video(path, STEADY, b_frames=2)
    _, frames = decoded(path)
    footage = Footage()

    def right(number: int) -> bool:
        return np.array_equal(footage.frame(path, number), frames[number])

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(right, random.Random(2).choices(range(len(frames)), k=200)))
    assert len(footage._idle) <= MAX_DECODERS
    footage.close()


def test_what_is_no_video_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4"):
        Footage().index(tmp_path / "a.mp4")


def test_a_file_that_is_incomplete_gives_its_whole_frames(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mkv"
    write_video(whole, STEADY)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    footage = Footage()
    count = len(footage.index(cut).pts)
    assert 5 < count < 60
    assert footage.frame(cut, 3).shape == (240, 320, 3)


def test_a_file_that_does_not_say_when_its_frames_are_shown_is_refused(tmp_path: Path) -> None:
    """Such files gave wrong images without an error."""
    write_video(tmp_path / "b-frames.avi", STEADY, b_frames=2)
    write_video(tmp_path / "bare.264", STEADY)
    write_video(tmp_path / "part.ts", STEADY)
    part = (tmp_path / "part.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    for name, reason in [
        ("b-frames.avi", "B-frames"),
        ("bare.264", "have no display time"),
        ("joined.ts", "times go back"),
    ]:
        with pytest.raises(UnreadableVideo, match=rf"{name}.*{reason}.*convert it"):
            Footage().index(tmp_path / name)


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
@pytest.mark.parametrize("container", ["ts", "mkv"])
def test_damage_gives_the_same_answers_in_any_order(tmp_path: Path, codec: str, container: str) -> None:
    path = tmp_path / f"whole.{container}"
    write_video(path, STEADY, codec=codec, b_frames=2)
    _, frames = decoded(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    damaged = tmp_path / f"damaged.{container}"
    damaged.write_bytes(data)

    def answers(order: list[int]) -> dict[int, bytes | None]:
        footage, found = Footage(), dict[int, bytes | None]()
        for number in order:
            try:
                found[number] = footage.frame(damaged, number).tobytes()
            except UnreadableVideo:
                found[number] = None
        footage.close()
        return found

    count = len(Footage().index(damaged).pts)
    in_order = answers(list(range(count)))
    assert in_order == answers(random.Random(3).sample(range(count), count))
    assert None in in_order.values()
    right = {rgb.tobytes() for rgb in frames}
    assert {rgb for rgb in in_order.values() if rgb} <= right


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, clips: list[Path]) -> Iterator[tuple[str, dict[str, Path]]]:
    """Generated videos and real clips as cameras of one site, over HTTP."""
    folder = tmp_path_factory.mktemp("site")
    paths: dict[str, Path] = {}
    for name in ("b-frames.mp4", "uneven.mkv"):
        times, options = VIDEOS[name]
        write_video(folder / name, times, **options)  # type: ignore[arg-type]
        paths[f"made-{len(paths)}-AAAAAAAAAAAAAAAA"[:22]] = folder / name
    for clip in clips:
        paths[f"clip-{len(paths)}-AAAAAAAAAAAAAAAA"[:22]] = clip
    start = "2025-06-15T15:06:40Z"
    site = {
        "locations": [{"uuid": "L" * 22, "name": "HQ", "tz": "UTC"}],
        "cameras": [
            {"uuid": uuid, "name": uuid, "location": "HQ",
             "recordings": [{"path": str(path), "start": start, "repeat": 3}]}
            for uuid, path in paths.items()
        ],
    }  # fmt: skip
    (folder / "site.yaml").write_text(json.dumps(site))
    with running_server(load_site(folder / "site.yaml")) as url:
        yield url, paths


def fetch(url: str, uuid: str, timestamp_ms: int, geometry: Geometry) -> bytes | None:
    from rhombus_dataset import wire
    from rhombus_dataset.frame import FrameRequest

    request = urllib.request.Request(
        url + wire.EXACT_FRAME_PATH,
        wire.request_body(FrameRequest(f"{uuid}.v0", timestamp_ms, geometry)),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        reply = wire.parse_reply(response.status, response.read())
    return reply.image if isinstance(reply, wire.Image) else None


GEOMETRIES = [
    Geometry(),
    Geometry(downscale=3),
    Geometry(1, 1234, 777, 5001, 6003),
    Geometry(2, 0, 5000, 10000, 5000),
]


def test_every_presentation_time_over_http_is_the_right_frame(served: tuple[str, dict[str, Path]]) -> None:
    """It is more similar to the frame of sequential decoding than to its neighbours, where those differ."""
    url, paths = served
    step = scale.step(7)  # of no divisor in common with the numbers of geometries and loops
    for uuid, path in paths.items():
        times, frames = decoded(path)
        duration = Footage().index(path).duration_ms

        def check(number: int) -> int:
            geometry, loop = GEOMETRIES[number % len(GEOMETRIES)], number % 3
            following = times[number + 1] if number + 1 < len(times) else duration  # noqa: B023
            begins = math.ceil(START_MS + loop * duration + times[number])  # noqa: B023
            ends = math.ceil(START_MS + loop * duration + following)  # noqa: B023
            near = {
                other: simplejpeg.decode_jpeg(render(frames[other], geometry)).astype(np.int16)  # noqa: B023
                for other in (number - 1, number, number + 1)
                if 0 <= other < len(frames)  # noqa: B023
            }
            count = 0
            for asked in {begins, (begins + ends) // 2, ends - 1} if ends > begins else ():
                image = fetch(url, uuid, asked, geometry)  # noqa: B023
                assert image is not None, (uuid, number, asked)  # noqa: B023
                got = simplejpeg.decode_jpeg(image).astype(np.int16)
                away = {other: float(np.abs(got - decoded).mean()) for other, decoded in near.items()}
                for other, decoded in near.items():
                    if not np.array_equal(decoded, near[number]):
                        assert away[number] < away[other], (uuid, number, asked, geometry)  # noqa: B023
                        count += 1
            return count

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            judged = sum(pool.map(check, range(0, len(frames), step)))
        print(f"{path.name}: {len(frames)} frames, one in {step} tried, {judged} comparisons with other neighbours")
        assert judged > len(frames) // step


def test_after_the_last_loop_there_is_no_footage(served: tuple[str, dict[str, Path]]) -> None:
    url, paths = served
    uuid, path = next(iter(paths.items()))
    end_ms = START_MS + 3 * Footage().index(path).duration_ms
    assert fetch(url, uuid, math.ceil(end_ms) - 1, Geometry()) is not None
    assert fetch(url, uuid, math.ceil(end_ms), Geometry()) is None
    assert fetch(url, uuid, START_MS - 1, Geometry()) is None
