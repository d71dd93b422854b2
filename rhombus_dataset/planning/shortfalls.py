"""Which strata have fewer frames than their share, and why: in the plan, and after the build."""

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
    """Yield the strata that have too few moments for their share, then those with too few frames received.

    ``rows`` is the manifest. Frames that replace missing ones count for the stratum that they are in.
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
        of_camera = rows["camera_uuid"] == camera.uuid
        times = np.asarray(rows.loc[of_camera, "timestamp"].astype("int64"), np.int64)
        offsets = lock.zones[camera.timezone].offsets
        keys.loc[of_camera, "hour"] = local_hours(times, offsets)
        keys.loc[of_camera, "weekday"] = local_weekdays(times, offsets)
    by = [name for name in ("camera", "weekday", "hour") if name in strata] or ["camera"]
    replacements = {
        i for more in schedules[1:] for i in more.planned_table(0, len(more)).column("frame_id").to_pylist()
    }
    first = ~rows["frame_id"].isin(replacements).to_numpy()
    received = (rows["status"] == Status.OK).to_numpy()
    for key, index in keys.groupby(by, sort=True).indices.items():
        wanted, available = int(first[index].sum()), int(received[index].sum())
        if available < wanted:
            named = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
            reasons = rows["reason"].iloc[index[~received[index]]].value_counts().sort_index(kind="stable")
            worst = reasons.sort_values(ascending=False, kind="stable")
            reason = ", ".join(f"{n:,} {'time' if n == 1 else 'times'} {text}" for text, n in worst.head(3).items())
            part = Shortfall(named.get("camera"), named.get("hour"), 0, 0, named.get("weekday"))
            yield {"stratum": part.stratum, "available": available, "wanted": wanted, "reason": reason}


def _strata(strategy: Strategy) -> tuple[str, ...]:
    """Return what makes a stratum. Empty for a strategy without strata."""
    match strategy:
        case LockedRandom():
            return ("camera",)
        case LockedStratified(strata=strata) | LockedScout(settings=ScoutSettings(strata=strata)):
            return strata
    return ()
