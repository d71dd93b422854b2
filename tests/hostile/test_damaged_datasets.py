"""Promise 11: whatever a dataset says, and whatever its checksums, nothing outside its folder is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rhombus_dataset
from rhombus_dataset.cards.readme import write_cards
from tests import scale
from tests.building.test_build import same_for_each_frame
from tests.building.test_killed_commands import SPLITS, passing_car, plan_of, scout_plan, write_labels
from tests.conftest import ROOT
from tests.scripted_server import scripted_server

CASES = scale.count(2_001, 6)
PARTS = 3


@pytest.fixture(scope="session")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four datasets: of an earlier version, with labels and near-duplicates, of JPEG files, and scouted."""
    folder = tmp_path_factory.mktemp("wholes")
    out = folder / "wholes"
    out.mkdir()
    os.environ["RHOMBUS_API_KEY"] = "local-key"
    shutil.copytree(ROOT / "tests" / "golden" / "dataset", out / "golden")
    write_cards(out / "golden")
    with scripted_server(same_for_each_frame) as server:
        for data_format in ("parquet", "jpeg"):
            plan = plan_of(folder, server, minutes=3, per_shard=4, splits=SPLITS, dedup={"within": "1m"})
            content = json.loads(plan.read_text())
            content["output"]["format"] = data_format
            plan.write_text(json.dumps(content))
            dataset = out / data_format
            rhombus_dataset.build(plan, dataset)
            rhombus_dataset.import_labels(dataset, write_labels(dataset, folder, "car"), name="mine")
            rhombus_dataset.erase(dataset, "camera-A", start="2026-06-01T00:00:00Z", end="2026-06-01T00:00:40Z")
    with scripted_server(passing_car) as server:
        rhombus_dataset.build(scout_plan(folder, server), out / "scouted")
    for dataset in out.iterdir():
        assert rhombus_dataset.verify(dataset).problems == ()
    return out


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_datasets(
    wholes: Path, tmp_path: Path, part: int, record_property: Callable[[str, object], None]
) -> None:
    size = CASES // PARTS
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.hostile.dataset_fuzz",
            wholes,
            tmp_path,
            str(part * size),
            str((part + 1) * size),
        ],
        cwd=ROOT,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(done.stdout)
    assert sum(result["outcomes"].values()) > 1.5 * size
    assert {"read ok", "read refused", "verify problems", "report ok", "export refused"} <= set(result["outcomes"])
    record_property("fuzzed", f"{size} damaged datasets with fitting checksums ({result})")
