"""Which parts of the footage have fewer frames than their share, and why: before asking, and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rhombus_dataset.frame import Status
from rhombus_dataset.plan.local_time import local_hours, local_weekdays
from rhombus_dataset.planning.lock import (
    Lock,
    LockedRandom,
    LockedScout,
    LockedStratified,
    ScoutSettings,
    Shortfall,
    Strategy,
)
from rhombus_dataset.planning.schedule import Schedule


def shortfalls(lock: Lock, schedules: Sequence[Schedule], rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The strata that could not be given their share to begin with, and those whose frames did not all come.

    ``rows`` is the manifest. What was drawn in place of missing frames counts for the stratum that it is of.
    """
    for shortfall in schedules[0].shortfalls:
        yield {
            "stratum": shortfall.stratum,
            "available": shortfall.available,
            "wanted": shortfall.wanted,
            "reason": shortfall.reason,
        }
    strata = _strata(lock.sampling)
    if not strata or rows.empty:
        return
    keys = pd.DataFrame({"camera": rows["camera_name"], "hour": None, "weekday": None}, index=rows.index)
    for camera in lock.cameras:
        mine = rows["camera_uuid"] == camera.uuid
        times = np.asarray(rows.loc[mine, "timestamp"].astype("int64"), np.int64)
        offsets = lock.zones[camera.timezone].offsets
        keys.loc[mine, "hour"] = local_hours(times, offsets)
        keys.loc[mine, "weekday"] = local_weekdays(times, offsets)
    by = [name for name in ("camera", "weekday", "hour") if name in strata] or ["camera"]
    instead = {i for more in schedules[1:] for i in more.planned_table(0, len(more)).column("frame_id").to_pylist()}
    first = ~rows["frame_id"].isin(instead).to_numpy()
    came = (rows["status"] == Status.OK).to_numpy()
    for key, index in keys.groupby(by, sort=True).indices.items():
        wanted, available = int(first[index].sum()), int(came[index].sum())
        if available < wanted:
            named = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
            reasons = rows["reason"].iloc[index[~came[index]]].value_counts().sort_index(kind="stable")
            worst = reasons.sort_values(ascending=False, kind="stable")
            told = ", ".join(f"{n:,} times {reason}" for reason, n in worst.head(3).items())
            part = Shortfall(named.get("camera"), named.get("hour"), 0, 0, named.get("weekday"))
            yield {"stratum": part.stratum, "available": available, "wanted": wanted, "reason": told}


def _strata(strategy: Strategy) -> tuple[str, ...]:
    """Return what makes a stratum. Empty for a strategy without strata."""
    match strategy:
        case LockedRandom():
            return ("camera",)
        case LockedStratified(strata=strata) | LockedScout(settings=ScoutSettings(strata=strata)):
            return strata
    return ()
