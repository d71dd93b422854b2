"""Datasets whose times were drawn by version 1 of sampling keep their own order."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import rhombus_dataset
from rhombus_dataset.api import info, verify
from rhombus_dataset.errors import OtherDataset
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.planning.lock_file import load_lock, lock_files
from rhombus_dataset.planning.resolve import resolve
from rhombus_dataset.planning.sampling import sample
from tests.conftest import CONFIGS, NOW_MS

PLAN = """
version: 1
name: old
source: {{type: recordings, site: {site}}}
cameras: [{{uuid: DEMO-dock-north-AAAAAA, name: dock-north, timezone: America/Los_Angeles}}]
views: {{small: {{downscale: 16}}}}
windows: [{{start: 2026-06-03T09:00, end: 2026-06-03T13:00}}]
sampling: {{strategy: {strategy}, min_gap: 5s}}
"""
STRATEGIES = ["random, frames: 6", "stratified, frames: 6", "burst, bursts: 3, frames_per_burst: 2, spacing: 1s"]


def write_plan(folder: Path, strategy: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(site=CONFIGS / "demo-site.yaml", strategy=strategy))
    return path


def begin_by_version_1(plan: Path, out: Path) -> str:
    """Write the lock that version 1 wrote at the start of a build. Return the digest of its schedule."""
    lock = resolve(load_plan(plan, NOW_MS), NOW_MS, version=1)
    out.mkdir()
    for name, content in lock_files(lock).items():
        (out / name).write_bytes(content)
    return sample(lock).digest


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_old_dataset_is_continued_in_its_own_order(tmp_path: Path, strategy: str) -> None:
    plan, out = write_plan(tmp_path, strategy), tmp_path / "out"
    digest = begin_by_version_1(plan, out)
    assert rhombus_dataset.schedule_of(plan).digest != digest
    assert rhombus_dataset.dry_run(plan, out).digest == digest
    assert rhombus_dataset.build(plan, out).complete
    assert (info(out).digest, load_lock(out).sampling_version) == (digest, 1)
    again = rhombus_dataset.build(plan, out)
    assert (again.complete, again.requests) == (True, 0)
    assert verify(out).problems == ()


def test_what_an_old_dataset_has_can_be_reused(tmp_path: Path) -> None:
    """A plan that differs is refused for the old folder, and told what differs. The version is not it."""
    old = tmp_path / "old"
    begin_by_version_1(write_plan(tmp_path, "random, frames: 6"), old)
    rhombus_dataset.build(tmp_path / "plan.yaml", old)
    more = write_plan(tmp_path, "random, frames: 8")
    with pytest.raises(OtherDataset, match=r"sampling\.frames: 6 → 8\nThe digest"):
        rhombus_dataset.build(more, old)
    assert rhombus_dataset.build(more, tmp_path / "new", reuse=old).complete
    assert load_lock(tmp_path / "new").sampling_version == 2
    assert len(pd.read_parquet(tmp_path / "new" / "manifest")) == 8
