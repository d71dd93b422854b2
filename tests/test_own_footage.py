"""A new user's first hour: from two clips and an empty folder to a report and a labelled export."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

import rhombus_dataset
from rhombus_dataset.errors import InvalidFile, UsageError
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.sources.recordings.site import load_site
from tests.conftest import NOW_MS, ROOT
from tests.labelled import coco_of
from tests.videos import write_video


@pytest.fixture
def folder(tmp_path: Path, clips: list[Path]) -> Path:
    """An empty folder with two clips: real ones, if they are available."""
    for number, name in enumerate(("dock.mp4", "gate east.mp4")):
        if len(clips) > 1:
            shutil.copy(clips[number], tmp_path / name)
        else:
            write_video(tmp_path / name, [Fraction(i, 15) for i in range(300 - 60 * number)])
        os.utime(tmp_path / name, (1_780_000_000, 1_780_000_000))
    return tmp_path


def test_from_two_clips_to_a_labelled_export(folder: Path, record_property: Callable[[str, object], None]) -> None:
    """Eight commands at most. The README gives the first ones. Before the last two, a person labels the images."""
    used: list[str] = []

    def run(*arguments: str) -> None:
        used.append(arguments[0])
        command = [sys.executable, "-m", "rhombus_dataset", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    began_s = time.monotonic()
    (folder / "gate east.mp4").rename(folder / "gate.mp4")
    block = (ROOT / "README.md").read_text().split("From two clips to a report:")[1].split("```")[1]
    for line in block.splitlines()[1:]:
        run(*shlex.split(line.removeprefix("$ rhombus-dataset ")))
    assert used[-1] == "report"
    assert len(used) <= 6
    (folder / "people.json").write_text(json.dumps(coco_of(folder / "my-dataset")))
    run("import-labels", "my-dataset", "people.json")
    run("export", "my-dataset", "--to", "yolo", "--out", "yolo", "--quiet")
    took_s = time.monotonic() - began_s
    assert len(used) <= 8
    assert (folder / "my-dataset" / "report.html").stat().st_size > 10_000
    images = {path.stem for path in (folder / "yolo" / "images").rglob("*.jpg")}
    labels = {path.stem for path in (folder / "yolo" / "labels").rglob("*.txt")}
    assert len(images) > 30
    assert labels
    assert labels < images
    record_property("timed", f"from two clips to a labelled export in {took_s:.0f} s")


def test_the_plan_covers_all_footage_of_all_cameras(folder: Path) -> None:
    site = rhombus_dataset.init_site(sorted(folder.glob("*.mp4")), folder / "site.yaml", timezone="Europe/Berlin")
    cameras = load_site(site).cameras.values()
    assert [camera.name for camera in cameras] == ["dock", "gate-east"]
    for camera in cameras:
        (recording,) = camera.recordings
        # Without a creation time in the file: it ends when the file was written.
        assert 0 <= 1_780_000_000_000 - recording.end_ms < 1500 or recording.start_ms < 1_780_000_000_000
    assert ("far apart" in site.read_text()) == (len({camera.recordings[0].start_ms for camera in cameras}) == 1)
    plan = load_plan(rhombus_dataset.init(folder / "plan.yaml", site=site), NOW_MS)
    assert [camera.name for camera in plan.cameras] == ["dock", "gate-east"]
    assert {camera.timezone for camera in plan.cameras} == {"Europe/Berlin"}
    schedule = rhombus_dataset.schedule_of(folder / "plan.yaml")
    assert 30 < len(schedule) <= 1000
    outcome = rhombus_dataset.build(folder / "plan.yaml", folder / "out")
    assert outcome.problem() is None
    assert (folder / "plan.yaml").read_text().startswith("# yaml-language-server: $schema=")


def test_videos_elsewhere_and_equal_names(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    shutil.move(folder / "dock.mp4", folder / "a" / "x.mp4")
    shutil.move(folder / "gate east.mp4", folder / "b" / "x.mp4")
    videos = [folder / "a" / "x.mp4", folder / "b" / "x.mp4"]
    site = rhombus_dataset.init_site(videos, folder / "a" / "site.yaml")
    cameras = yaml.safe_load(site.read_text())["cameras"]
    assert [camera["name"] for camera in cameras] == ["x", "x-2"]
    paths = [camera["recordings"][0]["path"] for camera in cameras]
    assert paths == ["x.mp4", str(folder / "b" / "x.mp4")]
    plan = rhombus_dataset.init(folder / "b" / "plan.yaml", site=site)
    assert yaml.safe_load(plan.read_text())["source"]["site"] == "../a/site.yaml"
    assert len(rhombus_dataset.schedule_of(plan)) > 30


def test_mistakes(folder: Path) -> None:
    (folder / "notes.txt").write_text("no video")
    with pytest.raises(InvalidFile) as found:
        rhombus_dataset.init_site(
            [folder / "notes.txt", folder / "none.mp4", folder / "dock.mp4"], folder / "s.yaml"
        )
    assert len(found.value.problems) == 2
    assert not (folder / "s.yaml").exists()
    with pytest.raises(UsageError, match="did you mean America/Los_Angeles"):
        rhombus_dataset.init_site([folder / "dock.mp4"], folder / "s.yaml", timezone="PST")
    (folder / "site.yaml").write_text("kept")
    with pytest.raises(UsageError, match="exists already and was not changed"):
        rhombus_dataset.init_site([folder / "dock.mp4"], folder / "site.yaml")
    with pytest.raises(InvalidFile):
        rhombus_dataset.init(folder / "plan.yaml", site=folder / "site.yaml")
