"""A built dataset for PyTorch: by index, or as a stream that can be shuffled, sharded over workers and resumed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.dataset.frame import sample_of
from rhombus_dataset.errors import MissingExtra, UsageError

try:
    import torch
    import torch.utils.data
except ModuleNotFoundError:
    raise MissingExtra("rhombus_dataset.pytorch", "torch") from None

DEFAULT_WINDOW: Final = 1000
"""Places by which shuffling moves a frame at most, by default: about the frames of one shard."""


def to_sample(frame: Frame) -> dict[str, Any]:
    """Return the default sample of a frame.

    ``image``: tensor, uint8, (3, H, W), RGB; ``frame_id``, ``camera_name`` and ``timestamp_ms`` (UTC epoch
    milliseconds). Images of different sizes cannot be batched: select one view, or use another ``transform``.
    """
    sample = sample_of(frame)
    return {**sample, "image": torch.from_numpy(sample["image"])}


class FrameDataset(torch.utils.data.Dataset[Any]):
    """Map-style dataset: ``transform`` of each frame, by index. It is pickled as a path and row numbers."""

    def __init__(self, dataset: Dataset, transform: Callable[[Frame], Any] = to_sample) -> None:
        self.dataset = dataset
        self.transform = transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.dataset[operator.index(index)])


class FrameStream(torch.utils.data.IterableDataset[Any]):
    """Iterable-style dataset: each frame once in an epoch, over all workers and ranks together.

    The order of the shards depends on ``seed`` and epoch. Within it, each frame moves by at most ``window`` places.
    Each rank takes an equal part of the order, and each of its workers an equal part of that (to within one frame).
    So reading stays nearly sequential, and all workers have work, even with few shards. ``shuffle=False`` keeps the
    order of the dataset. Call :meth:`set_epoch` before each epoch, else all epochs have the same order.

    ``rank`` and ``world_size``: by default those of ``torch.distributed``, if it is initialised. ``even``: all
    ranks get the same number of frames, so that none waits for another at the end of an epoch. Then up to
    ``world_size - 1`` frames are left out, other ones in each epoch if frames are shuffled.

    ``state_dict`` and ``load_state_dict`` resume within an epoch, also with ``torchdata``'s StatefulDataLoader.
    """

    def __init__(
        self,
        dataset: Dataset,
        transform: Callable[[Frame], Any] = to_sample,
        *,
        shuffle: bool = True,
        seed: int = 0,
        window: int = DEFAULT_WINDOW,
        rank: int | None = None,
        world_size: int | None = None,
        even: bool = False,
    ) -> None:
        if (rank is None) != (world_size is None) or not 0 <= (rank or 0) < (world_size or 1):
            raise UsageError(f"expected rank and world_size, with rank below world_size, got {rank}, {world_size}")
        if window < 1 or seed < 0:
            raise UsageError(f"expected a window of at least 1 and a seed of at least 0, got {window} and {seed}")
        if rank is None or world_size is None:
            spread = torch.distributed.is_available() and torch.distributed.is_initialized()
            rank = torch.distributed.get_rank() if spread else 0
            world_size = torch.distributed.get_world_size() if spread else 1
        self.dataset = dataset
        self.transform = transform
        self._shuffle, self._seed, self._window = shuffle, seed, window
        self._rank, self._world_size, self._even = rank, world_size, even
        # Shared, so that workers that live on into the next epoch hear of it.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self._position = 0

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for this epoch from the next iteration on."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Return the number of frames of this rank in an epoch."""
        start, stop = self._part_of_rank()
        return stop - start

    def __iter__(self) -> Iterator[Any]:
        for index in self._order()[self._position :].tolist():
            # Counted before the yield: a state that is saved after it includes this frame.
            self._position += 1
            yield self.transform(self.dataset[index])
        self._position = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position of this stream in its epoch, for :meth:`load_state_dict`."""
        return {**self._identity(), "epoch": int(self._epoch), "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the position of ``state``. Raises UsageError if it has another dataset or other settings."""
        wrong = {
            name: (state.get(name), value) for name, value in self._identity().items() if state.get(name) != value
        }
        if wrong:
            text = "; ".join(f"{name}: expected {ours!r}, got {theirs!r}" for name, (theirs, ours) in wrong.items())
            raise UsageError(f"the state is of another stream: {text}")
        self.set_epoch(state["epoch"])
        self._position = state["position"]

    def _identity(self) -> dict[str, Any]:
        worker, workers = _worker()
        return {
            "dataset": self.dataset.fingerprint,
            "frames": len(self.dataset),
            "shuffle": self._shuffle,
            "seed": self._seed,
            "window": self._window,
            "even": self._even,
            "rank": self._rank,
            "world_size": self._world_size,
            "worker": worker,
            "workers": workers,
        }

    def _part_of_rank(self) -> tuple[int, int]:
        """Return the start and the end of this rank's part of the epoch's order."""
        count = len(self.dataset)
        if self._even:
            count -= count % self._world_size
        return count * self._rank // self._world_size, count * (self._rank + 1) // self._world_size

    def _order(self) -> npt.NDArray[np.int64]:
        """Return the indices of the frames of this worker in this epoch, in order: int64, (N,)."""
        start, stop = self._part_of_rank()
        worker, workers = _worker()
        first, last = ((stop - start) * i // workers + start for i in (worker, worker + 1))
        if not self._shuffle:
            return np.arange(first, last)
        epoch = int(self._epoch)
        shards = self._shards()
        rng = np.random.default_rng([self._seed, epoch])
        sequence = np.concatenate([shards[i] for i in rng.permutation(len(shards))]) if shards else np.arange(0)
        # Rotate by a random number, so that `even` leaves out other frames in each epoch.
        part = np.roll(sequence, int(rng.integers(len(sequence) + 1)))[first:last]
        places = np.arange(len(part)) + np.random.default_rng([self._seed, epoch, first]).uniform(
            0, self._window, len(part)
        )
        return part[np.argsort(places, kind="stable")]

    def _shards(self) -> list[npt.NDArray[np.int64]]:
        """Return the indices of the frames of each shard."""
        files = pc.replace_substring_regex(self.dataset.to_arrow().column("file"), r"/[^/]*\.jpg$", "")
        codes = files.combine_chunks().dictionary_encode().indices.to_numpy()
        return np.split(np.arange(len(codes)), np.flatnonzero(np.diff(codes)) + 1) if len(codes) else []


def _worker() -> tuple[int, int]:
    info = torch.utils.data.get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
