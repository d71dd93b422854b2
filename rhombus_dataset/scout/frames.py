"""The small frames of a scout pass, in columns that take little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.imaging.background import Logs, log_luma
from rhombus_dataset.imaging.jpeg import DamagedImage, small_grey
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.images import ImageReader

_I4: Final = np.int32


class ScoutFrames:
    """The frames of a scout pass, one row for each planned frame.

    ``camera`` (int32) is an index of the lock's cameras, ``timestamp_ms`` (int64) is UTC. For a
    missing frame, ``ok`` (bool) is False, ``luma`` (float64) is NaN and ``reason`` (int32) is an index of
    ``reasons``; else it is -1.
    Raises DatasetError if the folder holds no dataset or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = load_lock(folder)
        self.reasons: list[str] = []
        self._images = ImageReader(folder)
        self._paths = manifest.slice_paths(folder)
        uuids = pa.array([camera.uuid for camera in self.lock.cameras])
        columns: list[list[npt.NDArray[Any]]] = [
            [np.empty(0, kind)] for kind in (_I4, np.int64, np.float64, _I4, _I4, _I4)
        ]
        for number, path in enumerate(self._paths):
            table = manifest.read_slice(path)
            codes = [self._reason(reason) for reason in table.column("reason").to_pylist()]
            for column, values in zip(
                columns,
                (
                    np.asarray(pc.index_in(table.column("camera_uuid"), value_set=uuids), _I4),
                    table.column("timestamp").cast(pa.int64()).to_numpy(),
                    table.column("luma").to_numpy(),
                    np.array(codes, _I4),
                    np.asarray(pc.fill_null(table.column("row"), -1), _I4),
                    np.full(table.num_rows, number, _I4),
                ),
                strict=True,
            ):
                column.append(values)
        self.camera, self.timestamp_ms, self.luma, self.reason, self._row, self._slice = map(
            np.concatenate, columns
        )
        self.ok = self._row >= 0

    def __len__(self) -> int:
        return len(self.camera)

    def of_camera(self, camera: int) -> npt.NDArray[np.int64]:
        """Return the rows of a camera's ``ok`` frames, ordered by time. Shape (N,), int64."""
        rows = np.flatnonzero(self.ok & (self.camera == camera))
        return rows[np.argsort(self.timestamp_ms[rows], kind="stable")]

    def log_luma(self, row: int) -> Logs:
        """Return the log-luma image of an ``ok`` frame. Raises DatasetError if it cannot be decoded."""
        name = layout.data_file(self._paths[self._slice[row]].stem)
        try:
            return log_luma(small_grey(self._images.read(name, int(self._row[row]))))
        except DamagedImage as error:
            raise DatasetError(
                f"{self.folder / name}: image {self._row[row]}: {error}: run `rhombus-dataset verify`"
            ) from None

    def _reason(self, text: str | None) -> int:
        if text is None:
            return -1
        if text not in self.reasons:
            self.reasons.append(text)
        return self.reasons.index(text)
