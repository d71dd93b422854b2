"""The bytes that a dry run estimates, against those that the build then stores."""

from __future__ import annotations

from pathlib import Path

import pytest

import rhombus_dataset
from rhombus_dataset.planning.dry_run import ASSUMED_FULL_PX
from tests.commands import run_command
from tests.conftest import CONFIGS

CAMERAS = """
cameras:
  - {uuid: DEMO-dock-north-AAAAAA, name: dock-north, timezone: America/Los_Angeles}
  - {uuid: DEMO-gate-east-AAAAAAA, name: gate-east, timezone: America/Los_Angeles}
views: {full: {}, small: {downscale: 4, crop: {x: 20%, y: 30%, width: 60%, height: 70%}}}
windows: [{start: 2026-06-03T09:00, end: 2026-06-03T13:00}]
"""
INTERVAL = "sampling: {strategy: interval, every: 1h}\n"
RECORDINGS = f"source: {{type: recordings, site: {CONFIGS / 'demo-site.yaml'}}}\n"


def write_plan(folder: Path, source: str, rest: str = CAMERAS, sampling: str = INTERVAL) -> Path:
    path = folder / "plan.yaml"
    path.write_text(f"version: 1\nname: sizes\n{source}{rest}{sampling}")
    return path


def cloud(url: str) -> str:
    return f"source: {{type: rhombus, url: '{url}', limits: {{requests_per_second: 100}}}}\n"


def test_a_probe_tells_what_the_build_then_stores(tmp_path: Path, demo_url: str) -> None:
    plan = write_plan(tmp_path, cloud(demo_url))
    assumed, probed = rhombus_dataset.dry_run(plan), rhombus_dataset.dry_run(plan, probe=True)
    assert "x".join(map(str, ASSUMED_FULL_PX)) in assumed.bytes_basis
    assert probed.bytes_basis == "measured on 4 frames"
    assert probed.notes == ()
    rhombus_dataset.build(plan, tmp_path / "out")
    stored = sum(len(frame.read()) for frame in rhombus_dataset.open_dataset(tmp_path / "out"))
    assert probed.frames == 16
    assert probed.bytes == pytest.approx(stored, rel=0.3)
    assert abs(probed.bytes - stored) < abs(assumed.bytes - stored)
    code, printed = run_command("plan", plan, "--probe", within_s=60)
    assert code == 0
    assert "(measured on 4 frames)" in printed


def test_recordings_are_always_measured(tmp_path: Path) -> None:
    assert rhombus_dataset.dry_run(write_plan(tmp_path, RECORDINGS)).bytes_basis == "measured on 4 frames"


def test_a_scout_pass_is_measured_with_its_small_frames(tmp_path: Path) -> None:
    sampling = "sampling: {strategy: scout, every: 10m, downscale: 8, frames: 4}\n"
    summary = rhombus_dataset.dry_run(write_plan(tmp_path, RECORDINGS, sampling=sampling))
    assert summary.scouting is not None
    assert summary.bytes_basis == "measured on 6 frames"
    assert summary.bytes / summary.frames < summary.scouting.bytes / summary.scouting.frames / 4


def test_where_there_is_no_footage_the_dry_run_says_that_the_bytes_are_assumed(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, RECORDINGS, CAMERAS.replace("2026-06-03", "2020-06-03"))
    summary = rhombus_dataset.dry_run(plan)
    assert "x".join(map(str, ASSUMED_FULL_PX)) in summary.bytes_basis
    assert summary.notes == ("none of 12 planned frames that were tried could be fetched: the bytes are assumed",)


def test_a_site_that_cannot_be_read_leaves_the_estimate_to_the_assumption(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("cameras: 7")
    plan = write_plan(tmp_path, "source: {type: recordings, site: site.yaml}\n")
    assert rhombus_dataset.dry_run(plan).frames == 16


def test_a_probe_of_a_host_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    code, printed = run_command("plan", write_plan(tmp_path, cloud("http://127.0.0.1:9")), "--probe", within_s=60)
    assert code == 1
    assert "no answer from the source: http://127.0.0.1:9: " in printed
    assert "Traceback" not in printed
