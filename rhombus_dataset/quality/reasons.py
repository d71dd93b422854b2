"""Why frames have no image, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.frame import Status

_GOOD: Final = pa.array([str(Status.OK), str(Status.ERASED)])


@dataclass(frozen=True, slots=True)
class FrameReason:
    """A reason that ``count`` frames of one status have no image."""

    status: Status
    reason: str
    count: int


def commonest_reasons(rows: pa.Table, most: int = 3) -> tuple[FrameReason, ...]:
    """Return the ``most`` commonest reasons of frames without an image: `failed` and `corrupt` before `missing`.

    ``rows``: the manifest, with the columns `status` and `reason`.
    """
    counted = (
        rows.filter(pc.invert(pc.is_in(rows.column("status"), _GOOD)))
        .group_by(["status", "reason"])
        .aggregate([([], "count_all")])
        .to_pylist()
    )
    found = [FrameReason(Status(row["status"]), row["reason"] or "", row["count_all"]) for row in counted]
    found.sort(key=lambda why: (why.status is Status.MISSING, -why.count, why.status, why.reason))
    return tuple(found[:most])
