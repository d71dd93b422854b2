"""Every later version reads what an earlier one wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import rhombus_dataset
from rhombus_dataset.api import info, verify
from rhombus_dataset.store.manifest import read_header, slice_paths
from tests.conftest import CONFIGS

GOLDEN = Path(__file__).parent / "golden"


def test_the_committed_dataset_is_read_and_verified() -> None:
    found = info(GOLDEN / "dataset")
    assert found.complete
    assert found.counts["ok"] == 12
    assert found.counts["missing"] == 4
    # The cards may change with the version; nothing else may.
    assert {p.file for p in verify(GOLDEN / "dataset").problems} <= {"README.md", "croissant.json"}
    rows = pd.read_parquet(GOLDEN / "dataset" / "manifest")
    assert len(rows) == 16
    assert set(rows["split"]) == {"train", "test"}


def test_promise_1_building_it_again_gives_the_same_content(tmp_path: Path) -> None:
    """Bytes may differ with the versions of the libraries; what the rows say of time and place may not."""
    rhombus_dataset.build(GOLDEN / "plan.yaml", tmp_path / "out")
    assert info(tmp_path / "out").digest == info(GOLDEN / "dataset").digest
    kept = ["frame_id", "split", "camera_uuid", "timestamp", "view", "status", "reason", "file", "row"]
    old, new = (pd.read_parquet(path / "manifest")[kept] for path in (GOLDEN / "dataset", tmp_path / "out"))
    pd.testing.assert_frame_equal(old, new)
    for path in slice_paths(GOLDEN / "dataset"):
        assert read_header(path).schedule_digest == info(tmp_path / "out").digest


def content_of(folder: Path) -> pd.DataFrame:
    columns = ["frame_id", "split", "camera_uuid", "timestamp", "view", "status", "reason", "sha256"]
    return pd.read_parquet(folder / "manifest")[columns].sort_values("frame_id", ignore_index=True)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the committed dataset, beside its plan and its site."""
    (tmp_path / "tests" / "golden").mkdir(parents=True)
    shutil.copytree(CONFIGS, tmp_path / "configs")
    shutil.copy(GOLDEN / "plan.yaml", tmp_path / "tests" / "golden")
    return Path(shutil.copytree(GOLDEN / "dataset", tmp_path / "tests" / "golden" / "dataset"))


def test_an_old_dataset_is_continued(old: Path) -> None:
    """As if its build had been killed before the last shard."""
    (old / "manifest" / "test-00001-of-00002.parquet").unlink()
    (old / "data" / "test-00001-of-00002.parquet").unlink()
    outcome = rhombus_dataset.build(old.parent / "plan.yaml", old)
    assert outcome.complete
    assert 0 < outcome.requests <= 5
    assert verify(old).problems == ()
    pd.testing.assert_frame_equal(content_of(old), content_of(GOLDEN / "dataset"))


def test_an_old_dataset_is_retried(old: Path) -> None:
    outcome = rhombus_dataset.build(old.parent / "plan.yaml", old, retry=["missing"])
    assert outcome.requests == 4
    assert verify(old).problems == ()
    pd.testing.assert_frame_equal(content_of(old), content_of(GOLDEN / "dataset"))


def test_an_old_dataset_grows(old: Path) -> None:
    """A longer window takes the old frames over, and moves none of them."""
    plan = old.parent / "grown.yaml"
    plan.write_text((old.parent / "plan.yaml").read_text().replace("2026-06-03T16:00", "2026-06-03T20:00"))
    outcome = rhombus_dataset.build(plan, old.parent / "grown", reuse=old)
    before, after = content_of(old), content_of(old.parent / "grown")
    assert len(after) == len(before) + 8
    assert outcome.requests == len(after) - (before["status"] == "ok").sum()
    kept = after[after["frame_id"].isin(before["frame_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
    assert verify(old.parent / "grown").problems == ()
