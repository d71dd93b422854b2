"""Promise 6: killed at any step, the next run loses nothing, and ends in the same bytes."""

from __future__ import annotations

import collections
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rhombus_dataset
from rhombus_dataset.api import verify
from tests.building.test_build import files, same_for_each_frame, write_plan
from tests.building.test_rerun import FAILED, some
from tests.scripted_server import Answer, Asked, ScriptedServer, scripted_server
from tests.zygote import Zygote

CONCURRENCY = 8
PARTS = 2
"""The writes of a run are divided among so many tests, for several processes to share them."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server(same_for_each_frame) as started:
        yield started


FRAMES = 12
STEPS = {"parquet": 1, "jpeg": 4}
"""A shard of JPEG files is so many more writes, one like the other."""


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
    whole = zygote.run("build", plan, "--out", tmp_path / "whole", "--quiet")
    assert whole["exit_code"] == 0
    expected = files(tmp_path / "whole")
    assert whole["changes"] > 60
    for kill_at in range(1 + part, whole["changes"] + 1, PARTS):
        server.asked.clear()
        out = tmp_path / f"at-{kill_at}"
        killed = zygote.run("build", plan, "--out", out, "--quiet", kill_at=kill_at)
        assert killed["exit_code"] in (-9, 0)  # the flusher's writes depend on time
        again = zygote.run("build", plan, "--out", out, "--quiet")
        assert again["exit_code"] == 0, again["output"]
        assert files(out) == expected, kill_at
        assert not (out / ".build" / "journal").exists()
        check_requests(server, kills=1)
        shutil.rmtree(out)


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_ten_random_moments_of_one_build(
    tmp_path: Path, zygote: Zygote, server: ScriptedServer, seed: int
) -> None:
    """A hundred kills in all."""

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


def check_every_write(
    zygote: Zygote,
    before: Path,
    expected: dict[str, str],
    command: Callable[[Path], list[str | Path]],
    finish: Callable[[Path], list[str | Path]],
    step: int = 1,
) -> None:
    """Kill ``command`` on a copy of ``before`` at each of its writes, or at each ``step``-th; ``finish`` must then
    lead to ``expected``."""
    trial = before.with_name("trial")
    shutil.copytree(before, trial)
    changes = zygote.run(*command(trial))["changes"]
    assert changes > 10
    for kill_at in range(1, changes + 1, step):
        shutil.rmtree(trial)
        shutil.copytree(before, trial)
        zygote.run(*command(trial), kill_at=kill_at)
        again = zygote.run(*finish(trial))
        assert again["exit_code"] == 0, again["output"]
        assert files(trial) == expected, kill_at
        assert verify(trial).problems == (), kill_at


@pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
def test_killed_at_every_write_of_a_retry(
    tmp_path: Path, zygote: Zygote, server: ScriptedServer, data_format: str
) -> None:
    plan = plan_of(tmp_path, server, data_format)
    rhombus_dataset.build(plan, tmp_path / "whole")
    server.script = some(FAILED, 8)
    rhombus_dataset.build(plan, tmp_path / "before")
    server.script = same_for_each_frame

    def retry(out: Path) -> list[str | Path]:
        return ["build", plan, "--out", out, "--retry", "failed", "--quiet"]

    check_every_write(zygote, tmp_path / "before", files(tmp_path / "whole"), retry, retry, STEPS[data_format])


@pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
@pytest.mark.parametrize("by", ["erasure", "build"])
def test_killed_at_every_write_of_an_erasure(
    tmp_path: Path, zygote: Zygote, server: ScriptedServer, data_format: str, by: str
) -> None:
    plan = plan_of(tmp_path, server, data_format)
    rhombus_dataset.build(plan, tmp_path / "before")
    shutil.copytree(tmp_path / "before", tmp_path / "erased")
    times = ["--camera", "camera-B", "--from", "2026-06-01T00:01:00Z", "--to", "2026-06-01T00:03:00Z"]
    rhombus_dataset.erase(tmp_path / "erased", "camera-B", start=times[3], end=times[5])
    expected = files(tmp_path / "erased")

    def erase(out: Path) -> list[str | Path]:
        return ["erase", out, *times]

    def build(out: Path) -> list[str | Path]:
        # Before the erasure is on record, there is nothing that a build could finish.
        return ["build", plan, "--out", out, "--quiet"] if (out / "erased.json").exists() else erase(out)

    finish, step = (build, 4) if by == "build" else (erase, STEPS[data_format])
    check_every_write(zygote, tmp_path / "before", expected, erase, finish, step)
