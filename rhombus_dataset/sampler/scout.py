"""``scout``: the moments that were chosen from a scout pass, which the lock holds."""

from __future__ import annotations

from rhombus_dataset.lock import Lock
from rhombus_dataset.sampler.moments import Moments, Open
from rhombus_dataset.schedule import Shortfall


def choose(lock: Lock, open_: list[Open]) -> Moments:
    """Those that were chosen, without the spare ones. Nothing was chosen from an embargo."""
    assert lock.times is not None
    assert lock.times.rank is not None
    assert lock.scout is not None
    chosen = lock.times.rank < lock.scout["chosen"]
    return Moments(
        lock.times.camera[chosen],
        lock.times.timestamp_ms[chosen],
        shortfalls=tuple(Shortfall(**shortfall) for shortfall in lock.scout["shortfalls"]),
        notes=tuple(lock.scout["notes"]),
    )
