"""The rounds of a dataset: what was planned, and what was drawn for frames that turned out to be missing.

The second round is a pure function of the lock and of which moments the first has no frame of. Those are written
down once, so that footage that turns up later changes nothing.
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
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.sampling import sample, sample_more
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.files import write_file


def rounds(out: Path, lock: Lock) -> list[Schedule]:
    """The schedules of a dataset: one, or two where it was topped up.

    Raises as ``sample``, and DatasetError where the record of what was missing is damaged.
    """
    first = sample(lock)
    second = second_round(out, lock, first)
    return [first] if second is None else [first, second]


def second_round(out: Path, lock: Lock, first: Schedule) -> Schedule | None:
    """What was drawn for frames that the ``first`` round has not; None where nothing was. Raises as ``rounds``."""
    missing = read_missing(out, lock, first)
    return None if missing is None else sample_more(lock, missing)


def read_missing(out: Path, lock: Lock, first: Schedule) -> list[npt.NDArray[np.int64]] | None:
    """The times (UTC ms) for each camera of the lock that the first round has no frame of; None if nobody asked."""
    path = out / layout.TOP_UP_FILE
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop("sha256")
        if checksum != json_sha256(content):
            raise ValueError("its checksum does not fit")
        if content["schedule"] != first.digest:
            raise ValueError(f"it is of the schedule {content['schedule']}, this is {first.digest}")
        return [np.array(content["missing"].get(camera.uuid, []), np.int64) for camera in lock.cameras]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged ({error}): bring it back") from None


def write_missing(out: Path, first: Schedule) -> int:
    """Write down which moments of the first round, all of whose shards stand, have no frame at all, but are
    `missing`. Returns how many."""
    lost: dict[str, list[int]] = {}
    for shard in first.shards:
        statuses = manifest.read_statuses(out / layout.manifest_file(shard.stem))
        rows = np.arange(shard.start, shard.stop)
        times, cameras = first.timestamp_ms[rows], first.camera[rows]
        kept = statuses != str(Status.MISSING)
        found = {(int(cameras[i]), int(times[i])) for i in np.flatnonzero(~kept).tolist()}
        found -= {(int(cameras[i]), int(times[i])) for i in np.flatnonzero(kept).tolist()}
        for camera, at in found:
            lost.setdefault(first.cameras[camera].uuid, []).append(at)
    missing = {uuid: sorted(set(lost[uuid])) for uuid in sorted(lost)}
    content: dict[str, Any] = {"schedule": first.digest, "missing": missing}
    text = json.dumps({**content, "sha256": json_sha256(content)}, indent=1)
    write_file(out / layout.TOP_UP_FILE, text.encode() + b"\n")
    return sum(map(len, missing.values()))
