"""Near-duplicates: listed frames show the same scene; readers and exports skip them."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rhombus_dataset
from rhombus_dataset.dataset import Frame, read_duplicates
from rhombus_dataset.imaging.background import GREY
from rhombus_dataset.imaging.drawn_scene import visible_objects
from rhombus_dataset.imaging.jpeg import encode_rgb, small_grey
from rhombus_dataset.quality.duplicates import is_near_duplicate
from tests.conftest import CONFIGS, files_of

PLAN = """
version: 1
name: yard
seed: 1
source: {{type: recordings, site: {site}}}
cameras:
  - {{uuid: DEMO-dock-north-AAAAAA, name: dock-north, timezone: America/Los_Angeles}}
  - {{uuid: DEMO-gate-east-AAAAAAA, name: gate-east, timezone: America/Los_Angeles}}
views:
  full: {{downscale: 2}}
windows:
  - {{start: 2026-06-01T13:00, end: 2026-06-01T13:12}}     # day
  - {{start: 2026-06-01T19:50, end: 2026-06-01T20:02}}     # dusk: the light changes fast
  - {{start: 2026-06-01T23:00, end: 2026-06-01T23:12}}     # night
sampling: {{strategy: interval, every: 7s}}
dedup: {{within: 2m}}
output: {{format: jpeg, frames_per_shard: 200}}
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of drawn footage, so its content is known. Every frame has a clock and a strip with the time."""
    folder = tmp_path_factory.mktemp("yard")
    (folder / "plan.yaml").write_text(PLAN.format(site=CONFIGS / "demo-site.yaml"))
    rhombus_dataset.build(folder / "plan.yaml", folder / "out")
    return folder / "out"


def seen(frame: Frame) -> list[tuple[str, float]]:
    """Return the kind and position of everything that is entirely inside the image."""
    found = visible_objects(frame.camera_uuid, frame.timestamp_ms)
    return sorted((p.kind, p.x) for p in found if p.x > 0 and p.x + p.width < 10_000)


def test_listed_frames_show_the_same_and_the_empty_scene_is_listed(
    yard: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = {frame.frame_id: frame for frame in rhombus_dataset.open_dataset(yard, duplicates=True)}
    listed = read_duplicates(yard).to_pylist()
    wrong = 0
    for row in listed:
        one, other = seen(frames[row["frame_id"]]), seen(frames[row["repeats"]])
        # At most about one of the 96 columns apart.
        same = len(one) == len(other) and all(
            a[0] == b[0] and abs(a[1] - b[1]) < 150 for a, b in zip(one, other, strict=True)
        )
        wrong += not same
        assert 0 < row["apart_ms"] <= 120_000
    found = {row["frame_id"] for row in listed}
    empty = [f for f in frames.values() if not visible_objects(f.camera_uuid, f.timestamp_ms)]
    repeats_of_empty = [
        f.frame_id
        for f in empty
        if any(
            0 < f.timestamp_ms - other.timestamp_ms <= 120_000
            for other in empty
            if other.camera_uuid == f.camera_uuid and other.frame_id not in found
        )
    ]
    recall = sum(frame_id in found for frame_id in repeats_of_empty) / len(repeats_of_empty)
    with capsys.disabled():
        print(
            f"\n{len(listed)} of {len(frames)} frames listed, {wrong} wrongly; "
            f"{recall:.3f} of the repeats of an empty scene are listed"
        )
    assert wrong == 0
    assert recall > 0.95


def test_readers_and_exports_skip_them(yard: Path, tmp_path: Path) -> None:
    every, new = rhombus_dataset.open_dataset(yard, duplicates=True), rhombus_dataset.open_dataset(yard)
    listed = read_duplicates(yard)
    assert len(every) == len(new) + len(listed)
    assert not {frame.frame_id for frame in new} & set(listed.column("frame_id").to_pylist())
    # The repeated frames themselves are not skipped.
    assert set(listed.column("repeats").to_pylist()) <= {frame.frame_id for frame in new}
    rhombus_dataset.export(yard, "imagefolder", tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == len(new)
    assert f"{len(listed)} frames repeat another within 120 s" in (yard / "README.md").read_text()
    assert pd.read_parquet(yard / "duplicates.parquet").columns.tolist() == ["frame_id", "repeats", "apart_ms"]
    assert rhombus_dataset.verify(yard).problems == ()


def test_the_list_follows_the_plan_and_shards_do_not_change(yard: Path, tmp_path: Path) -> None:
    shutil.copytree(yard, tmp_path / "out")
    before = files_of(yard)
    text = (yard / "plan.yaml").read_text()
    (tmp_path / "plan.yaml").write_text(text.replace("dedup: {within: 2m}\n", ""))
    outcome = rhombus_dataset.build(tmp_path / "plan.yaml", tmp_path / "out")
    assert (outcome.complete, outcome.requests) == (True, 0)
    after = files_of(tmp_path / "out")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {name for name in changed if not name.startswith(".build")} == {
        "duplicates.parquet", "plan.yaml", "plan.lock.json", "README.md"
    }  # fmt: skip
    assert rhombus_dataset.verify(tmp_path / "out").problems == ()
    (tmp_path / "plan.yaml").write_text(text)
    rhombus_dataset.build(tmp_path / "plan.yaml", tmp_path / "out")
    again = files_of(tmp_path / "out")
    assert {name: content for name, content in again.items() if not name.startswith(".build")} == {
        name: content for name, content in before.items() if not name.startswith(".build")
    }


@pytest.mark.parametrize("damage", ["missing", "truncated", "incomplete"])
def test_a_wrong_list_is_reported_and_rebuilt(yard: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "out"
    shutil.copytree(yard, path)
    file = path / "duplicates.parquet"
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-20])
    else:
        pd.read_parquet(file).iloc[1:].to_parquet(file)
    problems = rhombus_dataset.verify(path).problems
    assert [problem.file for problem in problems if "README" not in problem.file] == ["duplicates.parquet"]
    (tmp_path / "plan.yaml").write_bytes((yard / "plan.yaml").read_bytes())
    assert rhombus_dataset.build(tmp_path / "plan.yaml", path).requests == 0
    assert rhombus_dataset.verify(path).problems == ()


def test_erasing_a_repeated_frame_makes_another_the_first(yard: Path, tmp_path: Path) -> None:
    path = tmp_path / "out"
    shutil.copytree(yard, path)
    repeated = read_duplicates(path).column("repeats")[0].as_py()
    frame = next(f for f in rhombus_dataset.open_dataset(path) if f.frame_id == repeated)
    after = frame.timestamp + dt.timedelta(milliseconds=1)
    rhombus_dataset.erase(path, frame.camera_name, start=frame.timestamp.isoformat(), end=after.isoformat())
    assert repeated not in (path / "duplicates.parquet").read_bytes().decode("latin-1")
    assert repeated not in read_duplicates(path).column("repeats").to_pylist()
    assert rhombus_dataset.verify(path).problems == ()


def test_labels_of_near_duplicates_are_imported(yard: Path, tmp_path: Path) -> None:
    path = tmp_path / "out"
    shutil.copytree(yard, path)
    frame_id = read_duplicates(path).column("frame_id")[0].as_py()
    labels = {
        "images": [{"id": 1, "file_name": f"{frame_id}.jpg", "width": 640, "height": 360}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    outcome = rhombus_dataset.import_labels(path, tmp_path / "labels.json")
    assert (outcome.boxes, outcome.skipped) == (1, ())
    assert rhombus_dataset.verify(path).problems == ()


def test_building_again_does_not_compare_again(yard: Path, tmp_path: Path) -> None:
    path = tmp_path / "out"
    shutil.copytree(yard, path)
    (tmp_path / "plan.yaml").write_bytes((yard / "plan.yaml").read_bytes())
    # Reading the deleted image would raise an error.
    frame = rhombus_dataset.open_dataset(path)[0]
    (path / frame.to_dict()["file"]).unlink()
    assert rhombus_dataset.build(tmp_path / "plan.yaml", path).requests == 0


def test_a_dataset_without_dedup_has_no_list(thousand: Path) -> None:
    assert not (thousand / "duplicates.parquet").exists()
    assert len(read_duplicates(thousand)) == 0


greys = st.integers(0, 2**32 - 1).map(
    lambda n: np.random.default_rng(n).integers(20, 200, (54, 96)).astype(np.uint8)
)


@given(greys, st.integers(-20, 55), st.integers(0, 53), st.integers(0, 94))
def test_light_is_no_difference_and_a_small_object_is(
    grey: npt.NDArray[np.uint8], light: int, row: int, column: int
) -> None:
    limit = np.full((54, 96), GREY.floor, np.int16)
    lit = (grey.astype(int) + light).astype(np.uint8)
    assert is_near_duplicate(grey, lit, limit)
    assert is_near_duplicate(lit, grey, limit)
    changed = lit.copy()
    place = slice(max(0, row - 2), row + 2), slice(column, column + 2)
    changed[place] = 255 - changed[place]
    differs = np.abs(changed.astype(int) - lit)[place] > GREY.floor
    assert is_near_duplicate(grey, changed, limit) == (differs.sum() < 4)
    # A difference within the noise does not count.
    noisy = limit.copy()
    noisy[place] = 256
    assert is_near_duplicate(grey, changed, noisy)


@given(st.integers(1, 400), st.integers(1, 300), st.integers(0, 255))
def test_a_small_grey_image_has_the_means_of_its_cells(width: int, height: int, grey: int) -> None:
    flat = np.full((height, width, 3), grey, np.uint8)
    assert np.abs(small_grey(encode_rgb(flat)).astype(int) - grey).max() <= 2
    half = flat.copy()
    half[:, : width // 2] = 255 - grey
    small = small_grey(encode_rgb(half, 95))
    assert small.shape == (54, 96)
    if width >= 192 and height >= 54:
        assert abs(int(small[:, 90].mean()) - grey) <= 4
        assert abs(int(small[:, 5].mean()) - (255 - grey)) <= 4
