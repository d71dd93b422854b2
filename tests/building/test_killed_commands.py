"""Promise 6 for scouting, top-ups and the commands beside a build: the repeat of a killed one ends the same.

Nothing temporary is left below the dataset, nor beside an export.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

import rhombus_dataset
from rhombus_dataset.api import export, import_labels, report
from rhombus_dataset.errors import UsageError
from rhombus_dataset.exports.formats import FORMATS
from rhombus_dataset.planning.lock import LockedScout
from rhombus_dataset.planning.lock_file import load_lock
from tests.building.test_build import same_for_each_frame, write_plan
from tests.building.test_rerun import MISSING
from tests.conftest import files_of
from tests.kills import Command, check_kills
from tests.scripted_server import Answer, Asked, ScriptedServer, frame_answer, scripted_server
from tests.zygote import Zygote

CONCURRENCY = 4
START_MS = 1_780_272_000_000
SPLITS = {"by": "time", "block": "1m", "fractions": {"train": 0.5, "test": 0.5}}
PARTS = pytest.mark.parametrize("part", [(0, 2), (1, 2)])
"""The kills of a long test are divided, for several processes to share them."""


def plan_of(folder: Path, server: ScriptedServer, minutes: int, per_shard: int, **changes: Any) -> Path:
    """A plan of two cameras."""
    return write_plan(
        folder,
        server.url,
        cameras=[{"uuid": c * 22, "name": f"camera-{c}", "timezone": "UTC"} for c in ("A", "B")],
        windows=[{"start": "2026-06-01T00:00:00Z", "end": f"2026-06-01T00:{minutes:02d}:00Z"}],
        output={"frames_per_shard": per_shard},
        **changes,
    )


def build_of(plan: Path, server: ScriptedServer) -> Command:
    def command(dataset: Path) -> list[str | Path]:
        if not dataset.exists():
            server.asked.clear()
        return ["build", plan, "--out", dataset, "--concurrency", str(CONCURRENCY), "--quiet"]

    return command


def passing_car(asked: Asked) -> Answer:
    """A street, with a car in every fourth of the small frames."""
    return street((asked.body["timestampMs"] - START_MS) // 20_000, asked.body.get("downscaleFactor") or 1)


@functools.cache
def street(number: int, factor: int) -> Answer:
    width, height = 384 // factor, 216 // factor
    across, down = np.meshgrid(np.arange(width) * factor // 24, np.arange(height) * factor // 24)
    image = np.stack([60 + 40 * ((across + down) % 2)] * 3, axis=-1).astype(np.uint8)
    if number % 4 == 3:
        left = number % 3 * width // 4
        image[height // 3 : height * 2 // 3, left : left + width // 4] = (230, 60, 60)
    return frame_answer(simplejpeg.encode_jpeg(image, 90))


def scout_plan(folder: Path, server: ScriptedServer) -> Path:
    """18 small frames in one shard, then 4 full frames in two."""
    sampling = {"strategy": "scout", "every": "20s", "downscale": 4, "frames_per_camera": 2, "quiet": 0.5}
    return plan_of(folder, server, minutes=3, per_shard=2, sampling=sampling)


def few_repeats(server: ScriptedServer, frames: int) -> Callable[[Path], None]:
    """Return a check that every frame was requested, and at most those in flight at a kill more than once."""

    def check(_: Path) -> None:
        asked = {(a.body["cameraUuid"], a.body["timestampMs"], a.body.get("downscaleFactor")) for a in server.asked}
        assert len(asked) == frames
        assert len(server.asked) - frames <= CONCURRENCY

    return check


@PARTS
def test_a_build_that_scouts(zygote: Zygote, tmp_path: Path, part: tuple[int, int]) -> None:
    """The small frames, the choice, and the full frames."""
    with scripted_server(passing_car) as server:
        build = build_of(scout_plan(tmp_path, server), server)
        dataset = check_kills(zygote, tmp_path, build, after=few_repeats(server, 22), part=part)
    sampling = load_lock(dataset).sampling
    assert isinstance(sampling, LockedScout)
    assert sampling.result.events > 2
    assert len(files_of(dataset / "manifest")) == 2


@PARTS
def test_a_build_that_is_topped_up(zygote: Zygote, tmp_path: Path, part: tuple[int, int]) -> None:
    def script(asked: Asked) -> Answer:
        late = asked.body["timestampMs"] - START_MS > 75_000
        return MISSING if late and asked.body["cameraUuid"][0] == "B" else same_for_each_frame(asked)

    sampling = {"strategy": "random", "frames_per_camera": 4, "min_gap": "5s", "top_up": True}
    with scripted_server(script) as server:
        plan = plan_of(tmp_path, server, minutes=4, per_shard=4, sampling=sampling)
        dataset = check_kills(zygote, tmp_path, build_of(plan, server), after=few_repeats(server, 10), part=part)
    assert any("top-up" in name for name in files_of(dataset / "manifest"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 frames of two cameras in two splits, near-duplicates listed."""
    folder = tmp_path_factory.mktemp("plain")
    os.environ["RHOMBUS_API_KEY"] = "local-key"
    with scripted_server(same_for_each_frame) as server:
        plan = plan_of(folder, server, minutes=2, per_shard=4, splits=SPLITS, dedup={"within": "1m"})
        rhombus_dataset.build(plan, folder / "dataset")
    return folder / "dataset"


@pytest.fixture(scope="module")
def labelled(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with labels."""
    folder = tmp_path_factory.mktemp("labelled")
    shutil.copytree(plain, folder / "dataset")
    import_labels(folder / "dataset", write_labels(plain, folder, "car"), name="mine")
    return folder / "dataset"


def write_labels(dataset: Path, folder: Path, label: str, unknown: int = 0) -> Path:
    """Write a COCO file: a box and a class for each frame, and boxes of images that the dataset does not have."""
    names = [f"{frame.frame_id}.jpg" for frame in rhombus_dataset.open_dataset(dataset, duplicates=True)]
    names += [f"unknown-{i}.jpg" for i in range(unknown)]
    boxes: list[dict[str, Any]] = [
        {"image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in range(len(names))
    ]
    classes: list[dict[str, Any]] = [{"image_id": i, "category_id": 2} for i in range(len(names) - unknown)]
    content = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": label}, {"id": 2, "name": "busy"}],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate([*boxes, *classes])],
    }
    path = folder / f"{label}.json"
    path.write_text(json.dumps(content))
    return path


@PARTS
def test_an_erasure_from_a_dataset_with_a_scout_pass_labels_and_a_report(
    zygote: Zygote, tmp_path: Path, part: tuple[int, int]
) -> None:
    before = tmp_path / "before"
    with scripted_server(passing_car) as server:
        rhombus_dataset.build(scout_plan(tmp_path, server), before)
    import_labels(before, write_labels(before, tmp_path, "first", unknown=1))
    import_labels(before, write_labels(before, tmp_path, "second"))
    frames = rhombus_dataset.open_dataset(before)
    with (before / "annotations" / "_first.left.jsonl").open("a") as skipped:
        skipped.write("".join(f'{{"image": "{frame.frame_id}.jpg"}}\n' for frame in frames))
    report(before)
    erased = check_kills(
        zygote,
        tmp_path,
        lambda dataset: ["erase", dataset, "--camera", "camera-A"],
        before,
        part=part,
    )
    left = rhombus_dataset.open_dataset(erased)
    assert {frame.camera_name for frame in frames} == {"camera-A", "camera-B"}
    assert [frame.frame_id for frame in left] == [f.frame_id for f in frames if f.camera_name == "camera-B"]
    assert all(len(frame.annotations) == 4 for frame in left)
    assert not (erased / "report.html").exists()


def test_an_erasure_of_no_frame_keeps_all_labels(labelled: Path, tmp_path: Path) -> None:
    """An erasure of a dataset that scouts often concerns small frames only."""
    dataset = Path(shutil.copytree(labelled, tmp_path / "dataset"))
    rhombus_dataset.erase(dataset, "camera-A", start="2030-01-01")
    assert files_of(dataset / "annotations") == files_of(labelled / "annotations")


def test_a_repair(zygote: Zygote, plain: Path, tmp_path: Path) -> None:
    """Repaired and built again, the dataset is what it was. Only the damaged frames are requested again."""
    before = Path(shutil.copytree(plain, tmp_path / "before"))
    data, slices = sorted((before / "data").iterdir()), sorted((before / "manifest").iterdir())
    for path in (data[0], slices[1]):
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    requests = set()
    with scripted_server(same_for_each_frame) as server:

        def build(dataset: Path) -> None:
            outcome = rhombus_dataset.build(dataset / "plan.yaml", dataset, url=server.url)
            requests.add(outcome.requests)

        done = check_kills(
            zygote, tmp_path, lambda dataset: ["verify", dataset, "--repair"], before, after=build, exit_code=1
        )
    assert files_of(done / "data") == files_of(plain / "data")
    assert files_of(done / "manifest") == files_of(plain / "manifest")
    assert len(requests) == 1


def test_a_report(zygote: Zygote, labelled: Path, tmp_path: Path) -> None:
    check_kills(zygote, tmp_path, lambda dataset: ["report", dataset], labelled)


def test_a_first_import_of_labels(zygote: Zygote, plain: Path, tmp_path: Path) -> None:
    labels = write_labels(plain, tmp_path, "lorry", unknown=2)
    # Skipped labels are exit code 1.
    dataset = check_kills(
        zygote, tmp_path, lambda dataset: ["import-labels", dataset, labels, "--name", "mine"], plain, exit_code=1
    )
    assert (dataset / "annotations" / "_mine.left.jsonl").exists()


def test_an_import_of_labels_that_replaces_earlier_ones(zygote: Zygote, labelled: Path, tmp_path: Path) -> None:
    before = Path(shutil.copytree(labelled, tmp_path / "before"))
    import_labels(before, write_labels(before, tmp_path, "car", unknown=1), name="mine")
    labels = write_labels(before, tmp_path, "lorry")
    dataset = check_kills(
        zygote, tmp_path, lambda dataset: ["import-labels", dataset, labels, "--name", "mine"], before
    )
    assert [path.name for path in (dataset / "annotations").iterdir()] == ["mine.parquet"]


@pytest.mark.parametrize("to", FORMATS)
def test_an_export(zygote: Zygote, labelled: Path, tmp_path: Path, to: str) -> None:
    """At every change in two formats; in the others, which are staged alike, at the last and each fifth before."""

    def command(dataset: Path) -> list[str | Path]:
        out = dataset.parent / "exported" / "out"
        return ["export", dataset, "--to", to, "--out", out, "--where", "camera_name == 'camera-A'", "--quiet"]

    check_kills(zygote, tmp_path, command, labelled, part=(0, 1 if to in ("coco", "huggingface") else 5))


@pytest.fixture
def killed_export(zygote: Zygote, labelled: Path, tmp_path: Path) -> Path:
    """A dataset beside the folder ``out``, in which an export was complete when it was killed."""
    dataset = Path(shutil.copytree(labelled, tmp_path / "dataset"))
    arguments: list[str | Path] = ["export", dataset, "--to", "yolo", "--out", tmp_path / "out", "--quiet"]
    changes = zygote.run(*arguments)["changes"]
    shutil.rmtree(tmp_path / "out")
    assert zygote.run(*arguments, kill_at=changes)["exit_code"] == -9
    assert (tmp_path / ".out.export.json").exists()
    return dataset


def test_a_complete_export_is_not_written_again(killed_export: Path) -> None:
    out = killed_export.parent / "out"
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    export(killed_export, "yolo", out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == written
    assert not (killed_export.parent / ".out.export.json").exists()
    with pytest.raises(UsageError, match="not an empty folder"):
        export(killed_export, "yolo", out)


def test_the_folder_of_a_killed_export_is_refused_to_every_other_export(killed_export: Path) -> None:
    folder = killed_export.parent
    dataset = rhombus_dataset.open_dataset(killed_export)
    for frames, to in ((dataset, "coco"), (dataset[1:], "yolo")):
        with pytest.raises(UsageError, match="not an empty folder"):
            export(frames, to, folder / "out")
    # Other labels make another export.
    import_labels(killed_export, write_labels(killed_export, folder, "lorry"), name="mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        export(killed_export, "yolo", folder / "out")


def test_another_folder_in_the_place_of_a_killed_export_is_no_export(killed_export: Path) -> None:
    out = killed_export.parent / "out"
    out.rename(out.with_name("moved"))
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        export(killed_export, "yolo", out)
    (out / "mine.txt").unlink()
    export(killed_export, "yolo", out)
    assert files_of(out) == files_of(out.with_name("moved"))
    assert not list(out.parent.glob(".*"))


def test_an_export_removes_no_temporary_folder_of_an_export_with_a_longer_name(
    killed_export: Path, tmp_path: Path
) -> None:
    other = tmp_path / f".labels.v2.{'0' * 16}.tmp"
    own = tmp_path / f".labels.{'0' * 16}.tmp"
    other.mkdir()
    own.mkdir()
    export(killed_export, "coco", tmp_path / "labels")
    assert other.exists()
    assert not own.exists()


def test_a_starter_plan_and_a_preview(zygote: Zygote, plain: Path, tmp_path: Path) -> None:
    """Neither has a dataset: only the new file is left."""
    with scripted_server(same_for_each_frame) as server:
        commands: dict[str, list[str | Path]] = {
            "plan.yaml": ["init", tmp_path / "plan.yaml"],
            "preview.jpg": ["plan", plain / "plan.yaml", "--preview", "1", "--preview-file",
                            tmp_path / "preview.jpg", "--url", server.url],
        }  # fmt: skip
        for name, command in commands.items():
            changes = zygote.run(*command)["changes"]
            assert changes > 2
            for kill_at in range(1, changes + 1):
                (tmp_path / name).unlink()
                assert zygote.run(*command, kill_at=kill_at)["exit_code"] == -9
                assert zygote.run(*command)["exit_code"] == 0
                assert [path.name for path in tmp_path.iterdir()] == [name]
            (tmp_path / name).unlink()
