"""Mistakes of the first hour, on the real command: the exit code, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import rhombus_dataset
from rhombus_dataset.cli import main
from tests.building.test_build import same_for_each_frame, write_plan
from tests.labelled import label
from tests.scripted_server import frame_answer, jpeg, scripted_server

ONE_CAMERA = {"uuid": "A" * 22, "name": "camera-A", "timezone": "UTC"}
TIMES = {"strategy": "timestamps", "file": "times.csv"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    with scripted_server(same_for_each_frame) as server:
        plan = write_plan(tmp_path, server.url, dedup=None, output={"frames_per_shard": 20})
        rhombus_dataset.build(plan, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cam,when\ncamera-A,2026-06-01T00:00:00Z\n", "expected a column camera, got cam, when"),
        ("camera,timestamp\ncamera-X,2026-06-01T00:00:00Z\n", "is not a camera of the plan; did you mean"),
        ("", "cannot be read"),
    ],
)
def test_validate_reads_the_timestamps_file(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "times.csv").write_text(content)
    done = run("validate", write_plan(tmp_path, "http://127.0.0.1:1", sampling=TIMES))
    assert done.exit_code == 2
    assert str(tmp_path / "times.csv") in done.stderr
    assert said in done.stderr


def test_a_place_where_no_folder_can_be_created(tmp_path: Path) -> None:
    done = run("build", write_plan(tmp_path, "http://127.0.0.1:1"), "--out", "/proc/x")
    assert done.exit_code == 1
    assert done.stderr == "error: /proc/x: no folder can be created in /proc: choose another folder\n"


def test_info_of_a_dataset_without_its_images(dataset: Path) -> None:
    next((dataset / "data").iterdir()).unlink()
    done = run("info", dataset)
    assert "PROBLEM: the images of 1 shard are gone (train-0000" in done.stdout
    assert "verify" in done.stdout
    assert len(json.loads(run("info", dataset, "--json").stdout)["shards_without_data"]) == 1


@pytest.mark.parametrize(
    ("zone", "meant"),
    [
        ("PST", "America/Los_Angeles"),
        ("pdt", "America/Los_Angeles"),
        ("CEST", "Europe/Berlin"),
        ("BST", "Europe/London"),
    ],
)
def test_an_abbreviation_is_no_time_zone(tmp_path: Path, zone: str, meant: str) -> None:
    plan = write_plan(tmp_path, "http://127.0.0.1:1", cameras=[{"uuid": "A" * 22, "name": "a", "timezone": zone}])
    done = run("validate", plan)
    assert done.exit_code == 2
    assert f"did you mean {meant}?" in done.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampling": {"strategy": "interval", "every": "40s"}}, "sampling.every: 30s → 40s"),
        ({"output": {"frames_per_shard": 30}}, "frames_per_shard: 20 → 30"),
        ({"windows": [{"start": "2026-06-01T00:00:00Z", "end": "2026-06-01T00:05:00Z"}]}, "windows.UTC: "),
        (
            {"cameras": [{"uuid": "A" * 22, "name": "camera-A", "timezone": "UTC"}]},
            "cameras.camera-B: only in the dataset",
        ),
        ({"sampling": {"strategy": "random", "frames": 5}}, 'sampling.strategy: "interval" → "random"'),
        ({"views": {"door": {"downscale": 2}}}, "views.door: only in the new plan"),
    ],
)
def test_another_plans_dataset_says_what_differs(dataset: Path, changes: dict[str, object], said: str) -> None:
    old = {"output": {"frames_per_shard": 20}}
    done = run("build", write_plan(dataset.parent, "http://127.0.0.1:1", **(old | changes)), "--out", dataset)
    assert done.exit_code == 1
    assert said in done.stderr
    assert f"--reuse {dataset}" in done.stderr


def test_identical_images_in_two_splits_are_told_at_the_end_of_a_build(tmp_path: Path) -> None:
    """Clips that loop: the same image, hours apart."""

    def looped(asked: object) -> object:
        return frame_answer(jpeg(asked.body["timestampMs"] // 1000 % 300, 160, 90))  # type: ignore[attr-defined]

    splits = {"by": "time", "block": "5m", "fractions": {"train": 0.5, "test": 0.5}}
    with scripted_server(looped) as server:  # type: ignore[arg-type]
        windows = [{"start": "2026-06-01T00:00:00Z", "end": "2026-06-01T04:00:00Z"}]
        plan = write_plan(
            tmp_path, server.url, splits=splits, windows=windows, sampling={"strategy": "interval", "every": "2m"}
        )
        done = run("build", plan, "--out", tmp_path / "out", "--quiet")
    assert done.exit_code == 0
    assert "with the same bytes as an image of another split" in done.stderr
    checked = json.loads(run("verify", tmp_path / "out", "--json").stdout)
    assert sum(s["same_bytes"] for pair in checked["cross_split_duplicates"] for s in pair["sides"]) > 100


def test_a_camera_is_found_with_and_without_its_facet(dataset: Path) -> None:
    opened = rhombus_dataset.open_dataset(dataset)
    for uuid in ("A" * 22, "A" * 22 + ".v0"):
        assert len(opened.filter(f"camera_uuid == '{uuid}'")) == 20
        assert len(opened.filter(f"camera_uuid in ['{uuid}']")) == 20
        assert len(opened.filter(f"camera_uuid != '{uuid}'")) == 40


def test_a_yolo_export_is_found_from_anywhere_and_says_when_it_has_no_boxes(dataset: Path, tmp_path: Path) -> None:
    done = run("export", dataset, "--to", "yolo", "--out", tmp_path / "bare", "--quiet")
    assert done.exit_code == 0
    assert "Ultralytics refuses a dataset without classes" in done.stderr
    label(dataset)
    done = run("export", dataset, "--to", "yolo", "--out", tmp_path / "boxes", "--quiet")
    assert done.stderr == ""
    described = yaml.safe_load((tmp_path / "boxes" / "data.yaml").read_text())
    # Ultralytics takes the folder of the file where there is no path, and requires train and val.
    assert "path" not in described
    assert {"train", "val", "nc", "names"} <= described.keys()
    assert (tmp_path / "boxes" / described["val"]).is_dir()
