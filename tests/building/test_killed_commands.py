"""Promise 6 for the commands beside a build: killed at any change of a file, the repeat gives the same bytes.

Nothing is left over, below the dataset or beside an export."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rhombus_dataset
from rhombus_dataset.api import verify
from tests.building.test_build import files, same_for_each_frame
from tests.building.test_killed import plan_of
from tests.conftest import files_of
from tests.scripted_server import scripted_server
from tests.zygote import Zygote


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete dataset of 12 frames in three shards."""
    folder = tmp_path_factory.mktemp("killed")
    os.environ["RHOMBUS_API_KEY"] = "local-key"
    with scripted_server(same_for_each_frame) as server:
        rhombus_dataset.build(plan_of(folder, server), folder / "before")
    return folder / "before"


def labels_of(dataset: Path, folder: Path, label: str) -> Path:
    frames = rhombus_dataset.open_dataset(dataset)
    content = {
        "images": [{"id": i, "file_name": f"{frame.frame_id}.jpg"} for i, frame in enumerate(frames)],
        "categories": [{"id": 1, "name": label}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in range(len(frames))
        ]
        + [{"id": 99, "image_id": 99, "category_id": 1, "bbox": [1, 1, 9, 9]}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def check_killed(
    zygote: Zygote,
    start: Path,
    command: Callable[[Path], list[str | Path]],
    exit_code: int = 0,
    finish: Callable[[Path], None] = lambda _: None,
    step: int = 1,
) -> int:
    """Kill ``command`` on copies of ``start`` at every ``step``-th change. Return how often that was."""
    folder = start.parent / "work"
    shutil.rmtree(folder, ignore_errors=True)
    whole = Path(shutil.copytree(start, folder / "whole" / "dataset"))
    done = zygote.run(*command(whole))
    assert done["exit_code"] == exit_code, done["output"]
    finish(whole)
    expected = {name: content for name, content in files_of(folder / "whole").items() if "log.jsonl" not in name}
    kills = 0
    for kill_at in range(1, done["changes"] + 1, step):
        trial = Path(shutil.copytree(start, folder / "trial" / "dataset"))
        killed = zygote.run(*command(trial), kill_at=kill_at)
        kills += killed["exit_code"] == -9
        again = zygote.run(*command(trial))
        assert again["exit_code"] in (0, exit_code), (kill_at, again["output"])
        finish(trial)
        found = {name: content for name, content in files_of(folder / "trial").items() if "log.jsonl" not in name}
        assert found.keys() == expected.keys(), kill_at
        assert found == expected, kill_at
        assert verify(trial).problems == (), kill_at
        shutil.rmtree(folder / "trial")
    assert kills > 3
    return kills


def test_a_report(zygote: Zygote, before: Path) -> None:
    check_killed(zygote, before, lambda dataset: ["report", dataset])


def test_an_import_of_labels_and_one_that_replaces_it(zygote: Zygote, before: Path, tmp_path: Path) -> None:
    def command(dataset: Path) -> list[str | Path]:
        return ["import-labels", dataset, labels, "--name", "mine"]

    # One label is skipped each time, which is exit code 1.
    labels = labels_of(before, tmp_path, "car")
    check_killed(zygote, before, command, exit_code=1)
    first = Path(shutil.copytree(before, tmp_path / "first"))
    zygote.run(*command(first))
    labels = labels_of(before, tmp_path, "lorry")
    check_killed(zygote, first, command, exit_code=1)


@pytest.mark.parametrize(("to", "step"), [("coco", 1), ("webdataset", 1), ("huggingface", 2), ("yolo", 5)])
def test_an_export(zygote: Zygote, before: Path, to: str, step: int) -> None:
    check_killed(
        zygote, before, lambda dataset: ["export", dataset, "--to", to, "--out", dataset.parent / "out"], step=step
    )


def test_a_repair(zygote: Zygote, before: Path, tmp_path: Path) -> None:
    """Repaired and built again, the dataset is what it was."""
    damaged = Path(shutil.copytree(before, tmp_path / "damaged"))
    data = sorted((damaged / "data").iterdir())[1]
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with scripted_server(same_for_each_frame) as server:

        def build(dataset: Path) -> None:
            rhombus_dataset.build(dataset / "plan.yaml", dataset, url=server.url)
            assert files(dataset) == files(before)

        check_killed(zygote, damaged, lambda dataset: ["verify", dataset, "--repair"], exit_code=1, finish=build)


def test_an_erasure_with_labels_and_a_report(zygote: Zygote, before: Path, tmp_path: Path) -> None:
    labelled = Path(shutil.copytree(before, tmp_path / "labelled"))
    rhombus_dataset.import_labels(labelled, labels_of(before, tmp_path, "car"), name="mine")
    rhombus_dataset.report(labelled)
    check_killed(zygote, labelled, lambda dataset: ["erase", dataset, "--camera", "camera-B"], step=4)
