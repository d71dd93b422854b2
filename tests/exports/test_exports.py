"""Every export is read by its format's own tools, has the same bytes each time, and is complete or absent."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
import webdataset
import yaml
from PIL import Image
from pycocotools.coco import COCO

import rhombus_dataset
from rhombus_dataset.dataset import Dataset
from rhombus_dataset.errors import DatasetError, StorageError, UsageError
from rhombus_dataset.exports.formats import FORMATS, export_dataset
from rhombus_dataset.exports.images import FIELDS
from rhombus_dataset.planning.lock import LockedBurst
from tests.conftest import CONFIGS, files_of
from tests.labelled import label

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its dependencies' own, at import
    import datasets

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def dataset(thousand: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The thousand frames of both views, some of them with boxes and classes."""
    path = tmp_path_factory.mktemp("labelled") / "thousand"
    shutil.copytree(thousand, path)
    label(path)
    return rhombus_dataset.open_dataset(path)


@pytest.fixture(scope="module")
def exported(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export in each format."""
    folder = tmp_path_factory.mktemp("exported")
    for to in FORMATS:
        rhombus_dataset.export(dataset, to, folder / to)
    return folder


def rows_of(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """The fields of every frame, and the sha256 of what is stored, by its id."""
    return {row["frame_id"]: row for row in dataset.to_arrow().select(FIELDS).to_pylist()}


def test_huggingface_reads_it_as_a_folder_ready_to_push(dataset: Dataset, exported: Path, tmp_path: Path) -> None:
    path = exported / "huggingface"
    loaded = datasets.load_dataset(str(path), cache_dir=str(tmp_path))
    expected = rows_of(dataset)
    boxes = 0
    for split, part in loaded.items():
        assert isinstance(part.features["image"], datasets.Image)
        assert part.features["objects"]["bbox"] == datasets.List(datasets.List(datasets.Value("float64"), length=4))
        for row in part.cast_column("image", datasets.Image(decode=False)):
            image, objects, classes = row.pop("image"), row.pop("objects"), row.pop("classes")
            assert hashlib.sha256(image["bytes"]).hexdigest() == row["sha256"]
            assert row == expected.pop(row["frame_id"])
            assert row["split"] == split
            boxes += len(objects["bbox"])
            assert len(objects["category"]) == len(objects["bbox"])
            assert set(classes) <= {"busy"}
    assert not expected
    assert boxes == dataset.annotations().to_pandas()["kind"].eq("box").sum() > 100
    stream = datasets.load_dataset(str(path), split="train", streaming=True)
    assert sum(1 for _ in stream) == len(dataset["train"])
    front = yaml.safe_load((path / "README.md").read_text().split("---\n")[1])
    assert {s["name"]: s["num_examples"] for s in front["dataset_info"]["splits"]} == {
        split: len(dataset[split]) for split in dataset.splits
    }


def test_imagefolder_and_back_gives_the_same_bytes_and_fields(
    dataset: Dataset, exported: Path, tmp_path: Path
) -> None:
    loaded = datasets.load_dataset("imagefolder", data_dir=str(exported / "imagefolder"), cache_dir=str(tmp_path))
    expected = rows_of(dataset)
    for split, part in loaded.items():
        for row in part.cast_column("image", datasets.Image(decode=False)):
            image = row.pop("image")
            content = image["bytes"] or Path(image["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["sha256"]
            assert row == expected.pop(row["frame_id"])
            assert row["split"] == split
    assert not expected


def test_webdataset_and_back_gives_the_same_bytes_and_fields(dataset: Dataset, exported: Path) -> None:
    paths = sorted(map(str, (exported / "webdataset").glob("*.tar")))
    expected = rows_of(dataset)
    annotations = 0
    for sample in webdataset.WebDataset(paths, shardshuffle=False):
        fields = json.loads(sample["json"])
        annotations += len(fields.pop("annotations"))
        fields["timestamp"] = pd.Timestamp(fields["timestamp"]).to_pydatetime()
        assert hashlib.sha256(sample["jpg"]).hexdigest() == fields["sha256"]
        assert fields == expected.pop(sample["__key__"])
        assert Path(sample["__url__"]).name.startswith(fields["split"])
    assert not expected
    assert annotations == dataset.annotations().num_rows
    for path in paths:
        listed = subprocess.run(["tar", "--utc", "-tvf", path], capture_output=True, text=True, check=True).stdout
        assert "1970-01-01 00:00" in listed.splitlines()[0]


def test_pycocotools_reads_it_with_the_fields_of_camera_traps(
    dataset: Dataset, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = {frame.frame_id: frame for frame in dataset}
    for split in dataset.splits:
        coco = COCO(exported / "coco" / "annotations" / f"instances_{split}.json")
        classes = COCO(exported / "coco" / "annotations" / f"classes_{split}.json")
        assert len(coco.getImgIds()) == len(dataset[split])
        names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
        assert sorted(names.values()) == ["busy", "car", "person"]
        for image in coco.loadImgs(coco.getImgIds()):
            frame = frames.pop(image["frame_id"])
            with Image.open(exported / "coco" / image["file_name"]) as opened:
                assert opened.size == (image["width"], image["height"])
            assert image["datetime"] == f"{frame.local_time:%Y-%m-%d %H:%M:%S}"
            assert (image["location"], image["corrupt"]) == (frame.camera_uuid, False)
            assert (image["seq_id"], image["frame_num"], image["seq_num_frames"]) == (frame.frame_id, 0, 1)
            found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
            boxes = [a for a in frame.annotations if a.kind == "box"]
            assert [(names[a["category_id"]], a["bbox"]) for a in found] == [(a.label, list(a.box)) for a in boxes]
            class_annotations = classes.loadAnns(classes.getAnnIds(imgIds=[image["id"]]))
            expected = [a.label for a in frame.annotations if a.kind == "class"]
            assert [names[a["category_id"]] for a in class_annotations] == expected
    assert not frames


def test_frames_of_a_burst_are_a_sequence(tmp_path: Path, demo_url: str) -> None:
    rhombus_dataset.build(CONFIGS / "burst.yaml", tmp_path / "bursts", url=demo_url)
    dataset = rhombus_dataset.open_dataset(tmp_path / "bursts")
    rhombus_dataset.export(dataset, "coco", tmp_path / "coco")
    images = [
        image
        for path in (tmp_path / "coco" / "annotations").glob("instances_*.json")
        for image in json.loads(path.read_text())["images"]
    ]
    sampling = dataset.lock.sampling
    assert isinstance(sampling, LockedBurst)
    sequences = pd.DataFrame(images).groupby("seq_id")
    planned = dataset.manifest.num_rows
    assert len(images) == len(dataset)
    assert sequences.ngroups >= len(dataset) / sampling.frames_per_burst
    assert planned % sampling.frames_per_burst == 0
    for _, part in sequences:
        assert set(part["seq_num_frames"]) == {sampling.frames_per_burst}
        assert part["frame_num"].is_unique
        assert (part["timestamp_ms"] - part["frame_num"] * sampling.spacing_ms).nunique() == 1
        assert part["location"].nunique() == part["view"].nunique() == 1


MANIFEST_LINE = {
    # https://docs.cvat.ai/docs/dataset_management/dataset_manifest/
    "type": "object",
    "required": ["name", "extension", "width", "height", "meta", "checksum"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "not": {"pattern": r"\.jpg$"}},
        "extension": {"const": ".jpg"},
        "width": {"type": "integer", "minimum": 1},
        "height": {"type": "integer", "minimum": 1},
        "meta": {"type": "object", "properties": {"related_images": {"type": "array"}}},
        "checksum": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
}


def test_cvats_manifest_is_as_documented(dataset: Dataset, exported: Path) -> None:
    version, kind, *images = map(
        json.loads, (exported / "cvat" / "images" / "manifest.jsonl").read_text().splitlines()
    )
    assert (version, kind) == ({"version": "1.1"}, {"type": "images"})
    assert len(images) == len(dataset)
    for entry in images:
        jsonschema.validate(entry, MANIFEST_LINE)
        encoded = (exported / "cvat" / "images" / (entry["name"] + entry["extension"])).read_bytes()
        assert hashlib.md5(encoded).hexdigest() == entry["checksum"]
        with Image.open(io.BytesIO(encoded)) as opened:
            assert opened.size == (entry["width"], entry["height"])


def test_yolo_is_as_documented(dataset: Dataset, exported: Path) -> None:
    path = exported / "yolo"
    described = yaml.safe_load((path / "data.yaml").read_text())
    assert described["names"] == {0: "car", 1: "person"}
    assert (described["nc"], described["val"]) == (2, "images/validation")
    for key, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        images = {file.stem for file in (path / described[key]).iterdir()}
        labels = {file.stem for file in (path / described[key].replace("images", "labels")).iterdir()}
        assert images == {frame.frame_id for frame in dataset[split]}
        # An image without boxes has no label file.
        assert labels == {
            frame.frame_id for frame in dataset[split] if any(a.kind == "box" for a in frame.annotations)
        }


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_is_the_same_bytes_each_time(dataset: Dataset, exported: Path, tmp_path: Path, to: str) -> None:
    time.sleep(1.1)  # a timestamp in a file would now differ
    rhombus_dataset.export(str(dataset.path), to, tmp_path / to)
    assert files_of(tmp_path / to) == files_of(exported / to)


@pytest.mark.parametrize("to", FORMATS)
def test_a_part_of_a_dataset_is_exported_alone(dataset: Dataset, tmp_path: Path, to: str) -> None:
    part = dataset.filter("view == 'door' and split != 'test'")[:40]
    rhombus_dataset.export(part, to, tmp_path / to)
    inside = b"".join(path.encode() + content for path, content in files_of(tmp_path / to).items())
    ids = {found.decode() for found in re.findall(rb"(?<![0-9a-f])[0-9a-f]{20}(?![0-9a-f])", inside)}
    exported_ids = {frame.frame_id for frame in part}
    # Parquet keeps the ids compressed.
    assert exported_ids == ids & {frame.frame_id for frame in dataset} or to == "huggingface"
    if to == "huggingface":
        loaded = pd.read_parquet(tmp_path / to / "data")
        assert set(loaded["frame_id"]) == exported_ids


def test_an_existing_folder_is_not_overwritten(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        rhombus_dataset.export(dataset, "coco", tmp_path / "out")
    with pytest.raises(UsageError, match="did you mean coco"):
        rhombus_dataset.export(dataset, "coc", tmp_path / "new")
    with pytest.raises(DatasetError, match="no frame"):
        rhombus_dataset.export(dataset[:0], "coco", tmp_path / "new")
    assert files_of(tmp_path) == {"out/mine.txt": b"mine"}


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_that_fails_leaves_nothing(
    dataset: Dataset, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = 0

    def fsync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="disk is full"):
        rhombus_dataset.export(dataset[:10], to, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_no_folder_and_can_be_repeated(dataset: Dataset, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rhombus_dataset", "export", str(dataset.path), "--to", "coco", "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "out")], stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob(".out.*.tmp/images/*/*.jpg")) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    subprocess.run([*command, str(tmp_path / "out")], check=True, stdout=subprocess.DEVNULL)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    rhombus_dataset.export(dataset, "coco", tmp_path / "again")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "again")


@pytest.mark.parametrize("to", FORMATS)
def test_every_image_is_read_once_and_reported(dataset: Dataset, tmp_path: Path, to: str) -> None:
    announced: list[int] = []
    read = 0

    def count() -> None:
        nonlocal read
        read += 1

    assert export_dataset(dataset[:30], to, tmp_path / to, announced.append, count) == tmp_path / to
    assert announced == [read] == [30]
