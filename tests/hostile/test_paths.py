"""Promise 11: a dataset from somebody else reads and writes nothing outside its folder, and its mistakes are shown.

The checksums in a dataset are its maker's own. So each attack here has the right ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rhombus_dataset
from rhombus_dataset.errors import DatasetError, RhombusDatasetError, StorageError
from rhombus_dataset.exports.formats import FORMATS
from rhombus_dataset.hashing import json_sha256
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.files import inside, staged_file, write_file
from tests.building.test_build import same_for_each_frame, write_plan
from tests.conftest import files_of
from tests.scripted_server import scripted_server

OUTSIDE = b"a secret of this machine"


@pytest.fixture(scope="module", params=["parquet", "jpeg"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset without a problem, with splits and annotations."""
    folder = tmp_path_factory.mktemp(str(request.param))
    os.environ["RHOMBUS_API_KEY"] = "local-key"
    with scripted_server(same_for_each_frame) as server:
        plan = write_plan(
            folder,
            server.url,
            splits={
                "by": "camera",
                "fractions": {"train": 0.5, "test": 0.5},
                "assign": {"test": ["camera-A"], "train": ["camera-B"]},
            },
            output={"frames_per_shard": 12, "format": request.param},
        )
        rhombus_dataset.build(plan, folder / "out")
    assert rhombus_dataset.verify(folder / "out").problems == ()
    return folder / "out"


@pytest.fixture
def dataset(whole: Path, tmp_path: Path) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "secret.txt").write_bytes(OUTSIDE)
    return Path(shutil.copytree(whole, tmp_path / "a" / "b" / "dataset"))


def slice_of(dataset: Path) -> Path:
    return manifest.slice_paths(dataset)[0]


def tamper(dataset: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the rows of the first slice, and write it with a header that fits."""
    path = slice_of(dataset)
    header, table = manifest.read_header(path), pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    change(rows)
    changed = pa.Table.from_pylist(rows, schema=table.schema.remove_metadata())
    manifest.write_slice(
        path, changed, dataclasses.replace(header, content_sha256=manifest.content_sha256(changed))
    )


def tamper_lock(dataset: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = dataset / layout.LOCK_FILE
    content = json.loads(path.read_text())
    content.pop("sha256")
    change(content)
    path.write_text(json.dumps({**content, "sha256": json_sha256(content)}))


def read_all(dataset: Path) -> None:
    for frame in rhombus_dataset.open_dataset(dataset):
        assert OUTSIDE not in frame.read()


def messages_of(dataset: Path) -> str:
    """What verify says, whether as problems or as an error."""
    try:
        return " ".join(problem.message for problem in rhombus_dataset.verify(dataset).problems)
    except DatasetError as error:
        return str(error)


def check_harmless(dataset: Path, tmp_path: Path) -> None:
    """All commands refuse, verify says so, and nothing outside the folder is written or copied."""
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()}
    with pytest.raises(DatasetError):
        read_all(dataset)
    for to in FORMATS:
        with pytest.raises(RhombusDatasetError):
            rhombus_dataset.export(dataset, to, tmp_path / "a" / "b" / "exported")
        assert not (tmp_path / "a" / "b" / "exported").exists()
    with contextlib.suppress(DatasetError):
        assert rhombus_dataset.verify(dataset).problems
    outside = {path for path in tmp_path.rglob("*") if path.is_file() and dataset not in path.parents}
    assert outside == {path for path in before if dataset not in path.parents}
    for path in outside:
        assert path.read_bytes() == before[path]


def first_ok(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if row["status"] == "ok")


VALUES: dict[str, list[Any]] = {
    "split": ["../../X", "..", "/tmp/x", "", "train/../../x", "a b", "\x1b[31m", "é", "x" * 300],
    "frame_id": ["../../../../X", "/etc/passwd", "", "0" * 19, "0" * 19 + "\n", "0" * 19 + "G", "." * 20],
    "file": ["/etc/passwd", "../../secret.txt", "data/../../../secret.txt", "plan.lock.json", "data", "", "\0"],
    "row": [-1, -(2**31)],
}


@pytest.mark.parametrize(("column", "value"), [(column, value) for column in VALUES for value in VALUES[column]])
def test_a_manifest_names_only_files_of_its_own_shard(
    dataset: Path, tmp_path: Path, column: str, value: Any
) -> None:
    tamper(dataset, lambda rows: first_ok(rows).update({column: value}))
    check_harmless(dataset, tmp_path)


def test_a_shard_is_called_as_its_file(dataset: Path, tmp_path: Path) -> None:
    slice_of(dataset).rename(slice_of(dataset).with_name("x..y.parquet"))
    check_harmless(dataset, tmp_path)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.list_(pa.string()), pa.binary(), pa.int64()])
def test_a_column_of_another_type_is_refused(dataset: Path, tmp_path: Path, kind: pa.DataType) -> None:
    path = slice_of(dataset)
    table = pq.read_table(path, partitioning=None)
    values = pa.nulls(table.num_rows, kind)
    place = table.schema.get_field_index("frame_id")
    pq.write_table(table.set_column(place, "frame_id", values), path)
    check_harmless(dataset, tmp_path)


@pytest.mark.parametrize("name", ["../../X", "/x", "", "a/b", ".", "..", "x" * 50, "\x1b[31m"])
def test_a_split_of_the_lock_is_a_name(dataset: Path, tmp_path: Path, name: str) -> None:
    """It was a part of the paths that a repair deletes."""
    (tmp_path / "a" / "X-00000-of-00001.parquet").write_bytes(OUTSIDE)

    def change(lock: dict[str, Any]) -> None:
        fractions = lock["splits"]["fractions"]
        lock["splits"]["fractions"] = {name if old == "train" else old: share for old, share in fractions.items()}

    tamper_lock(dataset, change)
    for repair in (False, True):
        assert rhombus_dataset.verify(dataset, repair=repair).problems
    assert (tmp_path / "a" / "X-00000-of-00001.parquet").read_bytes() == OUTSIDE
    assert (tmp_path / "secret.txt").read_bytes() == OUTSIDE


@pytest.mark.parametrize("uuid", ["../../../x", "", "A" * 23, "A" * 22, "A" * 22 + ".a0"])
def test_a_camera_of_the_lock_has_a_uuid(dataset: Path, uuid: str) -> None:
    tamper_lock(dataset, lambda lock: lock["cameras"][0].update({"uuid": uuid}))
    with pytest.raises(DatasetError):
        rhombus_dataset.info(dataset)


LINKED = [layout.LOCK_FILE, layout.ERASED_FILE, layout.TOP_UP_FILE, layout.DUPLICATES_FILE]


@pytest.mark.parametrize("name", LINKED)
def test_a_link_out_of_the_folder_is_not_followed(dataset: Path, tmp_path: Path, name: str) -> None:
    """A file with a valid content outside: read through the link, it would be believed."""
    if (dataset / name).exists():
        (dataset / name).rename(tmp_path / "moved")
    else:
        (tmp_path / "moved").write_bytes(b"[]")
    (dataset / name).symlink_to(tmp_path / "moved")
    assert "leads out of the dataset" in messages_of(dataset)


@pytest.mark.parametrize("folder", [layout.MANIFEST_FOLDER, layout.DATA_FOLDER])
def test_a_linked_folder_is_not_followed(dataset: Path, tmp_path: Path, folder: str) -> None:
    (dataset / folder).rename(tmp_path / "moved")
    (dataset / folder).symlink_to(tmp_path / "moved")
    check_harmless(dataset, tmp_path)
    with pytest.raises(StorageError, match="leads out of the dataset"):
        write_file(dataset / folder / "new", b"x")
    assert not (tmp_path / "moved" / "new").exists()


def test_a_linked_image_is_not_followed(dataset: Path, tmp_path: Path) -> None:
    for path in sorted((dataset / "data").rglob("*")):
        if path.is_file():
            path.rename(tmp_path / path.name)
            path.symlink_to(tmp_path / path.name)
    check_harmless(dataset, tmp_path)


def test_links_inside_the_folder_and_to_the_folder_work(dataset: Path, tmp_path: Path) -> None:
    (dataset / "data").rename(dataset / "elsewhere")
    (dataset / "data").symlink_to("elsewhere")
    (tmp_path / "link").symlink_to(dataset)
    assert len(list(rhombus_dataset.open_dataset(tmp_path / "link")[0].read())) > 100


@pytest.mark.parametrize("name", [layout.LOCK_FILE, "manifest/SLICE", layout.DUPLICATES_FILE, layout.ERASED_FILE])
def test_a_pipe_does_not_hang(dataset: Path, name: str) -> None:
    path = slice_of(dataset) if name.endswith("SLICE") else dataset / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    for command in (["info"], ["verify"], ["report"], ["export", "--to", "coco", "--out", f"{dataset}-exported"]):
        done = subprocess.run(
            [sys.executable, "-m", "rhombus_dataset", command[0], str(dataset), *command[1:]],
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        if command[0] == "verify":
            assert done.returncode == 1


def test_a_planted_link_under_a_temporary_name_is_not_written_through(dataset: Path, tmp_path: Path) -> None:
    (dataset / ".report.html.tmp").symlink_to(tmp_path / "secret.txt")
    rhombus_dataset.report(dataset)
    assert (tmp_path / "secret.txt").read_bytes() == OUTSIDE


def test_temporary_names_cannot_be_guessed_and_are_new(tmp_path: Path) -> None:
    names = set()
    for _ in range(5):
        with staged_file(tmp_path / "x") as staged:
            assert staged.stat().st_size == 0
            assert not staged.is_symlink()
            names.add(staged.name)
            staged.write_bytes(b"new")
    assert len(names) == 5


def test_a_final_name_that_is_a_link_is_replaced_itself(dataset: Path, tmp_path: Path) -> None:
    (dataset / "report.html").symlink_to(tmp_path / "secret.txt")
    rhombus_dataset.report(dataset)
    assert (tmp_path / "secret.txt").read_bytes() == OUTSIDE
    assert not (dataset / "report.html").is_symlink()


def test_the_build_log_is_not_written_through_a_link(dataset: Path, tmp_path: Path) -> None:
    (dataset / layout.LOG_FILE).unlink()
    (dataset / layout.LOG_FILE).symlink_to(tmp_path / "secret.txt")
    with pytest.raises(StorageError):
        rhombus_dataset.build(dataset / "plan.yaml", dataset, url="http://127.0.0.1:9")
    assert (tmp_path / "secret.txt").read_bytes() == OUTSIDE


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '[{"camera_uuid": 1, "start_ms": 0, "end_ms": 1}]', '[{"x": 1}]']
)
def test_a_hostile_record_of_erasures_is_damage(dataset: Path, content: str) -> None:
    (dataset / layout.ERASED_FILE).write_text(content)
    assert rhombus_dataset.verify(dataset).problems


def test_erased_images_are_in_no_file_below_the_folder(dataset: Path) -> None:
    """Also in what killed commands left: temporary data, a report, annotations, a shard to be swapped in."""
    frames = list(rhombus_dataset.open_dataset(dataset).filter("camera_name == 'camera-B'"))
    images = [frame.read() for frame in frames]
    leftovers = [
        "data/.train-00000-of-00002.parquet.tmp",
        "data/.train-00000-of-00002.parquet.0123456789abcdef.tmp",
        ".report.html.0123456789abcdef.tmp",
        "annotations/.mine.parquet.0123456789abcdef.tmp",
        ".build/rewrite/train-00000-of-00002/data/x.parquet",
        "scout/data/.x.parquet.0123456789abcdef.tmp",
        "data/.train-00001-of-00002.0123456789abcdef.tmp/image.jpg",
    ]
    for name in leftovers:
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        (dataset / name).write_bytes(b"before" + b"".join(images) + b"after")
    rhombus_dataset.erase(dataset, "camera-B")
    for name, content in files_of(dataset).items():
        for image in images:
            assert image[len(image) // 2 :][:32] not in content, name
    assert rhombus_dataset.verify(dataset).problems == ()


def test_checking_costs_little(dataset: Path) -> None:
    """A hundred thousand rows are checked in a fraction of a second."""
    path = slice_of(dataset)
    header, table = manifest.read_header(path), pq.read_table(path, partitioning=None)
    table = table.take(pa.array([i % table.num_rows for i in range(100_000)]))
    hashes = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(100_000)]
    place = table.schema.get_field_index("sha256")
    table = table.set_column(place, "sha256", pa.array(hashes))
    if header.data_format == "parquet":
        table = table.set_column(0, "frame_id", pa.array([text[:20] for text in hashes]))
    manifest.write_slice(path, table.replace_schema_metadata(None), header)
    began = time.process_time()
    assert manifest.read_slice(path).num_rows == 100_000
    assert time.process_time() - began < 2


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd"])
def test_inside_refuses_a_path_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="outside its folder"):
        inside(tmp_path, name)
