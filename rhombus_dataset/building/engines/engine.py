"""What an engine is: shard specifications go in, shard records come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rhombus_dataset.frame import Status
from rhombus_dataset.planning.schedule import Shard


@dataclass(frozen=True, slots=True, eq=False)
class ShardSpec:
    """A shard to build. ``to_fetch``: which of its rows no earlier dataset provides; bool, one for each row.

    Rows that the shard's journal holds already need no request either.
    """

    shard: Shard
    to_fetch: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A shard that was committed. ``counts``: its rows by status."""

    shard: Shard
    counts: dict[Status, int]


class Engine(Protocol):
    """Fetches the frames of shards and commits the shards."""

    def run(self, specs: Sequence[ShardSpec]) -> list[ShardRecord]:
        """Build the shards and return a record for each one committed: all of them, unless the build was stopped.

        Raises what ends a build: AccessRefused, HostUnreachable, SourceFailing, StorageError. All that was
        received is in the journals then.
        """
        ...
