"""The methods of a dataset that hands know from pandas, datasets and PyTorch."""

from __future__ import annotations

import pickle
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch.utils.data

import rhombus_dataset
from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.errors import UsageError
from tests.labelled import label


@pytest.fixture(scope="module")
def dataset(thousand: Path) -> Dataset:
    return rhombus_dataset.open_dataset(thousand)


def ids(part: Dataset) -> list[str]:
    return [frame.frame_id for frame in part]


def test_splits_and_columns_by_name(dataset: Dataset) -> None:
    assert sum(len(dataset[name]) for name in dataset.splits) == len(dataset)
    assert set(dataset["train"]["split"]) == {"train"}
    assert dataset["luma"] == [frame.luma for frame in dataset]
    for wrong, meant in (("trian", "train"), ("lumma", "luma"), ("camera_nam", "camera_name")):
        with pytest.raises(UsageError, match=rf"did you mean {meant}\?"):
            dataset[wrong]
    with pytest.raises(UsageError, match="The splits are test, train, validation; the columns are frame_id"):
        dataset["zzz"]


def test_what_it_is(dataset: Dataset) -> None:
    frame = dataset.to_pandas()
    assert dataset.shape == frame.shape
    assert list(dataset.columns) == frame.columns.tolist() == list(dataset.features)
    assert dataset.head(3).frame_id.tolist() == ids(dataset.take(3)) == ids(dataset[:3])


def test_random_orders_are_permutations_and_repeatable(dataset: Dataset) -> None:
    shuffled = dataset.shuffle(3)
    assert sorted(ids(shuffled)) == sorted(ids(dataset))
    assert ids(shuffled) == ids(dataset.shuffle(3)) != ids(dataset.shuffle(4))
    assert ids(shuffled) != ids(dataset)
    assert ids(dataset.sample(10, 3)) == ids(shuffled)[:10] == ids(dataset.sample(20, 3))[:10]
    assert len(dataset.sample(10**6)) == len(dataset)
    # Each quarter of the dataset has about a quarter of the first quarter of the order.
    places = np.argsort(dataset.shuffle(5)["timestamp"], kind="stable")[: len(dataset) // 4]
    assert abs(places.mean() / len(dataset) - 0.5) < 0.1


def test_order_and_selection(dataset: Dataset) -> None:
    luma = dataset.sort("luma")["luma"]
    assert luma == sorted(luma)
    assert dataset.sort("luma", descending=True)["luma"] == luma[::-1]
    assert ids(dataset.sort("view")) == sorted(ids(dataset), key=lambda i: dataset.get(i).view)
    assert ids(dataset.select([3, 1, 3])) == [dataset[i].frame_id for i in (3, 1, 3)]
    assert len(dataset.select([])) == 0
    with pytest.raises(IndexError):
        dataset.select([len(dataset)])
    with pytest.raises(UsageError, match=r"; did you mean luma\?"):
        dataset.sort("lume")


def test_values(dataset: Dataset) -> None:
    assert dataset.unique("camera_name") == dataset.to_pandas().camera_name.unique().tolist()
    assert dataset.value_counts("view").to_dict() == dataset.to_pandas().view.value_counts().to_dict()
    for method in (dataset.unique, dataset.value_counts):
        with pytest.raises(UsageError, match="no column 'colour'"):
            method("colour")


def test_filter_with_a_function(dataset: Dataset) -> None:
    assert ids(dataset.filter(lambda frame: frame.luma > 90)) == ids(dataset.filter("luma > 90"))
    assert 0 < len(dataset.filter(lambda frame: frame.local_time.minute < 5)) < len(dataset)


def test_map_is_ordered_parallel_and_bounded(dataset: Dataset) -> None:
    assert list(dataset.map(lambda frame: frame.frame_id)) == ids(dataset)
    started, names = 0, set()

    def work(frame: Frame) -> int:
        nonlocal started
        started += 1
        names.add(threading.current_thread().name)
        time.sleep(0.001)
        return frame.width_px

    results = dataset.map(work, workers=4)
    for _ in range(10):
        next(results)
    assert started <= 10 + 4 * 4
    assert len(names) > 1
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        list(dataset.map(lambda _: 1 / 0))
    with pytest.raises(UsageError, match="at least 1"):
        next(dataset.map(work, workers=0))


def test_a_frame_by_its_id(dataset: Dataset) -> None:
    frame = dataset[17]
    assert dataset.get(frame.frame_id) == frame
    with pytest.raises(UsageError, match="not in this part"):
        dataset[:5].get(frame.frame_id)
    lost = dataset.manifest.filter(dataset.manifest.column("status").to_numpy() == "missing").column("frame_id")
    with pytest.raises(UsageError, match="its status is missing"):
        dataset.get(lost[0].as_py())
    with pytest.raises(UsageError, match="no frame 'x' in"):
        dataset.get("x")


def test_parts_are_added(dataset: Dataset, tmp_path: Path) -> None:
    assert ids(dataset[:3] + dataset[5:6]) == ids(dataset)[:3] + ids(dataset)[5:6]
    with pytest.raises(TypeError):
        dataset + 1  # type: ignore[operator]


def test_columns_are_attributes_of_a_frame(dataset: Dataset) -> None:
    frame = dataset[0]
    for name in dataset.columns:
        assert hasattr(frame, name), name
        assert name in dir(frame)
    assert (frame.luma, frame.status, frame.sha256) == tuple(
        frame.to_dict()[k] for k in ("luma", "status", "sha256")
    )
    with pytest.raises(AttributeError, match=r"; did you mean sharpness\?"):
        frame.sharpnes  # noqa: B018


def test_a_frame_as_an_image_and_as_a_file(dataset: Dataset, tmp_path: Path) -> None:
    frame = dataset[0]
    image = frame.image
    assert (image.size, image.mode) == ((frame.width_px, frame.height_px), "RGB")
    # Both decoders may round differently.
    assert np.abs(np.asarray(image).astype(int) - frame.decode()).mean() < 2
    assert frame.save(tmp_path / "a.jpg").read_bytes() == frame.read()
    with pytest.raises(UsageError, match=r"\.jpg at the end"):
        frame.save(tmp_path / "a.png")


def test_a_loader_by_default_collation(dataset: Dataset) -> None:
    part = dataset.filter("view == 'full' and camera_name == 'dock-north'")
    batch = next(iter(torch.utils.data.DataLoader(part, batch_size=4)))  # type: ignore[arg-type]
    assert batch["image"].shape == (4, 3, part[0].height_px, part[0].width_px)
    assert batch["image"].dtype == torch.uint8
    assert batch["frame_id"] == ids(part[:4])
    assert batch["timestamp_ms"].tolist() == [frame.timestamp_ms for frame in part[:4]]
    several = dataset.filter("view == 'full'") + dataset.filter("view == 'door'")
    with pytest.raises(UsageError, match=r"images of \d sizes cannot be in one batch \(\d+ of (full|door) with"):
        next(iter(torch.utils.data.DataLoader(several, batch_size=4)))  # type: ignore[arg-type]


def test_labels_stay_with_their_frames(thousand: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(thousand, tmp_path / "labelled"))
    label(folder)
    dataset = rhombus_dataset.open_dataset(folder)
    for frame in dataset.shuffle(1)[:50]:
        assert frame.annotations == dataset.get(frame.frame_id).annotations


@pytest.fixture(scope="module")
def other(thousand: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset of another folder with labels. Its frames have the ids of the first one's."""
    path = Path(shutil.copytree(thousand, tmp_path_factory.mktemp("other") / "other"))
    label(path)
    return rhombus_dataset.open_dataset(path)


def test_datasets_of_different_folders_are_added(dataset: Dataset, other: Dataset) -> None:
    first, second = dataset["train"][:5], other.filter("view == 'full'")[3:7]
    both = first + second
    expected = [*first, *second]
    assert (len(both), list(both), both[4], both[5]) == (9, expected, first[4], second[0])
    assert [frame.read() for frame in both] == [frame.read() for frame in expected]
    assert both["frame_id"] == [frame.frame_id for frame in expected]
    assert [*both.filter("luma > 0")[::-1]] == expected[::-1]
    assert both.to_pandas()["camera_name"].tolist() == [frame.camera_name for frame in expected]
    assert both.fingerprint not in (dataset.fingerprint, other.fingerprint)
    assert [*(both + both[:2])] == [*expected, *expected[:2]]
    assert [*(dataset[:1] + both)] == [dataset[0], *expected]
    assert both.get(second[1].frame_id).read() == second[1].read()
    assert [*pickle.loads(pickle.dumps(both))] == expected
    assert repr(both) == f"Dataset({str(dataset.path)!r} + {str(other.path)!r}, 9 frames)"
    assert f"{dataset.name} + {other.name}" in both._repr_html_()
    assert sorted(both.map(lambda frame: frame.frame_id)) == sorted(both["frame_id"])


def test_labels_of_added_datasets_are_those_of_each_ones_own_frames(dataset: Dataset, other: Dataset) -> None:
    """The same frame_id is in both, and has labels in one."""
    labelled = next(frame for frame in other if frame.annotations)
    place = [frame.frame_id for frame in other].index(labelled.frame_id)
    without, with_labels = dataset[place : place + 1], other[place : place + 1]
    both = without + with_labels
    assert [frame.annotations for frame in both] == [(), labelled.annotations]
    assert both.annotations().num_rows == len(labelled.annotations)
    assert (without + other[:0]).annotations().num_rows == 0


def test_what_needs_one_folder_says_so_for_added_datasets(dataset: Dataset, other: Dataset, tmp_path: Path) -> None:
    both = dataset[:2] + other[:2]
    for use in (
        lambda: both.path,
        lambda: both.lock,
        lambda: rhombus_dataset.export(both, "yolo", tmp_path / "out"),
    ):
        with pytest.raises(UsageError, match=r"these frames are of 2 datasets .*for each of them"):
            use()
    assert not (tmp_path / "out").exists()
