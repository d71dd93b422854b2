"""The lock as files: plan.lock.json, and plan.lock.parquet if the lock holds times."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.hashing import json_sha256
from rhombus_dataset.planning.json_value import LATEST_MS, JsonValue
from rhombus_dataset.planning.lock import GroupedTimes, Lock, ScoutTimes, Times
from rhombus_dataset.planning.lock_json import LOCK_VERSION, lock_from_json, lock_to_json
from rhombus_dataset.store import layout, tables
from rhombus_dataset.store.files import inside, read_small_file

_WHY: Final = "why"
"""The Parquet column of ``reason_code`` and ``reasons``."""


def lock_files(lock: Lock) -> dict[str, bytes]:
    """Return the content of the lock's files by name: the JSON, and a Parquet file if the lock holds times."""
    files: dict[str, bytes] = {}
    if lock.times is not None:
        files[layout.LOCK_TIMES_FILE] = _times_file(lock.times)
    content = lock_to_json(lock, None if lock.times is None else _times_sha256(lock.times))
    text = json.dumps({**content, "sha256": json_sha256(content)}, indent=1, ensure_ascii=False)
    files[layout.LOCK_FILE] = text.encode() + b"\n"
    return files


def load_lock(dataset: Path) -> Lock:
    """Return the lock of the dataset in a folder. Raises DatasetError if it is missing or damaged."""
    path = dataset / layout.LOCK_FILE
    try:
        content = json.loads(read_small_file(dataset, layout.LOCK_FILE))
    except FileNotFoundError:
        raise DatasetError(f"{dataset}: no dataset here ({path.name} is missing)") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged ({type(error).__name__}: {error})") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: damaged: expected an object")
    if (version := content.get("lock_version")) != LOCK_VERSION:
        raise DatasetError(
            f"{path}: expected lock version {LOCK_VERSION}, got {version!r:.40}: this dataset was built by "
            "another version of rhombus-dataset"
        )
    if content.pop("sha256", None) != json_sha256(content):
        raise DatasetError(f"{path}: damaged or edited: the checksum in it does not match its content")
    try:
        top = JsonValue(content, "")
        times = top["times_sha256"].optional(lambda sha256: _read_times(dataset, sha256.text()))
        return lock_from_json(top, times)
    except ValueError as error:
        raise DatasetError(f"{path}: damaged: {error}") from None


def _times_file(times: Times) -> bytes:
    columns: dict[str, Any] = _arrays(times)
    for name, texts in _texts(times).items():
        columns[name] = pa.DictionaryArray.from_arrays(columns[name], pa.array(texts, pa.string()))
    return tables.table_bytes(pa.table(columns), tables.PLAIN)


def _arrays(times: Times) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of ``times`` by their Parquet column, in the order of the file."""
    found: dict[str, npt.NDArray[Any]] = {"camera": times.camera, "timestamp_ms": times.timestamp_ms}
    if isinstance(times, GroupedTimes):
        found["group"] = times.group
    if isinstance(times, ScoutTimes):
        found |= {"score": times.score, _WHY: times.reason_code, "rank": times.rank}
    return found


def _texts(times: Times) -> dict[str, tuple[str, ...]]:
    """Return the texts that the columns with codes stand for."""
    if isinstance(times, GroupedTimes):
        return {"group": times.groups}
    return {_WHY: times.reasons} if isinstance(times, ScoutTimes) else {}


def _times_sha256(times: Times) -> str:
    # Of the times, since the bytes of the file depend on the version of pyarrow.
    digest = hashlib.sha256()
    for column in _arrays(times).values():
        digest.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
    for texts in _texts(times).values():
        if texts:
            digest.update(json.dumps(texts).encode())
    return digest.hexdigest()


def _read_times(dataset: Path, sha256: str) -> Times:
    path = inside(dataset, layout.LOCK_TIMES_FILE)
    if not path.exists():
        raise DatasetError(f"{path}: missing, and {layout.LOCK_FILE} refers to it")
    table = tables.read_table(path)
    try:
        times = _times(table)
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: damaged ({type(error).__name__}: {error})") from None
    if _times_sha256(times) != sha256:
        raise DatasetError(f"{path}: other times than those of {layout.LOCK_FILE}: its checksum does not match")
    return times


def _times(table: pa.Table) -> Times:
    if any(column.null_count for column in table.columns):
        raise ValueError("expected no nulls")

    def array(name: str, kind: Any) -> npt.NDArray[Any]:
        return np.asarray(table.column(name).to_numpy().astype(kind))

    camera, timestamp_ms = array("camera", np.int32), array("timestamp_ms", np.int64)
    steps, later = np.diff(camera.astype(np.int64)), np.diff(timestamp_ms)
    if np.any((steps < 0) | ((steps == 0) & (later <= 0))):
        raise ValueError("expected times sorted by camera and time, each once")
    if np.any(np.abs(timestamp_ms.astype(np.float64)) > LATEST_MS):
        raise ValueError(f"expected times up to {LATEST_MS} ms from 1970")
    if "rank" in table.column_names:
        if not np.isfinite(array("score", np.float64)).all():
            raise ValueError("expected scores that are finite numbers")
        reason_code, reasons = _codes(table.column(_WHY))
        return ScoutTimes(
            camera, timestamp_ms, array("score", np.float64), reason_code, reasons, array("rank", np.int32)
        )
    if "group" in table.column_names:
        return GroupedTimes(camera, timestamp_ms, *_codes(table.column("group")))
    return Times(camera, timestamp_ms)


def _codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Return the texts of a column, sorted, and for each row the index of its text."""
    values = column.cast(pa.string()).combine_chunks()
    texts = sorted(values.unique().to_pylist())
    codes = pc.index_in(values, value_set=pa.array(texts, pa.string())).to_numpy()
    return codes.astype(np.int32), tuple(texts)
