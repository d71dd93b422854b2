"""The record of erasures. Repairs and rebuilds keep it, so that no erased frame is fetched again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import layout
from rhombus_dataset.store.files import read_small_file, write_file
from rhombus_dataset.wire import UUID_PATTERN


@dataclass(frozen=True, slots=True)
class Erasure:
    """Erased frames: of a camera (UUID with facet), from ``start_ms`` to before ``end_ms``, UTC ms.

    Raises ValueError for values of other types.
    """

    camera_uuid: str
    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        """Check the values, which may be from a file."""
        if not isinstance(self.camera_uuid, str) or not re.fullmatch(UUID_PATTERN, self.camera_uuid):
            raise ValueError(f"expected a camera UUID, got {self.camera_uuid!r:.60}")
        for value in (self.start_ms, self.end_ms):
            if type(value) is not int or abs(value) >= 2**63:
                raise ValueError(f"expected a time in milliseconds, got {value!r:.60}")


def read_erasures(out: Path) -> list[Erasure]:
    """Return the erasures of a dataset. Raises DatasetError if their record is damaged."""
    try:
        return [Erasure(**entry) for entry in json.loads(read_small_file(out, layout.ERASED_FILE))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, RecursionError) as error:
        raise DatasetError(
            f"{out / layout.ERASED_FILE}: the record of erased frames is damaged ({error}): "
            "restore the file from a backup"
        ) from None


def add_erasure(out: Path, erasure: Erasure) -> None:
    """Add an erasure to the record. Call it before the first frame is erased."""
    entries = [asdict(entry) for entry in dict.fromkeys([*read_erasures(out), erasure])]
    write_file(out / layout.ERASED_FILE, json.dumps(entries, indent=1).encode() + b"\n")


def erased_rows(erasures: Sequence[Erasure], schedule: Schedule, shard: Shard) -> npt.NDArray[np.bool_]:
    """Return which rows of a shard are erased. Shape (rows,), bool."""
    rows = slice(shard.start, shard.stop)
    times, cameras = schedule.timestamp_ms[rows], schedule.camera[rows]
    found = np.zeros(len(times), np.bool_)
    for erasure in erasures:
        numbers = [i for i, camera in enumerate(schedule.cameras) if camera.uuid == erasure.camera_uuid]
        found |= np.isin(cameras, numbers) & (times >= erasure.start_ms) & (times < erasure.end_ms)
    return found
