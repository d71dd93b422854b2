"""The build log, ``.build/log.jsonl``: one JSON object a line. No other file of a dataset holds clock times."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rhombus_dataset.building.events import BuildEvents
from rhombus_dataset.frame import FrameRequest, Status
from rhombus_dataset.planning.schedule import Schedule, Shard
from rhombus_dataset.store import layout
from rhombus_dataset.store.files import open_log


class BuildLog(BuildEvents):
    """Writes each event of a build as a line. ``time`` is in seconds since 1970-01-01 UTC."""

    def __init__(self, dataset: Path) -> None:
        self._file = open_log(dataset / layout.LOG_FILE)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def on_start(self, schedule: Schedule, known: int, shards: int) -> None:
        self._write("start", schedule=schedule.digest, rows=len(schedule), shards=shards)

    def on_retry(self, request: FrameRequest, reason: str) -> None:
        self._write("retry", camera=request.camera_uuid, timestamp_ms=request.timestamp_ms, reason=reason)

    def on_wait(self, seconds: float) -> None:
        self._write("wait", seconds=seconds)

    def on_torn_journal(self, shard: Shard, cut_bytes: int) -> None:
        self._write("torn", name=shard.stem, cut_bytes=cut_bytes)

    def on_shard(self, shard: Shard, counts: Mapping[Status, int]) -> None:
        self._write("shard", name=shard.stem, counts=counts)

    def on_end(self, requests: int, seconds: float, counts: Mapping[Status, int]) -> None:
        self._write("end", requests=requests, seconds=round(seconds, 3), counts=counts)

    def _write(self, event: str, **fields: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        with self._lock:
            self._file.write(line + "\n")
