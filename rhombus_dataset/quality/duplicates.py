"""Frames that are near in time and look alike: listed for readers to pass over, and counted across splits.

Two frames of one camera and view are compared as small grey images (54 rows of 96 cells). What a cell often
differs by from one frame to the next is noise of its own: leaves, rain, a sensor at night. Only what goes well
beyond it counts, after the change of light that all cells share has been taken away. So there is no one threshold
for all cameras. A burned-in clock is found by its seconds, which change at an edge of the image in nearly every
frame, and the line that they stand in is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.dataset import DUPLICATES, Dataset, open_dataset, read_duplicates
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.imaging.jpeg import SMALL_GREY, DamagedImage, small_grey
from rhombus_dataset.store import layout
from rhombus_dataset.store.files import remove, staged_file

TWINS_WITHIN_MS: Final = 60_000
"""How near in time frames of two splits must be to count as twins, where the plan says nothing of duplicates."""
COMPARED: Final = 32
"""A frame is compared with at most so many before it."""
MIN_CELLS: Final = 4
"""So many cells must differ for two frames to be different: 0.08 % of the image."""
FLOOR: Final = 6
"""Grey levels by which any cell may differ."""
NOISES: Final = 3
"""How many times its noise a cell may differ by: some four deviations, where noise is normal."""
NOISE_QUANTILE: Final = 0.8
"""A cell's noise is what it differs by at most in so many of the pairs; things that pass are rarer."""
CLOCK_RATE: Final = 0.4
"""A cell of a clock's seconds differs in more than so many of the pairs."""
CLOCK_ROWS: Final = 8
"""Of the 54 rows, so many at the top and at the bottom are looked at for a clock."""
CLOCK_REACH: Final = (1, 8)
"""Rows and columns around a clock's seconds that belong to it: its hours and minutes, and the date."""
_KEY: Final = b"rhombus_dataset"
_NOISE_PAIRS: Final = 128
_MIN_NOISE_PAIRS: Final = 8

_Grey = npt.NDArray[np.uint8]
_Limit = npt.NDArray[np.int16]


def write_duplicates(folder: Path) -> None:
    """List the frames that repeat another, if the plan asks for it and they are not listed yet.

    Raises DatasetError and StorageError.
    """
    path = folder / layout.DUPLICATES_FILE
    dataset = open_dataset(folder, duplicates=True)
    key = {_KEY: f"{dataset.fingerprint} {dataset.lock.dedup}".encode()}
    if dataset.lock.dedup is None:
        remove(path)
    elif not _is_listed(folder, key):
        table = find_duplicates(folder)
        assert table is not None
        with staged_file(path) as staged:
            pq.write_table(
                table.replace_schema_metadata(key), staged, compression="snappy", write_page_checksum=True
            )


def _is_listed(folder: Path, key: dict[bytes, bytes]) -> bool:
    """Whether the list that stands is whole, and of these shards and this plan."""
    path = folder / layout.DUPLICATES_FILE
    try:
        read_duplicates(folder)
        return path.exists() and (pq.read_schema(path).metadata or {}).get(_KEY) == key[_KEY]
    except DatasetError:
        return False


def find_duplicates(folder: Path) -> pa.Table | None:
    """Which frame repeats which earlier one of the same camera, view and split; None where the plan does not ask.

    A pure function of the dataset's images. Columns as in ``dataset.DUPLICATES``, in the order of the manifest.
    """
    dataset = open_dataset(folder, duplicates=True)
    if dataset.lock.dedup is None:
        return None
    found: dict[int, tuple[int, int]] = {}
    for rows in _sequences(dataset, ["camera_uuid", "view", "split"]):
        found |= _repeats(dataset, rows, dataset.lock.dedup["within"])
    ids = dataset.to_arrow().column("frame_id").to_pylist()
    listed = [
        {"frame_id": ids[row], "repeats": ids[other], "apart_ms": apart}
        for row, (other, apart) in sorted(found.items())
    ]
    return pa.Table.from_pylist(listed, schema=DUPLICATES)


def cross_split_duplicates(folder: Path) -> list[dict[str, Any]]:
    """Frames that have a near-duplicate in another split, each with the nearest such one before it.

    Near in time is what the plan's ``dedup`` says, else a minute. Frames that readers pass over do not count.
    """
    dataset = open_dataset(folder)
    within_ms = TWINS_WITHIN_MS if dataset.lock.dedup is None else dataset.lock.dedup["within"]
    found = []
    for rows in _sequences(dataset, ["camera_uuid", "view"]):
        if len(set(rows["split"])) > 1:
            found += list(_twins(dataset, rows, within_ms))
    return found


def _sequences(dataset: Dataset, by: list[str]) -> Iterator[pd.DataFrame]:
    """The frames of each camera and view by time: their place in the dataset, ``t_ms`` and ``split``."""
    table = dataset.to_arrow().select(["frame_id", "camera_uuid", "view", "split", "timestamp"])
    rows = table.to_pandas()
    rows["t_ms"] = table.column("timestamp").cast(pa.int64()).to_numpy()
    for _, part in rows.groupby(by, sort=True):
        yield part.sort_values("t_ms", kind="stable")


def _repeats(dataset: Dataset, rows: pd.DataFrame, within_ms: int) -> dict[int, tuple[int, int]]:
    limit = _limit(dataset, rows, within_ms)
    kept: deque[tuple[int, int, _Grey]] = deque(maxlen=COMPARED)
    found: dict[int, tuple[int, int]] = {}
    for row, t_ms in zip(rows.index.tolist(), rows["t_ms"].tolist(), strict=True):
        while kept and t_ms - kept[0][1] > within_ms:
            kept.popleft()
        grey = _small(dataset, row)
        same = next((k for k in reversed(kept) if _look_alike(grey, k[2], limit)), None)
        if same is None:
            kept.append((row, t_ms, grey))
        else:
            found[row] = same[0], t_ms - same[1]
    return found


def _twins(dataset: Dataset, rows: pd.DataFrame, within_ms: int) -> Iterator[dict[str, Any]]:
    limit: _Limit | None = None
    before: deque[tuple[int, int, str]] = deque(maxlen=COMPARED)
    greys: dict[int, _Grey] = {}

    def grey_of(row: int) -> _Grey:
        if row not in greys:
            greys[row] = _small(dataset, row)
        return greys[row]

    ids, splits = rows["frame_id"].tolist(), rows["split"].tolist()
    id_of = dict(zip(rows.index.tolist(), ids, strict=True))
    for row, t_ms, split in zip(rows.index.tolist(), rows["t_ms"].tolist(), splits, strict=True):
        while before and t_ms - before[0][1] > within_ms:
            before.popleft()
        # What no frame is compared with any more.
        for old in greys.keys() - {b[0] for b in before}:
            del greys[old]
        for other, other_ms, other_split in reversed(before):
            if other_split == split:
                continue
            if limit is None:
                limit = _limit(dataset, rows, within_ms)
            if _look_alike(grey_of(row), grey_of(other), limit):
                yield {
                    "frame_id": id_of[row],
                    "split": split,
                    "twin": id_of[other],
                    "twin_split": other_split,
                    "apart_ms": t_ms - other_ms,
                }
                break
        before.append((row, t_ms, split))


def _look_alike(a: _Grey, b: _Grey, limit: _Limit) -> bool:
    return int((_difference(a, b) > limit).sum()) < MIN_CELLS


def _difference(a: _Grey, b: _Grey) -> npt.NDArray[np.int16]:
    """How much each cell differs, less the change of light: what half of the cells stay below."""
    difference = a.astype(np.int16) - b
    difference -= np.partition(difference, difference.size // 2, axis=None)[difference.size // 2]
    found: npt.NDArray[np.int16] = np.abs(difference)
    return found


def _limit(dataset: Dataset, rows: pd.DataFrame, within_ms: int) -> _Limit:
    """By how much each cell may differ between frames that are alike: int16, (54, 96).

    From the differences between neighbours in time, over up to 128 pairs that are spread evenly.
    """
    pairs = np.flatnonzero(np.diff(rows["t_ms"].to_numpy()) <= within_ms)
    count = min(len(pairs), _NOISE_PAIRS)
    if count < _MIN_NOISE_PAIRS:
        return np.full(SMALL_GREY, FLOOR, np.int16)
    places = rows.index.to_numpy()
    differences = np.empty((count, *SMALL_GREY), np.int16)
    for number, i in enumerate((pairs[np.arange(count) * len(pairs) // count]).tolist()):
        differences[number] = _difference(_small(dataset, places[i + 1]), _small(dataset, places[i]))
    nth = int(NOISE_QUANTILE * (count - 1))
    limit = FLOOR + NOISES * np.partition(differences, nth, axis=0)[nth]
    changing = (differences > FLOOR).sum(axis=0) > CLOCK_RATE * count
    changing[CLOCK_ROWS:-CLOCK_ROWS] = False
    reach = np.ones([2 * n + 1 for n in CLOCK_REACH], np.uint8)
    limit[cv2.dilate(changing.astype(np.uint8), reach).astype(np.bool_)] = 256
    return np.asarray(limit, np.int16)


def _small(dataset: Dataset, row: int) -> _Grey:
    frame = dataset[row]
    try:
        return small_grey(frame.read())
    except DamagedImage as error:
        raise DatasetError(f"{frame!r}: {error}. `rhombus-dataset verify` tells more") from None
