"""``verify`` finds any damage in any file; ``info`` counts rows and images."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rhombus_dataset
from rhombus_dataset.api import info, verify
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store import manifest
from tests import scale
from tests.building.test_build import same_for_each_frame, write_plan
from tests.conftest import CONFIGS
from tests.scripted_server import Answer, frame_answer, jpeg, scripted_server


@pytest.fixture(scope="module", params=["parquet", "jpeg"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small intact dataset, in either format."""
    folder = tmp_path_factory.mktemp("whole")
    text = (CONFIGS / "recordings.yaml").read_text().replace("format: jpeg", f"format: {request.param}")
    plan = folder / "plan.yaml"
    plan.write_text(text.replace("site: demo-site.yaml", f"site: {CONFIGS / 'demo-site.yaml'}"))
    assert rhombus_dataset.build(plan, folder / "out").complete
    return folder / "out"


@pytest.fixture
def dataset(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "dataset"))


def test_an_intact_dataset_has_no_problems(whole: Path) -> None:
    report = verify(whole)
    assert report.problems == ()
    assert (report.shards, report.rows) == (3, 60)
    assert report.images == info(whole).counts["ok"] > 30
    first, *others = report.to_text().splitlines()
    assert first == f"verify: no problems found in 3 shards, {report.images} images"
    # The drawn scene is nearly still, so images that are hours apart look alike.
    assert all(line.startswith("note: ") and "(0 within 60 s, 0 with the same bytes)" in line for line in others)


def every_file(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and ".build" not in p.parts)


def test_a_flipped_bit_is_found_in_every_file_wherever_it_is(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    copy = Path(shutil.copytree(whole, tmp_path / "dataset"))
    for path in every_file(copy):
        if path.name == "plan.yaml":
            continue  # for people only: the lock is what counts, and has a checksum
        content = path.read_bytes()
        for _ in range(scale.count(3, 3) if path.suffix == ".jpg" else scale.count(25, 5)):
            damaged = bytearray(content)
            damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            assert verify(copy).problems, path
        path.write_bytes(content)
    assert verify(copy).problems == ()


def test_a_missing_or_truncated_or_extra_file_is_found(dataset: Path) -> None:
    for path in every_file(dataset):
        content = path.read_bytes()
        path.unlink()
        try:
            found = verify(dataset).problems
        except DatasetError:
            assert path.name == "plan.lock.json"
        else:
            assert found, path
        path.write_bytes(content)
        if path.name != "plan.yaml":
            path.write_bytes(content[: len(content) // 2])
            assert verify(dataset).problems, path
            path.write_bytes(content)
    for name in ("data", "manifest"):
        unexpected = dataset / name / "train-00007-of-00002.parquet"
        unexpected.write_bytes(b"x")
        assert any("not part of the dataset" in p.message for p in verify(dataset).problems)
        unexpected.unlink()
    assert verify(dataset).problems == ()


def test_an_extra_row_is_found(dataset: Path) -> None:
    path = manifest.slice_paths(dataset)[0]
    table = pq.read_table(path)
    header = manifest.read_header(path)
    manifest.write_slice(path, pa.concat_tables([table, table.slice(0, 1)]), header)
    assert any("rows, expected" in p.message for p in verify(dataset).problems)


def test_a_changed_row_is_found(dataset: Path) -> None:
    """Also if the hash in the header was computed again."""
    path = manifest.slice_paths(dataset)[0]
    table = pq.read_table(path).replace_schema_metadata(None)
    header = manifest.read_header(path)
    for name in ("timestamp", "luma", "frame_id", "split"):
        values = table.column(name).to_pylist()
        values[0] = values[1] if values[0] != values[1] else "other"
        column = pa.array(values, table.schema.field(name).type)
        changed = table.set_column(table.schema.get_field_index(name), name, column)
        forged = manifest.SliceHeader(
            header.format_version, header.schedule_digest, header.shard, header.data_format,
            header.data_sha256, manifest.content_sha256(changed),
        )  # fmt: skip
        manifest.write_slice(path, changed, forged)
        assert verify(dataset).problems, name


def test_an_incomplete_dataset_is_reported(dataset: Path) -> None:
    manifest.slice_paths(dataset)[0].unlink()
    text = str(verify(dataset).problems[0])
    assert "1 of 3 shards missing" in text
    assert "run the build again" in text
    assert "INCOMPLETE: 2 of 3 shards" in info(dataset).to_text()


def test_a_folder_without_a_dataset_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError, match=r"no (such folder|dataset here)"):
            verify(path)


def test_info_counts_and_warns_of_placeholder_images(tmp_path: Path) -> None:
    def script(asked: object) -> Answer:
        answer = same_for_each_frame(asked)  # type: ignore[arg-type]
        late = asked.body["timestampMs"] % 600_000 >= 300_000  # type: ignore[attr-defined]
        return frame_answer(jpeg(1)) if late and "B" in str(asked) else answer

    with scripted_server(script) as server:
        rhombus_dataset.build(write_plan(tmp_path, server.url), tmp_path / "out")
    found = info(tmp_path / "out")
    assert found.complete
    assert found.counts == {"ok": 60, "missing": 0, "failed": 0, "corrupt": 0, "erased": 0}
    assert [run["camera_name"] for run in found.identical_runs] == ["camera-B"]
    assert "byte-identical frames of camera-B" in found.to_text()
