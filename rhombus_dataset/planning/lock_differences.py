"""What differs between two locks, for the message that a folder holds another plan's dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from rhombus_dataset.plan.values import duration_text
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.lock_json import lock_to_json

_OF_ONE_RUN: Final = ("now_ms", "source", "notes", "name", "zones")
"""Parts of a lock that differ between runs, or follow from others."""
_DURATIONS: Final = (
    *(f"sampling.{key}" for key in ("every", "jitter", "min_gap", "spacing")),
    *(f"splits.{key}" for key in ("block", "embargo")),
    "dedup.within",
)
"""Places of the lock that have a duration in milliseconds. A split can be named `every`, so a key is not enough."""
_MAX_SHOWN: Final = 5
_ABSENT: Final = object()


def lock_differences(old: Lock, new: Lock) -> list[str]:
    """Return lines such as `sampling.frames: 400 → 410`, at most five. `→` points to the new lock."""
    before, after = (_named(lock_to_json(lock, None)) for lock in (old, new))
    found = list(_differences(before, after, ""))
    if not found and old.times != new.times:
        found = ["the times in plan.lock.parquet differ"]
    if not found:
        found = ["the UTC offsets of the time zones differ: another time zone database is installed"]
    more = [f"and {len(found) - _MAX_SHOWN} more"] if len(found) > _MAX_SHOWN else []
    return found[:_MAX_SHOWN] + more


def _named(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content with cameras by name, and windows beside them, in UTC milliseconds."""
    kept = {key: value for key, value in content.items() if key not in _OF_ONE_RUN}
    windows = {name: zone["windows"] for name, zone in content["zones"].items()}
    return kept | {"cameras": {camera["name"]: camera for camera in content["cameras"]}, "windows": windows}


def _differences(old: Any, new: Any, place: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{place}.{key}" if place else str(key)
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), inner)
    elif old is _ABSENT or new is _ABSENT:
        yield f"{place}: only in the {'new plan' if old is _ABSENT else 'dataset'}"
    elif old != new and json.dumps(old) != json.dumps(new):
        shown = duration_text if place in _DURATIONS else _short
        yield f"{place}: {shown(old)} → {shown(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:36]} ..."
