"""Labels exported and imported again: the same boxes on the same frames, for full and cropped views."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rhombus_dataset
from rhombus_dataset.dataset import Dataset
from rhombus_dataset.errors import RhombusDatasetError, UsageError
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.labels.label import ImportedLabel
from rhombus_dataset.labels.reader import read_labels
from rhombus_dataset.store.annotations import box_annotation
from tests.conftest import ROOT
from tests.labelled import coco_of, label

FORMATS = ("coco", "yolo", "cvat", "label-studio")


@pytest.fixture(scope="module")
def labelled(thousand: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "thousand"
    shutil.copytree(thousand, path)
    label(path)
    return path


@pytest.fixture(scope="module")
def exported(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    for to in FORMATS:
        rhombus_dataset.export(labelled, to, folder / to)
    return folder


@pytest.fixture(scope="session")
def importers() -> str:
    """The interpreter of the environment that holds the formats' own importers."""
    done = subprocess.run([ROOT / "scripts" / "importers"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def labels_of(dataset: Dataset) -> dict[str, list[tuple[str, tuple[float, ...] | None]]]:
    """Label and box of each annotation, by frame."""
    return {
        frame.frame_id: sorted((a.label, a.box if a.kind == "box" else None) for a in frame.annotations)
        for frame in dataset
        if frame.annotations
    }


def same(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for frame_id, labels in expected.items():
        assert [name for name, _ in found[frame_id]] == [name for name, _ in labels]
        for (_, box), (_, wanted) in zip(found[frame_id], labels, strict=True):
            assert (box is None) == (wanted is None)
            if wanted is not None:
                assert box == pytest.approx(wanted, abs=tolerance)


def test_labels_are_joined_to_their_frames_in_pixels_and_in_permyriads(labelled: Path) -> None:
    dataset = rhombus_dataset.open_dataset(labelled)
    coco = coco_of(labelled)
    names = {image["id"]: image["file_name"].removesuffix(".jpg") for image in coco["images"]}
    expected: dict[str, int] = {}
    for annotation in coco["annotations"]:
        expected[names[annotation["image_id"]]] = expected.get(names[annotation["image_id"]], 0) + 1
    assert {frame.frame_id: len(frame.annotations) for frame in dataset if frame.annotations} == expected
    assert {frame.view for frame in dataset if frame.annotations} == {"full", "door"}
    for frame in dataset:
        for a in frame.annotations:
            assert (a.made_by, a.frame_id, a.confidence) == ("ana", frame.frame_id, None)
            if a.kind == "box":
                x, y, width, height = a.box
                corners = [*frame.to_full(x, y), *frame.to_full(x + width, y + height)]
                assert [a.full_x, a.full_y] == pytest.approx(corners[:2])
                assert [a.full_width, a.full_height] == pytest.approx(
                    [corners[2] - corners[0], corners[3] - corners[1]]
                )
                if frame.view == "door":
                    assert a.full_x is not None
                    assert 2500 <= a.full_x < 7500
    table = pd.read_parquet(labelled / "annotations")
    assert len(table) == dataset.annotations().num_rows == sum(expected.values())
    assert rhombus_dataset.verify(labelled).problems == ()


@pytest.mark.parametrize("to", FORMATS)
def test_exported_and_imported_boxes_are_on_the_same_frames(
    thousand: Path, labelled: Path, exported: Path, importers: str, tmp_path: Path, to: str
) -> None:
    dataset = rhombus_dataset.open_dataset(labelled)
    expected = labels_of(dataset)
    boxes = {frame: [label for label in labels if label[1] is not None] for frame, labels in expected.items()}
    boxes = {frame: labels for frame, labels in boxes.items() if labels}
    if to == "yolo":  # which has no classes of whole images
        expected = boxes
    # The format's own importer sees them.
    command = [importers, "-m", "tests.importers.read", to, str(exported / to)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    seen = {
        frame: sorted((name, tuple(box) if box else None) for name, box in labels)
        for frame, labels in json.loads(done.stdout)["frames"].items()
        if labels
    }
    # datumaro rounds to hundredths; it reads boxes of COCO, and the classes are in a file beside them
    same(seen, boxes if to in ("coco", "yolo") else expected, 0.05)
    # And they come back.
    back = tmp_path / "back"
    shutil.copytree(thousand, back)
    files = {"coco": "annotations", "yolo": "", "cvat": "annotations.xml", "label-studio": "exported.json"}
    source = exported / to / files[to]
    for file in sorted(source.glob("*.json")) if to == "coco" else [source]:
        outcome = rhombus_dataset.import_labels(back, file)
        assert outcome.skipped == ()
    same(labels_of(rhombus_dataset.open_dataset(back)), expected, 1e-6)
    makers = set(rhombus_dataset.open_dataset(back).annotations().column("made_by").to_pylist())
    assert (
        makers
        == {"coco": {"ana"}, "yolo": {"yolo"}, "cvat": {"annotations"}, "label-studio": {"ana@example.com"}}[to]
    )
    assert rhombus_dataset.verify(back).problems == ()


def test_ultralytics_own_check_and_loader_see_the_same_boxes(
    labelled: Path, exported: Path, importers: str, tmp_path: Path
) -> None:
    """Every image is found, and every box but for the rounding of its 32-bit numbers."""
    folder = shutil.copytree(exported / "yolo", tmp_path / "yolo")  # it writes a cache beside the labels
    command = [importers, "-m", "tests.importers.read", "ultralytics", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    dataset = rhombus_dataset.open_dataset(labelled)
    seen = {
        frame: sorted((name, tuple(box)) for name, box in labels)
        for frame, labels in json.loads(done.stdout.splitlines()[-1])["frames"].items()
    }
    boxes = {
        frame: [label for label in labels if label[1] is not None] for frame, labels in labels_of(dataset).items()
    }
    same(seen, {frame.frame_id: boxes.get(frame.frame_id, []) for frame in dataset}, 0.05)


def test_labels_that_match_nothing_are_skipped_and_listed(thousand: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    shutil.copytree(thousand, path)
    manifest = pd.read_parquet(path / "manifest")
    missing = manifest.loc[manifest["status"] == "missing", "frame_id"].iloc[0]
    coco = coco_of(path)
    known = coco["images"][0]["file_name"]
    coco["images"] += [
        {"id": "a", "file_name": "holiday.jpg", "width": 10, "height": 10},
        {"id": "b", "file_name": f"{missing}.jpg", "width": 10, "height": 10},
        {"id": "c", "file_name": f"task_7/{known}", "width": 0, "height": 10},
        {"id": "d", "file_name": f"\ud800\n{known}", "width": 10, "height": 10},
    ]
    coco["annotations"] = [
        {"id": 1, "image_id": "a", "category_id": 1, "bbox": [1, 1, 2, 2]},
        {"id": 2, "image_id": "b", "category_id": 1, "bbox": [1, 1, 2, 2]},
        {"id": 3, "image_id": 0, "category_id": 1, "bbox": [1, 1, 0, 2]},
        {"id": 4, "image_id": "c", "category_id": 1, "bbox": [1, 1, 1, 2]},
        {"id": 6, "image_id": "d", "category_id": 1, "bbox": [10, 1, 2, 2]},
        {"id": 5, "image_id": 0, "category_id": 2, "bbox": [1, 1, 1, 2], "score": 0.5, "made_by": "model-3"},
    ]
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    outcome = rhombus_dataset.import_labels(path, tmp_path / "labels.json")
    assert (outcome.boxes, outcome.classes, outcome.frames) == (1, 0, 1)
    assert [(label.image, label.problem) for label in outcome.skipped] == [
        ("holiday.jpg", "its name holds no frame_id of this dataset"),
        (f"{missing}.jpg", "the frame is missing"),
        (known, "its box is empty"),
        (f"task_7/{known}", "its image has no size"),
        (f"? {known}", "its box lies beside the image"),
    ]
    assert outcome.skipped_file is not None
    assert [json.loads(line)["image"] for line in outcome.skipped_file.read_text().splitlines()] == [
        label.image for label in outcome.skipped
    ]
    (kept,) = pd.read_parquet(path / "annotations").to_dict("records")
    assert (kept["confidence"], kept["made_by"], kept["label"]) == (0.5, "model-3", "car")
    # Importing again under the name replaces.
    coco["annotations"] = coco["annotations"][-1:]
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    again = rhombus_dataset.import_labels(path, tmp_path / "labels.json")
    assert (again.boxes, again.skipped, again.skipped_file) == (1, (), None)
    assert len(rhombus_dataset.open_dataset(path).annotations()) == 1
    assert rhombus_dataset.verify(path).problems == ()
    assert "model-3" in (path / "README.md").read_text()


def test_shapes_that_are_not_boxes_are_skipped(tmp_path: Path) -> None:
    xml = """<annotations><version>1.1</version><image id="0" name="x.jpg" width="10" height="10">
    <polygon label="car" points="1,1;2,2;3,1"/><box label="car" xtl="1" ytl="1" xbr="2" ybr="2" rotation="30"/>
    <box label="car" xtl="1" ytl="1" xbr="4" ybr="2"/><tag label="busy"/></image></annotations>"""
    (tmp_path / "a.xml").write_text(xml)
    assert [(label.label, label.box, label.problem) for label in read_labels(tmp_path / "a.xml")] == [
        ("car", None, "a polygon, where boxes and tags are taken"),
        ("car", None, "a turned box, where boxes and tags are taken"),
        ("car", (1, 1, 3, 1), None),
        ("busy", None, None),
    ]
    result = [
        {"type": "polygonlabels", "value": {"points": [[1, 1]], "polygonlabels": ["car"]}},
        {"type": "rectanglelabels", "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 5}},
    ]
    tasks = [
        {"data": {"image": "x.jpg"}, "annotations": [{"result": result, "completed_by": 3}]},
        {"data": {"image": "y.jpg"}, "annotations": [{"result": [{}], "was_cancelled": True}]},
    ]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    assert [label.problem for label in read_labels(tmp_path / "a.json")] == [
        "a polygonlabels, where boxes and choices are taken",
        "a turned box, where boxes and choices are taken",
    ]
    coco = {
        "images": [{"id": 1, "file_name": "x.jpg", "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 2, 2, 3, 1]]}],
    }
    (tmp_path / "b.json").write_text(json.dumps(coco))
    assert [one.problem for one in read_labels(tmp_path / "b.json")] == [
        "an outline without a box, where boxes and classes are taken"
    ]
    assert ImportedLabel("x.jpg", "y" * 501).problem == "its label has more than 500 characters"
    (tmp_path / "yolo" / "labels").mkdir(parents=True)
    (tmp_path / "yolo" / "data.yaml").write_text("names: [car]")
    (tmp_path / "yolo" / "labels" / "x.txt").write_text("0 0.1 0.1 0.2 0.2 0.3 0.3\n\n0 0.5 0.5 0.2 0.2 0.9\n")
    outline, box = read_labels(tmp_path / "yolo")
    assert outline.problem == "an outline, where boxes are taken"
    assert box.box == pytest.approx((0.4, 0.4, 0.2, 0.2))
    assert box.confidence == 0.9


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "{}", "neither COCO"),
        ("a.json", "[3]", "neither COCO"),
        ("a.json", '{"images": [{}], "annotations": []}', "KeyError: 'id'"),
        ("a.json", '{"images": [], "annotations": [{}]}', r"annotations\[0\]"),
        ("a.xml", "<html/>", "begins with <html>"),
        ("a.xml", "<annotations><image", "not XML"),
        ("a.xml", "<annotations><image name='x'/></annotations>", "an image"),
        ("a.xml", "<annotations><track id='0' label='car'/></annotations>", "CVAT for images 1.1"),
        ("b.json", None, "no such file"),
        ("b.xml", None, "no such file"),
        ("data.yaml", "names: {", "not YAML"),
    ],
)
def test_a_malformed_file_is_one_clear_error(
    thousand: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    path = tmp_path if name == "data.yaml" else tmp_path / name
    with pytest.raises(UsageError, match=message):
        list(read_labels(path))


@given(st.binary(max_size=60), st.sampled_from([".json", ".xml"]))
def test_any_bytes_are_labels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"labels{ending}"
    path.write_bytes(content)
    with pytest.raises(RhombusDatasetError):
        list(read_labels(path))


WORDS = ["id", "image_id", "bbox", "data", "image", "annotations", "result", "type", "value", "file_name",
         "rectanglelabels", "choices", "x", "name", "category_id", "width", "height"]  # fmt: skip
jsonish = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=20,
)


@given(jsonish, jsonish, jsonish)
def test_any_json_is_labels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, images: Any, annotations: Any, data: Any
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name, content in (
        ("coco", {"images": images, "annotations": annotations, "categories": data}),
        ("tasks", [{"data": data, "annotations": annotations}]),
    ):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content))
        try:
            labels = list(read_labels(path))
        except UsageError:
            continue
        assert all(isinstance(one.image, str) for one in labels)


HOSTILE = "</a>\x00\x01 |\n\ud800\"'&<b>\u202e" + "x" * 100


def test_no_label_breaks_a_format(thousand: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    shutil.copytree(thousand, path)
    coco = coco_of(path)
    coco["categories"] = [{"id": n, "name": f"{HOSTILE[:-n]}{n}"} for n in (1, 2, 3)]
    for annotation in coco["annotations"]:
        annotation["made_by"] = HOSTILE
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    outcome = rhombus_dataset.import_labels(path, tmp_path / "labels.json")
    assert outcome.skipped == ()
    rhombus_dataset.report(path)
    table = [
        line for line in (path / "README.md").read_text().splitlines() if line.startswith("| </a") or "/a" in line
    ]
    assert all(line.startswith("| ") and line.endswith(" |") for line in table)
    assert len(table) == 3
    for to in FORMATS:
        rhombus_dataset.export(path, to, tmp_path / to)
    ElementTree.parse(tmp_path / "cvat" / "annotations.xml")
    ElementTree.parse(tmp_path / "label-studio" / "label_config.xml")
    json.loads((tmp_path / "label-studio" / "tasks.json").read_text())
    assert len(list(read_labels(tmp_path / "yolo"))) == outcome.boxes
    assert len(list(read_labels(tmp_path / "cvat" / "annotations.xml"))) == outcome.boxes + outcome.classes


def test_an_import_of_which_every_label_is_skipped_leaves_the_earlier_annotations(
    thousand: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(thousand, tmp_path / "copy"))
    label(path)
    before = (path / "annotations" / "people.parquet").read_bytes()
    coco = coco_of(path)
    for image in coco["images"]:
        image["file_name"] = "of-another-dataset.jpg"
    (tmp_path / "other.json").write_text(json.dumps(coco))
    for name in ("people", "other"):
        outcome = rhombus_dataset.import_labels(path, tmp_path / "other.json", name=name)
        assert len(outcome.skipped) == len(coco["annotations"])
    assert (path / "annotations" / "people.parquet").read_bytes() == before
    assert not (path / "annotations" / "other.parquet").exists()
    assert rhombus_dataset.verify(path).problems == ()


def test_erasing_frames_deletes_their_labels_and_the_report(thousand: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    shutil.copytree(thousand, path)
    label(path)
    rhombus_dataset.report(path)
    dataset = rhombus_dataset.open_dataset(path)
    erased = set(dataset.filter("camera_name == 'dock-north'").to_arrow().column("frame_id").to_pylist())
    coco = coco_of(path)
    for image in coco["images"]:
        image["width"] = 0  # all boxes are skipped
    (tmp_path / "wrong.json").write_text(json.dumps(coco))
    assert rhombus_dataset.import_labels(path, tmp_path / "wrong.json", name="wrong").skipped
    rhombus_dataset.erase(path, "dock-north")
    assert not (path / "report.html").exists()
    for file in (path / "annotations").iterdir():
        if file.suffix == ".parquet":
            assert not erased & set(pd.read_parquet(file)["frame_id"])
        else:
            assert not any(frame_id in file.read_text() for frame_id in erased)
    assert len(rhombus_dataset.open_dataset(path).annotations()) > 0
    assert rhombus_dataset.verify(path).problems == ()


def test_a_name_cannot_leave_the_folder(thousand: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(UsageError, match="not a valid name for annotations"):
        rhombus_dataset.import_labels(thousand, tmp_path / "a.json", name="../x")


@given(
    st.integers(1, 4), st.integers(0, 9000), st.integers(1, 1000),
    st.tuples(st.floats(0, 500), st.floats(0, 500), st.floats(0.1, 500), st.floats(0.1, 500)),
)  # fmt: skip
def test_a_box_in_permyriads_is_the_box_in_pixels(
    downscale: int, start: int, size: int, box: tuple[float, float, float, float]
) -> None:
    geometry = Geometry(downscale, start, start // 2, size, size)
    a = box_annotation("0" * 20, "car", box, geometry, (640, 480), made_by="x")
    assert a.full_x is not None
    assert a.full_y is not None
    assert a.full_width is not None
    assert a.full_height is not None
    left, top = geometry.from_full(a.full_x, a.full_y, 640, 480)
    right, bottom = geometry.from_full(a.full_x + a.full_width, a.full_y + a.full_height, 640, 480)
    assert (left, top, right - left, bottom - top) == pytest.approx(box, abs=1e-6)
