"""Reading of a timestamps file: CSV or Parquet with cameras and times, for plans with ``strategy: timestamps``."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.errors import InvalidFile, Problem, did_you_mean
from rhombus_dataset.plan.local_time import moment_ms
from rhombus_dataset.plan.model import LocalTime
from rhombus_dataset.wire import canonical_uuid

MAX_PROBLEMS: Final = 50
"""Maximum errors that are reported of one file: more would not help a reader."""
_ROWS_AT_ONCE: Final = 1 << 14
"""Rows that are read at once. As text and Python objects, rows take many times the memory of the result."""


@dataclass(frozen=True, slots=True)
class TimestampRows:
    """The rows of the file, in its order.

    ``camera``: int32, (N,), index of the plan's camera. ``timestamp_ms``: int64, (N,), UTC. ``group``: int32, (N,),
    index of ``groups``, the texts of the column that splits use; None without such a column.
    """

    camera: npt.NDArray[np.int32]
    timestamp_ms: npt.NDArray[np.int64]
    group: npt.NDArray[np.int32] | None
    groups: tuple[str, ...]


def read_timestamps(
    path: Path,
    index_by_uuid: dict[str, int],
    index_by_name: dict[str, int],
    zones: list[str],
    now_ms: int,
    group_column: str | None = None,
) -> TimestampRows:
    """Return the rows of the file.

    Its columns: ``camera`` (name or UUID of a camera of the plan); ``timestamp_ms`` (UTC epoch milliseconds) or
    ``timestamp`` (ISO 8601; without an offset, the camera's local time); and ``group_column``, if given. ``zones``:
    the time zone of each camera. ``now_ms``: no time may be later. Raises InvalidFile with up to 50 errors.
    """
    problems: list[Problem] = []
    cameras, groups = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    number_of: dict[str, int] = {}
    times = [np.empty(0, np.int64)]
    line = 2 if path.suffix.lower() == ".csv" else 1
    for part in _parts(path):
        column = _time_column(path, part)
        if group_column is not None:
            groups.append(_groups(path, part, group_column, number_of))
        index_of = {
            name: _camera_index(name, index_by_uuid, index_by_name) for name in part["camera"].unique().tolist()
        }
        camera, timestamp_ms, errors = _converted(part, column, index_of, zones, now_ms)
        problems += [Problem(str(path), line + row, None, "", message) for row, message in errors]
        if len(problems) >= MAX_PROBLEMS:
            raise InvalidFile(problems[:MAX_PROBLEMS])
        line += len(part)
        cameras.append(camera)
        times.append(timestamp_ms)
    if not problems and sum(map(len, times)) == 0:
        problems.append(Problem(str(path), None, None, "", "the file has no rows"))
    if problems:
        raise InvalidFile(problems)
    group = None if group_column is None else np.concatenate(groups)
    return TimestampRows(np.concatenate(cameras), np.concatenate(times), group, tuple(number_of))


def _converted(
    part: pd.DataFrame, column: str, index_of: dict[Any, int | str], zones: list[str], now_ms: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], list[tuple[int, str]]]:
    """Return camera indices, times (UTC milliseconds) and errors, each with its row, of some rows of the file."""
    cameras = np.empty(len(part), np.int32)
    times = np.empty(len(part), np.int64)
    errors: list[tuple[int, str]] = []
    for row, (name, value) in enumerate(zip(part["camera"].tolist(), part[column].tolist(), strict=True)):
        try:
            camera = index_of[name]
            if isinstance(camera, str):
                raise ValueError(camera)
            cameras[row] = camera
            times[row] = _timestamp_ms(value, column, zones[camera])
            if times[row] > now_ms:
                raise ValueError(f"{column}: {value} is in the future")
        except ValueError as error:
            errors.append((row, str(error)))
            if len(errors) == MAX_PROBLEMS:
                break
    return cameras, times, errors


def _groups(path: Path, part: pd.DataFrame, column: str, number_of: dict[str, int]) -> npt.NDArray[np.int32]:
    """Return the number of each row's text: int32, (N,). New texts are added to ``number_of``."""
    if column not in part:
        message = f"splits.column: no column {column!r}, got {', '.join(map(str, part.columns))}"[:300]
        hint = did_you_mean(column, map(str, part.columns))
        raise InvalidFile([Problem(str(path), 1, None, "", message + hint)])
    codes, texts = pd.factorize(part[column].astype(str).str.strip())
    numbers = np.array([number_of.setdefault(str(text), len(number_of)) for text in texts], np.int32)
    return numbers[codes]


def _parts(path: Path) -> Iterator[pd.DataFrame]:
    """Yield the rows of the file, up to _ROWS_AT_ONCE at a time."""
    try:
        if path.suffix.lower() == ".csv":
            options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "skip_blank_lines": False}
            with pd.read_csv(path, chunksize=_ROWS_AT_ONCE, **options) as reader:
                yield from reader
        else:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                    yield batch.to_pandas()
    except (OSError, ValueError, pa.ArrowException) as error:
        text = (str(error).splitlines() or ["unreadable"])[0]
        raise InvalidFile([Problem(str(path), None, None, "", f"cannot be read: {text}")]) from None


def _time_column(path: Path, table: pd.DataFrame) -> str:
    for required in [("camera",), ("timestamp_ms", "timestamp")]:
        if not any(name in table for name in required):
            message = f"expected a column {' or '.join(required)}, got {', '.join(map(str, table.columns))}"
            raise InvalidFile([Problem(str(path), 1, None, "", message[:300])])
    return "timestamp_ms" if "timestamp_ms" in table else "timestamp"


def _camera_index(name: Any, index_by_uuid: dict[str, int], index_by_name: dict[str, int]) -> int | str:
    """Return the camera's index, or an error message."""
    text = str(name).strip()
    if text in index_by_name:
        return index_by_name[text]
    with contextlib.suppress(ValueError):
        if (uuid := canonical_uuid(text)) in index_by_uuid:
            return index_by_uuid[uuid]
    hint = did_you_mean(text, [*index_by_name, *index_by_uuid])
    return f"camera: {text[:60]!r} is not a camera of the plan{hint}"


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
