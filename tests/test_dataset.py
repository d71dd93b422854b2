"""Reading a built dataset: by index, slice and condition, from threads and processes, each image by one read."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import multiprocessing
import os
import pickle
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rhombus_dataset
from rhombus_dataset.dataset import Dataset
from rhombus_dataset.errors import DatasetError, UsageError
from rhombus_dataset.imaging.jpeg import decode_rgb
from rhombus_dataset.store import schema
from rhombus_dataset.store.data_files import open_writer
from rhombus_dataset.store.images import ImageReader
from tests.conftest import build_thousand


@pytest.fixture(scope="module", params=["parquet", "jpeg"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, clips: list[Path]) -> Dataset:
    path = request.getfixturevalue("thousand")
    if request.param == "jpeg":
        path = build_thousand(tmp_path_factory.mktemp("jpeg"), clips, "jpeg")
    return rhombus_dataset.open_dataset(path)


def test_it_has_the_frames_with_status_ok(dataset: Dataset) -> None:
    rows = pd.read_parquet(dataset.path / "manifest")
    assert len(rows) == dataset.manifest.num_rows == 1050
    assert 900 < len(dataset) == (rows["status"] == "ok").sum() < 1050
    assert [frame.frame_id for frame in dataset] == rows.loc[rows["status"] == "ok", "frame_id"].tolist()
    expected = rows[rows["status"] == "ok"].reset_index(drop=True)
    pd.testing.assert_frame_equal(dataset.to_pandas(), expected, check_dtype=False)


def test_every_image_is_the_one_of_its_row(dataset: Dataset) -> None:
    for frame in dataset:
        row = frame.to_dict()
        assert hashlib.sha256(frame.read()).hexdigest() == row["sha256"]
    table = dataset[::97].to_arrow(images=True)
    assert table.schema.field("image").equals(schema.IMAGE)
    for value, frame in zip(table.column("image").to_pylist(), dataset[::97], strict=True):
        assert value == {"bytes": frame.read(), "path": f"{frame.frame_id}.jpg"}


def test_a_frame_has_the_values_of_its_row(dataset: Dataset) -> None:
    frame = dataset[len(dataset) // 2]
    row = frame.to_dict()
    assert (frame.width_px, frame.height_px) == (row["width"], row["height"])
    assert frame.timestamp == row["timestamp"]
    assert frame.timestamp_ms == round(row["timestamp"].timestamp() * 1000)
    assert frame.local_time == frame.timestamp
    assert frame.local_time.utcoffset() != frame.timestamp.utcoffset()
    assert frame.decode().shape == (frame.height_px, frame.width_px, 3)
    assert np.array_equal(frame.decode(), decode_rgb(frame.read()))
    x, y = frame.to_full(3, 5)
    assert frame.from_full(x, y) == pytest.approx((3, 5))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_reduced_decode_is_the_image_made_smaller(dataset: Dataset, scale: int) -> None:
    frame = dataset[0]
    small = frame.decode(scale)  # type: ignore[arg-type]
    height_px, width_px = small.shape[:2]
    assert (width_px, height_px) == (-(-frame.width_px // scale), -(-frame.height_px // scale))
    expected = cv2.resize(frame.decode(), (width_px, height_px), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected.astype(int)).mean() < 3
    with pytest.raises(ValueError, match="expected 1, 2, 4 or 8, got 3"):
        frame.decode(3)  # type: ignore[arg-type]


@given(st.integers(-1100, 1100), st.integers(-1100, 1100), st.sampled_from([-3, -1, 1, 2, 50]))
def test_slices_are_those_of_a_list(dataset: Dataset, start: int, stop: int, step: int) -> None:
    ids = dataset.to_arrow().column("frame_id").to_pylist()
    part = dataset[start:stop:step]
    assert part.to_arrow().column("frame_id").to_pylist() == ids[start:stop:step]
    if len(part):
        assert part[-1] == dataset[ids.index(part[-1].frame_id)]
    wanted = [start % len(ids), stop % len(ids)]
    assert [frame.frame_id for frame in dataset[wanted]] == [ids[i] for i in wanted]
    assert [frame.frame_id for frame in dataset[np.asarray(wanted)]] == [ids[i] for i in wanted]


def test_an_index_that_is_not_there_is_an_index_error(dataset: Dataset) -> None:
    with pytest.raises(IndexError, match=f"of {len(dataset)}"):
        dataset[len(dataset)]
    assert len(dataset[[]]) == 0


def test_conditions_are_those_of_pandas_and_of_arrow(dataset: Dataset) -> None:
    rows = dataset.to_pandas()
    expected = rows[(rows["luma"] > rows["luma"].median()) & (rows["view"] == "door")]["frame_id"].tolist()
    median = float(rows["luma"].median())
    by_text = dataset.filter(f"luma > {median!r} and view == 'door'")
    by_arrow = dataset.filter((pc.field("luma") > median) & (pc.field("view") == "door"))
    assert 0 < len(expected) < len(dataset)
    for part in (by_text, by_arrow, by_text.filter("luma > 0")):
        assert part.to_arrow().column("frame_id").to_pylist() == expected
    assert sum(len(dataset[name]) for name in dataset.splits) == len(dataset)
    for wrong in ("nope > 3", "luma >", pc.field("nope") > 3, "__import__('os')"):
        with pytest.raises(UsageError, match=r"(?i)columns are frame_id|allowed are columns"):
            dataset.filter(wrong)
    with pytest.raises(UsageError, match="train"):
        dataset["trian"]


def test_filtering_reads_no_image(thousand: Path, tmp_path: Path) -> None:
    shutil.copytree(thousand, tmp_path / "copy", ignore=shutil.ignore_patterns("data"))
    part = rhombus_dataset.open_dataset(tmp_path / "copy").filter("view == 'door'")
    assert len(part[:7].to_pandas()) == 7
    with pytest.raises(DatasetError, match="cannot be read"):
        part[0].read()


def _hash_of(frames: Dataset) -> list[str]:
    return [hashlib.sha256(frame.read()).hexdigest() for frame in frames]


@pytest.mark.parametrize("start", ["fork", "spawn"])
# A warning of Python about forks of processes with threads. This test shows that it is safe here.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_threads_and_processes_read_the_same(dataset: Dataset, start: str) -> None:
    expected = dataset.to_arrow().column("sha256").to_pylist()
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        fresh = pickle.loads(pickle.dumps(dataset))
        assert [h for part in threads.map(_hash_of, [fresh[i::8] for i in range(8)]) for h in part] == [
            h for i in range(8) for h in expected[i::8]
        ]
    context = multiprocessing.get_context(start)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as processes:
        parts = list(processes.map(_hash_of, [dataset[:50], dataset[50:100]]))
    assert parts[0] + parts[1] == expected[:100]
    assert len(pickle.dumps(dataset)) < 20_000


def test_a_dataset_that_has_changed_is_not_read_further(thousand: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    shutil.copytree(thousand, path)
    dataset = rhombus_dataset.open_dataset(path)
    sent = pickle.dumps(dataset)
    dataset[0].read()
    rhombus_dataset.erase(path, "dock-north", end="2026-06-01T06:40")
    with pytest.raises(DatasetError, match="open the dataset again"):
        dataset[0].read()
    with pytest.raises(DatasetError, match="open the dataset again"):
        pickle.loads(sent)
    assert len(rhombus_dataset.open_dataset(path)) < len(dataset)


def test_no_dataset_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset here"):
        rhombus_dataset.open_dataset(tmp_path)


def test_it_shows_itself(dataset: Dataset) -> None:
    shown = dataset._repr_html_()
    assert shown.count('<img src="data:image/jpeg;base64,') == shown.count(" alt=") == 8
    assert f"{len(dataset):,} frames" in shown
    assert dataset[0].camera_name in dataset[0]._repr_html_()
    assert re.fullmatch(r"Dataset\('.*', [\d,]+ frames\)", repr(dataset))
    assert "0 frames" in dataset[:0]._repr_html_()


sizes = st.lists(st.sampled_from([0, 1, 5, 127, 128, 300, 5_000, 70_000, 1_500_000]), min_size=1, max_size=40)


@given(sizes, st.integers(1, 10))
def test_every_image_is_found_wherever_its_page_is(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], group: int
) -> None:
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(len(sizes))
    content = [rng.bytes(size) for size in sizes]
    table = schema.data_schema().empty_table().slice(0, 0)
    with open_writer(folder / "images.parquet", schema.data_schema()) as writer:
        for start in range(0, len(content), group):
            column = [{"bytes": encoded, "path": None} for encoded in content[start : start + group]]
            columns = {name: pa.nulls(len(column), table.schema.field(name).type) for name in table.column_names}
            columns["image"] = pa.array(column, schema.IMAGE.type)
            writer.write_table(pa.table(columns, schema=schema.data_schema()))
    reader = ImageReader(folder)
    for i in rng.permutation(len(content)).tolist():
        assert reader.read("images.parquet", i) == content[i]
    with pytest.raises(DatasetError, match="names row"):
        reader.read("images.parquet", len(content))


@given(st.data())
def test_a_damaged_data_file_is_reported_and_nothing_hangs(
    thousand: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    source = next((thousand / "data").glob("*.parquet"))
    content = bytearray(source.read_bytes()[: data.draw(st.sampled_from([None, 4, 1000, -9]))])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "x.parquet").write_bytes(content)
    reader = ImageReader(folder)
    for row in (0, 57, 199):
        # Any other error, or a deadlock, fails this test.
        with contextlib.suppress(DatasetError):
            reader.read("x.parquet", row)


def test_a_rewritten_file_is_refused_with_the_reason(thousand: Path, tmp_path: Path) -> None:
    source = next((thousand / "data").glob("*.parquet"))
    pq.write_table(pq.read_table(source), tmp_path / "x.parquet", compression="zstd")
    with pytest.raises(DatasetError, match=r"no column image\.bytes without encoding and compression"):
        ImageReader(tmp_path).read("x.parquet", 0)


def test_one_image_costs_one_read(thousand: Path) -> None:
    """The process reads about the bytes of the image, not of its row group of 100 images."""
    dataset = rhombus_dataset.open_dataset(thousand)

    def read_so_far() -> int:
        return int(re.findall(r"rchar: (\d+)", Path("/proc/self/io").read_text())[0])

    if not os.path.exists("/proc/self/io"):
        pytest.skip("only Linux counts a process's reads")
    dataset[0].read()
    before = read_so_far()
    own = read_so_far() - before
    image = dataset[50].read()
    assert read_so_far() - before - 2 * own <= len(image) + 2000
