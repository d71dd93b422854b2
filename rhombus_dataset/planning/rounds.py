"""The rounds of a dataset: the planned frames, and those that replace missing ones (top-up).

The second round is a pure function of the lock and of the moments without a frame in the first round. These are
recorded once, so that footage that arrives later changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.frame import Status
from rhombus_dataset.hashing import json_sha256
from rhombus_dataset.planning.json_value import LATEST_MS
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.sampling import sample, sample_more
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.files import read_small_file, write_file


def rounds(out: Path, lock: Lock) -> list[Schedule]:
    """Return the schedules of a dataset: one, or two if it was topped up.

    Raises as ``sample``, and DatasetError if the record of missing moments is damaged.
    """
    first = sample(lock)
    second = second_round(out, lock, first)
    return [first] if second is None else [first, second]


def second_round(out: Path, lock: Lock, first: Schedule) -> Schedule | None:
    """Return the frames that replace missing ones of the ``first`` round, if any. Raises as ``rounds``."""
    missing = read_missing(out, lock, first)
    return None if missing is None else sample_more(lock, missing)


def read_missing(out: Path, lock: Lock, first: Schedule) -> list[npt.NDArray[np.int64]] | None:
    """Return the times (UTC ms) without a frame in the first round, for each camera. None if there is no record."""
    path = out / layout.TOP_UP_FILE
    try:
        content = json.loads(read_small_file(out, layout.TOP_UP_FILE))
        checksum = content.pop("sha256")
        if checksum != json_sha256(content):
            raise ValueError("its checksum does not match its content")
        if content["schedule"] != first.digest:
            raise ValueError(f"it belongs to the schedule {content['schedule']}, expected {first.digest}")
        return [_times(content["missing"].get(camera.uuid, [])) for camera in lock.cameras]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DatasetError(f"{path}: damaged ({error}): restore the file from a backup") from None


def _times(values: list[Any]) -> npt.NDArray[np.int64]:
    if not all(type(value) is int and abs(value) <= LATEST_MS for value in values):
        raise ValueError("expected times in milliseconds")
    return np.array(values, np.int64)


def write_missing(out: Path, first: Schedule) -> int:
    """Record the moments of the first round that have no frame in any view, but are `missing`. Return their number.

    All shards of the round must be committed. Raises StorageError."""
    times_of: dict[str, list[int]] = {}
    for shard in first.shards:
        statuses = manifest.read_statuses(out / layout.manifest_file(shard.stem))
        rows = np.arange(shard.start, shard.stop)
        times, cameras = first.timestamp_ms[rows], first.camera[rows]
        kept = statuses != str(Status.MISSING)
        found = {(int(cameras[i]), int(times[i])) for i in np.flatnonzero(~kept).tolist()}
        found -= {(int(cameras[i]), int(times[i])) for i in np.flatnonzero(kept).tolist()}
        for camera, at in found:
            times_of.setdefault(first.cameras[camera].uuid, []).append(at)
    missing = {uuid: sorted(set(times_of[uuid])) for uuid in sorted(times_of)}
    content: dict[str, Any] = {"schedule": first.digest, "missing": missing}
    text = json.dumps({**content, "sha256": json_sha256(content)}, indent=1)
    write_file(out / layout.TOP_UP_FILE, text.encode() + b"\n")
    return sum(map(len, missing.values()))
