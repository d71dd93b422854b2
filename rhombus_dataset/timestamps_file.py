"""Reading the file of a plan with ``strategy: timestamps``: a CSV or Parquet of camera and time."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from rhombus_dataset.errors import InvalidFile, Problem, nearest
from rhombus_dataset.local_time import moment_ms
from rhombus_dataset.plan.model import LocalTime
from rhombus_dataset.wire import canonical_uuid

MAX_PROBLEMS: Final = 50


def read_timestamps(
    path: Path,
    index_by_uuid: dict[str, int],
    index_by_name: dict[str, int],
    zones: list[str],
    now_ms: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The file's rows as camera indices (int32) and UTC milliseconds (int64), in its order.

    Columns: ``camera`` (a name or UUID of the plan's) and one of ``timestamp_ms`` (UTC epoch
    milliseconds) and ``timestamp`` (ISO 8601; without an offset it is the camera's local clock).
    Raises InvalidFile with up to 50 problems.
    """
    table = _read(path)
    first_line = 2 if path.suffix.lower() == ".csv" else 1
    for required in [("camera",), ("timestamp_ms", "timestamp")]:
        if not any(name in table for name in required):
            message = f"expected a column {' or '.join(required)}, got {', '.join(map(str, table.columns))}"
            raise InvalidFile([Problem(str(path), 1, None, "", message[:300])])
    column = "timestamp_ms" if "timestamp_ms" in table else "timestamp"
    problems: list[Problem] = []
    cameras: list[int] = []
    times: list[int] = []
    for line, (name, value) in enumerate(
        zip(table["camera"].tolist(), table[column].tolist(), strict=True), first_line
    ):
        try:
            camera = _camera_index(name, index_by_uuid, index_by_name)
            timestamp_ms = _timestamp_ms(value, column, zones[camera])
            if timestamp_ms > now_ms:
                raise ValueError(f"{column}: {value} is in the future")
        except ValueError as error:
            problems.append(Problem(str(path), line, None, "", str(error)))
            if len(problems) == MAX_PROBLEMS:
                break
            continue
        cameras.append(camera)
        times.append(timestamp_ms)
    if not problems and not cameras:
        problems.append(Problem(str(path), None, None, "", "the file has no rows"))
    if problems:
        raise InvalidFile(problems)
    return np.array(cameras, np.int32), np.array(times, np.int64)


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
        return pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        text = (str(error).splitlines() or ["unreadable"])[0]
        raise InvalidFile([Problem(str(path), None, None, "", f"cannot be read: {text}")]) from None


def _camera_index(name: Any, index_by_uuid: dict[str, int], index_by_name: dict[str, int]) -> int:
    text = str(name).strip()
    if text in index_by_name:
        return index_by_name[text]
    try:
        uuid = canonical_uuid(text)
    except ValueError:
        uuid = ""
    if uuid in index_by_uuid:
        return index_by_uuid[uuid]
    meant = nearest(text, [*index_by_name, *index_by_uuid])
    hint = f"; did you mean {meant!r}?" if meant else ""
    raise ValueError(f"camera: {text[:60]!r} is not a camera of the plan{hint}")


def _timestamp_ms(value: Any, column: str, zone: str) -> int:
    if column == "timestamp_ms":
        text = str(value).strip()
        if not text.lstrip("-").isdigit() or len(text) > 15:
            raise ValueError(f"timestamp_ms: expected whole UTC milliseconds, got {text[:60]!r}")
        return int(text)
    if isinstance(value, pd.Timestamp):
        moment: dt.datetime = value.to_pydatetime(warn=False)
    else:
        try:
            moment = dt.datetime.fromisoformat(str(value).strip())
        except ValueError:
            raise ValueError(
                f"timestamp: expected ISO 8601 such as 2026-06-01T06:00:00-07:00, got {str(value)[:60]!r}"
            ) from None
    if moment.tzinfo is not None:
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return round((moment - epoch) / dt.timedelta(milliseconds=1))
    return moment_ms(LocalTime(local=moment), zone)
