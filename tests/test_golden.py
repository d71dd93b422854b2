"""Every later version reads what an earlier one wrote."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import rhombus_dataset
from rhombus_dataset.api import info, verify
from rhombus_dataset.store.manifest import read_header, slice_paths

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
