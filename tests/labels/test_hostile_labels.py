"""Label files made by an enemy: a message and exit code 2 within seconds, and nothing changed in the dataset."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

import rhombus_dataset
from rhombus_dataset.errors import RhombusDatasetError
from rhombus_dataset.labels.importer import _annotation
from rhombus_dataset.labels.label import ImportedLabel
from rhombus_dataset.labels.reader import read_labels
from tests import scale
from tests.commands import run_command
from tests.conftest import files_of
from tests.test_fuzz import PIECES as GENERAL_PIECES
from tests.test_fuzz import mangled

SECRET = "a secret of this machine"
WITHIN_S = 15
"""Maximum duration of an attack. Each takes less than 2 s, on a machine that does nothing else."""


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


def small_entity(folder: Path) -> Path:
    text = '<!DOCTYPE a [<!ENTITY e "x">]><annotations><image name="&e;" width="3" height="3"/></annotations>'
    (folder / "labels.xml").write_text(text)
    return folder / "labels.xml"


def deep_xml(folder: Path) -> Path:
    deep = "<a>" * 1_000_000 + "</a>" * 1_000_000
    (folder / "labels.xml").write_text(
        f'<annotations><image name="a" width="1" height="1">{deep}</image></annotations>'
    )
    return folder / "labels.xml"


def xml_of_an_unsupported_encoding(folder: Path) -> Path:
    (folder / "labels.xml").write_text('<?xml version="1.0" encoding="shift_jis"?><annotations/>')
    return folder / "labels.xml"


def long_xml_name(folder: Path) -> Path:
    """Its error used to quote all of it."""
    image = f'<image name="{"n" * 1_000_000}" width="1" height="1"><{"t" * 1_000_000}/></image>'
    (folder / "labels.xml").write_text(f"<annotations>{image}</annotations>")
    return folder / "labels.xml"


def text_bomb_in_names(folder: Path) -> Path:
    """50,000 times a text of 400 kB, in a list that becomes one text."""
    text = "x" * 400_000
    return yolo(folder / "labels", f"text: &a {text}\nnames: [[{'*a, ' * 50_000}]]")


def many_problems(folder: Path) -> Path:
    return yolo(folder / "labels", "names: [a]\n" + "k: !!x 1\n" * 50_000)


def long_tag(folder: Path) -> Path:
    return yolo(folder / "labels", f"names: !<{'t' * 500_000}> 1")


def linked_names(folder: Path) -> Path:
    (folder / "secret.yaml").write_text(f"'{SECRET}': [")
    path = yolo(folder / "labels", "")
    (path / "data.yaml").unlink()
    (path / "data.yaml").symlink_to(folder / "secret.yaml")
    return path


def linked_folder(folder: Path) -> Path:
    """The whole file system would be searched for labels."""
    path = yolo(folder / "labels", "names: [a]")
    shutil.rmtree(path / "labels")
    (path / "labels").symlink_to("/")
    return path


def linked_inner_folder(folder: Path) -> Path:
    path = yolo(folder / "labels", "names: [a]")
    (path / "labels" / "train").symlink_to("/")
    return path


def deep_folders(folder: Path) -> Path:
    path = yolo(folder / "labels", "names: [a]")
    here = os.open(path / "labels", os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    return path


def link_to_itself(folder: Path) -> Path:
    (folder / "labels.json").symlink_to("labels.json")
    return folder / "labels.json"


def pipe_names(folder: Path) -> Path:
    path = yolo(folder / "labels", "")
    (path / "data.yaml").unlink()
    os.mkfifo(path / "data.yaml")
    return path


def device(folder: Path) -> Path:
    (folder / "labels.json").symlink_to("/dev/zero")
    return folder / "labels.json"


def large(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def large_json(folder: Path) -> Path:
    return large(folder / "labels.json", 2 << 30)


def large_xml(folder: Path) -> Path:
    return large(folder / "labels.xml", 2 << 30)


def large_image_labels(folder: Path) -> Path:
    path = yolo(folder / "labels", "names: [a]")
    large(path / "labels" / "y.txt", 400 << 20)
    return path


def long_number(folder: Path) -> Path:
    (folder / "labels.json").write_text(f'{{"images": [{"9" * 5_000}], "annotations": []}}')
    return folder / "labels.json"


def half_a_class(folder: Path) -> Path:
    """It used to be read as class 0."""
    return yolo(folder / "labels", "names: [a]", "0.5 0.5 0.5 0.1 0.1\n")


def control_characters(folder: Path) -> Path:
    return yolo(folder / "labels", "names: [a]", "\x1b[2J\x1b]0;title\x07 0.5 0.5 0.1 0.1\n")


def empty_coco(folder: Path) -> Path:
    (folder / "labels.json").write_text('{"images": [], "annotations": []}')
    return folder / "labels.json"


def empty_tasks(folder: Path) -> Path:
    (folder / "labels.json").write_text("[]")
    return folder / "labels.json"


def empty_cvat(folder: Path) -> Path:
    (folder / "labels.xml").write_text("<annotations><image name='a' width='3' height='3'/></annotations>")
    return folder / "labels.xml"


def empty_yolo(folder: Path) -> Path:
    return yolo(folder / "labels", "names: [a]", "\n")


ATTACKS: dict[Callable[[Path], Path], str] = {
    alias_bomb: "values, including those of aliases",
    deep_names: "levels of lists",
    python_tag: "the tag tag:yaml.org,2002:python",
    text_bomb_in_names: "expected a text for each name",
    many_problems: "is not allowed",
    long_tag: "the tag ttt",
    linked_label: "a link that leads out of",
    linked_names: "a link that leads out of",
    linked_folder: "a link to a folder",
    linked_inner_folder: "a link to a folder",
    deep_folders: "its folders",
    link_to_itself: "",
    pipe_label: "not a regular file",
    pipe_file: "not a regular file",
    pipe_names: "has no data.yaml",
    device: "not a regular file",
    deep_json: "not JSON",
    long_number: "not JSON",
    large_json: "expected at most 536,870,912 bytes",
    large_xml: "expected at most 536,870,912 bytes",
    large_image_labels: "expected at most 16,777,216 bytes",
    xml_bomb: "has a document type",
    external_entity: "has a document type",
    small_entity: "has a document type",
    deep_xml: "levels of elements",
    xml_of_an_unsupported_encoding: "not XML",
    long_xml_name: "image 'nnn",
    half_a_class: "no class 0.5 in data.yaml",
    control_characters: "line 1",
    empty_coco: "no labels in it",
    empty_tasks: "no labels in it",
    empty_cvat: "no labels in it",
    empty_yolo: "no labels in it",
}


@pytest.fixture(scope="module")
def attacked(thousand: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that no attack changes."""
    return Path(shutil.copytree(thousand, tmp_path_factory.mktemp("attacked") / "dataset"))


@pytest.fixture
def given(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    # pytest cannot remove very deep folders.
    here, deepest = tmp_path / "labels" / "labels", 0
    with contextlib.suppress(OSError):
        while (here / "d" / "d").is_dir() and deepest < 1_600:
            (here / "d").rename(here / "old")
            (here / "old" / "d").rename(here / "d")
            (here / "old").rmdir()
            deepest += 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_promise_11_the_command_refuses_it_and_changes_nothing(
    attacked: Path, given: Path, monkeypatch: pytest.MonkeyPatch, attack: Callable[[Path], Path]
) -> None:
    monkeypatch.chdir(given)
    labels = attack(given)
    before = {name: content for name, content in files_of(attacked).items() if not name.startswith(".build/")}
    code, printed = run_command("import-labels", attacked, labels, "--made-by", "x", within_s=WITHIN_S)
    assert code == 2, printed[-3000:]
    assert ATTACKS[attack] in printed
    assert "Traceback" not in printed
    assert SECRET not in printed
    assert len(printed) < 2000
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert not (given / "hacked").exists()
    after = {name: content for name, content in files_of(attacked).items() if not name.startswith(".build/")}
    assert after == before


def coco(name: str, **annotation: Any) -> dict[str, Any]:
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}
    return {
        "images": [{"id": 1, "file_name": name, "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [box, box | annotation],
    }


NAN, INFINITY = float("nan"), float("inf")
SKIPPED: list[tuple[dict[str, Any], str]] = [
    ({"bbox": [1, 1, NAN, 2]}, "not finite"),
    ({"bbox": [-INFINITY, 1, 2, 2]}, "not finite"),
    ({"bbox": [1, 1, 1e308, 2]}, "not finite, or beyond 1,000,000,000"),
    ({"bbox": [1, 1, 10**300, 2]}, "not finite, or beyond 1,000,000,000"),
    ({"bbox": [1, 1, -2, 2]}, "empty"),
    ({"score": NAN}, "confidence"),
    ({"score": INFINITY}, "confidence"),
    ({"image_id": 99}, "its image_id is not among the images"),
    ({"image_id": "x" * 100_000}, "its image_id is not among the images"),
    ({"made_by": "x" * 100_000}, "its author has more than 500 characters"),
]


@pytest.mark.parametrize(("annotation", "problem"), SKIPPED)
def test_one_wrong_label_is_skipped_and_listed(
    dataset: Path, tmp_path: Path, annotation: dict[str, Any], problem: str
) -> None:
    name = f"{rhombus_dataset.open_dataset(dataset)[0].frame_id}.jpg"
    (tmp_path / "labels.json").write_text(json.dumps(coco(name, **annotation)))
    code, printed = run_command("import-labels", dataset, tmp_path / "labels.json", "--json", within_s=WITHIN_S)
    assert code == 1, printed
    found = json.loads(printed, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    assert found["boxes"] == 1
    assert problem in found["skipped"][0]["problem"]
    assert len(printed) < 6000
    assert rhombus_dataset.open_dataset(dataset).annotations().num_rows == 1


@pytest.mark.parametrize("size", [NAN, INFINITY, 0, -5, 1e-300])
def test_a_label_of_an_image_without_a_size_is_skipped(tmp_path: Path, size: float) -> None:
    content = coco("x.jpg")
    content["images"][0]["width"] = size
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert [label.problem for label in read_labels(tmp_path / "labels.json")] == ["its image has no size"] * 2


def test_many_labels_of_an_image_with_a_long_name_take_no_more_time(tmp_path: Path) -> None:
    """The name of 2 MB used to be read again for each label: 0.2 s each."""
    content = coco("x" * 2_000_000)
    content["annotations"] *= 1_000
    (tmp_path / "labels.json").write_text(json.dumps(content))
    shapes = '<tag label="car"/>' * 2_000
    image = f'<image name="{"x" * 2_000_000}" width="9" height="9">{shapes}</image>'
    (tmp_path / "labels.xml").write_text(
        f"<annotations><username>{'x' * 2_000_000}</username>{image}</annotations>"
    )
    for file in ("labels.json", "labels.xml"):
        labels = list(read_labels(tmp_path / file))
        assert len(labels) == 2_000
        assert all(label.problem and len(label.image) <= 4_000 for label in labels)


def test_a_skipped_label_is_strict_json() -> None:
    label = ImportedLabel("x", "car", (NAN, 1.0, INFINITY, 2.0), (3.0, 4.0), NAN)
    assert json.dumps(label.to_json(), allow_nan=False)
    assert label.to_json()["box"] == ["nan", 1.0, "inf", 2.0]


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


PIECES = [
    b"1e999", b"NaN", b"-Infinity", b"-1", b"9" * 400, b"null", b"[]", b"{}", b'"x"', b"[" * 2_000, b"&e;",
    b"<!DOCTYPE a>", b'<?xml version="1.0" encoding="utf-16"?>', b"<track>", b"<image>", b"</image>", b"&lt;",
    b"*a", b"&a ", b"!!set ", b"\xff", b"\0", b"\x1b[2J", b"\xed\xa0\x80", b"A" * 3_000, b"nan inf", b" ", b"\n",
    b'"rotation": 3,', b'"bbox": 3,',
]  # fmt: skip


@pytest.mark.parametrize("kind", ["coco", "label-studio", "cvat", "yolo names", "yolo labels"])
def test_mangled_label_files(
    thousand: Path, tmp_path: Path, record_property: Callable[[str, object], None], kind: str
) -> None:
    """They are labels that an import can write, or one short error."""
    frame = rhombus_dataset.open_dataset(thousand)[0]
    name = f"{frame.frame_id}.jpg"
    box = {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["car"]}
    tasks = [{"data": {"image": name}, "annotations": [{"result": [{"type": "rectanglelabels", "value": box}]}]}]
    cvat = (
        f'<annotations><version>1.1</version><image id="0" name="{name}" width="100" height="100">'
        '<box label="car" xtl="1" ytl="1" xbr="9" ybr="9"/></image></annotations>'
    )
    label = tmp_path / "yolo" / "labels" / f"{frame.frame_id}.txt"
    seed, file = {
        "coco": (json.dumps(coco(name)), tmp_path / "a.json"),
        "label-studio": (json.dumps(tasks), tmp_path / "a.json"),
        "cvat": (cvat, tmp_path / "a.xml"),
        "yolo names": ("names:\n  0: car\n  1: person\n", tmp_path / "yolo" / "data.yaml"),
        "yolo labels": ("0 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.1 0.1 0.9\n", label),
    }[kind]
    yolo(tmp_path / "yolo", "names: [car, person]")
    label.write_text("0 0.5 0.5 0.1 0.1\n")
    count, imported, longest = scale.count(2_000, 4), 0, 0
    for case in range(count):
        rng = random.Random(case)
        file.write_bytes(mangled(seed.encode(), rng, [*PIECES, *GENERAL_PIECES]))
        try:
            labels = list(read_labels(tmp_path / "yolo" if "yolo" in kind else file))
        except RhombusDatasetError as error:
            longest = max(longest, len(str(error)))
            continue
        imported += any(label.problem is None for label in labels)
        for found in labels:
            assert json.dumps(found.to_json(), allow_nan=False)
            if found.problem is None:
                numbers = [value for value in astuple(_annotation(frame, found, "x")) if isinstance(value, float)]
                assert all(map(math.isfinite, numbers))
    assert imported > 10
    assert longest < 600 + len(str(file))
    record_property("fuzzed", f"{count} label files of {kind} ({imported} imported)")
