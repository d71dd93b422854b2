"""Label files made by an enemy: a message and exit code 2 within seconds, and nothing changed in the dataset."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import rhombus_dataset
from rhombus_dataset.errors import RhombusDatasetError
from rhombus_dataset.labels.reader import read_labels
from tests.conftest import files_of
from tests.test_fuzz import mangled

SECRET = "a secret of this machine"


@pytest.fixture
def dataset(thousand: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(thousand, tmp_path / "dataset"))


def yolo(folder: Path, data: str, label: str = "0 0.5 0.5 0.1 0.1\n") -> Path:
    (folder / "labels").mkdir(parents=True)
    (folder / "data.yaml").write_text(data)
    (folder / "labels" / "x.txt").write_text(label)
    return folder


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    return "\n".join([*lines, "names: *a11"])


def alias_bomb(folder: Path) -> Path:
    return yolo(folder / "labels", bomb())


def deep_names(folder: Path) -> Path:
    return yolo(folder / "labels", "names: " + "[" * 50_000 + "]" * 50_000)


def python_tag(folder: Path) -> Path:
    return yolo(folder / "labels", "names: !!python/object/apply:os.system ['touch hacked']")


def linked_label(folder: Path) -> Path:
    (folder / "secret.txt").write_text(SECRET)
    path = yolo(folder / "labels", "names: [a]")
    (path / "labels" / "y.txt").symlink_to(folder / "secret.txt")
    return path


def pipe_label(folder: Path) -> Path:
    path = yolo(folder / "labels", "names: [a]")
    os.mkfifo(path / "labels" / "y.txt")
    return path


def pipe_file(folder: Path) -> Path:
    os.mkfifo(folder / "labels.json")
    return folder / "labels.json"


def deep_json(folder: Path) -> Path:
    (folder / "labels.json").write_text("[" * 200_000)
    return folder / "labels.json"


def xml_bomb(folder: Path) -> Path:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    text = f'<!DOCTYPE a [<!ENTITY e0 "xxxxxxxxxx">{entities}]><annotations><image name="&e11;"/></annotations>'
    (folder / "labels.xml").write_text(text)
    return folder / "labels.xml"


def external_entity(folder: Path) -> Path:
    (folder / "secret.txt").write_text(SECRET)
    text = (
        f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{folder}/secret.txt">]>'
        '<annotations><image name="&e;" width="3" height="3"><tag label="&e;"/></image></annotations>'
    )
    (folder / "labels.xml").write_text(text)
    return folder / "labels.xml"


def empty_coco(folder: Path) -> Path:
    (folder / "labels.json").write_text('{"images": [], "annotations": []}')
    return folder / "labels.json"


def empty_yolo(folder: Path) -> Path:
    return yolo(folder / "labels", "names: [a]", "\n")


ATTACKS: dict[Callable[[Path], Path], str] = {
    alias_bomb: "values, including those of aliases",
    deep_names: "levels of lists",
    python_tag: "",
    linked_label: "a link that leads out of",
    pipe_label: "not a regular file",
    pipe_file: "not a regular file",
    deep_json: "not JSON",
    xml_bomb: "",
    external_entity: "",
    empty_coco: "no labels in it",
    empty_yolo: "no labels in it",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_command_refuses_it_and_changes_nothing(
    dataset: Path, tmp_path: Path, attack: Callable[[Path], Path]
) -> None:
    (tmp_path / "given").mkdir()
    labels = attack(tmp_path / "given")
    before = {name: content for name, content in files_of(dataset).items() if not name.startswith(".build/")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "rhombus_dataset", "import-labels", str(dataset), str(labels), "--name", "given"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(rhombus_dataset.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert time.monotonic() - began < 30
    assert done.returncode == 2, done.stderr
    assert ATTACKS[attack] in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert len(done.stderr) < 2000
    assert not (tmp_path / "hacked").exists()
    after = {name: content for name, content in files_of(dataset).items() if not name.startswith(".build/")}
    assert after == before


def test_a_label_of_an_unknown_image_is_skipped_and_listed(dataset: Path, tmp_path: Path) -> None:
    """It used to refuse the whole file."""
    frame = rhombus_dataset.open_dataset(dataset)[0]
    content = {
        "images": [
            {"id": 1, "file_name": f"{frame.frame_id}.jpg", "width": frame.width_px, "height": frame.height_px}
        ],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 99, "category_id": 1, "bbox": [1, 1, 2, 2]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]},
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    outcome = rhombus_dataset.import_labels(dataset, tmp_path / "labels.json")
    assert outcome.boxes == 1
    assert [label.problem for label in outcome.skipped] == ["its image_id is not among the images of the file"]
    assert rhombus_dataset.verify(dataset).problems == ()


def test_mangled_label_files(dataset: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    import random

    frame = rhombus_dataset.open_dataset(dataset)[0]
    name = f"{frame.frame_id}.jpg"
    coco = {
        "images": [{"id": 1, "file_name": name, "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
    }
    box = {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["car"]}
    tasks = [{"data": {"image": name}, "annotations": [{"result": [{"type": "rectanglelabels", "value": box}]}]}]
    cvat = (
        f'<annotations><version>1.1</version><image id="0" name="{name}" width="100" height="100">'
        '<box label="car" xtl="1" ytl="1" xbr="9" ybr="9"/></image></annotations>'
    )
    seeds = {"a.json": json.dumps(coco), "b.json": json.dumps(tasks), "c.xml": cvat}
    count = imported = 0
    problem = ""
    for case in range(600):
        rng = random.Random(case)
        for file, text in seeds.items():
            (tmp_path / file).write_bytes(mangled(text.encode(), rng))
            count += 1
            try:
                imported += bool(list(read_labels(tmp_path / file)))
            except RhombusDatasetError as error:
                problem = str(error)
            assert len(problem) < 1000
    assert imported > 10
    record_property("fuzzed", f"{count} label files ({imported} imported)")
