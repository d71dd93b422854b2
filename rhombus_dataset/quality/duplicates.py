"""Near-duplicates: frames that repeat an earlier frame of the same camera, view and split.

Two frames are compared as small grey images (54 rows of 96 cells). The noise of each cell is learnt from the frames
of the same camera and view, changes of light are subtracted, and burned-in clocks are ignored: see
``imaging.background``. The list is written into the dataset, and readers and exports skip the frames on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from rhombus_dataset.dataset import DUPLICATES, Dataset, open_dataset, read_duplicates
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.imaging.background import GREY, Cells, Greys, cell_limits, clock_cells, grey_difference, noise
from rhombus_dataset.imaging.jpeg import SMALL_GREY, DamagedImage, small_grey
from rhombus_dataset.store import layout, tables
from rhombus_dataset.store.files import remove

COMPARED_FRAMES: Final = 32
"""Maximum number of earlier frames that a frame is compared with. It limits time and memory for dense frames."""
MIN_CELLS: Final = 4
"""Two frames are different where at least 4 cells differ: 0.08 % of the image. The cells need not be connected,
unlike in a scout pass (``background.MIN_CELLS``). Measured separately, on frames seconds to minutes apart."""
_KEY: Final = b"rhombus_dataset"
_NOISE_PAIRS: Final = 128
"""Maximum number of pairs that the noise is learnt from: more pairs cost time and change the limits little."""
_MIN_NOISE_PAIRS: Final = 8
"""With fewer than 8 pairs, a quantile says little: every cell then has the floor as its limit."""


def write_duplicates(folder: Path) -> None:
    """Write the list of near-duplicates if the plan asks for it and the list on disk is not up to date.

    Removes the list if the plan does not ask for it. Raises DatasetError and StorageError.
    """
    path = folder / layout.DUPLICATES_FILE
    dataset = open_dataset(folder, duplicates=True)
    dedup = None if dataset.lock.dedup is None else {"within": dataset.lock.dedup.within_ms}
    key = {_KEY: f"{dataset.fingerprint} {dedup}".encode()}
    if dataset.lock.dedup is None:
        remove(path)
    elif not _is_listed(folder, key):
        table = find_duplicates(folder)
        assert table is not None
        tables.write_table(path, table.replace_schema_metadata(key))


def _is_listed(folder: Path, key: dict[bytes, bytes]) -> bool:
    """Return whether the list on disk is whole, and was made from these shards and this plan."""
    path = folder / layout.DUPLICATES_FILE
    try:
        read_duplicates(folder)
        return path.exists() and tables.read_metadata(path).get(_KEY) == key[_KEY]
    except DatasetError:
        return False


def find_duplicates(folder: Path) -> pa.Table | None:
    """Return the near-duplicates of a dataset, or None where the plan does not ask for them.

    A pure function of the dataset's images. Columns as in ``dataset.DUPLICATES``, in the order of the manifest.
    """
    dataset = open_dataset(folder, duplicates=True)
    if dataset.lock.dedup is None:
        return None
    found: dict[int, tuple[int, int]] = {}
    for rows in _sequences(dataset):
        found |= _repeats(dataset, rows, dataset.lock.dedup.within_ms)
    ids = dataset.to_arrow().column("frame_id").to_pylist()
    listed = [
        {"frame_id": ids[row], "repeats": ids[other], "apart_ms": apart}
        for row, (other, apart) in sorted(found.items())
    ]
    return pa.Table.from_pylist(listed, schema=DUPLICATES)


def _sequences(dataset: Dataset) -> Iterator[pd.DataFrame]:
    """Yield the frames of each camera, view and split, by time. The index is the frame's number in the dataset."""
    by = ["camera_uuid", "view", "split"]
    table = dataset.to_arrow().select([*by, "timestamp"])
    rows = table.to_pandas()
    rows["t_ms"] = table.column("timestamp").cast(pa.int64()).to_numpy()
    for _, part in rows.groupby(by, sort=True):
        yield part.sort_values("t_ms", kind="stable")


def _repeats(dataset: Dataset, rows: pd.DataFrame, within_ms: int) -> dict[int, tuple[int, int]]:
    """Return, for each frame that repeats another, the number of the other and the milliseconds between them."""
    limit = _limits(dataset, rows, within_ms)
    kept: deque[tuple[int, int, Greys]] = deque(maxlen=COMPARED_FRAMES)
    found: dict[int, tuple[int, int]] = {}
    for row, t_ms in zip(rows.index.tolist(), rows["t_ms"].tolist(), strict=True):
        while kept and t_ms - kept[0][1] > within_ms:
            kept.popleft()
        grey = _small(dataset, row)
        same = next((k for k in reversed(kept) if is_near_duplicate(grey, k[2], limit)), None)
        if same is None:
            kept.append((row, t_ms, grey))
        else:
            found[row] = same[0], t_ms - same[1]
    return found


def is_near_duplicate(a: Greys, b: Greys, limits: Cells) -> bool:
    """Return whether fewer than MIN_CELLS cells of two small grey images differ by more than their limits."""
    return int((grey_difference(a, b) > limits).sum()) < MIN_CELLS


def _limits(dataset: Dataset, rows: pd.DataFrame, within_ms: int) -> Cells:
    """Return the difference that each cell may have between near-duplicates: int16, (54, 96), grey levels.

    It is learnt from up to 128 pairs of consecutive frames, spread evenly over the sequence.
    """
    pairs = np.flatnonzero(np.diff(rows["t_ms"].to_numpy()) <= within_ms)
    count = min(len(pairs), _NOISE_PAIRS)
    if count < _MIN_NOISE_PAIRS:
        return np.full(SMALL_GREY, GREY.floor, np.int16)
    numbers = rows.index.to_numpy()
    differences = np.empty((count, *SMALL_GREY), np.int16)
    for k, i in enumerate((pairs[np.arange(count) * len(pairs) // count]).tolist()):
        differences[k] = grey_difference(_small(dataset, numbers[i + 1]), _small(dataset, numbers[i]))
    return cell_limits(noise(differences), clock_cells(differences, GREY), GREY)


def _small(dataset: Dataset, row: int) -> Greys:
    frame = dataset[row]
    try:
        return small_grey(frame.read())
    except DamagedImage as error:
        raise DatasetError(
            f"{frame!r}: {error}. Run `rhombus-dataset verify` for a list of all damaged frames"
        ) from None
