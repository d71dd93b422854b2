"""The PyTorch datasets in real DataLoaders: every frame once, over workers and ranks, and resumed."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import rhombus_dataset
from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.errors import UsageError
from rhombus_dataset.pytorch import FrameDataset, FrameStream

pytestmark = [
    # Warnings of torch about forks of processes with threads, and of its loaders.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
    pytest.mark.filterwarnings("ignore::UserWarning:torchdata"),
]


@pytest.fixture(scope="module")
def dataset(thousand: Path) -> Dataset:
    return rhombus_dataset.open_dataset(thousand)


def name_of(frame: Frame) -> str:
    return frame.frame_id


def ids(dataset: Dataset) -> list[str]:
    return [frame.frame_id for frame in dataset]


@pytest.mark.parametrize("workers", [0, 2, 4])
def test_a_map_style_loader_gives_every_frame_once(dataset: Dataset, workers: int) -> None:
    part = dataset.filter("view == 'full' and camera_name == 'dock-north'")
    loader = DataLoader(FrameDataset(part), batch_size=16, shuffle=True, num_workers=workers)
    seen: list[str] = []
    for batch in loader:
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].shape[1] == 3
        seen += batch["frame_id"]
    assert sorted(seen) == sorted(ids(part))
    assert torch.equal(FrameDataset(part)[0]["image"], torch.from_numpy(part[0].decode()).permute(2, 0, 1))


@pytest.mark.parametrize("workers", [0, 2])
def test_two_datasets_are_added_and_loaded(dataset: Dataset, tmp_path: Path, thousand: Path, workers: int) -> None:
    first = dataset.filter("view == 'full' and camera_name == 'dock-north'")[:5]
    second = rhombus_dataset.open_dataset(shutil.copytree(thousand, tmp_path / "other"))
    second = second.filter("view == 'full' and camera_name == 'dock-north'")[:4]
    loader = DataLoader(FrameDataset(first + second), batch_size=4, num_workers=workers)
    assert [name for batch in loader for name in batch["frame_id"]] == ids(first) + ids(second)
    stream = FrameStream(first + second, name_of, seed=5)
    assert sorted(stream) == sorted(ids(first) + ids(second))


@pytest.mark.parametrize(("workers", "start"), [(0, None), (2, "fork"), (4, "fork"), (2, "spawn")])
def test_streams_give_every_frame_once_over_all(dataset: Dataset, workers: int, start: str | None) -> None:
    seen: collections.Counter[str] = collections.Counter()
    for rank in range(3):
        stream = FrameStream(dataset, name_of, seed=5, rank=rank, world_size=3)
        loader = DataLoader(stream, batch_size=None, num_workers=workers, multiprocessing_context=start)
        mine = list(loader)
        assert len(mine) == len(stream)
        seen.update(mine)
    assert seen == collections.Counter(ids(dataset))


def test_each_epoch_has_another_order_also_with_persistent_workers(dataset: Dataset) -> None:
    stream = FrameStream(dataset, name_of, seed=1)
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=True)
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append(list(loader))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(ids(dataset))


def test_frames_move_within_their_window_and_shards_as_a_whole(dataset: Dataset) -> None:
    shards = [frame._value("file") for frame in FrameStream(dataset, lambda frame: frame, window=1)]
    runs = [shards[i] for i in range(len(shards)) if i == 0 or shards[i] != shards[i - 1]]
    assert len(runs) <= len(set(shards)) + 1
    assert list(FrameStream(dataset, name_of, shuffle=False)) == ids(dataset)


@given(st.integers(1, 7), st.integers(0, 3))
def test_even_ranks_get_equally_many(dataset: Dataset, world_size: int, epoch: int) -> None:
    seen: list[str] = []
    for rank in range(world_size):
        stream = FrameStream(dataset[:100], name_of, rank=rank, world_size=world_size, even=True)
        stream.set_epoch(epoch)
        mine = list(stream)
        assert len(mine) == 100 // world_size
        seen += mine
    assert len(set(seen)) == len(seen)


@given(st.integers(0, 60))
def test_a_stream_resumes_at_every_step(dataset: Dataset, steps: int) -> None:
    part = dataset[:60]
    whole = list(FrameStream(part, name_of, seed=3))
    first = FrameStream(part, name_of, seed=3)
    frames = iter(first)
    seen = [next(frames) for _ in range(steps)]
    second = FrameStream(part, name_of, seed=3)
    second.load_state_dict(first.state_dict())
    assert seen + list(second) == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_resumes_within_an_epoch(dataset: Dataset, workers: int) -> None:
    def loader() -> Any:
        return StatefulDataLoader(FrameStream(dataset[:200], name_of, seed=3), batch_size=8, num_workers=workers)

    whole = [name for batch in loader() for name in batch]
    first = loader()
    batches = iter(first)
    seen = [name for _ in range(7) for name in next(batches)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert seen + [name for batch in second for name in batch] == whole


def test_a_state_of_another_stream_is_refused_and_both_are_shown(dataset: Dataset) -> None:
    state = FrameStream(dataset, seed=3).state_dict()
    with pytest.raises(UsageError, match="seed: expected 4, got 3"):
        FrameStream(dataset, seed=4).load_state_dict(state)
    with pytest.raises(UsageError, match="frames"):
        FrameStream(dataset[:5], seed=3).load_state_dict(state)


def test_an_empty_dataset_is_an_empty_stream(dataset: Dataset) -> None:
    assert list(FrameStream(dataset[:0])) == []


@pytest.mark.parametrize("wrong", [{"rank": 1}, {"rank": 3, "world_size": 3}, {"window": 0}, {"seed": -1}])
def test_wrong_settings_are_refused(dataset: Dataset, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        FrameStream(dataset, **wrong)
