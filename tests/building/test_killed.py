"""Promise 6: killed at any step, the next run loses nothing, and ends in the same bytes."""

from __future__ import annotations

import collections
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import rhombus_dataset
from rhombus_dataset.store.manifest import read_manifest
from tests import scale
from tests.building.test_build import files, same_for_each_frame, write_plan
from tests.building.test_rerun import FAILED, some
from tests.kills import check_kills
from tests.scripted_server import Answer, Asked, ScriptedServer, scripted_server
from tests.zygote import Zygote

CONCURRENCY = 8
PARTS = 2
"""The writes of a run are divided among so many tests, for several processes to share them."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server(same_for_each_frame) as started:
        yield started


FRAMES = 12
STEPS = {"parquet": 1, "jpeg": 4}
"""A shard of JPEG files takes many more changes, which are alike: it is killed at each fourth."""


def plan_of(folder: Path, server: ScriptedServer, data_format: str = "parquet") -> Path:
    """12 frames in three shards."""
    return write_plan(
        folder,
        server.url,
        windows=[{"start": "2026-06-01T00:00:00Z", "end": "2026-06-01T00:02:00Z"}],
        output={"frames_per_shard": 4, "format": data_format},
    )


def check_requests(server: ScriptedServer, kills: int) -> None:
    """Every frame was asked for, and no kill cost more repeats than there were requests in flight."""
    times = collections.Counter((asked.body["cameraUuid"], asked.body["timestampMs"]) for asked in server.asked)
    assert len(times) == FRAMES
    assert sum(times.values()) - FRAMES <= kills * CONCURRENCY


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
def test_killed_at_every_write_of_a_build(
    tmp_path: Path, zygote: Zygote, server: ScriptedServer, data_format: str, part: int
) -> None:
    plan = plan_of(tmp_path, server, data_format)

    def build(dataset: Path) -> list[str | Path]:
        if not dataset.exists():
            server.asked.clear()
        return ["build", plan, "--out", dataset, "--quiet"]

    check_kills(zygote, tmp_path, build, after=lambda _: check_requests(server, kills=1), part=(part, PARTS))


@pytest.mark.parametrize("seed", range(scale.count(10, 3)))
def test_killed_at_ten_random_moments_of_one_build(
    tmp_path: Path, zygote: Zygote, server: ScriptedServer, seed: int
) -> None:
    """A hundred kills in all, in a thorough run."""

    def slowly(asked: Asked) -> Answer:
        time.sleep(0.03)
        return same_for_each_frame(asked)

    server.script = slowly
    plan = plan_of(tmp_path, server)
    rng = random.Random(seed)
    for _ in range(10):
        zygote.run("build", plan, "--out", tmp_path / "out", "--quiet", kill_after_s=rng.uniform(0.02, 0.3))
    last = zygote.run("build", plan, "--out", tmp_path / "out", "--quiet")
    assert last["exit_code"] == 0, last["output"]
    check_requests(server, kills=10)
    rhombus_dataset.build(plan, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
def test_killed_at_every_write_of_a_retry(
    tmp_path: Path, zygote: Zygote, server: ScriptedServer, data_format: str
) -> None:
    plan = plan_of(tmp_path, server, data_format)
    rhombus_dataset.build(plan, tmp_path / "never-failed")
    server.script = some(FAILED, 8)
    rhombus_dataset.build(plan, tmp_path / "before")
    server.script = same_for_each_frame

    def retry(out: Path) -> list[str | Path]:
        return ["build", plan, "--out", out, "--retry", "failed", "--quiet"]

    whole = check_kills(zygote, tmp_path, retry, tmp_path / "before", part=(0, STEPS[data_format]))
    assert files(whole) == files(tmp_path / "never-failed") != files(tmp_path / "before")


@pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
@pytest.mark.parametrize("by", ["erasure", "build"])
def test_killed_at_every_write_of_an_erasure(
    tmp_path: Path, zygote: Zygote, server: ScriptedServer, data_format: str, by: str
) -> None:
    plan = plan_of(tmp_path, server, data_format)
    rhombus_dataset.build(plan, tmp_path / "before")
    times = ["--camera", "camera-B", "--from", "2026-06-01T00:01:00Z", "--to", "2026-06-01T00:03:00Z"]

    def erase(out: Path) -> list[str | Path]:
        return ["erase", out, *times]

    def build(out: Path) -> list[str | Path]:
        # Before the erasure is on record, there is nothing that a build could finish.
        return ["build", plan, "--out", out, "--quiet"] if (out / "erased.json").exists() else erase(out)

    finish, step = (build, 4) if by == "build" else (erase, STEPS[data_format])
    whole = check_kills(zygote, tmp_path, erase, tmp_path / "before", repeat=finish, part=(0, step))
    statuses = read_manifest(whole).column("status").to_pylist()
    assert 0 < statuses.count("erased") < statuses.count("ok")
