"""The recipes of CONTRIBUTING.md work: each change is applied to a copy of the package, and used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CONFIGS, ROOT

EXAMPLES = ROOT / "docs" / "examples"
NAMES = ("strategy", "export", "source")

PLAN = """
version: 1
name: recipe
source: SOURCE
cameras:
  - {uuid: DEMO-dock-north-AAAAAA, name: dock-north, timezone: America/Los_Angeles}
  - {uuid: DEMO-lobby-AAAAAAAAAAA, name: lobby, timezone: Europe/Berlin}
views: {full: {downscale: 4}}
windows: [{start: 2026-06-03, end: 2026-06-06}]
sampling: SAMPLING
"""
BUILD = """
import rhombus_dataset
for _ in range(2):  # the second time, the lock is read back
    outcome = rhombus_dataset.build("plan.yaml", "built")
    assert outcome.complete
assert rhombus_dataset.verify("built").problems == ()
dataset = rhombus_dataset.open_dataset("built")
"""
CHECKS = {
    "strategy": BUILD
    + """
assert sorted(frame.camera_name for frame in dataset) == ["dock-north"] * 3 + ["lobby"] * 3
assert {frame.local_time.strftime("%H:%M:%S") for frame in dataset} == {"12:00:00"}
""",
    "export": """
import csv, rhombus_dataset
rhombus_dataset.export("built", "csv", "exported")
dataset = rhombus_dataset.open_dataset("built")
rows = list(csv.DictReader(open("exported/frames.csv", encoding="utf-8")))
assert [row["camera"] for row in rows] == [frame.camera_name for frame in dataset]
assert open("exported/" + rows[0]["image"], "rb").read() == dataset[0].read()
""",
    "source": BUILD
    + """
assert len(dataset) == 6
assert dataset[0].decode().shape == (180, 320, 3)
assert {round(luma) for luma in dataset.to_pandas()["luma"]} == {128}
""",
}


def section(name: str) -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (found,) = [part for part in text.split("\n## ") if f"(docs/examples/add-{name}.diff)" in part]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_steps_name_the_files_of_the_change(name: str) -> None:
    steps = re.findall(r"^\d+\. `([^`]+)`:", section(name), re.MULTILINE)
    changed = re.findall(r"^\+\+\+ b/(.+)$", (EXAMPLES / f"add-{name}.diff").read_text(), re.MULTILINE)
    assert sorted(steps) == sorted(changed)


@pytest.mark.parametrize("name", NAMES)
def test_the_change_works(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "rhombus_dataset", tmp_path / "rhombus_dataset")
    applied = subprocess.run(
        ["git", "apply", str(EXAMPLES / f"add-{name}.diff")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, (
        f"the code has changed: bring docs/examples/add-{name}.diff up to date\n{applied.stderr}"
    )
    daily = name == "strategy"
    source = f"{{type: recordings, site: {CONFIGS / 'demo-site.yaml'}}}" if daily else "{type: grey, level: 128}"
    sampling = "{strategy: daily, at: 12h}" if daily else "{strategy: random, frames: 6}"
    (tmp_path / "plan.yaml").write_text(PLAN.replace("SOURCE", source).replace("SAMPLING", sampling))
    if name == "export":
        shutil.copytree(ROOT / "tests" / "golden" / "dataset", tmp_path / "built")
    done = subprocess.run(
        [sys.executable, "-c", CHECKS[name]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_files_and_scripts_that_it_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`(scripts/[\w-]+)`", text):
        assert os.access(ROOT / name, os.X_OK), name
    assert {path.stem for path in (ROOT / "tests" / "benchmarks").glob("bench_*.py")} == set(
        re.findall(r"tests\.benchmarks\.(bench_\w+)", text)
    )
