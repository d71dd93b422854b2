"""A command that is not a success says so: by its exit code, and by its last lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rhombus_dataset.cli import main
from tests.building.test_build import same_for_each_frame, write_plan
from tests.building.test_rerun import MISSING
from tests.scripted_server import Answer, Asked, scripted_server

REJECTED = Answer(400, b'{"msg": "not this one"}')


def build(tmp_path: Path, answers: dict[str, Answer], *options: str) -> Result:
    """Build 20 frames of each of three cameras, of which some give other answers."""

    def script(asked: Asked) -> Answer:
        return answers.get(asked.body["cameraUuid"][0]) or same_for_each_frame(asked)

    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url)
        return CliRunner().invoke(main, ["build", str(plan), "--out", str(tmp_path / "out"), *options])


@pytest.mark.parametrize("options", [[], ["--quiet"], ["--json"]])
def test_failed_frames_are_no_success(tmp_path: Path, options: list[str]) -> None:
    done = build(tmp_path, {"B": REJECTED, "C": MISSING}, *options)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-4:] == [
        "error: 20 failed of 60 frames. The commonest reasons:",
        "  20 failed: HTTP 400: not this one",
        "  20 missing: NO_FOOTAGE_AT_TIMESTAMP",
        f"To fetch them again: rhombus-dataset build {tmp_path}/plan.yaml --out {tmp_path}/out --retry failed",
    ]
    if "--json" in options:
        found = json.loads(done.stdout)
        assert found["reasons"][0] == {"status": "failed", "reason": "HTTP 400: not this one", "count": 20}
        assert found["complete"]
    # The same command again has the same answer: nothing is requested.
    again = build(tmp_path, {}, *options)
    assert (again.exit_code, again.stderr.splitlines()[-4:-1]) == (1, done.stderr.splitlines()[-4:-1])


def test_a_retry_that_helps_is_a_success(tmp_path: Path) -> None:
    assert build(tmp_path, {"B": REJECTED}).exit_code == 1
    assert build(tmp_path, {}, "--retry", "failed").exit_code == 0


@pytest.mark.parametrize(("share", "code"), [("0.6", 0), ("0.7", 1), ("0", 0), ("1", 1)])
def test_min_ok(tmp_path: Path, share: str, code: int) -> None:
    done = build(tmp_path, {"C": MISSING}, "--min-ok", share)
    assert done.exit_code == code
    if code:
        assert done.stderr.splitlines()[-3:] == [
            f"error: only 40 of 60 frames are ok, and --min-ok is {share}. The commonest reasons:",
            "  20 missing: NO_FOOTAGE_AT_TIMESTAMP",
            f"To see when and where: rhombus-dataset report {tmp_path}/out",
        ]


def test_half_of_the_frames_is_the_least_by_default(tmp_path: Path) -> None:
    assert build(tmp_path, {"B": MISSING, "C": MISSING}).exit_code == 1
    assert build(tmp_path, {}, "--min-ok", "0.3").exit_code == 0


def test_erased_frames_do_not_count(tmp_path: Path) -> None:
    assert build(tmp_path, {"C": MISSING}).exit_code == 0
    for camera in ("camera-A", "camera-B"):
        assert CliRunner().invoke(main, ["erase", str(tmp_path / "out"), "--camera", camera]).exit_code == 0
    done = build(tmp_path, {})
    assert done.exit_code == 1
    assert "only 0 of 20 frames are ok" in done.stderr
